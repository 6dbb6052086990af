package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/session"
)

// grouping is 'ktel tail --by-invocation' without a stream.
func grouping(t *testing.T, f filterFlags) (tail *tailer, out *bytes.Buffer) {
	t.Helper()
	keep, err := f.filter()
	if err != nil {
		t.Fatal(err)
	}
	out = new(bytes.Buffer)
	return &tailer{
		app: &app{stdout: out}, flags: &tailFlags{output: outputText}, keep: keep, ink: newInk(false), groups: newInvocations(),
	}, out
}

// takeEach gives the tailer each event in a record of its own.
func takeEach(tail *tailer, events ...[]byte) {
	for _, e := range events {
		tail.take(&session.Record{Data: e})
	}
}

// A filter chooses events: their invocation has its REPORT, and does not wait, and another one is not shown.
func TestFilteredInvocations(t *testing.T) {
	events := [][]byte{
		event(1, "checkout", "platform.start", requestA, `{}`),
		event(2, "checkout", "function", requestA, `{"level":"INFO","message":"order received"}`),
		event(3, "checkout", "function", requestA, `{"level":"ERROR","message":"no stock"}`),
		event(4, "checkout", "platform.report", requestA, report),
		event(5, "checkout", "platform.start", requestB, `{}`),
		event(6, "checkout", "function", requestB, `{"level":"INFO","message":"order received"}`),
		event(7, "checkout", "platform.report", requestB, report),
	}
	const (
		summary = " 21.48 ms, billed 22 ms, memory 18 of 128 MB, cold start 97.3 ms\n"
		info    = "  08:30:00.002 INFO  order received\n"
		failed  = "  08:30:00.003 ERROR no stock\n"
		second  = "checkout " + requestB + summary
	)
	for _, test := range []struct {
		name   string
		filter filterFlags
		want   string
	}{
		{"a level", filterFlags{level: "error"}, "checkout " + requestA + summary + failed},
		{"a text", filterFlags{grep: "no stock"}, "checkout " + requestA + summary + failed},
		{"a type", filterFlags{types: []string{"report"}}, "checkout " + requestA + summary + second},
		{"a request", filterFlags{request: requestA}, "checkout " + requestA + summary + info + failed},
		{"no such function", filterFlags{functions: []string{"payment"}}, ""},
		{"no such text", filterFlags{grep: "no such"}, ""},
	} {
		tail, out := grouping(t, test.filter)
		takeEach(tail, events...)
		if out.Len() > 0 {
			t.Errorf("%s: %q before its end", test.name, out)
		}
		tail.showEnded(tail.groups.ended(time.Now().Add(graceTime)))
		if got := strings.TrimPrefix(out.String(), "2026-11-26 UTC\n"); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
		if len(tail.groups.open) > 0 || len(tail.groups.order) > 0 || tail.groups.bytes != 0 {
			t.Errorf("%s: %d groups, %d bytes still wait", test.name, len(tail.groups.order), tail.groups.bytes)
		}
	}
}
