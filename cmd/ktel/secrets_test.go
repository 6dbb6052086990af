package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// hasControls reports whether text has characters that control a terminal, other than line breaks.
func hasControls(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' })
}

// doctor shows no secret of a shell or of a function's configuration, and no control characters, not even in answers of
// AWS.
func TestDoctorShowsNoSecrets(t *testing.T) {
	const secret, evil = "hunter2", "\x1b]0;\u202e\u009b31m\n"
	settings := map[string]string{
		"KINESIS_TELEMETRY_ENDPOINT_URL": "https://u:" + secret + "@h/", "KINESIS_TELEMETRY_PASSWORD": secret, "KINESIS_TELEMETRY_TAGS": secret,
		"KINESIS_TELEMETRY_STREAM":    "arn:aws:" + secret + evil + ":eu-west-1:123456789012:stream/x",
		"HTTPS_PROXY":                 "http://u:" + secret + "%@proxy",
		"KINESIS_TELEMETRY_MAX_DELAY": evil, "KINESIS_TELEMETRY_LOG_LEVEL": evil + secret, "KINESIS_TELEMETRY_ROLE_ARN": evil + secret,
		"GOGC": evil, "GOMEMLIMIT": evil, "AWS_CA_BUNDLE": evil,
	}
	encoded, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal("broken: " + evil)
	answers := healthyAnswers(`"State":"Failed","StateReason":` + string(quoted) + `,"Description":` + string(quoted) +
		`,"Environment":{"Variables":` + string(encoded) + `}`)
	answers["GET /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions/7"] = answer{
		400,
		`{"__type":"AccessDeniedException","message":` + string(quoted) + `}`,
	}
	mine := map[string]string{
		"AWS_ENDPOINT_URL":         fakeAWS(t, answers),
		"AWS_ENDPOINT_URL_KINESIS": startKinesis(t, kinesislocal.Options{}).URL(),
	}
	for _, args := range [][]string{{"--function", "checkout"}, {"--function", "checkout", "--json"}, {}, {"--json"}} {
		all := maps.Clone(mine)
		if len(args) < 2 {
			maps.Copy(all, settings)
			delete(all, "GOMEMLIMIT")
			delete(all, "AWS_CA_BUNDLE") // the SDK itself reports it
		}
		setEnviron(t, all)
		status, stdout, stderr := runKtel(t, append([]string{"doctor"}, args...)...)
		if status != 1 || !strings.Contains(stdout, "ENDPOINT_URL cannot be used") {
			t.Errorf("%q: exit status %d: %s%s", args, status, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, secret) || hasControls(stdout+stderr) {
			t.Errorf("%q: %q%q", args, stdout, stderr)
		}
	}
}

// Errors, hints, progress and the names of layers are shown without control characters.
func TestNoControlCharacters(t *testing.T) {
	const evil = "\x1b[2J\u202e\u009b"
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out, color: colorNever}
	a.explain(usageError("no "+evil+"\n"+evil, "do "+evil))
	a.progress("building %s", evil)
	writeSteps(&out, newPalette(false), []step{
		{Region: evil, Layer: evil, Outcome: hasFailed, Error: evil},
		{Region: evil, Parameter: evil, Outcome: wouldSet},
	})
	if hasControls(out.String()) || strings.Count(out.String(), `\x1b[2J\u202e\u009b`) != 9 {
		t.Errorf("%q", out.String())
	}
}

// writeJSON escapes control characters and keeps the value.
func TestWriteJSON(t *testing.T) {
	want := "<a & b> é 😀 \x00\x1b\x7f\u009b\u202e\u2028\U000e0001\ufffd"
	var out bytes.Buffer
	if err := writeJSON(&out, map[string]string{want: want}); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got[want] != want {
		t.Errorf("%q, %v", got, err)
	}
	if text := out.String(); hasControls(text) || !strings.Contains(text, `"<a & b> é 😀 `) {
		t.Errorf("%q", text)
	}
	if err := writeJSON(&out, func() {}); err == nil {
		t.Error("writeJSON encoded a function")
	}
	if err := writeJSON(brokenWriter{}, 1); err == nil {
		t.Error("writeJSON returned no error of the writer")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }
