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
	ended    []string   // request ids whose platform.runtimeDone was seen, the last few
	changed  chan struct{}
}

// invocation is one request, and when it began and ended by the platform's clock (ISO 8601 with a fixed number of
// digits, so that strings compare as times do).
type invocation struct {
	id, start, end string
}

// endedKept is how many ends are remembered. One is asked for; the rest is for ends that arrive twice or out of order.
const endedKept = 8

func newInvocations() *invocations { return &invocations{changed: make(chan struct{})} }

// observe takes one event in the order of arrival and returns the request id that it belongs to: the one it carries,
// else that of the invocation that ran when it was emitted, else none.
// end is not empty when the event is a platform.runtimeDone; announce publishes it when the events before it are safe.
func (t *invocations) observe(e *listener.Event) (requestID, end string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	requestID = t.attribute(e)
	switch string(e.Type) {
	case "platform.start":
		if t.current.id != "" && t.current.id != requestID {
			t.previous = t.current // its end was never seen
		}
		t.current = invocation{id: requestID, start: string(e.Time)}
	case "platform.runtimeDone":
		if t.current.id == requestID {
			t.current.end = string(e.Time)
			t.previous, t.current = t.current, invocation{}
		}
		t.report = requestID
		return requestID, requestID
	case "platform.report":
		if t.current.id == requestID { // a crash or timeout: no runtimeDone came
			t.previous, t.current = t.current, invocation{}
		}
		if t.report == requestID {
			t.report = ""
		}
	}
	return requestID, ""
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
func (t *invocations) announce(ends []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = append(t.ended, ends...)
	if excess := len(t.ended) - endedKept; excess > 0 {
		t.ended = slices.Delete(t.ended, 0, excess)
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
	return end, slices.Contains(t.ended, requestID)
}

// serve says which request the INVOKE was of that came last, and tells whether its end was seen already: telemetry may be
// faster than the Extensions API.
func (t *invocations) serve(requestID string) (ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving = requestID
	return slices.Contains(t.ended, requestID)
}

// isServed tells whether one of these ends is that of the invocation that is served. The end of the one before it often
// comes while the next runs.
func (t *invocations) isServed(ends []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(ends, t.serving)
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
	return t.await(ctx, func() bool { return slices.Contains(t.ended, requestID) })
}

// awaitStart waits until telemetry of this request is seen, its platform.start or its end.
func (t *invocations) awaitStart(ctx context.Context, requestID string) bool {
	return t.await(ctx, func() bool { return t.current.id == requestID || slices.Contains(t.ended, requestID) })
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
