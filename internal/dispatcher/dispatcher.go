// Package dispatcher is the Telemetry Dispatcher: it numbers events, holds them in a buffer that is bounded in bytes,
// and ships them in batches. Every event that it accepts ends exactly once, as sent or as dropped for a reason:
//
//	received = sent + dropped + held
//
// holds at every instant.
package dispatcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"maps"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// Stream is where records go: the Kinesis Client.
type Stream interface {
	// Put blocks until every record has an outcome or ctx is done. It retains nothing. It is never called twice at once.
	Put(ctx context.Context, records []kinesis.Record) kinesis.Result
	// Probe is Put without persistence: to see whether a stream that failed works again.
	Probe(ctx context.Context, records []kinesis.Record) kinesis.Result
}

// PartitionKey names what the partition key of an event is taken from.
type PartitionKey string

// The partition keys.
const (
	ByEnvironment PartitionKey = "environment" // the instance: all events of one environment in order
	ByRequest     PartitionKey = "request"     // the request id; outside any invocation as ByEnvironment
	ByFunction    PartitionKey = "function"    // the function's name
	ByTenant      PartitionKey = "tenant"      // the tenant; without one as ByEnvironment
	ByRandom      PartitionKey = "random"      // a new one for each record
)

// Oversize names what happens to an event above the record limit.
type Oversize string

// The ways with an event above the record limit.
const (
	Truncate Oversize = "truncate" // its beginning is delivered, see record.Truncate
	Drop     Oversize = "drop"     // it is dropped and declared
)

// Options describe a Dispatcher. The last three may be left out, all else is required.
type Options struct {
	Source       record.SourceFields // Instance is made by the Dispatcher
	Format       record.Format
	PartitionKey PartitionKey
	// Flush has the size that records are filled up to, with the key, and the bound of the events that are buffered. One
	// POST more than that may be buffered for a moment.
	Flush flush.Settings
	// MaxRecordBytes is the stream's record limit, with the key.
	MaxRecordBytes int
	Oversize       Oversize
	// RequestBytes bounds one PutRecords call, and with it what is packed at once.
	RequestBytes int
	// SpillDir is where Save writes and Recover reads; empty: nowhere. What another SpillOwner wrote is left alone.
	SpillDir, SpillOwner string

	Log *slog.Logger
	// Random returns a number from [0, 1). Default: from the kernel, since environments that were restored from one snapshot
	// share the state of math/rand. https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
	Random func() float64
	// Guard is deferred by the background shipper; it recovers from a panic.
	Guard func()
}

// Event is an event that is to be delivered.
type Event struct {
	Raw       []byte // see record.Event; nil: it cannot be delivered, because what Lambda posted is no event
	Class     Class
	RequestID string // see record.Event
	TenantID  string
	Record    record.Span // of the record's value in Raw; without it the event cannot be truncated
}

// Dispatcher buffers events and ships them. Its methods may be called from several goroutines.
type Dispatcher struct {
	options Options
	stream  Stream

	// sending is held by whoever ships: one flight at a time, so that order is kept. It guards packer and records.
	sending chan struct{}
	packer  *record.Packer
	records []kinesis.Record

	wake chan struct{}      // capacity 1: the background shipper looks again
	stop context.CancelFunc // ends the background shipper
	done sync.WaitGroup

	mu         sync.Mutex // guards all below; never held across I/O, a log line included
	policy     *flush.Policy
	noted      chan struct{} // closed, and made anew, when the policy has a new fact
	source     *record.Source
	seq        uint64
	queue      queue
	flight     []queued // on their way; empty when nobody ships
	flightCost int
	abort      context.CancelFunc // ends the background's flight, if there is one
	account    account
	spill      spill
	statsAt    time.Time       // when the figures are next put into the stream
	failing    bool            // the last flight met trouble
	said       map[string]bool // kinds of trouble that were logged
}

// New returns a Dispatcher whose background shipper waits for the first fact. Close ends it.
func New(options Options, stream Stream) *Dispatcher {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Random == nil {
		options.Random = draw
	}
	if options.Guard == nil {
		options.Guard = func() {}
	}
	d := &Dispatcher{
		options: options,
		stream:  stream,
		sending: make(chan struct{}, 1),
		packer: record.NewPacker(options.Format, record.Limits{
			RecordBytes:  options.Flush.RecordBytes,
			RequestBytes: options.RequestBytes,
			Records:      kinesis.MaxRequestRecords,
		}),
		wake:    make(chan struct{}, 1),
		policy:  flush.New(options.Flush),
		noted:   make(chan struct{}),
		statsAt: time.Now().Add(statsEvery).Round(0),
		said:    map[string]bool{},
		abort:   func() {},
	}
	background, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.newInstanceLocked()
	d.done.Go(func() {
		defer options.Guard()
		d.shipInBackground(background)
	})
	return d
}

// Close ends the background shipper. What is held then stays held: Ship comes before.
func (d *Dispatcher) Close() {
	d.stop()
	d.done.Wait()
}

// NewInstance begins a new numbering: this process is from now on another one than it was (SnapStart restores many
// environments from one memory image). Events that are held keep the numbers they have.
func (d *Dispatcher) NewInstance() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.newInstanceLocked()
}

func (d *Dispatcher) newInstanceLocked() {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails; reads the kernel's generator, which a restore does not repeat
	fields := d.options.Source
	fields.Instance = hex.EncodeToString(id[:])
	d.source, d.seq = record.NewSource(fields), 0
}

// Receive takes events in order. It does not block on the stream: what does not fit in the buffer pushes out the
// oldest. The raw bytes are retained, so they must not change. emitted is the time of the oldest, zero where that is not
// known: they may have lain in Lambda's hands while the environment was frozen.
func (d *Dispatcher) Receive(events []Event, emitted time.Time) {
	if len(events) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); emitted.IsZero() || emitted.After(now) {
		emitted = now
	}
	for i := range events {
		d.acceptLocked(&events[i], emitted)
	}
	d.trimLocked()
	d.nudge()
}

// acceptLocked numbers an event and queues it.
func (d *Dispatcher) acceptLocked(e *Event, at time.Time) {
	raw := e.Raw
	if e.Class != Log {
		raw = bytes.Clone(raw) // small and long-lived: must not keep a POST body whose other events are gone
	}
	q := queued{class: e.Class, at: at.UnixMilli(), Event: record.Event{
		Raw: raw, RequestID: e.RequestID, Key: d.keyLocked(e), Seq: d.seq, Source: d.source,
	}}
	d.seq++
	d.account.Received++
	if raw == nil {
		d.dropLocked(&q, reasonMalformed)
		return
	}
	if excess := d.packer.RecordSize(&q.Event) - d.options.MaxRecordBytes; excess > 0 {
		q.Raw = record.Truncate(raw, e.Record, len(raw)-excess)
		if q.Raw == nil || d.options.Oversize == Drop {
			d.dropLocked(&q, reasonTooLarge)
			return
		}
	}
	d.queue.push(q)
}

// randomKey stands for a key that is drawn for each record when it is packed; it has the length of those.
const randomKey = "0000000000000000"

func (d *Dispatcher) keyLocked(e *Event) string {
	switch d.options.PartitionKey {
	case ByRequest:
		if e.RequestID != "" {
			return e.RequestID
		}
	case ByTenant:
		if e.TenantID != "" {
			return e.TenantID
		}
	case ByFunction:
		if d.options.Source.Function != "" {
			return d.options.Source.Function
		}
	case ByRandom:
		return randomKey
	case ByEnvironment:
	}
	return d.source.Instance()
}

// trimLocked drops what does not fit: the oldest logs first, platform events last.
func (d *Dispatcher) trimLocked() {
	for _, class := range []Class{Log, own} {
		limit := d.options.Flush.BufferBytes - d.flightCost
		d.queue.shed(limit, class, func(q *queued) { d.dropLocked(q, reasonOverflow) })
	}
}

// Stats are the Dispatcher's figures at one instant.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statsLocked()
}

func (d *Dispatcher) statsLocked() Stats {
	stats := d.account.Stats
	stats.Reasons = maps.Clone(stats.Reasons)
	stats.Held = uint64(d.queue.len() + len(d.flight))
	stats.HeldBackMs = float64(d.policy.HeldBack().Microseconds()) / 1000
	return stats
}
