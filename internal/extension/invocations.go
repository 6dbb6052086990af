package extension

import (
	"context"
	"slices"
	"sync"
	"time"

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
	requests []runs     // of the last few
	changed  chan struct{}
}

// runs is how often a request was begun and ended, as far as that was seen. Lambda runs an asynchronous event that failed
// again under the same id, a minute or two later and often in the same environment.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
type runs struct {
	id                     string
	served, started, ended int // INVOKE, platform.start, platform.runtimeDone: the number of the last
}

// over tells whether the run was seen to end that the last INVOKE is of.
func (r *runs) over() bool { return r.ended > 0 && r.ended >= r.served }

// ending is the end of a run; the zero value is none.
type ending struct {
	id  string
	run int
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
// end is not none when the event is a platform.runtimeDone; announce publishes it when the events before it are safe.
func (t *invocations) observe(e *listener.Event) (requestID string, end ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	requestID = t.attribute(e)
	switch string(e.Type) {
	case "platform.start":
		at := string(e.Time)
		if requestID != t.serving && (at < t.current.start || at < t.previous.end) {
			break // of another time and place: a function may log events, and a line above 1 MiB arrives cut open
		}
		t.of(requestID).started++
		if t.current.id != "" && t.current.id != requestID {
			t.previous = t.current // its end was never seen
		}
		t.current = invocation{id: requestID, start: at}
	case "platform.runtimeDone":
		at := string(e.Time)
		end = ending{requestID, max(t.of(requestID).started, 1)}
		switch {
		case t.current.id == requestID && at < t.current.start: // of the run before this one, late
			end.run--
		case t.current.id == requestID:
			t.current.end = at
			t.previous, t.current = t.current, invocation{}
		}
		t.report = requestID
		return requestID, end
	case "platform.report":
		if t.current.id == requestID { // a crash or timeout: no runtimeDone came
			t.previous, t.current = t.current, invocation{}
		}
		if t.report == requestID {
			t.report = ""
		}
	}
	return requestID, ending{}
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

// announce publishes the ends that observe returned.
func (t *invocations) announce(ends []ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, end := range ends {
		r := t.of(end.id)
		r.ended = max(r.ended, end.run)
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// hasEnded tells whether the platform.runtimeDone of this request was seen, and when by the platform's clock the
// function ended; zero where that cannot be read.
func (t *invocations) hasEnded(requestID string) (end time.Time, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.previous.id == requestID {
		end, _ = time.Parse(time.RFC3339, t.previous.end)
	}
	return end, t.of(requestID).over()
}

// serve says which request the INVOKE was of that came last. Its end may have been seen already: telemetry may be faster
// than the Extensions API.
func (t *invocations) serve(requestID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving = requestID
	t.of(requestID).served++
}

// isServed tells whether one of these ends is that of the invocation that is served. The end of the one before it often
// comes while the next runs.
func (t *invocations) isServed(ends []ending) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	served := ending{t.serving, t.of(t.serving).served}
	return slices.ContainsFunc(ends, func(e ending) bool { return e.id == served.id && e.run >= served.run })
}

// lastTook tells how long the handler of the last invocation took whose end was seen, by the platform's clock; 0 where
// that is not known.
func (t *invocations) lastTook() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	start, err := time.Parse(time.RFC3339, t.previous.start)
	if err != nil {
		return 0
	}
	end, err := time.Parse(time.RFC3339, t.previous.end)
	if err != nil {
		return 0
	}
	return max(end.Sub(start), 0)
}

// awaitEnd waits for the platform.runtimeDone of this request, and no other, until ctx is done.
func (t *invocations) awaitEnd(ctx context.Context, requestID string) bool {
	return t.await(ctx, func() bool { return t.of(requestID).over() })
}

// awaitStart waits until telemetry of this request is seen, its platform.start or its end.
func (t *invocations) awaitStart(ctx context.Context, requestID string) bool {
	return t.await(ctx, func() bool {
		r := t.of(requestID)
		return r.started > 0 && r.started >= r.served || r.over()
	})
}

// awaitReport waits until no platform.report is to come.
func (t *invocations) awaitReport(ctx context.Context) bool {
	return t.await(ctx, func() bool { return t.report == "" && t.current.id == "" })
}

func (t *invocations) await(ctx context.Context, met func() bool) bool {
	for {
		t.mu.Lock()
		ok, changed := met(), t.changed
		t.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
