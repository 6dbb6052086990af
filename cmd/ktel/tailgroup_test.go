package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/session"
	"kinesis-telemetry-extension/record"
)

// grouping returns the tailer of 'ktel tail --by-invocation' without a stream.
func grouping(t *testing.T, f filterFlags) (tail *tailer, out *bytes.Buffer) {
	t.Helper()
	keep, err := f.filter()
	if err != nil {
		t.Fatal(err)
	}
	out = new(bytes.Buffer)
	return &tailer{
		app: &app{stdout: out}, flags: &tailFlags{output: outputText}, keep: keep, colors: newPalette(false), groups: newInvocationGroups(),
	}, out
}

// takeEach gives the tailer each event in its own record.
func takeEach(tail *tailer, events ...[]byte) {
	for _, e := range events {
		tail.showRecord(&session.Record{Data: e})
	}
}

// With a filter, an invocation with a matching event is shown with its REPORT. Other invocations are not shown and do
// not wait.
func TestInvocationsWithFilter(t *testing.T) {
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
			t.Errorf("%s: %q was shown before the end", test.name, out)
		}
		tail.showGroups(tail.groups.removeEnded(time.Now().Add(graceTime)))
		if got := strings.TrimPrefix(out.String(), "2026-11-26 UTC\n"); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}
		if len(tail.groups.open) > 0 || len(tail.groups.order) > 0 || tail.groups.bytes != 0 {
			t.Errorf("%s: %d groups of %d bytes are still open", test.name, len(tail.groups.order), tail.groups.bytes)
		}
	}
}

// The size of open groups is limited: above it the oldest leave, and no more than necessary. No event makes add visit
// all groups.
func TestOpenInvocationsAreBounded(t *testing.T) {
	g, start := newInvocationGroups(), time.Now()
	m := message{text: strings.Repeat("x", 1<<20)}
	lineOf := func(n int) *record.Line {
		return &record.Line{Type: "function", RequestID: fmt.Sprint(n), Source: record.SourceFields{Function: "checkout"}}
	}
	g.shown["long ago"] = shownGroup{at: start.Add(-2 * reportTimeout)}
	for n := range 63 {
		g.add(lineOf(n), &m, true, start)
		if due := g.removeOverflow(start); len(due) > 0 {
			t.Fatalf("%d groups left at %d MiB", len(due), n)
		}
	}
	if len(g.shown) != 1 {
		t.Error("removeOverflow visits the groups that were shown")
	}
	for n := range 3 {
		g.add(lineOf(100+n), &m, true, start)
	}
	var left []string
	for _, i := range g.removeOverflow(start) {
		left = append(left, i.events[0].line.RequestID)
	}
	if !slices.Equal(left, []string{"0", "1", "2"}) || len(g.order) != 63 || len(g.open) != 63 || g.bytes != 63*(1<<20+eventOverhead) {
		t.Errorf("%q left; %d in order, %d open, %d bytes", left, len(g.order), len(g.open), g.bytes)
	}
	if g.add(lineOf(0), &m, true, start) {
		t.Error("an event of a group that has left was grouped again")
	}
	if g.removeEnded(start); len(g.shown) != 3 {
		t.Errorf("%d shown groups are remembered", len(g.shown))
	}
}

// BenchmarkInvocations adds two events for each of b.N open invocations. The time per event must not grow with b.N.
func BenchmarkInvocations(b *testing.B) {
	g, now := newInvocationGroups(), time.Now()
	line := record.Line{Source: record.SourceFields{Function: "checkout"}}
	var m message
	for n := range b.N {
		line.RequestID = fmt.Sprint(n)
		for _, line.Type = range []string{typeStart, typeReport} {
			g.add(&line, &m, true, now)
			g.removeOverflow(now)
		}
	}
}

// Text of another writer is reported once until the next event, whatever its number of lines.
func TestForeignIsReportedOnce(t *testing.T) {
	tail, out := grouping(t, filterFlags{})
	tail.groups = nil
	text := strings.Repeat("a line of others\n", 50)
	mixed := text + string(event(1, "checkout", "function", requestA, `"order received"`)) + text
	takeEach(tail, []byte(text), []byte(mixed), []byte("{\n\"pretty\": [\n1\n]\n}\n"))
	shown := out.String()
	if lines := strings.Count(shown, "\n"); lines < 4 || strings.Count(shown, "bytes: ") != 4 || !strings.Contains(shown, "order received") {
		t.Errorf("%d lines\n%s", lines, shown)
	}
}

// Lambda retries a failed asynchronous event under its request id. Each try has its own group, even if the retry
// follows at once.
func TestRetriedInvocations(t *testing.T) {
	try := func(n int, text string) [][]byte {
		return [][]byte{
			event(n, "checkout", "platform.start", requestA, `{}`),
			event(n+1, "checkout", "function", requestA, `"`+text+`"`),
			event(n+2, "checkout", "platform.report", requestA, report),
		}
	}
	const summary = "checkout " + requestA + " 21.48 ms, billed 22 ms, memory 18 of 128 MB, cold start 97.3 ms\n"
	for _, pause := range []bool{false, true} {
		tail, out := grouping(t, filterFlags{})
		first, second := try(1, "first"), try(5, "second")
		takeEach(tail, first...)
		if pause {
			tail.showGroups(tail.groups.removeEnded(time.Now().Add(graceTime)))
			takeEach(tail, first[0]) // a duplicate
		}
		takeEach(tail, second...)
		tail.showGroups(tail.groups.removeEnded(time.Now().Add(graceTime)))
		got := strings.TrimPrefix(out.String(), "2026-11-26 UTC\n")
		want := summary + "  08:30:00.002 first\n" + summary + "  08:30:00.006 second\n"
		lines := slices.DeleteFunc(strings.SplitAfter(got, "\n"), func(line string) bool {
			return strings.Contains(line, " start version") || strings.Contains(line, " start\n")
		})
		if got = strings.Join(lines, ""); got != want {
			t.Errorf("pause %t: got\n%swant\n%s", pause, got, want)
		}
		if len(tail.groups.open) > 0 || len(tail.groups.order) > 0 || tail.groups.bytes != 0 {
			t.Errorf("%d groups are still open", len(tail.groups.order))
		}
	}
}
