package extension

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
)

// intake is what the way from the Listener to the Dispatcher remembers between two POSTs.
type intake struct {
	mu          sync.Mutex // POSTs are numbered one after the other
	events      []dispatcher.Event
	ends        []ending
	tenant      string // of the environment, as the platform says: tenants never share one
	hasRestored bool
	said        struct{ malformed, repaired, truncated bool }
}

// markRestored notes that the instance since the snapshot has begun, and tells whether that was known.
func (in *intake) markRestored() (known bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	known, in.hasRestored = in.hasRestored, true
	return known
}

// receive takes what one POST held: it finds out which invocation each event belongs to and hands on those that the
// user has selected. The end of an invocation is made known last, when everything before it is in the buffer.
func (x *Extension) receive(batch listener.Batch) {
	in := &x.intake
	in.mu.Lock()
	defer in.mu.Unlock()
	in.events, in.ends = in.events[:0], in.ends[:0]
	var emitted time.Time // the oldest is the first
	if len(batch.Events) > 0 {
		emitted, _ = time.Parse(time.RFC3339, string(batch.Events[0].Time)) // zero where it is none
	}
	for i := range batch.Events {
		e := &batch.Events[i]
		if x.config.SnapStart && string(e.Type) == "platform.restoreStart" {
			x.dispatcher.Receive(in.events, emitted) // what came before the restore belongs to the instance before it
			in.events = in.events[:0]
			x.dispatcher.NewInstance()
			in.hasRestored = true
		}
		requestID, end := x.attribute(e)
		if end != (ending{}) {
			in.ends = append(in.ends, end)
		}
		class, selected := x.classify(e.Type)
		tenant := ""
		if x.config.PartitionKey == dispatcher.ByTenant {
			tenant = in.tenantOf(e, class)
		}
		if selected {
			in.events = append(in.events, dispatcher.Event{Raw: e.Raw, Class: class, RequestID: requestID, TenantID: tenant})
		}
	}
	x.detach(in.events, batch.Bytes)
	x.dispatcher.Receive(in.events, emitted)
	clear(in.events) // lets go of the body
	if len(in.ends) > 0 {
		x.dispatcher.Ended(x.invocations.lastTook())
	}
	x.invocations.announce(in.ends)
	if x.invocations.isServed(in.ends) {
		x.dispatcher.Suspend() // the environment may freeze now; the main loop ships what is to be shipped before
	}
	x.sayOdd(batch)
}

// detach copies events that are the smaller part of their POST's body: for a line of a hundred bytes beside one that is cut or
// too large the buffer would keep a megabyte that it does not count.
func (x *Extension) detach(events []dispatcher.Event, body int) {
	kept := 0
	for i := range events {
		if raw := events[i].Raw; len(raw) < x.config.MaxRecordBytes {
			kept += len(raw)
		}
	}
	if 2*kept >= body {
		return
	}
	for i := range events {
		events[i].Raw = bytes.Clone(events[i].Raw)
	}
}

// attribute finds the request that an event belongs to. Where several run at once only the event itself can tell.
func (x *Extension) attribute(e *listener.Event) (requestID string, end ending) {
	if x.config.ManagedRuntime {
		if len(e.RequestID) > maxRequestID {
			return "", ending{}
		}
		return string(e.RequestID), ending{}
	}
	return x.invocations.observe(e)
}

// maxTenantID bounds what is taken for a tenant, bytes: Lambda's have at most 256, as have partition keys, but the member
// of a log line may hold anything.
// https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
const maxTenantID = 256

// tenantOf finds the tenant that an event belongs to: the one that the platform has named, else the one that the event
// itself carries.
func (in *intake) tenantOf(e *listener.Event, class dispatcher.Class) string {
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

// sayOdd says once what is odd in the POSTs. Each further time would be a line a POST.
func (x *Extension) sayOdd(batch listener.Batch) {
	said := &x.intake.said
	if batch.Malformed > 0 && !said.malformed {
		said.malformed = true
		x.log.Warn("Lambda posted telemetry that is not an event and was left out, such as an event above 1 MiB, which arrives cut in two",
			"places", batch.Malformed)
	}
	if batch.Repaired && !said.repaired {
		said.repaired = true
		x.log.Warn("telemetry held bytes that are not UTF-8; U+FFFD stands for them in the stream")
	}
	if batch.Truncated && !said.truncated {
		said.truncated = true
		x.log.Warn("a POST of telemetry ended early or was too long; what was whole in it is delivered", "bound", listener.MaxBody)
	}
}
