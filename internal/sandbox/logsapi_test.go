//go:build unix

package sandbox

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// Like New Relic's and Elastic's extensions and AWS's samples, extensions subscribe to the Logs API, with both schemas,
// over HTTP and TCP, beside one that subscribes to the Telemetry API.
func TestLogsAPI(t *testing.T) {
	const types, buffering = `"types":["platform","function","extension"]`, `"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25}`
	oldest := `{` + types + `,` + buffering +
		`,"destination":{"protocol":"HTTP","method":"PUT","encoding":"JSON","URI":"http://sandbox:PORT/logs"}}`
	newest := `{"schemaVersion":"2021-03-18",` + types + `,` + buffering + `,"destination":{"protocol":"TCP","port":PORT}}`
	c := newCollector(t)
	cfg := testConfig(t, c, "",
		plan{Logs: true, Subscribe: oldest, MoreSubscriptions: []string{strings.Replace(oldest, "PORT", "FIRST", 1)}},
		plan{Logs: true, TCP: true, Subscribe: newest}, plan{Subscribe: subscribeAll})
	cfg.Function.LogFormat, cfg.NoFreeze = JSON, true
	e := start(t, cfg)
	invoke(t, e, task{Text: "{\"level\":\"INFO\"}\nplain\n"}, WithRequestID("good"))
	invoke(t, e, task{Fail: "wrong"}, WithRequestID("bad"))
	c.await("last event over TCP, which has no acknowledgment", func(m message) bool {
		return m.Name == "x1" && bytes.Contains(m.Body, []byte(`"platform.report","record":{"requestId":"bad"`))
	})
	shutdown(t, e)
	for _, m := range c.ofKind("subscribe") {
		if m.Status != 200 {
			t.Errorf("%s: %d %s", m.Name, m.Status, m.Body)
		}
	}
	first, second := c.checkDelivered("x0"), c.delivered("x1")
	want := []string{
		"platform.logsSubscription", "platform.logsSubscription", "platform.extension", "platform.extension", "platform.extension",
		"platform.start", "function", "function", "platform.runtimeDone", "platform.end", "platform.report",
		"platform.start", "function", "platform.runtimeDone", "platform.end", "platform.report", // aws-lambda-go logs the error
	}
	if got := typesOf(withoutExits(t, second)); !slices.Equal(got, want) {
		t.Errorf("schema 2021-03-18:\n%q, want\n%q", got, want)
	}
	want = slices.DeleteFunc(want, func(typ string) bool { return typ == "platform.runtimeDone" })
	if got := typesOf(withoutExits(t, first)); !slices.Equal(got, want) {
		t.Errorf("schema 2020-08-15:\n%q, want\n%q", got, want)
	}
	for _, m := range c.ofKind("post") {
		if want := map[string]string{"x0": "PUT", "x2": "POST"}[m.Name]; m.Method != want {
			t.Errorf("%s: method %s", m.Name, m.Method)
		}
	}
	records := func(typ string) []string {
		var found []string
		for _, ev := range ofType(second, typ) {
			found = append(found, string(ev.Record))
		}
		return found
	}
	for typ, want := range map[string][]string{
		"platform.logsSubscription": {`{"name":"x0","state":"Subscribed","types":["platform","function","extension"]}`},
		"platform.start":            {`{"requestId":"good","version":"$LATEST"}`},
		"function":                  {`"{\"level\":\"INFO\"}"`, `"plain"`},
		"platform.runtimeDone":      {`{"requestId":"good","status":"success"}`, `{"requestId":"bad","status":"failure"}`},
		"platform.end":              {`{"requestId":"good"}`, `{"requestId":"bad"}`},
	} {
		for _, record := range want {
			if !slices.Contains(records(typ), record) {
				t.Errorf("%s: %q, want %s", typ, records(typ), record)
			}
		}
	}
	report := ofType(second, "platform.report")[0]
	if m, ok := report.field(t).(map[string]any); !ok || len(m) != 3 || report.field(t, "metrics", "initDurationMs") == nil ||
		report.field(t, "tracing", "value") == nil || report.field(t, "requestId") != "good" {
		t.Errorf("%s", report.Raw)
	}
	for _, ev := range c.delivered("x2") {
		if ev.Type == "platform.end" || ev.Type == "platform.logsSubscription" {
			t.Errorf("the Telemetry API has %s", ev.Raw)
		}
	}
}

// withoutExits removes the events of extensions that exited: at shutdown, the last extension may get those of the others.
func withoutExits(t *testing.T, events []wireEvent) []wireEvent {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(events), func(e wireEvent) bool {
		return e.Type == "platform.extension" && e.field(t, "state") == stateExited
	})
}

// For an invocation that crashes or times out, the Logs API has a platform.fault with a sentence.
func TestLogsAPIFaults(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]task{
		`"RequestId: id Process exited before completing request"`: {Exit: 3},
		`"RequestId: id Error: Task timed out after 1.00 seconds"`: {Sleep: 60_000},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			subscribe := strings.Replace(subscribeAll, "2025-01-29", schema20200815, 1)
			cfg := testConfig(t, c, "", plan{Logs: true, Subscribe: subscribe})
			if o.Sleep > 0 {
				cfg.Function.Timeout = time.Second
			}
			e := start(t, cfg)
			invoke(t, e, o, WithRequestID("id"))
			shutdown(t, e)
			events := c.checkDelivered("x0")
			fault := ofType(events, "platform.fault")
			if len(fault) != 1 || string(fault[0].Record) != want {
				t.Errorf("%s", fault)
			}
			if types := typesOf(events); slices.Index(types, "platform.fault") > slices.Index(types, "platform.end") {
				t.Errorf("%q", types)
			}
		})
	}
}
