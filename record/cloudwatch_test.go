package record_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/record"
)

type subscription struct {
	MessageType         string   `json:"messageType"`
	Owner               string   `json:"owner"`
	LogGroup            string   `json:"logGroup"`
	LogStream           string   `json:"logStream"`
	SubscriptionFilters []string `json:"subscriptionFilters"`
	LogEvents           []struct {
		ID        string `json:"id"`
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	} `json:"logEvents"`
}

const logStream = "2026/11/23/[7]0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f"

// stamped returns an event as the stream has it.
func stamped(raw string, seq uint64) []byte {
	e := record.Event{Raw: []byte(raw), RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Seq: seq, Source: source}
	return append(record.AppendEvent(nil, &e), '\n')
}

func cloudWatch(t testing.TB, encoder *record.CloudWatchEncoder, lines ...[]byte) (data []byte, plain []byte, s subscription) {
	t.Helper()
	encoder.Owner, encoder.LogGroup = "123456789012", "/aws/lambda/checkout"
	encoder.Begin(nil, source.Instance(), logStream)
	for _, line := range lines {
		encoder.Add(line)
	}
	data = encoder.End()
	reader, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err = io.ReadAll(reader); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		t.Fatalf("%s: %v", plain, err)
	}
	return data, plain, s
}

// A record has exactly these bytes.
func TestCloudWatchGolden(t *testing.T) {
	_, plain, _ := cloudWatch(t, new(record.CloudWatchEncoder),
		stamped(`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"é \"x\"\n"}`, 42),
		stamped(`{"time":"2026-11-23T18:00:00.124Z","type":"function","record":"y"}`, 43))
	const want = `{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/aws/lambda/checkout",` +
		`"logStream":"2026/11/23/[7]0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f","subscriptionFilters":["kinesis-telemetry-extension"],"logEvents":[` +
		`{"id":"%s","timestamp":1795456800123,"message":"é \"x\"\n"},{"id":"%s","timestamp":1795456800124,"message":"y\n"}]}`
	if want := fmt.Sprintf(want, eventID(1795456800123, 42), eventID(1795456800124, 43)); string(plain) != want {
		t.Errorf("got  %s\nwant %s", plain, want)
	}
}

// eventID computes at << 144 | seq << 80 | 80 bits of the instance with math/big.
func eventID(at, seq int64) string {
	instance, _ := new(big.Int).SetString(source.Instance()[:20], 16)
	id := new(big.Int).Lsh(big.NewInt(at), 144)
	id.Or(id, new(big.Int).Lsh(big.NewInt(seq), 80))
	return fmt.Sprintf("%056s", id.Or(id, instance))
}

// Each event has the message that CloudWatch Logs has for it, with either log format of the function.
func TestCloudWatchMessages(t *testing.T) {
	const id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	for _, test := range []struct{ kind, record, text, json string }{ // an empty text or json means the event's JSON
		{"function", `"tab\tline\n"`, "tab\tline\n", "tab\tline\n"},
		{
			"function", `{"level":"INFO","message":"a \"b\"\n"}`,
			`{"level":"INFO","message":"a \"b\"\n"}`, `{"level":"INFO","message":"a \"b\"\n"}`,
		},
		{"extension", `"x\n"`, "x\n", "x\n"},
		{"function", `""`, "\n", "\n"},
		{"function", `"n"`, "n\n", "n\n"},
		{"function", `"x\\n"`, "x\\n\n", "x\\n\n"},
		{"function", `"x\\\n"`, "x\\\n", "x\\\n"},
		{"platform.start", `{"requestId":"` + id + `","version":"$LATEST"}`, "START RequestId: " + id + " Version: $LATEST\n", ""},
		{"platform.runtimeDone", `{"requestId":"` + id + `","status":"success"}`, "END RequestId: " + id + "\n", ""},
		{
			"platform.report", `{"requestId":"` + id + `","status":"success","metrics":{"durationMs":2338.656,"billedDurationMs":2521,` +
				`"memorySizeMB":3009,"maxMemoryUsedMB":173,"initDurationMs":402.04}}`,
			"REPORT RequestId: " + id + "\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\tMemory Size: 3009 MB\tMax Memory Used: 173 MB\t" +
				"Init Duration: 402.04 ms\t\n", "",
		},
		{
			"platform.report", `{"requestId":"` + id + `","status":"error","errorType":"Runtime.OutOfMemory","metrics":{"durationMs":3,` +
				`"billedDurationMs":4,"memorySizeMB":128,"maxMemoryUsedMB":128},"tracing":{"spanId":"54565fb41ac79632",` +
				`"type":"X-Amzn-Trace-Id","value":"Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=1"}}`,
			"REPORT RequestId: " + id + "\tDuration: 3.00 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t" +
				"Status: error\tError Type: Runtime.OutOfMemory\n" +
				"XRAY TraceId: 1-62e900b2-710d76f009d6e7785905449a\tSegmentId: 54565fb41ac79632\tSampled: true\t\n", "",
		},
		{
			"platform.report", `{"requestId":"` + id + `","status":"timeout","metrics":{"durationMs":3000,"restoreDurationMs":398.97}}`,
			"REPORT RequestId: " + id + "\tDuration: 3000.00 ms\tRestore Duration: 398.97 ms\tStatus: timeout\n", "",
		},
		{
			"platform.initStart", `{"runtimeVersion":"java:11.v21","runtimeVersionArn":"arn:x"}`,
			"INIT_START Runtime Version: java:11.v21\tRuntime Version ARN: arn:x\n", "",
		},
		{"platform.initStart", `{"functionName":"x"}`, "", ""},
		{"platform.initReport", `{"initializationType":"on-demand","status":"success","metrics":{"durationMs":1}}`, "", ""},
		{
			"platform.initReport", `{"phase":"invoke","status":"error","errorType":"Runtime.ImportModuleError","metrics":{"durationMs":83.58}}`,
			"INIT_REPORT Init Duration: 83.58 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\n", "",
		},
		{
			"platform.initReport", `{"initializationType":"snap-start","phase":"init","status":"success","metrics":{"durationMs":9908.09}}`,
			"INIT_REPORT Init Duration: 9908.09 ms\n", "",
		},
		{"platform.restoreStart", `{"runtimeVersion":"java:21.v1"}`, "RESTORE_START Runtime Version: java:21.v1\n", ""},
		{"platform.restoreReport", `{"status":"success","metrics":{"durationMs":511.25}}`, "RESTORE_REPORT Restore Duration: 511.25 ms\n", ""},
		{
			"platform.restoreReport", `{"status":"error","errorType":"Runtime.ExitError","metrics":{"durationMs":1236.04}}`,
			"RESTORE_REPORT Restore Duration: 1236.04 ms\tStatus: error\tError Type: Runtime.ExitError\n", "",
		},
		{
			"platform.extension", `{"name":"datadog-agent","state":"Ready","events":["INVOKE","SHUTDOWN"]}`,
			"EXTENSION\tName: datadog-agent\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n", "",
		},
		{
			"platform.telemetrySubscription", `{"name":"datadog-agent","state":"Subscribed","types":["platform","function","extension"]}`,
			"TELEMETRY\tName: datadog-agent\tState: Subscribed\tTypes: [Platform, Function, Extension]\n", "",
		},
		{"platform.initRuntimeDone", `{"status":"success"}`, "", ""},
		{"platform.logsDropped", `{"reason":"x","droppedRecords":1}`, "", ""},
		{"platform.report", `{"requestId":"` + id + `"}`, "", ""},
		{"platform.report", `{"requestId":"` + id + `","metrics":{"durationMs":"1"}}`, "", ""},
		{"platform.start", `"truncated`, "", ""},
		{"kinesis-telemetry.stats", `{"received":1}`, "", ""},
		{"function", `null`, "", ""},
		{"unknown", `"x"`, "", ""},
	} {
		if test.record[len(test.record)-1] != '"' && test.record[0] == '"' {
			test.record += `"`
		}
		raw := fmt.Sprintf(`{"time":"2026-11-23T18:00:00.123Z","type":%q,"record":%s}`, test.kind, test.record)
		for _, mode := range []struct {
			json bool
			want string
		}{{false, test.text}, {true, test.json}} {
			if mode.want == "" {
				mode.want = raw
			}
			_, _, s := cloudWatch(t, &record.CloudWatchEncoder{JSONLogs: mode.json}, stamped(raw, 7))
			if got := s.LogEvents[0].Message; got != mode.want {
				t.Errorf("%s, JSON %v\ngot  %q\nwant %q", raw, mode.json, got, mode.want)
			}
		}
	}
}

// The message of a truncated event is the event's JSON, which alone marks it as truncated.
func TestCloudWatchTruncated(t *testing.T) {
	raw, value := event(`"abcdefghijklmnopqrstuvwxyz"`, "")
	raw = bytes.Replace(raw, []byte(`"t"`), []byte(`"2026-11-23T18:00:00.123Z"`), 1)
	shift := len("2026-11-23T18:00:00.123Z") - 1
	value.Start, value.End = value.Start+shift, value.End+shift
	short := record.Truncate(raw, value, len(raw))
	data, _, s := cloudWatch(t, new(record.CloudWatchEncoder), stamped(string(short), 1))
	if s.LogEvents[0].Message != string(short) {
		t.Errorf("%s, want %s", s.LogEvents[0].Message, short)
	}
	for line, err := range record.Unpack(data) {
		if err != nil || line.Truncated != value.Size || line.Type != "function" || !strings.HasPrefix(string(line.Record), `"\"abc`) {
			t.Errorf("%+v, %v", line, err)
		}
	}
}

// The encoder detects the log format JSON by the first log of the function that is an object.
func TestCloudWatchDetectsTheLogFormat(t *testing.T) {
	var encoder record.CloudWatchEncoder
	start := stamped(`{"time":"2026-11-23T18:00:00.123Z","type":"platform.start","record":{"requestId":"r"}}`, 1)
	log := stamped(`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":{}}`, 2)
	if _, _, s := cloudWatch(t, &encoder, start, log); s.LogEvents[0].Message != "START RequestId: r\n" || !encoder.JSONLogs {
		t.Errorf("%+v", s)
	}
	if _, _, s := cloudWatch(t, &encoder, start); s.LogEvents[0].Message[0] != '{' {
		t.Errorf("%+v", s)
	}
}

// Each form of time that Lambda may write becomes a timestamp and an id. A time that cannot be read becomes 0.
func TestCloudWatchTimes(t *testing.T) {
	for text, want := range map[string]int64{
		"2026-11-23T18:00:00.123Z":       1795456800123,
		"2026-11-23T18:00:00Z":           1795456800000,
		"2026-11-23T18:00:00.123456789Z": 1795456800123,
		"2026-11-23T19:00:00.123+01:00":  1795456800123,
		"2022-10-12T00:00:15:064Z":       time.Date(2022, 10, 12, 0, 0, 15, 64e6, time.UTC).UnixMilli(),
		"1907-01-01T00:00:00Z":           0,
		"9999-01-01T00:00:00Z":           4484155085838,
		"yesterday":                      0,
		"":                               0,
	} {
		data, _, s := cloudWatch(t, new(record.CloudWatchEncoder), stamped(fmt.Sprintf(`{"time":%q,"type":"function","record":"x"}`, text), 7))
		if got := s.LogEvents[0]; got.Timestamp != want || got.ID != eventID(want, 7) {
			t.Errorf("%s: %+v", text, got)
		}
		for line, err := range record.Unpack(data) {
			if err != nil || line.Seq != 7 || line.Source.Instance != source.Instance()[:20] {
				t.Errorf("%s: %+v, %v", text, line, err)
			}
		}
	}
}
