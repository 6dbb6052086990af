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

// invocations tracks which invocation runs. Its sources are the platform's events and INVOKE. Telemetry may arrive after the events
// of the Extensions API or before them, late, twice or never, so every field only describes what the extension has seen so far.
type invocations struct {
	mu            sync.Mutex
	current       invocation    // the running invocation: its start was seen, its end was not
	previous      invocation    // ran before current
	awaitedReport string        // request id whose platform.report is still to come; empty: none
	lastInvoke    string        // request id of the last INVOKE
	number        int           // of the last INVOKE
	requests      []runs        // the last maxRequests
	changed       chan struct{} // closed and replaced after each POST
}

// runs counts how often a request was seen to start and end. Lambda retries a failed asynchronous event under the same request id,
// one or two minutes later and often in the same environment.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
type runs struct {
	id                    string
	invokes, starts, ends int // how many INVOKEs, platform.starts and platform.runtimeDones were seen
	number                int // of the request's last INVOKE, counted over all requests
}

// runEvent is the start or the end of one run of a request: a platform.start or platform.runtimeDone. The zero value is none.
type runEvent struct {
	id       string
	run      int // 1 for the request's first run
	isEnd    bool
	at       time.Time     // by the platform's clock; zero if unreadable
	duration time.Duration // from start to end; 0 if unknown
}

// invocation is one run of a request, with its start and end by the platform's clock. Unknown times are zero.
type invocation struct {
	id         string
	start, end time.Time
}

// maxRequests is how many requests are remembered. Only one runs; the others serve events that arrive twice, late or out of order.
const maxRequests = 8

// maxRequestID is the longest request id that is accepted from the platform, in bytes. Lambda's have 36.
const maxRequestID = 128

func newInvocations() *invocations { return &invocations{changed: make(chan struct{})} }

// attribute appends the request id that each event of a POST belongs to, and the starts and ends of runs among the events. On
// Managed Instances several requests run at once, and only the event itself shows its request: in a log line, a UUID in a member
// where loggers write Lambda's request id. The line may arrive before its platform.start.
func (x *Extension) attribute(requests []string, seen []runEvent, events []listener.Event) ([]string, []runEvent) {
	if !x.config.ManagedRuntime {
		return x.invocations.observe(requests, seen, events)
	}
	for i := range events {
		requestID := ""
		if e := &events[i]; namesRequest(e) || listener.IsUUID(e.RequestID) {
			requestID = string(e.RequestID)
		}
		requests = append(requests, requestID)
	}
	return requests, seen
}

// namesRequest reports whether an event is a platform event with a request id, which proves that the request exists.
func namesRequest(e *listener.Event) bool {
	return bytes.HasPrefix(e.Type, []byte("platform.")) && len(e.RequestID) > 0 && len(e.RequestID) <= maxRequestID
}

// observe reads the events of a POST in the order of arrival. It appends the request id that each event belongs to: the id in the
// event, if Lambda has named that id; else the id of the invocation that ran when the event was emitted; else none.
// It also appends the starts and ends of runs to seen. The caller passes them to facts when the events are in the journal.
func (t *invocations) observe(requests []string, seen []runEvent, events []listener.Event) ([]string, []runEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text []byte
	var at time.Time
	for i := range events {
		e := &events[i]
		if i == 0 || !bytes.Equal(e.Time, text) { // many lines have the same millisecond
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
			if run := t.observeRunLocked(string(e.Type), requestID, at); run.id != "" {
				seen = append(seen, run)
			}
		case requestID == "":
			requestID = t.runningAtLocked(at)
		}
		requests = append(requests, requestID)
	}
	return requests, seen
}

// observeRunLocked updates the state from a platform event about a request. It returns a start or an end of a run.
func (t *invocations) observeRunLocked(kind, requestID string, at time.Time) (seen runEvent) {
	switch kind {
	case "platform.start":
		if requestID != t.lastInvoke && (at.Before(t.current.start) || at.Before(t.previous.end)) {
			break // foreign: a function may log objects that look like events, and a line above 1 MiB arrives in pieces
		}
		r := t.runsOfLocked(requestID)
		r.starts++
		seen = runEvent{id: requestID, run: r.starts}
		if t.current.id != "" && t.current.id != requestID {
			t.previous = t.current // the end of current was never seen
		}
		t.current = invocation{id: requestID, start: at}
	case "platform.runtimeDone":
		seen = runEvent{id: requestID, run: max(t.runsOfLocked(requestID).starts, 1), isEnd: true, at: at}
		switch {
		case t.current.id == requestID && !at.IsZero() && at.Before(t.current.start): // a late end of the run before this one
			seen.run--
		case t.current.id == requestID:
			if start := t.current.start; !start.IsZero() && !at.IsZero() {
				seen.duration = at.Sub(start)
			}
			t.current.end = at
			t.previous, t.current = t.current, invocation{}
		}
		t.awaitedReport = requestID
	case "platform.report":
		t.runsOfLocked(requestID)
		if t.current.id == requestID { // a crash or timeout: there was no runtimeDone
			t.previous, t.current = t.current, invocation{}
		}
		if t.awaitedReport == requestID {
			t.awaitedReport = ""
		}
	}
	return seen
}

// parseTime parses a time of the platform's, with any number of digits. It returns the zero time for anything else.
func parseTime(at []byte) (t time.Time) {
	if len(at) == 0 || t.UnmarshalText(at) != nil {
		return time.Time{}
	}
	return t
}

// runsOfLocked returns the counts of a request, and adds the request if it is new. The result is valid while mu is held. If there
// are too many requests, runsOfLocked removes the oldest, but neither the last INVOKE's nor the running one.
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

// knownLocked returns the id if INVOKE or the platform has named it recently, else "": a log line may contain any id. It does not
// copy id.
func (t *invocations) knownLocked(id []byte) string {
	for i := range t.requests {
		if t.requests[i].id == string(id) {
			return t.requests[i].id
		}
	}
	return ""
}

// runningAtLocked returns the request id of the invocation that ran at a time. If the time is unknown, it is the current invocation's.
func (t *invocations) runningAtLocked(at time.Time) (requestID string) {
	switch {
	case at.IsZero() || t.current.id != "" && !at.Before(t.current.start):
		return t.current.id
	case !at.Before(t.previous.start) && !at.After(t.previous.end):
		return t.previous.id // logged before the end, but arrived after it: log lines and platform events use separate pipes
	}
	return ""
}

// facts translates starts and ends of runs into facts for the flush policy. Each has the number of its INVOKE, 0 if that is unknown,
// because the end of the previous invocation often arrives while the current one runs.
func (t *invocations) facts(seen []runEvent) (facts []flush.Fact) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range seen {
		r, number := t.runsOfLocked(e.id), 0
		if r.invokes > 0 && e.run >= r.invokes {
			number = r.number
		}
		if e.isEnd {
			r.ends = max(r.ends, e.run)
			facts = append(facts, flush.EndSeen{Number: number, At: e.at, Took: e.duration})
		} else {
			facts = append(facts, flush.Started{Number: number})
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return facts
}

// noteInvoke numbers an INVOKE and returns its facts. They include a start and an end of its invocation that were seen already,
// because telemetry may be faster than the Extensions API.
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

// awaitReport waits until no platform.report is expected any more, or ctx is done.
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
