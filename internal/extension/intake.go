package extension

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// intake is the state of the path from the Listener to the Dispatcher that outlives a POST.
type intake struct {
	mu          sync.Mutex // POSTs are numbered one after the other
	events      []dispatcher.Event
	requests    []string // request ids of a POST's events
	runEvents   []runEvent
	tenant      string // of the environment, as the platform names it; tenants never share an environment
	hasRestored bool
	logged      struct{ malformed, repaired, truncated bool }
}

// restore starts a new instance, once in a process: SnapStart restores many environments from one memory image. An event or the
// first INVOKE shows the restore, whichever arrives first.
func (in *intake) restore(d *dispatcher.Dispatcher) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.restoreLocked(d)
}

func (in *intake) restoreLocked(d *dispatcher.Dispatcher) {
	if !in.hasRestored {
		in.hasRestored = true
		d.NewInstance()
		d.StartJournal()
	}
}

// receive forwards the events of one POST to the Dispatcher. It notes the end of an invocation last, when every event before the
// end is in the buffer.
func (x *Extension) receive(batch listener.Batch) {
	facts, log := x.forward(batch)
	x.dispatcher.Note(facts...)
	log()
}

// forward finds the invocation that each event belongs to, and passes the selected events to the Dispatcher. It returns the facts
// for the flush policy, and log, which logs warnings. receive uses both without holding the lock.
func (x *Extension) forward(batch listener.Batch) (facts []flush.Fact, log func()) {
	in := &x.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	in.events = in.events[:0]
	in.requests, in.runEvents = x.attribute(in.requests[:0], in.runEvents[:0], batch.Events)
	malformed, repaired, lost := 0, false, batch.Truncated
	var emitted time.Time // of the oldest event, which is the first
	if len(batch.Events) > 0 {
		emitted = parseTime(batch.Events[0].Time)
	}
	for i := range batch.Events {
		e := &batch.Events[i]
		class, selected := x.classify(e.Type)
		if e.Raw == nil {
			malformed++
			if selected {
				in.events = append(in.events, dispatcher.Event{Class: class})
			}
			continue
		}
		repaired = repaired || e.Repaired
		switch string(e.Type) {
		case "platform.restoreStart":
			if x.config.SnapStart {
				x.dispatcher.Receive(in.events, emitted, false) // events from before the restore belong to the old instance
				in.events = in.events[:0]
				in.restoreLocked(x.dispatcher)
			}
		case "platform.logsDropped":
			lost = true
		case "platform.initStart":
			var start struct{ Record struct{ InstanceID string } }
			if json.Unmarshal(e.Raw, &start) == nil && strings.Contains(start.Record.InstanceID, "/") { // without a slash it is no log stream's name
				x.dispatcher.SetLogStream(start.Record.InstanceID)
			}
		}
		tenant := ""
		if x.config.PartitionKey == dispatcher.ByTenant {
			tenant = in.tenantOfLocked(e, class)
		}
		if selected {
			in.events = append(in.events, dispatcher.Event{
				Raw: e.Raw, Class: class, RequestID: in.requests[i], TenantID: tenant, Record: record.Span(e.Record),
			})
		}
	}
	x.dispatcher.Receive(in.events, emitted, batch.PartialEvent)
	clear(in.events) // releases the body
	facts = x.invocations.facts(in.runEvents)
	if lost || malformed > 0 {
		facts = append([]flush.Fact{flush.TelemetryLost{}}, facts...) // first, so that an end in the same POST counts as seen
	}
	return facts, x.warningsLocked(malformed, repaired, batch.Truncated)
}

// maxTenantID is the longest tenant id that is accepted, in bytes. Lambda's tenant ids and partition keys have at most 256, but a
// log line's member may contain anything.
// https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
const maxTenantID = 256

// tenantOfLocked returns the tenant that an event belongs to: the tenant that the platform named last. Until the platform has named
// one, it is the tenant in the event itself.
func (in *intake) tenantOfLocked(e *listener.Event, class dispatcher.Class) string {
	id := e.TenantID
	if len(id) > maxTenantID {
		id = nil
	}
	switch {
	case class == dispatcher.Platform && len(id) > 0 && string(id) != in.tenant:
		in.tenant = string(id)
	case class != dispatcher.Platform && in.tenant == "":
		return string(id)
	}
	return in.tenant
}

// classify returns an event's class, which decides what an overflow drops first, and whether the user selected the event. Unknown
// types, which AWS may add, are always selected.
func (x *Extension) classify(kind []byte) (class dispatcher.Class, selected bool) {
	switch {
	case bytes.HasPrefix(kind, []byte("platform.")):
		return dispatcher.Platform, slices.Contains(x.config.Events, lambdaapi.Platform)
	case string(kind) == "function":
		return dispatcher.Log, slices.Contains(x.config.Events, lambdaapi.Function)
	case string(kind) == "extension":
		return dispatcher.Log, slices.Contains(x.config.Events, lambdaapi.Extension)
	}
	return dispatcher.Log, true
}

// warningsLocked returns a function that logs warnings about a POST. Each kind is logged only once, because otherwise there could
// be a line for each POST.
func (x *Extension) warningsLocked(malformed int, repaired, truncated bool) (log func()) {
	logged := &x.intake.logged
	var warnings []func()
	warnOnce := func(found bool, logged *bool, text string, args ...any) {
		if found && !*logged {
			*logged = true
			warnings = append(warnings, func() { x.log.Warn(text, args...) })
		}
	}
	warnOnce(malformed > 0, &logged.malformed,
		"Lambda posted telemetry that is not an event; it is dropped and declared in the stream", "elements", malformed)
	warnOnce(repaired, &logged.repaired, "telemetry contained bytes that are not UTF-8; U+FFFD replaces them in the stream")
	warnOnce(truncated, &logged.truncated,
		"a POST of telemetry ended early or was too long; its complete events are delivered", "bound", listener.MaxBody)
	return func() {
		for _, warn := range warnings {
			warn()
		}
	}
}
