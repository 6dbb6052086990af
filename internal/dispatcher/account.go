package dispatcher

import (
	"encoding/json"
	"time"
)

// Reasons for which events are dropped, as the stream and the summary name them.
const (
	reasonOverflow  = "buffer_full" // the buffer was full: the stream took less than the function logged
	reasonTooLarge  = "too_large"   // larger than the stream's record limit
	reasonMalformed = "malformed"   // what Lambda posted is no event
	reasonRejected  = "rejected"    // Kinesis will not take this record
	timeLayout      = "2006-01-02T15:04:05.000Z"
	typeDropped     = "kinesis-telemetry.dropped"
	typeStats       = "kinesis-telemetry.stats"
)

// Stats count events, save where they say otherwise. Received = Sent + Dropped + Held.
type Stats struct {
	Received uint64            `json:"received"`
	Sent     uint64            `json:"sent"`
	Dropped  uint64            `json:"dropped"`
	Held     uint64            `json:"held"`
	Reasons  map[string]uint64 `json:"droppedByReason,omitempty"`
	Retried  uint64            `json:"retriedRecords"`
	Records  uint64            `json:"records"`  // that Kinesis took
	Bytes    uint64            `json:"bytes"`    // of those records, keys included
	Requests uint64            `json:"requests"` // PutRecords calls
	Flushes  uint64            `json:"flushes"`  // batches handed to the Kinesis Client
	// Recovered events are among those received: an earlier life of the environment had left them.
	Recovered  uint64  `json:"recovered"`
	HeldBackMs float64 `json:"heldBackMs"` // milliseconds that invocations waited for the extension, in sum
}

// account is the book in which every event's end is written once. Of its Stats, Held and HeldBackMs are not its to know.
type account struct {
	Stats
	undeclared map[string]*loss // by reason: not yet said in the stream
}

// loss is what a dropped event says of its reason.
type loss struct {
	Reason   string `json:"reason"`
	Count    uint64 `json:"count"`
	FirstSeq uint64 `json:"firstSeq"`
	LastSeq  uint64 `json:"lastSeq"`
	Instance string `json:"instance"`
}

// dropLocked ends an event without delivery. The caller takes it out of the queue.
func (d *Dispatcher) dropLocked(q *queued, reason string) {
	d.endedLocked(q)
	a := &d.account
	a.Dropped++
	if a.Reasons == nil {
		a.Reasons, a.undeclared = map[string]uint64{}, map[string]*loss{}
	}
	a.Reasons[reason]++
	if q.class == own {
		return // declaring the loss of a declaration would go on for ever
	}
	instance := q.Source.Instance()
	key := reason + " " + instance
	l := a.undeclared[key]
	if l == nil {
		l = &loss{Reason: reason, FirstSeq: q.Seq, LastSeq: q.Seq, Instance: instance}
		a.undeclared[key] = l
	}
	l.Count++
	l.FirstSeq = min(l.FirstSeq, q.Seq)
	l.LastSeq = max(l.LastSeq, q.Seq)
}

// endedLocked is called once for each event that is no longer held.
func (d *Dispatcher) endedLocked(q *queued) {
	if q.recovered {
		d.spill.waiting--
	}
}

// declareLocked queues an event for each loss that the stream does not know of yet.
func (d *Dispatcher) declareLocked() {
	for key, l := range d.account.undeclared {
		delete(d.account.undeclared, key)
		d.emitLocked(typeDropped, l)
	}
}

// emitLocked queues an event of the extension's own.
func (d *Dispatcher) emitLocked(kind string, content any) {
	raw, err := json.Marshal(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{time.Now().UTC().Format(timeLayout), kind, content})
	if err != nil {
		panic("dispatcher: an event of numbers and strings did not encode: " + err.Error())
	}
	d.acceptLocked(&Event{Raw: raw, Class: own}, time.Now())
}

// statsEvery is how often the figures are put into the stream. Environments live for hours, and are not always shut down
// in order.
const statsEvery = 5 * time.Minute

// SayStats queues a kinesis-telemetry.stats event with the figures as they are now.
func (d *Dispatcher) SayStats() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sayStatsLocked()
}

func (d *Dispatcher) sayStatsLocked() {
	d.declareLocked() // before it: at the end of a life it is the last event
	d.emitLocked(typeStats, d.statsLocked())
	d.statsAt = time.Now().Add(statsEvery).Round(0) // by the wall clock, which goes on in a freeze
}
