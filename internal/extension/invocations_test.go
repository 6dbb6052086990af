package extension

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/listener"
)

// seen lets the tracker observe events, written as "type at request-id", and returns the ids it gives them.
func seen(t *testing.T, track *invocations, events ...[3]string) (ids []string) {
	t.Helper()
	for _, e := range events {
		event := listener.Event{Type: []byte(e[0]), Time: []byte(e[1]), RequestID: []byte(e[2])}
		id, end := track.observe(&event)
		if end != (ending{}) {
			track.announce([]ending{end})
		}
		ids = append(ids, id)
	}
	return ids
}

func TestAttribution(t *testing.T) {
	const start, log, done, report = "platform.start", "function", "platform.runtimeDone", "platform.report"
	for _, test := range []struct {
		name   string
		events [][3]string
		want   []string
	}{
		{"by position", [][3]string{
			{log, "01", ""},
			{start, "02", "a"},
			{log, "03", ""},
			{done, "04", "a"},
			{report, "05", "a"},
			{log, "06", ""},
			{start, "07", "b"},
			{log, "08", ""},
		}, []string{"", "a", "a", "a", "a", "", "b", "b"}},
		{"a line behind the end that was logged before it", [][3]string{
			{start, "02", "a"}, {done, "04", "a"}, {log, "03", ""}, {log, "04", ""}, {log, "05", ""}, {start, "07", "b"}, {log, "04", ""}, {log, "06", ""},
		}, []string{"a", "a", "a", "a", "", "b", "a", ""}},
		{"the record's own id wins", [][3]string{{start, "01", "a"}, {log, "02", "z"}}, []string{"a", "z"}},
		{"an end that never came", [][3]string{{start, "01", "a"}, {start, "05", "b"}, {log, "06", ""}, {log, "03", ""}}, []string{"a", "b", "b", ""}},
		{"a start of another time, out of a line that was cut open", [][3]string{{start, "05", "a"}, {start, "02", "z"}, {log, "06", ""}, {done, "07", "a"}, {start, "03", "z"}, {log, "08", ""}}, []string{"a", "z", "a", "a", "z", ""}},
		{"a crash: report without end", [][3]string{{start, "01", "a"}, {report, "03", "a"}, {log, "04", ""}}, []string{"a", "a", ""}},
	} {
		if got := seen(t, newInvocations(), test.events...); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Only this request's end ends a wait: not an old one, not one that came twice; one that came before counts.
func TestAwaitEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		track := newInvocations()
		wait := func(id string) bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return track.awaitEnd(ctx, id)
		}
		seen(t, track, [3]string{"platform.start", "1", "a"}, [3]string{"platform.runtimeDone", "2", "a"})
		if !wait("a") {
			t.Error("an end that came before the wait does not end it")
		}
		seen(t, track, [3]string{"platform.start", "3", "b"}, [3]string{"platform.runtimeDone", "2", "a"})
		if wait("b") {
			t.Error("an old end ended a later wait")
		}
		go func() {
			time.Sleep(time.Millisecond)
			seen(t, track, [3]string{"platform.runtimeDone", "4", "b"}, [3]string{"platform.runtimeDone", "2", "a"})
		}()
		if !wait("b") {
			t.Error("the end that was waited for did not end the wait")
		}
		if wait("") {
			t.Error("the end of no request was seen")
		}
	})
}

// Lambda may run a request again under its id: the end of its first run, seen in time or late, is not that of the second.
func TestRunsOfOneRequest(t *testing.T) {
	const start, done = "platform.start", "platform.runtimeDone"
	track := newInvocations()
	ended := func(when string, want bool) {
		t.Helper()
		if _, got := track.hasEnded("a"); got != want {
			t.Errorf("%s: has ended: %t", when, got)
		}
	}
	track.serve("a")
	seen(t, track, [3]string{start, "1", "a"})
	ended("the first run", false)
	seen(t, track, [3]string{done, "2", "a"})
	ended("its end", true)
	track.serve("a")
	ended("the second run", false)
	seen(t, track, [3]string{start, "5", "a"}, [3]string{done, "2", "a"})
	ended("the first end once more", false)
	seen(t, track, [3]string{done, "6", "a"})
	ended("the second end", true)
	track.serve("b")
	track.serve("a") // frozen before anything was posted
	seen(t, track, [3]string{start, "8", "b"}, [3]string{done, "9", "b"})
	ended("the third run", false)
	if track.isServed([]ending{{"a", 2}, {"b", 1}}) || !track.isServed([]ending{{"b", 1}, {"a", 3}}) {
		t.Error("the end of the third run is not told from others")
	}
	seen(t, track, [3]string{start, "11", "a"}, [3]string{done, "12", "a"})
	ended("the third end", true)
	seen(t, track, [3]string{start, "15", "a"}, [3]string{done, "16", "a"})
	track.serve("a")
	ended("an end that is ahead of its INVOKE", true)
}

// Log lines come by the thousand: to find out whose one is allocates nothing.
func TestLogLinesAllocateNothing(t *testing.T) {
	track := newInvocations()
	const id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	seen(t, track, [3]string{"platform.start", "2026-11-23T18:00:00.000Z", id})
	line := listener.Event{Type: []byte("function"), Time: []byte("2026-11-23T18:00:00.001Z"), RequestID: []byte(id)}
	text := listener.Event{Type: line.Type, Time: line.Time}
	if n := testing.AllocsPerRun(100, func() { track.observe(&line); track.observe(&text) }); n > 0 {
		t.Errorf("%g allocations", n)
	}
}

func TestAwaitReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		track := newInvocations()
		wait := func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return track.awaitReport(ctx)
		}
		if !wait() {
			t.Error("waited for a report though nothing ran")
		}
		seen(t, track, [3]string{"platform.start", "1", "a"})
		if wait() {
			t.Error("did not wait for the report of what runs")
		}
		seen(t, track, [3]string{"platform.runtimeDone", "2", "a"})
		if wait() {
			t.Error("did not wait for the report")
		}
		seen(t, track, [3]string{"platform.report", "2", "a"})
		if !wait() {
			t.Error("waited on after the report")
		}
	})
}
