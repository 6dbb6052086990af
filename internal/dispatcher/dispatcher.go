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
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/policy"
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

// Options describe a Dispatcher. All are required, but for Log.
type Options struct {
	Source       record.SourceFields // Instance is made by the Dispatcher
	Format       record.Format
	PartitionKey PartitionKey
	// RecordBytes is the size that records are filled up to, MaxRecordBytes the stream's limit; both with the key.
	RecordBytes, MaxRecordBytes int
	// RequestBytes bounds one PutRecords call, and with it what is packed at once.
	RequestBytes int
	// BufferBytes bounds the events that are held. One POST more than that may be held for a moment.
	BufferBytes int
	// Mode, MaxDelay and FlushTimeout are the policy's, see there.
	Mode                   policy.Mode
	MaxDelay, FlushTimeout time.Duration
	// SpillDir is where Save writes and Recover reads; empty: nowhere. What another SpillOwner wrote is left alone.
	SpillDir, SpillOwner string
	Log                  *slog.Logger
}

// Event is an event that is to be delivered.
type Event struct {
	Raw       []byte // see record.Event
	Class     Class
	RequestID string // see record.Event
	TenantID  string
}

// Dispatcher buffers events and ships them. Its methods may be called from several goroutines.
type Dispatcher struct {
	options Options
	stream  Stream

	// sending is held by whoever ships: one flight at a time, so that order is kept. It guards packer and records.
	sending chan struct{}
	packer  *record.Packer
	records []kinesis.Record

	wake chan struct{}      // capacity 1: the background shipper shall look again
	stop context.CancelFunc // ends the background shipper
	done sync.WaitGroup

	mu         sync.Mutex // guards all below; never held across I/O
	policy     *policy.Policy
	exposure   policy.Exposure
	urgent     bool // the background shipper ships without waiting for a reason
	source     *record.Source
	seq        uint64
	queue      queue
	flight     []queued // on their way; empty when nobody ships
	flightCost int
	abort      context.CancelFunc // ends the background flight; nil when there is none
	account    account
	spill      spill
	heldBack   time.Duration   // how long invocations waited for the extension, in sum
	statsAt    time.Time       // when the figures are next put into the stream
	failing    bool            // the last flight met trouble
	refused    bool            // and Kinesis refused it for what it carried
	said       map[string]bool // kinds of trouble that were logged
}

// New returns a Dispatcher whose background shipper waits for Init, Invoke or Resume. Close ends it.
func New(options Options, stream Stream) *Dispatcher {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{
		options: options,
		stream:  stream,
		sending: make(chan struct{}, 1),
		packer: record.NewPacker(options.Format, record.Limits{
			RecordBytes:  options.RecordBytes,
			RequestBytes: options.RequestBytes,
			Records:      kinesis.MaxRequestRecords,
		}),
		wake: make(chan struct{}, 1),
		policy: policy.New(policy.Settings{
			Mode:         options.Mode,
			MaxDelay:     options.MaxDelay,
			FlushTimeout: options.FlushTimeout,
			RecordBytes:  options.RecordBytes,
			BufferBytes:  options.BufferBytes,
		}),
		statsAt: time.Now().Add(statsEvery).Round(0),
		said:    map[string]bool{},
	}
	background, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.newInstance()
	d.done.Go(func() { d.shipInBackground(background) })
	return d
}

// Close ends the background shipper. What is held then stays held: Drain comes before.
func (d *Dispatcher) Close() {
	d.stop()
	d.done.Wait()
}

// NewInstance begins a new numbering: this process is from now on another one than it was (SnapStart restores many
// environments from one memory image). Events that are held keep the numbers they have.
func (d *Dispatcher) NewInstance() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.newInstance()
}

func (d *Dispatcher) newInstance() {
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
		d.accept(&events[i], emitted)
	}
	d.trim()
	d.nudge()
}

// accept numbers an event and queues it.
func (d *Dispatcher) accept(e *Event, at time.Time) {
	raw := e.Raw
	if e.Class != Log {
		raw = bytes.Clone(raw) // small and long-lived: must not keep a POST body whose other events are gone
	}
	q := queued{class: e.Class, at: at.UnixMilli(), Event: record.Event{
		Raw: raw, RequestID: e.RequestID, Key: d.key(e), Seq: d.seq, Source: d.source,
	}}
	d.seq++
	d.account.received++
	if d.packer.RecordSize(&q.Event) > d.options.MaxRecordBytes {
		d.drop(&q, reasonTooLarge)
		return
	}
	d.queue.push(q)
}

// randomKey stands for a key that is drawn for each record when it is packed; it has the length of those.
const randomKey = "0000000000000000"

func (d *Dispatcher) key(e *Event) string {
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

// trim drops what does not fit: the oldest logs first, platform events last.
func (d *Dispatcher) trim() {
	for _, class := range []Class{Log, own} {
		limit := d.options.BufferBytes - d.flightCost
		d.queue.shed(limit, class, func(q *queued) { d.drop(q, reasonOverflow) })
	}
}

// Stats are the Dispatcher's figures at one instant.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats()
}

func (d *Dispatcher) stats() Stats {
	stats := d.account.Stats()
	stats.Held = uint64(d.queue.len() + len(d.flight))
	stats.HeldBackMs = float64(d.heldBack.Microseconds()) / 1000
	return stats
}
