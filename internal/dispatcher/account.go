package dispatcher

import (
	"encoding/json"
	"time"

	"kinesis-telemetry-extension/record"
)

// Reasons for dropped events, as the stream and the summary name them.
const (
	reasonOverflow   = "buffer_full" // the buffer was full: the function logged more than the stream accepted
	reasonTooLarge   = "too_large"   // larger than the stream's record limit
	reasonMalformed  = "malformed"   // Lambda posted something that is not an event, or a page of an earlier process cannot be read
	reasonRejected   = "rejected"    // Kinesis will never accept this record
	timeLayout       = "2006-01-02T15:04:05.000Z"
	diagnosticPrefix = "kinesis-telemetry."
	typeDropped      = diagnosticPrefix + "dropped"
	typeStats        = diagnosticPrefix + "stats"
)

// Stats count events, unless a field says otherwise. Received = Sent + Dropped + Buffered.
type Stats struct {
	Received uint64            `json:"received"`
	Sent     uint64            `json:"sent"`
	Dropped  uint64            `json:"dropped"`
	Buffered uint64            `json:"held"`
	Reasons  map[string]uint64 `json:"droppedByReason,omitempty"`
	Retried  uint64            `json:"retriedRecords"`
	Records  uint64            `json:"records"`  // records that Kinesis accepted
	Bytes    uint64            `json:"bytes"`    // size of those records, keys included
	Requests uint64            `json:"requests"` // PutRecords calls
	Flushes  uint64            `json:"flushes"`  // flights
	// Recovered counts events that an earlier process of the environment left. Received includes them.
	Recovered uint64  `json:"recovered"`
	HoldMs    float64 `json:"heldBackMs"` // sum of the holds of all invocations, milliseconds
}

// account counts each event when it ends, exactly once. In its Stats, Buffered and HoldMs stay 0: see statsLocked.
type account struct {
	Stats
	undeclared losses // not declared in the stream yet
}

// loss is the content of a kinesis-telemetry.dropped event, for one reason and one instance.
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

// losses has one loss for each reason and instance.
type losses map[string]*loss

// add adds a loss to that of its reason and instance.
func (all losses) add(l loss) {
	key := l.Reason + " " + l.Instance
	if all[key] == nil {
		all[key] = &loss{Reason: l.Reason, Instance: l.Instance}
	}
	all[key].add(l.Count, l.FirstSeq, l.LastSeq)
}

// countLossLocked counts events as dropped. The caller removes them from the buffer.
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

// dropBatchLocked drops a batch. Losses that its own lines declare must be declared again.
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

// redeclareLocked makes a loss undeclared again, if the line that declares it is lost.
func (d *Dispatcher) redeclareLocked(line []byte) {
	var dropped struct{ Record loss }
	if isLoss(line) && json.Unmarshal(line, &dropped) == nil {
		d.account.undeclared.add(dropped.Record)
	}
}

// declareLocked emits an event for each undeclared loss. A declaration that does not fit into a record is tried again
// after the stream has accepted something else.
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

// emitLocked emits an event of the extension itself, and reports whether it fits into a record. If it does not fit, it
// is not emitted: its loss would have to be declared, too.
func (d *Dispatcher) emitLocked(kind string, content any) (fits bool) {
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

// statsEvery is how often a stats event is emitted. Environments live for hours, and not all of them get SHUTDOWN.
const statsEvery = 5 * time.Minute

// EmitStats emits a kinesis-telemetry.stats event with the current figures.
func (d *Dispatcher) EmitStats() {
	d.mu.Lock()
	defer d.unlock()
	d.emitStatsLocked()
	d.journalLocked()
}

func (d *Dispatcher) emitStatsLocked() {
	d.declareLocked() // first: the stats are the last event of an instance
	_ = d.emitLocked(typeStats, d.statsLocked())
	d.statsAt = time.Now().Add(statsEvery).Round(0) // by the wall clock, which runs during a freeze
}
