package extension

import (
	"context"
	"slices"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/listener"
)

// invocations follows from the platform's events which invocation runs. Telemetry arrives behind the events of the
// Extensions API or ahead of them, late, twice or never; so nothing here is more than what has been seen.
type invocations struct {
	mu       sync.Mutex
	current  invocation // runs: its start was seen and its end was not
	previous invocation // ran before it
	report   string     // request id whose platform.report is still to come; empty: none
	serving  string     // the request of the INVOKE that came last
	number   int        // of that INVOKE
	requests []runs     // of the last few
	changed  chan struct{}
}

// runs is how often a request was begun and ended, as far as that was seen. Lambda runs an asynchronous event that failed
// again under the same id, a minute or two later and often in the same environment.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
type runs struct {
	id                     string
	served, started, ended int // INVOKE, platform.start, platform.runtimeDone: the number of the last
	number                 int // of the last INVOKE, among those of all requests
}

// sighting is a platform.start or platform.runtimeDone of a run; the zero value is none.
type sighting struct {
	id    string
	run   int
	ended bool
	at    time.Time     // by the platform's clock; zero where it cannot be read
	took  time.Duration // from the start to the end; 0 where that is not known
}

// invocation is one request, and when it began and ended by the platform's clock (ISO 8601 with a fixed number of
// digits, so that strings compare as times do).
type invocation struct {
	id, start, end string
}

// requestsKept is how many requests are remembered. One is asked for; the rest is for what arrives twice, late or out of order.
const requestsKept = 8

func newInvocations() *invocations { return &invocations{changed: make(chan struct{})} }

// observe takes one event in the order of arrival and returns the request id that it belongs to: the one it carries,
// else that of the invocation that ran when it was emitted, else none.
// What it saw of a run is for facts, when the events before it are safe.
func (t *invocations) observe(e *listener.Event) (requestID string, saw sighting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	requestID = t.attribute(e)
	switch string(e.Type) {
	case "platform.start":
		at := string(e.Time)
		if requestID != t.serving && (at < t.current.start || at < t.previous.end) {
			break // of another time and place: a function may log events, and a line above 1 MiB arrives cut open
		}
		r := t.of(requestID)
		r.started++
		saw = sighting{id: requestID, run: r.started}
		if t.current.id != "" && t.current.id != requestID {
			t.previous = t.current // its end was never seen
		}
		t.current = invocation{id: requestID, start: at}
	case "platform.runtimeDone":
		at := string(e.Time)
		saw = sighting{id: requestID, run: max(t.of(requestID).started, 1), ended: true, at: parseTime(at)}
		switch {
		case t.current.id == requestID && at < t.current.start: // of the run before this one, late
			saw.run--
		case t.current.id == requestID:
			if start := parseTime(t.current.start); !start.IsZero() && !saw.at.IsZero() {
				saw.took = max(saw.at.Sub(start), 0)
			}
			t.current.end = at
			t.previous, t.current = t.current, invocation{}
		}
		t.report = requestID
	case "platform.report":
		if t.current.id == requestID { // a crash or timeout: no runtimeDone came
			t.previous, t.current = t.current, invocation{}
		}
		if t.report == requestID {
			t.report = ""
		}
	}
	return requestID, saw
}

// parseTime reads a time of the platform's; zero where it is none.
func parseTime(at string) time.Time {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return time.Time{}
	}
	return t
}

// of returns what is known of a request, for as long as mu is held.
func (t *invocations) of(requestID string) *runs {
	i := slices.IndexFunc(t.requests, func(r runs) bool { return r.id == requestID })
	if i < 0 {
		if len(t.requests) == requestsKept {
			t.requests = slices.Delete(t.requests, 0, 1)
		}
		t.requests = append(t.requests, runs{id: requestID})
		i = len(t.requests) - 1
	}
	return &t.requests[i]
}

// attribute finds the request id without copying it where it is known already.
func (t *invocations) attribute(e *listener.Event) string {
	if len(e.RequestID) > 0 && len(e.RequestID) <= maxRequestID {
		for _, known := range []string{t.current.id, t.previous.id} {
			if string(e.RequestID) == known {
				return known
			}
		}
		return string(e.RequestID)
	}
	at := e.Time
	switch {
	case t.current.id != "" && string(at) >= t.current.start:
		return t.current.id
	case t.previous.id != "" && string(at) >= t.previous.start && string(at) <= t.previous.end:
		return t.previous.id // logged before the end, arrived behind it: the pipes are separate
	}
	return ""
}

// maxRequestID bounds what is taken for a request id, bytes. Lambda's have 36; a log line may hold anything.
const maxRequestID = 128

// facts says what was seen in the flush policy's words: a start or an end counts for the INVOKE that it belongs to. The end of the
// invocation before this one often comes while this one runs.
func (t *invocations) facts(saw []sighting) (facts []flush.Fact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range saw {
		r, number := t.of(s.id), 0
		if r.served > 0 && s.run >= r.served {
			number = r.number
		}
		if s.ended {
			r.ended = max(r.ended, s.run)
			facts = append(facts, flush.EndSeen{Number: number, At: s.at, Took: s.took})
		} else {
			facts = append(facts, flush.Started{Number: number})
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return facts
}

// invoked numbers an INVOKE and says what was seen of its invocation already: telemetry may be faster than the Extensions API.
func (t *invocations) invoked(requestID string, deadline time.Time) (facts []flush.Fact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number++
	t.serving = requestID
	r := t.of(requestID)
	r.served++
	r.number = t.number
	facts = append(facts, flush.Invoked{Number: t.number, Deadline: deadline})
	if r.started >= r.served {
		facts = append(facts, flush.Started{Number: t.number})
	}
	if r.ended >= r.served {
		end := flush.EndSeen{Number: t.number}
		if t.previous.id == requestID {
			end.At = parseTime(t.previous.end)
		}
		facts = append(facts, end)
	}
	return facts
}

// awaitReport waits until no platform.report is to come, or ctx is done.
func (t *invocations) awaitReport(ctx context.Context) {
	for {
		t.mu.Lock()
		expected, changed := t.report != "" || t.current.id != "", t.changed
		t.mu.Unlock()
		if !expected {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
