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

// intake is what the way from the Listener to the Dispatcher remembers between two POSTs.
type intake struct {
	mu          sync.Mutex // POSTs are numbered one after the other
	events      []dispatcher.Event
	requests    []string // of a POST's events
	seen        []runEvent
	tenant      string // of the environment, as the platform says: tenants never share one
	hasRestored bool
	logged      struct{ malformed, repaired, truncated bool }
}

// restore begins a new instance, once in a life: SnapStart restores many environments from one memory image. The restore shows by
// an event or by the first INVOKE, whichever comes first.
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

// receive takes what one POST held: it finds out which invocation each event belongs to and hands on those that the
// user has selected. The end of an invocation is made known last, when everything before it is in the buffer.
func (x *Extension) receive(batch listener.Batch) {
	facts, log := x.forward(batch)
	x.dispatcher.Note(facts...)
	log()
}

// forward is receive without what must not be done under the lock. It returns what follows for the flush policy, and what logs
// what was odd.
func (x *Extension) forward(batch listener.Batch) (facts []flush.Fact, log func()) {
	in := &x.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	in.events = in.events[:0]
	in.requests, in.seen = x.attribute(in.requests[:0], in.seen[:0], batch.Events)
	malformed, repaired, lost := 0, false, batch.Truncated
	var emitted time.Time // the oldest is the first
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
				x.dispatcher.Receive(in.events, emitted, false) // what came before the restore belongs to the instance before it
				in.events = in.events[:0]
				in.restoreLocked(x.dispatcher)
			}
		case "platform.logsDropped":
			lost = true
		case "platform.initStart":
			var start struct{ Record struct{ InstanceID string } }
			if json.Unmarshal(e.Raw, &start) == nil && strings.Contains(start.Record.InstanceID, "/") { // else it is not the log stream
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
	clear(in.events) // lets go of the body
	facts = x.invocations.facts(in.seen)
	if lost || malformed > 0 {
		facts = append([]flush.Fact{flush.TelemetryLost{}}, facts...) // an end that was not lost counts behind it
	}
	return facts, x.warningsLocked(malformed, repaired, batch.Truncated)
}

// maxTenantID bounds what is taken for a tenant, bytes: Lambda's have at most 256, as have partition keys, but the member
// of a log line may hold anything.
// https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
const maxTenantID = 256

// tenantOfLocked finds the tenant that an event belongs to: the one that the platform has named, else the one that the event
// itself carries.
func (in *intake) tenantOfLocked(e *listener.Event, class dispatcher.Class) string {
	own := e.TenantID
	if len(own) > maxTenantID {
		own = nil
	}
	switch {
	case class == dispatcher.Platform && len(own) > 0 && string(own) != in.tenant:
		in.tenant = string(own)
	case class != dispatcher.Platform && in.tenant == "":
		return string(own)
	}
	return in.tenant
}

// classify tells how readily an event may be dropped, and whether the user wants it. Types that are not known (AWS
// adds some) are always wanted.
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

// warningsLocked returns what logs what is odd in a POST, each kind once: each further time would be a line a POST.
func (x *Extension) warningsLocked(malformed int, repaired, truncated bool) (log func()) {
	said := &x.intake.logged
	var logs []func()
	once := func(is bool, said *bool, text string, args ...any) {
		if is && !*said {
			*said = true
			logs = append(logs, func() { x.log.Warn(text, args...) })
		}
	}
	once(malformed > 0, &said.malformed, "Lambda posted telemetry that is not an event; it is dropped, and declared in the stream", "elements", malformed)
	once(repaired, &said.repaired, "telemetry held bytes that are not UTF-8; U+FFFD stands for them in the stream")
	once(truncated, &said.truncated,
		"a POST of telemetry ended early or was too long; what was whole in it is delivered", "bound", listener.MaxBody)
	return func() {
		for _, log := range logs {
			log()
		}
	}
}
