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
		if end != "" {
			track.announce([]string{end})
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
