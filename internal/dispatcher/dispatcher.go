// Package dispatcher is the Telemetry Dispatcher: it numbers events, lays them out in a buffer that is bounded in bytes, as they
// will leave, keeps a journal of the buffer, and ships it in batches. Every event that it accepts ends exactly once, as sent or as
// dropped for a reason:
//
//	received = sent + dropped + held
//
// holds at every instant.
package dispatcher

import (
	"context"
	"log/slog"
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
	Compression  record.Compression // empty: none
	PartitionKey PartitionKey
	// LogGroup and JSONLogs are for the format cloudwatch: the name of the function's log group, and that its log format is JSON.
	LogGroup string
	JSONLogs bool
	// Flush has the size that records are filled up to, with the key, and the bound of the events that are buffered. One
	// POST more than that may be buffered for a moment.
	Flush flush.Settings
	// MaxRecordBytes is the stream's record limit, with the key.
	MaxRecordBytes int
	Oversize       Oversize
	// RequestBytes bounds one PutRecords call, and with it what is packed at once.
	RequestBytes int
	// SpillDir is where the journal lies; empty: there is none. What another SpillOwner wrote is left alone.
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

	// sending is the right to ship: one flight at a time keeps the order. It guards parts and encoder.
	sending chan struct{}
	parts   [][]byte // the pieces of its batches
	encoder *encoder

	wake chan struct{}      // capacity 1: the background shipper looks again
	stop context.CancelFunc // ends the background shipper
	done sync.WaitGroup

	// mu guards all below. It is never held across I/O but the journal's, which goes to the page cache.
	mu       sync.Mutex
	policy   *flush.Policy
	noted    chan struct{} // closed, and made anew, when the policy has a new fact
	nextLook time.Time     // when the background shipper looks again, by itself; zero: never
	source   *record.Source
	// logStream is the function's, as the platform names it.
	logStream string
	seq       uint64

	pages         pages
	list          list     // of all batches
	open          []*batch // the newest of their partition keys, the one that was used last in front
	number        uint64   // of the last batch
	events, bytes int      // events, and what they take, with the flight's
	logsFrom      *batch   // no batch in front of it, up to the list's end, has logs that can be dropped; nil: not known
	line          []byte   // scratch

	flight       []*batch // on their way; empty when nobody ships
	flightBytes  int
	accepting    bool               // the stream took something of the last flight
	cancelFlight context.CancelFunc // ends the background's flight, if there is one

	account        account
	declaring      losses // that are declared by lines which the journal does not have yet
	cut            bool   // an event came in part
	journal        journal
	adoptTimer     *time.Timer   // when what earlier lives have left is taken over; nil without a journal
	adopted        chan struct{} // closed then
	unsealed       []*batch
	statsAt        time.Time       // when the figures are next put into the stream
	failing        bool            // the last flight met trouble
	logged         map[string]bool // kinds of trouble that were logged
	pendingWarning string          // see unlock
}

// New returns a Dispatcher whose background shipper waits for the first fact. Close ends it.
func New(options Options, stream Stream) *Dispatcher {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
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
		number:       uint64(time.Now().UnixNano()), // behind those of all earlier lives
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

// Close ends the background shipper and the journal. Where the environment lives on it returns how many of the events that are still
// held the next life will find, else the journal is removed.
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
	defer func() { _ = file.Close() }() // a write that failed has said so
	if !livesOn {
		_ = os.Remove(file.Name()) // nobody will read it
		return 0
	}
	for b := range d.list.all() {
		if !slices.ContainsFunc(b.pages, d.pages.dirty.has) {
			kept += b.lines
		}
	}
	return kept
}

// NewInstance begins a new numbering: this process is from now on another one than it was (SnapStart restores many
// environments from one memory image). Events that are held keep the numbers they have.
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

// Receive takes events in order. It does not wait for the stream: what does not fit in the buffer pushes out the oldest. The raw
// bytes are not retained. When it returns the events are in the journal. emitted is the time of the oldest, zero where that is not
// known: they may have lain in Lambda's hands while the environment was frozen. cut tells that the beginning of another event has
// come, and its end has not.
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
	// To wake a goroutine for each POST in vain would cost more than the rest of a small one.
	wait, ever := d.policy.NextFlight(now, d.bufferedLocked())
	if ever && (d.nextLook.IsZero() || now.Add(wait).Before(d.nextLook) || now.After(d.nextLook)) {
		d.wakeShipper()
	}
}

// acceptLocked numbers an event and lays it out, or counts it as lost.
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
	if need/(d.pages.size-headerBytes) >= d.options.Flush.BufferBytes/d.pages.size { // whatever is dropped for it
		d.dropEventLocked(reasonOverflow, event.Seq)
		return
	}
	b := d.openLocked(key, need)
	d.layOutLocked(b, &event, need)
	d.countLocked(b, event.Seq, e.Class, at.UnixMilli(), e.Class == diagnostic && isLoss(e.Raw))
}

// excessLocked is how many bytes an event has too many for a record, at most 0 where it fits. of is where its record lies: where that
// was cut short already, it does not help that the rest is small when compressed.
func (d *Dispatcher) excessLocked(key string, event *record.Event, of record.Span) int {
	excess := d.recordBytes(key, 1, record.EventSize(event)+1) - d.options.MaxRecordBytes
	whole := of.End-of.Start == of.Size
	if excess > 0 && whole && d.compresses() && d.compressedBytes(key, event) <= d.options.MaxRecordBytes {
		return 0
	}
	return excess
}

// dropEventLocked ends an event that was never held.
func (d *Dispatcher) dropEventLocked(reason string, seq uint64) {
	d.countLossLocked(loss{Reason: reason, Count: 1, FirstSeq: seq, LastSeq: seq, Instance: d.source.Instance()})
}

// compresses tells whether records are compressed.
func (d *Dispatcher) compresses() bool {
	return d.options.Format == record.CloudWatch || d.encoder.compressor != nil
}

// SetLogStream names the function's log stream, as the platform has told it: of the events from now on.
func (d *Dispatcher) SetLogStream(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logStream = name
}

// keyPlaceholder stands for a key that is drawn for each record when it is packed; it has the length of those.
const keyPlaceholder = "0000000000000000"

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

// trimLocked drops what does not fit: the oldest logs first, all else only where there are no logs.
func (d *Dispatcher) trimLocked() {
	for limit := d.options.Flush.BufferBytes / d.pages.size; d.pages.count > limit && d.dropOldestLocked(); {
	}
}

// dropOldestLocked drops the logs of the oldest batch that has any, or else the oldest batch. It tells whether there was one.
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
			if len(b.pages) > 0 { // else another one stands for it now
				d.dropBatchLocked(b, reasonOverflow)
			}
			return true
		}
	}
	return false
}

// dropLogsLocked drops the logs of a batch. What else it has goes into the batch before it, if that has room and nothing but such
// lines, too.
func (d *Dispatcher) dropLogsLocked(b *batch) {
	if b.logs == b.lines {
		d.dropBatchLocked(b, reasonOverflow)
		return
	}
	if b.unread {
		d.logsFrom = nil
		d.readLocked(b) // and look again
		return
	}
	kept := b.prev
	lost := loss{Reason: reasonOverflow, Instance: b.source.Instance()}
	d.copyLinesLocked(b, func(need int) *batch {
		if kept.key != b.key || kept.source != b.source || kept.logs > 0 || kept.inFlight || kept.unread || kept == &d.list.batch || !d.fitsLocked(kept, need) {
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

// Stats are the Dispatcher's figures at one instant.
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
