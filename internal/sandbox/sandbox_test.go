//go:build unix

package sandbox

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A normal run: init, two invocations with a freeze after each, shutdown. Every event arrives in order and byte for byte.
func TestLifecycle(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "extension line"})
	e := start(t, cfg)
	job := task{Lines: 3, Text: `a "quoted" line`, Err: "to stderr"}
	first := invoke(t, e, job, WithRequestID("first"))
	if string(first.Payload) != `"first arn:aws:lambda:us-east-1:123456789012:function:fn"` ||
		first.Status != "success" || first.FunctionError != "" {
		t.Errorf("first result: %+v %s", first, first.Payload)
	}
	if first.Init <= 0 || first.Response <= 0 || first.Duration < first.Response ||
		first.Billed < first.Duration+first.Init || first.Billed > first.Duration+first.Init+time.Millisecond {
		t.Errorf("first times: %+v", first)
	}
	second := invoke(t, e, task{}, WithRequestID("second"))
	if second.Init != 0 || second.Billed < second.Duration || second.Billed >= second.Duration+time.Millisecond {
		t.Errorf("second times: %+v", second)
	}
	shutdown(t, e)
	events := c.checkDelivered("x0")
	if report := ofType(events, "platform.report")[0]; report.field(t, "metrics", "initDurationMs") != milliseconds(first.Init) ||
		report.field(t, "metrics", "billedDurationMs") != milliseconds(first.Billed) || report.field(t, "metrics", "memorySizeMB") != 256.0 {
		t.Errorf("report: %s", report.Raw)
	}
	var got []string
	for _, ev := range events {
		if ev.Type != "extension" { // printed by another process, so its place in the order varies
			got = append(got, ev.Type)
		}
	}
	want := []string{
		"platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension", "platform.initReport",
		"platform.start", "function", "function", "function", "platform.runtimeDone", "platform.report",
		"function", // without newline: the freeze completes the line
		"platform.start", "platform.runtimeDone", "platform.report",
	}
	if len(got) > 2 && got[2] == want[1] { // the runtime and the extension run concurrently
		got[1], got[2] = got[2], got[1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%q, want\n%q", got, want)
	}
}

// 5,000 lines at once reach two subscribers, one over TCP, without a drop. So does a line longer than any buffer.
func TestManyAndLongLines(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	const http = `"protocol":"HTTP","URI":"http://sandbox.localdomain:PORT/telemetry"`
	tcp := strings.Replace(subscribeAll, http, `"protocol":"TCP","port":PORT`, 1)
	big := strings.NewReplacer("262144", "1048576", `"maxItems":1000`, `"maxItems":10000`).Replace(subscribeAll)
	cfg := testConfig(t, c, "", plan{Subscribe: big}, plan{Subscribe: tcp, TCP: true})
	cfg.Function.Timeout = 5 * time.Minute // reading 5,000 lines takes a loaded machine a minute
	e := start(t, cfg)
	long := strings.Repeat("0123456789", 50_000)
	for range 2 {
		invoke(t, e, task{Lines: 5000, Text: strings.Repeat("x", 250)})
	}
	invoke(t, e, task{Text: long + "\n", Err: "one\n\ntwo\n"}, WithRequestID("last"))
	e.Thaw()
	for _, name := range []string{"x0", "x1"} { // wait before the process ends: TCP has no acknowledgment, a slow flush times out
		c.await("report to "+name, func(m message) bool {
			return m.Name == name && bytes.Contains(m.Body, []byte(`"platform.report","record":{"requestId":"last"`))
		})
	}
	shutdown(t, e)
	c.checkDelivered("x0")
	for _, name := range []string{"x0", "x1"} {
		got := c.delivered(name)
		lines := ofType(got, "function")
		if len(lines) != 10_004 || len(ofType(got, "platform.logsDropped")) != 0 {
			t.Fatalf("%s: %d lines", name, len(lines))
		}
		for i, l := range lines[:5000] {
			if !strings.HasPrefix(l.field(t).(string), fmt.Sprint(i, " ")) {
				t.Fatalf("%s: line %d is %.300s", name, i, l.Raw)
			}
		}
		var last []string
		for _, l := range lines[10_000:] {
			last = append(last, l.field(t).(string))
		}
		slices.Sort(last)
		if !slices.Equal(last, []string{"", long, "one", "two"}) {
			t.Errorf("%s: last lines %.100q", name, last)
		}
	}
}
