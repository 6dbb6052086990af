package extension

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/listener"
)

// observeAll passes events to the tracker. They are written as "start 01 a, line 02": a type, a time, and the request id in the event, if
// there is one. A time of one or two digits is in seconds, with or without a fraction; "-" is no time. An INVOKE has no time. It
// returns the request ids that the events belong to, and the facts for the flush policy.
func observeAll(track *invocations, events string) (ids []string, facts []flush.Fact) {
	types := map[string]string{"start": "platform.start", "done": "platform.runtimeDone", "report": "platform.report", "line": "function"}
	for event := range strings.SplitSeq(events, ", ") {
		part := append(strings.Fields(event), "")
		if part[0] == "INVOKE" {
			facts = append(facts, track.noteInvoke(part[1], time.Time{})...)
			continue
		}
		at := part[1]
		if seconds, _, _ := strings.Cut(at, "."); len(seconds) <= 2 && seconds != "-" {
			at = "2026-11-23T18:00:" + strings.Repeat("0", 2-len(seconds)) + at + "Z"
		}
		var runEvents []runEvent
		ids, runEvents = track.observe(ids, nil, []listener.Event{{
			Raw: []byte("{}"), Type: []byte(types[part[0]]), Time: []byte(strings.Trim(at, "-")), RequestID: []byte(part[2]),
		}})
		facts = append(facts, track.facts(runEvents)...)
	}
	return ids, facts
}

// An event belongs to the request whose id it contains, if Lambda has named that request; else to the request that ran when the event
// was emitted; else to none.
func TestEventBelongsToItsRequest(t *testing.T) {
	for _, test := range []struct{ name, events, want string }{
		{
			"by position",
			"line 01, start 02 a, line 03, done 04 a, report 05 a, line 06, start 07 b, line 08",
			"-,a,a,a,a,-,b,b",
		},
		{
			"a line that was logged before the end and arrives after it",
			"start 02 a, done 04 a, line 02, line 03, line 04, line 05, start 07 b, line 04, line 06",
			"a,a,a,a,a,-,b,a,-",
		},
		{"an id that Lambda has not named: API Gateway's, an order's", "line 01 z, start 02 a, line 03 z, done 04 a, line 05 z", "-,a,a,a,-"},
		{"an id that INVOKE has named", "INVOKE a, line 01 a, start 02 a", "a,a"},
		{
			"an id that the platform has named takes precedence over the time",
			"start 01 a, done 02 a, start 03 b, line 04 a, report 05 c, line 06 c, done 07 d, line 08 d",
			"a,a,b,a,c,c,d,d",
		},
		{
			"an id that is too old to be remembered",
			"start 01 a, start 02 b, start 03 c, start 04 d, start 05 e, start 06 f, start 07 g, start 08 h, " +
				"line 09 a, start 10 i, line 11 a, line 12 b",
			"a,b,c,d,e,f,g,h,a,i,i,b",
		},
		{
			"times with any number of digits",
			"start 05 a, line 05.001, line 04.999999, done 06.5 a, line 06.4999, line 06.500000000, line 06.5001, " +
				"start 07.25 b, line 07.250000, line 07.2499999, line 2026-11-23T19:00:07.3+01:00",
			"a,a,-,a,a,a,-,b,b,-,b",
		},
		{"a line without a usable time", "line -, start 02 a, line -, line today, line 2026-11-23 z, done 04 a, line -", "-,a,a,a,a,a,-"},
		{"a start without a usable time", "start today a, line 03, line -, start - b, line 05", "a,a,a,b,b"},
		{"an end that never arrives", "start 01 a, start 05 b, line 06, line 03", "a,b,b,-"},
		{
			"a start of another time, from a log line that arrives in pieces",
			"start 05 a, start 02 z, line 06, done 07 a, start 03 z, line 08",
			"a,z,a,a,z,-",
		},
		{"a line from before the last two invocations", "start 02 a, done 04 a, start 06 b, line 01", "a,a,b,-"},
		{"two starts in one millisecond", "start 01 a, start 01 b, line 01", "a,b,b"},
		{"a start in the millisecond of an end", "start 01 a, done 02 a, start 02 b, line 03", "a,a,b,b"},
		{"a crash: a report without an end", "start 01 a, report 03 a, line 04", "a,a,-"},
	} {
		ids, _ := observeAll(newInvocations(), test.events)
		for i, id := range ids {
			if id == "" {
				ids[i] = "-"
			}
		}
		if got := strings.Join(ids, ","); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// Only the end of its own run counts for an INVOKE, not an old end and not one that arrives twice. An end that arrives before its
// INVOKE counts. Lambda may retry a request under its id: the end of the first run, in time or late, does not count for the second.
func TestEndCountsForItsOwnRun(t *testing.T) {
	var foreign string // events that a function logged, from a line that arrived in pieces
	for n := range 9 {
		foreign += fmt.Sprintf("done 2 z%d, ", n)
	}
	foreignEnds := strings.Repeat("ended 0, ", 9)
	for _, test := range []struct{ name, events, want string }{
		{
			"in order",
			"INVOKE a, start 1 a, done 2 a, INVOKE b, start 3 b, done 4 b",
			"invoked 1, started 1, ended 1, invoked 2, started 2, ended 2",
		},
		{"before INVOKE", "start 1 a, done 2 a, INVOKE a", "started 0, ended 0, invoked 1, started 1, ended 1"},
		{"only the start before INVOKE", "start 1 a, INVOKE a, done 2 a", "started 0, invoked 1, started 1, ended 1"},
		{
			"the end after the next INVOKE",
			"INVOKE a, INVOKE b, start 1 a, done 2 a, start 3 b",
			"invoked 1, invoked 2, started 1, ended 1, started 2",
		},
		{"a start that was lost", "INVOKE a, done 2 a", "invoked 1, ended 1"},
		{"no INVOKE at all", "done 2 z", "ended 0"},
		{"platform events without a request id", "start 1, done 2", ""},
		{
			"a second run",
			"INVOKE a, start 1 a, done 2 a, INVOKE a, start 5 a, done 6 a",
			"invoked 1, started 1, ended 1, invoked 2, started 2, ended 2",
		},
		{
			"a second run, and the first end repeated",
			"INVOKE a, start 1 a, done 2 a, INVOKE a, start 5 a, done 2 a",
			"invoked 1, started 1, ended 1, invoked 2, started 2, ended 0",
		},
		{
			"a second run, and the first end late",
			"INVOKE a, start 1 a, INVOKE a, done 2 a, start 5 a, done 6 a",
			"invoked 1, started 1, invoked 2, ended 0, started 2, ended 2",
		},
		{
			"a second run, frozen before anything was posted",
			"INVOKE a, start 1 a, done 2 a, INVOKE b, INVOKE a, start 8 b, done 9 b",
			"invoked 1, started 1, ended 1, invoked 2, invoked 3, started 2, ended 2",
		},
		{
			"foreign events while a request runs",
			"INVOKE a, start 50 a, start 1 z, " + foreign + "done 51 a",
			"invoked 1, started 1, " + foreignEnds + "ended 1",
		},
		{"foreign events before the start", "INVOKE a, " + foreign + "start 50 a, done 51 a", "invoked 1, " + foreignEnds + "started 1, ended 1"},
		{
			"foreign events before INVOKE",
			"start 50 a, " + foreign + "INVOKE a, done 51 a",
			"started 0, " + foreignEnds + "invoked 1, started 1, ended 1",
		},
		{"an end without a usable time", "INVOKE a, start 5 a, done - a", "invoked 1, started 1, ended 1"},
		{
			"a second run before its INVOKE",
			"INVOKE a, start 1 a, done 2 a, start 5 a, done 6 a, INVOKE a",
			"invoked 1, started 1, ended 1, started 1, ended 1, invoked 2, started 2, ended 2",
		},
	} {
		_, facts := observeAll(newInvocations(), test.events)
		var words []string
		for _, fact := range facts {
			switch f := fact.(type) {
			case flush.Invoked:
				words = append(words, fmt.Sprint("invoked ", f.Number))
			case flush.Started:
				words = append(words, fmt.Sprint("started ", f.Number))
			case flush.EndSeen:
				words = append(words, fmt.Sprint("ended ", f.Number))
			}
		}
		if got := strings.Join(words, ", "); got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
}

// The fact of an end that arrives before its INVOKE has the end's time, from which the hold counts. If another invocation ended
// since, the fact has no time.
func TestEndBeforeItsInvokeKeepsItsTime(t *testing.T) {
	const at = "2026-11-23T18:00:00.500Z"
	track := newInvocations()
	end := func(events string) string {
		_, facts := observeAll(track, events)
		return facts[len(facts)-1].(flush.EndSeen).At.Format(timeLayout)
	}
	if got := end("start 2026-11-23T18:00:00.000Z a, done " + at + " a, INVOKE a"); got != at {
		t.Errorf("ended at %s", got)
	}
	got := end("start " + at + " b, done " + at + " b, start " + at + " c, done " + at + " c, INVOKE b")
	if got != "0001-01-01T00:00:00.000Z" {
		t.Errorf("the older one ended at %s", got)
	}
}

// The duration of a handler is known if its start was seen and both times are readable.
func TestHandlerDuration(t *testing.T) {
	const start, end = "start 2026-11-23T18:00:00.000Z a", "done 2026-11-23T18:00:00.500Z a"
	for events, want := range map[string]time.Duration{
		start + ", " + end:           500 * time.Millisecond,
		end:                          0,
		"start 2026 a, " + end:       0,
		start + ", done 2027 a":      0,
		start + ", done" + start[5:]: 0,
		start + ", start 2026-11-23T18:00:00.1Z b, " + end: 0,
	} {
		_, facts := observeAll(newInvocations(), events)
		if got := facts[len(facts)-1].(flush.EndSeen); got.Took != want || got.At.IsZero() != strings.Contains(events, "done 2027") {
			t.Errorf("%s: %+v", events, got)
		}
	}
}

// The last eight requests are remembered. An event of an older request belongs to no INVOKE.
func TestLastEightRequestsAreRemembered(t *testing.T) {
	track := newInvocations()
	for n := range 9 {
		observeAll(track, fmt.Sprint("INVOKE ", n))
	}
	_, facts := observeAll(track, "done - 0, done - 8")
	if want := []flush.Fact{flush.EndSeen{Number: 0}, flush.EndSeen{Number: 9}}; !slices.Equal(facts, want) || len(track.requests) != 8 {
		t.Errorf("%+v, %d requests", facts, len(track.requests))
	}
}

// Finding the request of a log line does not allocate, because there may be thousands of lines.
func TestLogLinesDoNotAllocate(t *testing.T) {
	track := newInvocations()
	const id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	observeAll(track, "start 2026-11-23T18:00:00.000Z "+id)
	for _, line := range [][2]string{
		{"2026-11-23T18:00:00.001Z", id},
		{"2026-11-23T18:00:00.001Z", ""},
		{"2026-11-23T18:00:00.001Z", "c6af9ac6-7b61-41e6-9a41-93e8deadbeef"},
		{"2026-11-23T18:00:00.001000000Z", "order-17"},
		{"2026-11-23T19:00:00.001+01:00", ""},
		{"", ""},
	} {
		events := []listener.Event{{Raw: []byte("{}"), Type: []byte("function"), Time: []byte(line[0]), RequestID: []byte(line[1])}}
		var requests []string
		if n := testing.AllocsPerRun(100, func() { requests, _ = track.observe(requests[:0], nil, events) }); n > 0 {
			t.Errorf("%q: %g allocations", line, n)
		}
	}
}

// SHUTDOWN waits for a report while a request runs, and from its end until its report.
func TestAwaitReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		track := newInvocations()
		for _, step := range []struct {
			events string
			early  bool // the wait ends before the timeout
		}{{"line 1", true}, {"start 1 a", false}, {"done 2 a", false}, {"report 2 a", true}} {
			observeAll(track, step.events)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			track.awaitReport(ctx)
			if early := ctx.Err() == nil; early != step.early {
				t.Errorf("%s: the wait ended early: %t", step.events, early)
			}
			cancel()
		}
	})
}
