// Package dispatcher is the Telemetry Dispatcher. It numbers events and lays them out in a buffer, in the form that the
// stream receives. The buffer is bounded in bytes. The Dispatcher writes a journal of the buffer, and ships the buffer
// in batches. Every event that it accepts ends exactly once: sent, or dropped for a reason. So at every instant
//
//	received = sent + dropped + buffered
package dispatcher

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kernelrand"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// Stream delivers records. The Kinesis Client implements it.
type Stream interface {
	// Put blocks until every record has an outcome or ctx is done. It must not retain records. Calls never overlap.
	Put(ctx context.Context, records []kinesis.Record) kinesis.Result
	// Probe is a Put that stops after the first request of which the stream accepts nothing. It tests whether a failing
	// stream works again.
	Probe(ctx context.Context, records []kinesis.Record) kinesis.Result
}

// PartitionKey names the source of an event's partition key.
type PartitionKey string

// The partition keys.
const (
	ByEnvironment PartitionKey = "environment" // the instance: all events of one environment in order
	ByRequest     PartitionKey = "request"     // the request id; for an event without one as ByEnvironment
	ByFunction    PartitionKey = "function"    // the function's name
	ByTenant      PartitionKey = "tenant"      // the tenant; for an event without one as ByEnvironment
	ByRandom      PartitionKey = "random"      // a new one for each record
)

// Oversize names the treatment of an event above the record limit.
type Oversize string

// The treatments.
const (
	Truncate Oversize = "truncate" // its beginning is delivered, see record.Truncate
	Drop     Oversize = "drop"     // it is dropped and declared
)

// Options describe a Dispatcher. Log, Random and Guard are optional; so are fields that name a default.
type Options struct {
	Source       record.SourceFields // without Instance, which the Dispatcher draws
	Format       record.Format
	Compression  record.Compression // empty: none
	PartitionKey PartitionKey
	// LogGroup and JSONLogs are for the format cloudwatch: the name of the function's log group (empty: its default),
	// and whether the function's log format is JSON.
	LogGroup string
	JSONLogs bool
	// Flush.RecordBytes is the size up to which records are filled, with the key. Flush.BufferBytes bounds the buffer,
	// which may exceed it by one POST for a moment.
	Flush flush.Settings
	// MaxRecordBytes is the stream's record limit, with the key.
	MaxRecordBytes int
	Oversize       Oversize
	// RequestBytes bounds one PutRecords call, and with it a flight.
	RequestBytes int
	// SpillDir is the journal's directory; empty: no journal. A journal of another SpillOwner is not touched.
	SpillDir, SpillOwner string

	Log Logger // default: none
	// Random returns a number from [0, 1). The default reads the kernel's generator: environments that were restored
	// from one snapshot share the state of math/rand.
	// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
	Random func() float64
	// Guard recovers from a panic of the background shipper, which defers it.
	Guard func()
}

// Event is an event to deliver.
type Event struct {
	Raw       []byte // see record.Event; nil: Lambda posted something that is not an event, so it can only be declared
	Class     Class
	RequestID string // see record.Event
	TenantID  string
	Record    record.Span // position of the record's value in Raw; without it the event cannot be truncated
}

// Dispatcher buffers events and ships them. Its methods are safe for concurrent use.
type Dispatcher struct {
	options Options
	stream  Stream

	// sending is the right to ship: one flight at a time keeps the order. It guards parts and encoder.
	sending chan struct{}
	parts   [][]byte // the pieces of its batches
	encoder *encoder

	wake chan struct{}      // capacity 1: wakes the background shipper
	stop context.CancelFunc // ends the background shipper
	done sync.WaitGroup

	// mu guards all fields below. It is never held across I/O, except the journal's, which goes to the page cache.
	mu       sync.Mutex
	policy   *flush.Policy
	noted    chan struct{} // closed and replaced after each new fact
	nextLook time.Time     // when the background shipper's timer wakes it; zero: never
	source   *record.Source
	// logStream is the name of the function's log stream, as the platform reports it.
	logStream string
	seq       uint64

	pages         pages
	list          list     // of all batches
	open          []*batch // the newest batch of each partition key, the last used one first
	number        uint64   // of the last batch
	events, bytes int      // in the buffer, those in flight included
	logsFrom      *batch   // no batch before it has logs that can be dropped; nil: unknown
	line          []byte   // scratch

	flight       []*batch // batches in flight; empty without a flight
	flightBytes  int
	accepting    bool               // the stream accepted something of the last flight
	cancelFlight context.CancelFunc // cancels the background's flight, if there is one

	account        account
	declaring      losses // declared by lines that the journal does not have yet
	cut            bool   // the beginning of an event was received, its end not yet
	journal        journal
	adoptTimer     *time.Timer   // starts the adoption of earlier processes' batches; nil without a journal
	adopted        chan struct{} // closed after the adoption
	unsealed       []*batch
	statsAt        time.Time       // when the next stats event is emitted
	failing        bool            // the last flight had an error
	logged         map[string]bool // kinds of errors that were logged
	pendingWarning string          // see unlock
}

// Logger is the part of slog.Logger that the Dispatcher uses.
type Logger interface {
	Info(message string, args ...any)
	Warn(message string, args ...any)
}

// noLog discards its lines.
type noLog struct{}

func (noLog) Info(string, ...any) {}
func (noLog) Warn(string, ...any) {}

// New returns a Dispatcher whose background shipper waits for the first fact. Close ends it.
func New(options Options, stream Stream) *Dispatcher {
	if options.Log == nil {
		options.Log = noLog{}
	}
	if options.Random == nil {
		options.Random = kernelrand.Fraction
	}
	if options.Guard == nil {
		options.Guard = func() {}
	}
	options.Flush.RecordBytes = min(options.Flush.RecordBytes, options.Flush.BufferBytes/4) // an overflow drops the logs of a batch
	d := &Dispatcher{
		options:      options,
		stream:       stream,
		sending:      make(chan struct{}, 1),
		wake:         make(chan struct{}, 1),
		policy:       flush.New(options.Flush),
		noted:        make(chan struct{}),
		statsAt:      time.Now().Add(statsEvery).Round(0),
		logged:       map[string]bool{},
		cancelFlight: func() {},
		number:       uint64(time.Now().UnixNano()), // above those of all earlier processes
		accepting:    true,

		account:   account{undeclared: losses{}},
		declaring: losses{},
	}
	d.list.init()
	d.encoder = newEncoder(&d.options)
	background, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.newInstanceLocked()
	d.pages = newPages(options.Flush.RecordBytes, len(d.source.JSON()))
	d.done.Go(func() {
		defer options.Guard()
		d.shipInBackground(background)
	})
	return d
}

// Close ends the background shipper and the journal. If the environment may start another process (livesOn), Close
// returns how many buffered events the journal keeps for the next process. Else it removes the journal.
func (d *Dispatcher) Close(livesOn bool) (kept int) {
	d.stop()
	d.done.Wait()
	d.mu.Lock()
	defer d.unlock()
	d.journalLocked()
	file := d.journal.file
	if file == nil {
		return 0
	}
	d.journal = journal{}
	defer func() { _ = file.Close() }() // a write that failed was logged
	if !livesOn {
		_ = os.Remove(file.Name()) // no process will read it
		return 0
	}
	for b := range d.list.all() {
		if !slices.ContainsFunc(b.pages, d.pages.dirty.has) {
			kept += b.lines
		}
	}
	return kept
}

// NewInstance starts a new instance, with new numbers: SnapStart restores many environments from one memory image.
// Buffered events keep their numbers.
func (d *Dispatcher) NewInstance() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.newInstanceLocked()
}

func (d *Dispatcher) newInstanceLocked() {
	fields := d.options.Source
	fields.Instance = kernelrand.Hex(16)
	d.source, d.seq = record.NewSource(fields), 0
	d.logStream = defaultLogStream(&d.options, fields.Instance)
}

// Receive buffers events in their order and writes them to the journal. It does not wait for the stream: if the buffer
// is full, it drops the oldest events. It does not retain the raw bytes. emitted is the time of the oldest event, or
// zero if unknown: Lambda may have kept the events while the environment was frozen. cut means that the beginning of
// another event was received, its end not yet.
func (d *Dispatcher) Receive(events []Event, emitted time.Time, cut bool) {
	d.mu.Lock()
	defer d.unlock()
	if len(events) == 0 && cut == d.cut {
		return
	}
	now := time.Now()
	if emitted.IsZero() || emitted.After(now) {
		emitted = now
	}
	for i := range events {
		d.acceptLocked(&events[i], emitted)
	}
	if cut != d.cut {
		d.cut, d.journal.ledgerWritten = cut, false
	}
	d.trimLocked()
	d.journalLocked()
	// Waking a goroutine without need costs more than the rest of a small POST.
	wait, ever := d.policy.NextFlight(now, d.bufferedLocked())
	if ever && (d.nextLook.IsZero() || now.Add(wait).Before(d.nextLook) || now.After(d.nextLook)) {
		d.wakeShipper()
	}
}

// acceptLocked numbers an event and lays it out, or drops it.
func (d *Dispatcher) acceptLocked(e *Event, at time.Time) {
	event := record.Event{Raw: e.Raw, RequestID: e.RequestID, Seq: d.seq, Source: d.source}
	d.seq++
	d.account.Received++
	if e.Raw == nil {
		d.dropEventLocked(reasonMalformed, event.Seq)
		return
	}
	key := d.keyLocked(e)
	need := record.EventSize(&event) + 1
	if excess := d.excessLocked(key, &event, e.Record); excess > 0 {
		event.Raw = record.Truncate(e.Raw, e.Record, len(e.Raw)-excess)
		if event.Raw == nil || d.options.Oversize == Drop {
			d.dropEventLocked(reasonTooLarge, event.Seq)
			return
		}
		need = record.EventSize(&event) + 1
	}
	if need/(d.pages.size-headerBytes) >= d.options.Flush.BufferBytes/d.pages.size { // larger than the whole buffer
		d.dropEventLocked(reasonOverflow, event.Seq)
		return
	}
	b := d.openLocked(key, need)
	d.layOutLocked(b, &event, need)
	d.countLocked(b, event.Seq, e.Class, at.UnixMilli(), e.Class == diagnostic && isLoss(e.Raw))
}

// excessLocked returns by how many bytes an event exceeds the record limit; 0 or less: the event fits. of is the position
// of its record value. An event that was received in part is always truncated, even if it fits when compressed.
func (d *Dispatcher) excessLocked(key string, event *record.Event, of record.Span) int {
	excess := d.recordBytes(key, 1, record.EventSize(event)+1) - d.options.MaxRecordBytes
	whole := of.End-of.Start == of.Size
	if excess > 0 && whole && d.compresses() && d.compressedBytes(key, event) <= d.options.MaxRecordBytes {
		return 0
	}
	return excess
}

// dropEventLocked drops an event that was never buffered.
func (d *Dispatcher) dropEventLocked(reason string, seq uint64) {
	d.countLossLocked(loss{Reason: reason, Count: 1, FirstSeq: seq, LastSeq: seq, Instance: d.source.Instance()})
}

// compresses reports whether records are compressed.
func (d *Dispatcher) compresses() bool {
	return d.options.Format == record.CloudWatch || d.encoder.compressor != nil
}

// SetLogStream sets the name of the function's log stream, as the platform reports it, for later events.
func (d *Dispatcher) SetLogStream(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logStream = name
}

// keyPlaceholder has the length of a random key. encode replaces it with a new random key for each record.
const keyPlaceholder = "0000000000000000"

// keyLocked returns the partition key of an event.
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
		return keyPlaceholder
	case ByEnvironment:
	}
	return d.source.Instance()
}

// trimLocked shrinks the buffer to its bound. It drops the oldest logs first, and other events only if there are no
// logs.
func (d *Dispatcher) trimLocked() {
	for limit := d.options.Flush.BufferBytes / d.pages.size; d.pages.count > limit && d.dropOldestLocked(); {
	}
}

// dropOldestLocked drops the logs of the oldest batch with logs, or else the oldest batch. It reports whether it found
// a batch.
func (d *Dispatcher) dropOldestLocked() bool {
	b := d.logsFrom
	if b == nil {
		b = d.list.next
	}
	for ; b != &d.list.batch; b = b.next {
		if b.logs > 0 && !b.inFlight {
			d.logsFrom = b.next
			d.dropLogsLocked(b)
			return true
		}
	}
	d.logsFrom = b
	for b := range d.list.all() {
		if !b.inFlight {
			if b.declares {
				d.readLocked(b)
			}
			if len(b.pages) > 0 { // otherwise, readLocked has replaced it
				d.dropBatchLocked(b, reasonOverflow)
			}
			return true
		}
	}
	return false
}

// dropLogsLocked drops the logs of a batch. Its other lines move to the batch before it, if that has room and no logs.
func (d *Dispatcher) dropLogsLocked(b *batch) {
	if b.logs == b.lines {
		d.dropBatchLocked(b, reasonOverflow)
		return
	}
	if b.unread {
		d.logsFrom = nil
		d.readLocked(b) // the caller looks again
		return
	}
	kept := b.prev
	lost := loss{Reason: reasonOverflow, Instance: b.source.Instance()}
	d.copyLinesLocked(b, func(need int) *batch {
		if kept == &d.list.batch || kept.key != b.key || kept.source != b.source || kept.logs > 0 || kept.inFlight || kept.unread ||
			!d.fitsLocked(kept, need) {
			kept = d.addLocked(b.key, b.source, b.logStream, b.prev)
		}
		return kept
	}, func(_ int, line []byte) bool {
		isLog := classOf(line) == Log
		if isLog {
			lost.add(1, seqOf(line, b.source), seqOf(line, b.source))
		}
		return !isLog
	})
	d.removeLocked(b, false)
	d.countLossLocked(lost)
}

// Stats returns the Dispatcher's figures at one instant.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statsLocked()
}

func (d *Dispatcher) statsLocked() Stats {
	stats := d.account.Stats
	stats.Reasons = maps.Clone(stats.Reasons)
	stats.Buffered = uint64(d.events)
	stats.HoldMs = float64(d.policy.TotalHold().Microseconds()) / 1000
	return stats
}
