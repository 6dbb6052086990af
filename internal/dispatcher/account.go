package dispatcher

import (
	"encoding/json"
	"time"

	"kinesis-telemetry-extension/record"
)

// Reasons for which events are dropped, as the stream and the summary name them.
const (
	reasonOverflow   = "buffer_full" // the buffer was full: the stream took less than the function logged
	reasonTooLarge   = "too_large"   // larger than the stream's record limit
	reasonMalformed  = "malformed"   // what Lambda posted is no event, or what an earlier life kept cannot be read
	reasonRejected   = "rejected"    // Kinesis will not take this record
	timeLayout       = "2006-01-02T15:04:05.000Z"
	diagnosticPrefix = "kinesis-telemetry."
	typeDropped      = diagnosticPrefix + "dropped"
	typeStats        = diagnosticPrefix + "stats"
)

// Stats count events, save where they say otherwise. Received = Sent + Dropped + Buffered.
type Stats struct {
	Received uint64            `json:"received"`
	Sent     uint64            `json:"sent"`
	Dropped  uint64            `json:"dropped"`
	Buffered uint64            `json:"held"`
	Reasons  map[string]uint64 `json:"droppedByReason,omitempty"`
	Retried  uint64            `json:"retriedRecords"`
	Records  uint64            `json:"records"`  // that Kinesis took
	Bytes    uint64            `json:"bytes"`    // of those records, keys included
	Requests uint64            `json:"requests"` // PutRecords calls
	Flushes  uint64            `json:"flushes"`  // batches handed to the Kinesis Client
	// Recovered events are among those received: an earlier life of the environment had left them.
	Recovered uint64  `json:"recovered"`
	HoldMs    float64 `json:"heldBackMs"` // milliseconds that invocations waited for the extension, in sum
}

// account is the book in which every event's end is written once. Of its Stats, Buffered and HoldMs are not its to know.
type account struct {
	Stats
	undeclared losses // not yet said in the stream
}

// loss is what a dropped event says of its reason.
type loss struct {
	Reason   string `json:"reason"`
	Count    uint64 `json:"count"`
	FirstSeq uint64 `json:"firstSeq"`
	LastSeq  uint64 `json:"lastSeq"`
	Instance string `json:"instance"`
}

// add adds events to a loss.
func (l *loss) add(count, first, last uint64) {
	if count == 0 {
		return
	}
	if l.Count == 0 {
		l.FirstSeq, l.LastSeq = first, last
	}
	l.Count += count
	l.FirstSeq = min(l.FirstSeq, first)
	l.LastSeq = max(l.LastSeq, last)
}

// losses are by reason and instance.
type losses map[string]*loss

func (all losses) add(l loss) {
	key := l.Reason + " " + l.Instance
	if all[key] == nil {
		all[key] = &loss{Reason: l.Reason, Instance: l.Instance}
	}
	all[key].add(l.Count, l.FirstSeq, l.LastSeq)
}

// countLossLocked ends events without delivery. The caller takes them out of the buffer.
func (d *Dispatcher) countLossLocked(l loss) {
	if l.Count == 0 {
		return
	}
	a := &d.account
	a.Dropped += l.Count
	if a.Reasons == nil {
		a.Reasons = map[string]uint64{}
	}
	a.Reasons[l.Reason] += l.Count
	a.undeclared.add(l)
	d.journal.ledgerWritten = false
}

// dropBatchLocked ends a batch without delivery. What its own lines declare is to be declared again.
func (d *Dispatcher) dropBatchLocked(b *batch, reason string) {
	if b.declares {
		for line := range d.eachLine(b) {
			d.redeclareLocked(line)
		}
	}
	l := loss{Reason: reason, Instance: b.source.Instance()}
	l.add(uint64(b.lines), b.first, b.last)
	d.removeLocked(b, false)
	d.countLossLocked(l)
}

// redeclareLocked takes back what a line has declared that is lost itself.
func (d *Dispatcher) redeclareLocked(line []byte) {
	var said struct{ Record loss }
	if isLoss(line) && json.Unmarshal(line, &said) == nil {
		d.account.undeclared.add(said.Record)
	}
}

// declareLocked lays out an event for each loss that the stream does not know of yet. What does not fit into a record is tried again when
// the stream has taken something else.
func (d *Dispatcher) declareLocked() {
	for key, l := range d.account.undeclared {
		if !d.emitLocked(typeDropped, l) {
			d.accepting = false
			continue
		}
		delete(d.account.undeclared, key)
		d.declaring.add(*l)
		d.journal.ledgerWritten = false
	}
}

// emitLocked lays out an event of the extension's own, and tells whether there was room for it in a record. Where there is none it is not
// made: its loss would have to be declared, too.
func (d *Dispatcher) emitLocked(kind string, content any) (made bool) {
	raw, err := json.Marshal(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{time.Now().UTC().Format(timeLayout), kind, content})
	if err != nil {
		panic("dispatcher: an event of numbers and strings did not encode: " + err.Error())
	}
	e := &Event{Raw: raw, Class: diagnostic}
	if d.excessLocked(d.keyLocked(e), &record.Event{Raw: raw, Seq: d.seq, Source: d.source}, e.Record) > 0 {
		return false
	}
	d.acceptLocked(e, time.Now())
	return true
}

// statsEvery is how often the figures are put into the stream. Environments live for hours, and are not always shut down
// in order.
const statsEvery = 5 * time.Minute

// EmitStats lays out a kinesis-telemetry.stats event with the figures as they are now.
func (d *Dispatcher) EmitStats() {
	d.mu.Lock()
	defer d.unlock()
	d.emitStatsLocked()
	d.journalLocked()
}

func (d *Dispatcher) emitStatsLocked() {
	d.declareLocked() // before it: at the end of a life it is the last event
	_ = d.emitLocked(typeStats, d.statsLocked())
	d.statsAt = time.Now().Add(statsEvery).Round(0) // by the wall clock, which goes on in a freeze
}
