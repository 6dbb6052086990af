package extension

import (
	"bytes"
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
	mu            sync.Mutex
	current       invocation // runs: its start was seen and its end was not
	previous      invocation // ran before it
	awaitedReport string     // request id whose platform.report is still to come; empty: none
	lastInvoke    string     // the request of the INVOKE that came last
	number        int        // of that INVOKE
	requests      []runs     // of the last few
	changed       chan struct{}
}

// runs is how often a request was begun and ended, as far as that was seen. Lambda runs an asynchronous event that failed
// again under the same id, a minute or two later and often in the same environment.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
type runs struct {
	id                    string
	invokes, starts, ends int // INVOKE, platform.start, platform.runtimeDone: the number of the last
	number                int // of the last INVOKE, among those of all requests
}

// runEvent is a platform.start or platform.runtimeDone of a run; the zero value is none.
type runEvent struct {
	id       string
	run      int
	isEnd    bool
	at       time.Time     // by the platform's clock; zero where it cannot be read
	duration time.Duration // from the start to the end; 0 where that is not known
}

// invocation is one request, and when it began and ended by the platform's clock; zero where that is not known.
type invocation struct {
	id         string
	start, end time.Time
}

// maxRequests is how many requests are remembered. One is asked for; the rest is for what arrives twice, late or out of order.
const maxRequests = 8

// maxRequestID bounds what is taken for a request id of the platform's, bytes. Lambda's have 36.
const maxRequestID = 128

func newInvocations() *invocations { return &invocations{changed: make(chan struct{})} }

// attribute appends the request that each event of a POST belongs to, and what the events show of runs. On Managed Instances several
// requests run at once, and only the event itself can tell: a log line by a UUID where a logger writes Lambda's. It may arrive before
// its platform.start.
func (x *Extension) attribute(requests []string, saw []runEvent, events []listener.Event) ([]string, []runEvent) {
	if !x.config.ManagedRuntime {
		return x.invocations.observe(requests, saw, events)
	}
	for i := range events {
		requestID := ""
		if e := &events[i]; namesRequest(e) || listener.IsUUID(e.RequestID) {
			requestID = string(e.RequestID)
		}
		requests = append(requests, requestID)
	}
	return requests, saw
}

// namesRequest tells whether an event is the platform's word that there is a request of its id.
func namesRequest(e *listener.Event) bool {
	return bytes.HasPrefix(e.Type, []byte("platform.")) && len(e.RequestID) > 0 && len(e.RequestID) <= maxRequestID
}

// observe takes the events of a POST in the order of arrival. It appends the request id that each belongs to: the one it carries,
// where Lambda has named that, else that of the invocation that ran when it was emitted, else none.
// What it saw of runs is for facts, when the events are safe.
func (t *invocations) observe(requests []string, saw []runEvent, events []listener.Event) ([]string, []runEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text []byte
	var at time.Time
	for i := range events {
		e := &events[i]
		if i == 0 || !bytes.Equal(e.Time, text) { // many lines are of one millisecond
			text, at = e.Time, parseTime(e.Time)
		}
		requestID := t.knownLocked(e.RequestID)
		switch {
		case e.Raw == nil: // no event
			requestID = ""
		case namesRequest(e):
			if requestID == "" {
				requestID = string(e.RequestID)
			}
			if s := t.observeRunLocked(string(e.Type), requestID, at); s.id != "" {
				saw = append(saw, s)
			}
		case requestID == "":
			requestID = t.runningAtLocked(at)
		}
		requests = append(requests, requestID)
	}
	return requests, saw
}

// observeRunLocked takes what the platform says of a request.
func (t *invocations) observeRunLocked(kind, requestID string, at time.Time) (saw runEvent) {
	switch kind {
	case "platform.start":
		if requestID != t.lastInvoke && (at.Before(t.current.start) || at.Before(t.previous.end)) {
			break // of another time and place: a function may log events, and a line above 1 MiB arrives cut open
		}
		r := t.runsOfLocked(requestID)
		r.starts++
		saw = runEvent{id: requestID, run: r.starts}
		if t.current.id != "" && t.current.id != requestID {
			t.previous = t.current // its end was never seen
		}
		t.current = invocation{id: requestID, start: at}
	case "platform.runtimeDone":
		saw = runEvent{id: requestID, run: max(t.runsOfLocked(requestID).starts, 1), isEnd: true, at: at}
		switch {
		case t.current.id == requestID && !at.IsZero() && at.Before(t.current.start): // of the run before this one, late
			saw.run--
		case t.current.id == requestID:
			if start := t.current.start; !start.IsZero() && !at.IsZero() {
				saw.duration = at.Sub(start)
			}
			t.current.end = at
			t.previous, t.current = t.current, invocation{}
		}
		t.awaitedReport = requestID
	case "platform.report":
		t.runsOfLocked(requestID)
		if t.current.id == requestID { // a crash or timeout: no runtimeDone came
			t.previous, t.current = t.current, invocation{}
		}
		if t.awaitedReport == requestID {
			t.awaitedReport = ""
		}
	}
	return saw
}

// parseTime reads a time of the platform's, of any number of digits; zero where it is none.
func parseTime(at []byte) (t time.Time) {
	if len(at) == 0 || t.UnmarshalText(at) != nil {
		return time.Time{}
	}
	return t
}

// runsOfLocked returns what is known of a request, for as long as mu is held. The request that is being served is never forgotten for
// another.
func (t *invocations) runsOfLocked(requestID string) *runs {
	i := slices.IndexFunc(t.requests, func(r runs) bool { return r.id == requestID })
	if i < 0 {
		if len(t.requests) == maxRequests {
			oldest := slices.IndexFunc(t.requests, func(r runs) bool { return r.id != t.lastInvoke && r.id != t.current.id })
			t.requests = slices.Delete(t.requests, oldest, oldest+1)
		}
		t.requests = append(t.requests, runs{id: requestID})
		i = len(t.requests) - 1
	}
	return &t.requests[i]
}

// knownLocked returns an id that INVOKE or the platform has named of late, without copying it; else none: a log line may carry any.
func (t *invocations) knownLocked(id []byte) string {
	for i := range t.requests {
		if t.requests[i].id == string(id) {
			return t.requests[i].id
		}
	}
	return ""
}

// runningAtLocked returns the invocation that ran at a time; where the time is not known, the one that runs.
func (t *invocations) runningAtLocked(at time.Time) (requestID string) {
	switch {
	case at.IsZero() || t.current.id != "" && !at.Before(t.current.start):
		return t.current.id
	case !at.Before(t.previous.start) && !at.After(t.previous.end):
		return t.previous.id // logged before the end, arrived behind it: the pipes are separate
	}
	return ""
}

// facts says what was seen in the flush policy's words: a start or an end counts for the INVOKE that it belongs to. The end of the
// invocation before this one often comes while this one runs.
func (t *invocations) facts(saw []runEvent) (facts []flush.Fact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range saw {
		r, number := t.runsOfLocked(s.id), 0
		if r.invokes > 0 && s.run >= r.invokes {
			number = r.number
		}
		if s.isEnd {
			r.ends = max(r.ends, s.run)
			facts = append(facts, flush.EndSeen{Number: number, At: s.at, Took: s.duration})
		} else {
			facts = append(facts, flush.Started{Number: number})
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return facts
}

// noteInvoke numbers an INVOKE and says what was seen of its invocation already: telemetry may be faster than the Extensions API.
func (t *invocations) noteInvoke(requestID string, deadline time.Time) (facts []flush.Fact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number++
	t.lastInvoke = requestID
	r := t.runsOfLocked(requestID)
	r.invokes++
	r.number = t.number
	facts = append(facts, flush.Invoked{Number: t.number, Deadline: deadline})
	if r.starts >= r.invokes {
		facts = append(facts, flush.Started{Number: t.number})
	}
	if r.ends >= r.invokes {
		end := flush.EndSeen{Number: t.number}
		if t.previous.id == requestID {
			end.At = t.previous.end
		}
		facts = append(facts, end)
	}
	return facts
}

// awaitReport waits until no platform.report is to come, or ctx is done.
func (t *invocations) awaitReport(ctx context.Context) {
	for {
		t.mu.Lock()
		expected, changed := t.awaitedReport != "" || t.current.id != "", t.changed
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
