//go:build unix

package sandbox

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A subscription within AWS's limits is accepted. Any other is refused with an error that names the mistake.
func TestParseSubscription(t *testing.T) {
	const good = `{"schemaVersion":"2022-12-13","types":["platform","function","platform"],` +
		`"destination":{"protocol":"HTTP","URI":"http://sandbox:1234/a?b"},"new":1}`
	s, err := parseSubscription([]byte(good), telemetryAPI)
	if err != nil || s.items != 10_000 || s.bytes != 262_144 || s.timeout != time.Second ||
		s.port != 1234 || s.path != "/a?b" || s.tcp || len(s.types) != 2 {
		t.Fatalf("%+v %v", s, err)
	}
	if _, err := parseSubscription([]byte(good), managedTelemetryAPI); err == nil {
		t.Error("Managed Instances accepted an old schema")
	}
	with := func(part, other string) string { return strings.Replace(good, part, other, 1) }
	buffering := func(b string) string { return with(`"new":1`, `"buffering":`+b) }
	for _, body := range []string{
		buffering(`{"maxItems":1000,"maxBytes":1048576,"timeoutMs":30000}`), buffering(`{"timeoutMs":25}`), buffering(`null`),
		with("2022-12-13", "2022-07-01"), with("sandbox:1234/a?b", "sandbox.localdomain:80"),
		with(`"protocol":"HTTP","URI":"http://sandbox:1234/a?b"`, `"protocol":"TCP","port":1234`),
	} {
		if _, err := parseSubscription([]byte(body), telemetryAPI); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	for body, text := range map[string]string{
		"":                               "not valid",
		`[]`:                             "not valid",
		`{}`:                             "schemaVersion",
		with("2022-12-13", "2023-01-01"): "2023-01-01",
		with(`"platform","function","platform"`, ``):  "types",
		with(`"function"`, `"lambda"`):                "lambda",
		with(`"destination"`, `"d"`):                  "destination",
		with(`"HTTP"`, `"HTTPS"`):                     "HTTPS",
		with("http://", "https://"):                   "http://",
		with("sandbox:1234", "localhost:1234"):        "sandbox.localdomain",
		with("sandbox:1234", "sandbox"):               "URI port is not provided",
		with("sandbox:1234", "sandbox:70000"):         "70000",
		with("sandbox:1234", "sandbox:9001"):          "9001",
		with(`"protocol":"HTTP"`, `"protocol":"TCP"`): "port",
		buffering(`{"maxItems":999}`):                 "maxItems",
		buffering(`{"maxItems":10001}`):               "maxItems",
		buffering(`{"maxItems":1000.5}`):              "maxItems",
		buffering(`{"maxBytes":262143}`):              "maxBytes",
		buffering(`{"maxBytes":1048577}`):             "maxBytes",
		buffering(`{"timeoutMs":24}`):                 "timeoutMs",
		buffering(`{"timeoutMs":30001}`):              "timeoutMs",
		buffering(`{"timeoutMs":"1"}`):                "not valid",
	} {
		if _, err := parseSubscription([]byte(body), telemetryAPI); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v does not contain %q", body, err, text)
		}
	}
}

// A subscription to the Logs API can omit the schema and can select the method.
func TestParseLogsSubscription(t *testing.T) {
	const good = `{"types":["platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:1234","method":"PUT"}}`
	s, err := parseSubscription([]byte(good), logsAPI)
	if err != nil || !s.logs || s.schema != schema20200815 || s.method != http.MethodPut || s.items != 10_000 {
		t.Fatalf("%+v %v", s, err)
	}
	with := func(part, other string) string { return strings.Replace(good, part, other, 1) }
	newer := with(`{"types"`, `{"schemaVersion":"2021-03-18","types"`)
	if s, err := parseSubscription([]byte(newer), logsAPI); err != nil || s.schema != schema20210318 {
		t.Errorf("%+v %v", s, err)
	}
	for body, text := range map[string]string{
		with(`"PUT"`, `"PATCH"`):                                  "PATCH",
		with(`{"types"`, `{"schemaVersion":"2022-12-13","types"`): "2021-03-18",
	} {
		if _, err := parseSubscription([]byte(body), logsAPI); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v does not contain %q", body, err, text)
		}
	}
}

// Every accepted subscription is within AWS's limits and has a destination.
func FuzzParseSubscription(f *testing.F) {
	f.Add([]byte(subscribeAll), uint8(1))
	f.Add([]byte(`{"schemaVersion":"2022-07-01","types":["function"],"destination":{"protocol":"TCP","port":1}}`), uint8(0))
	f.Add([]byte(`{"types":["function"],"destination":{"protocol":"HTTP","URI":"http://sandbox:1","method":"PUT"}}`), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		api := []apiVersion{telemetryAPI, managedTelemetryAPI, logsAPI}[which%3]
		s, err := parseSubscription(body, api)
		if err != nil {
			return
		}
		switch {
		case !json.Valid(body):
			t.Error("not JSON")
		case s.items < minItems || s.items > maxItems || s.bytes < minBytes || s.bytes > maxBytes ||
			s.timeout < minTimeout*time.Millisecond || s.timeout > maxTimeout*time.Millisecond:
			t.Errorf("limits: %+v", s)
		case s.port < 1 || s.port > 65535 || s.port == reservedPort:
			t.Errorf("port: %+v", s)
		case len(s.types) == 0 || len(s.types) > 3 || !slices.Contains(api.schemas, s.schema):
			t.Errorf("%+v", s)
		}
		newDestination(s, &TelemetryFaults{}).close()
	})
}
