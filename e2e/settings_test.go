package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/extension"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// The extension's log contains no secret from a setting, and no control character from any source.
func TestLogHasNoSecrets(t *testing.T) {
	concurrent(t)
	const prefix, secret, evil = "KINESIS_TELEMETRY_", "hunter2", "\x1b]0;\u202e\u009b31m\n"
	for name, test := range map[string]struct {
		setup setup
		says  []string
	}{
		"settings": {setup{settings: map[string]string{
			prefix + "ENDPOINT_URL": "https://u:" + secret + "@h/",
			prefix + "PASSWORD":     secret,
			prefix + "TAGS":         secret,
			prefix + "STREAM":       secret + evil,
			prefix + "MAX_DELAY":    evil,
			prefix + "LOG_LEVEL":    evil + secret,
			prefix + "ROLE_ARN":     evil + secret,
			"HTTPS_PROXY":           "http://u:" + secret + "%@proxy",
			"AWS_CA_BUNDLE":         "/" + secret,
		}}, []string{
			prefix + "ENDPOINT_URL", prefix + "PASSWORD", prefix + "TAGS", prefix + "STREAM",
			prefix + "MAX_DELAY", prefix + "LOG_LEVEL", prefix + "ROLE_ARN",
			"HTTPS_PROXY", "AWS_CA_BUNDLE",
		}},
		"AWS's answer": {
			setup{kinesis: kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{
				{ErrorType: "AccessDeniedException", Message: "no " + evil},
			}}}},
			[]string{"kinesis:PutRecords"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, test.setup)
			r.invoke(mixed)
			r.end()
			said := strings.Join(r.output.lines(), "\n")
			for _, part := range test.says {
				if !strings.Contains(said, part) {
					t.Errorf("%s is missing in %q", part, said)
				}
			}
			r.output.mu.Lock()
			defer r.output.mu.Unlock()
			all := r.output.text.String()
			obeyed := strings.ContainsFunc(all, func(c rune) bool { return !unicode.IsPrint(c) && c != '\n' })
			if strings.Contains(all, secret) || obeyed {
				t.Errorf("%q", all)
			}
		})
	}
}

// ON_ERROR=fail applies to every error in the settings that can be found before the first request.
func TestOnErrorFailReportsEveryMistake(t *testing.T) {
	concurrent(t)
	const prefix = "KINESIS_TELEMETRY_"
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE":         "/nowhere/ca.pem",
		"AWS_REGION":            "eu west",
		prefix + "ENDPOINT_URL": "https://u:p@h/",
		prefix + "STREAM":       "arn:aws:kinesis:eu-west-1",
		prefix + "ROLE_ARN":     "writer",
		"HTTPS_PROXY":           "http://u:%@proxy",
		"AWS_ENDPOINT_URL":      "kinesis",
	} {
		_, err := sandbox.Start(t.Context(), sandbox.Config{
			Function:   sandbox.Function{Command: []string{binaries.function}},
			Extensions: []sandbox.Extension{{Path: binaries.extension, Env: map[string]string{prefix + "ON_ERROR": "fail", name: value}}},
		})
		if err == nil || !strings.Contains(err.Error(), "Extension.InvalidSettings") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An error in how the log looks does not stop delivery.
func TestLogSettingsDoNotStopDelivery(t *testing.T) {
	concurrent(t)
	const prefix = "KINESIS_TELEMETRY_"
	for _, test := range []struct {
		name     string
		settings map[string]string
		lines    int
	}{
		{"read", map[string]string{
			prefix + "ENABLED": "Yes", prefix + "LOG_LEVEL": "WARNING", prefix + "EVENTS": "Platform, function,", prefix + "TAGS": "team=shop,",
			prefix + "DELIVERY": "'sync'", prefix + "MAX_DELAY": "10 s\n",
		}, 0},
		{"said", map[string]string{prefix + "LOG_LEVEL": "loud", prefix + "ROLE_EXTERNAL_ID": "without-a-role"}, 2},
		{"quiet", map[string]string{prefix + "LOG_LEVEL": "off", prefix + "UNKNOWN": "x"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{settings: test.settings})
			r.invoke(mixed)
			r.checkComplete(r.end(), 13)
			if lines := r.output.lines(); len(lines) != test.lines {
				t.Errorf("%q", lines)
			}
		})
	}
}

// With a newline or quotes in a proxy variable, requests use the proxy. net/http itself would silently bypass it.
func TestProxyVariableIsTrimmed(t *testing.T) {
	concurrent(t)
	for _, form := range []string{"%s\n", "'%s'", " \"%s\" "} {
		r := newTrial(t, setup{sandbox: func(c *sandbox.Config) {
			env := c.Extensions[0].Env
			env["HTTP_PROXY"] = fmt.Sprintf(form, env["KINESIS_TELEMETRY_ENDPOINT_URL"]) // Kinesis itself acts as the proxy
			env["KINESIS_TELEMETRY_ENDPOINT_URL"] = "http://kinesis.invalid"
		}})
		r.invoke(mixed)
		r.checkComplete(r.end(), 13)
		if lines := r.output.lines(); len(lines) != 1 || !strings.Contains(lines[0], "ENDPOINT_URL is plain http") {
			t.Errorf("%q", lines)
		}
	}
}

// The Go runtime uses the memory limit of the buffer and one thread, and ignores the function's GOMEMLIMIT and GOGC.
// No test runs beside this one, because it runs the extension in its own process.
func TestMemoryLimit(t *testing.T) {
	limit, percent, threads := debug.SetMemoryLimit(-1), debug.SetGCPercent(50), runtime.GOMAXPROCS(0)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(threads)
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
	lambda := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Lambda-Extension-Identifier", "id")
		answer := `{"functionName":"f"}`
		if filepath.Base(r.URL.Path) == "next" {
			answer = fmt.Sprintf(`{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":%d}`, time.Now().Add(2*time.Second).UnixMilli())
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(lambda.Close)
	kinesis, err := kinesislocal.Start(kinesislocal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kinesis.Close() })
	cfg, mistakes := config.Load([]string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(lambda.URL, "http://"),
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s",
		"KINESIS_TELEMETRY_ENDPOINT_URL=" + kinesis.URL(), "KINESIS_TELEMETRY_BUFFER_BYTES=9999999", "KINESIS_TELEMETRY_SPILL_DIR=",
	})
	if err := extension.Run(context.Background(), extensionName, cfg, mistakes, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); got != cfg.MemoryLimit() {
		t.Errorf("GOMEMLIMIT is %d, want %d", got, cfg.MemoryLimit())
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is %d", got)
	}
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("GOMAXPROCS is %d", got)
	}
}
