package simulate

import (
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// flight is an attempt to ship batches: requests and pauses until all batches are stored or its time ends.
type flight struct {
	on       bool
	why      flush.Occasion
	probe    bool // it ends with the first request that stores no record
	began    time.Duration
	deadline time.Duration
	next     time.Duration // of the reply, or of the end of the pause
	pauses   bool
	rejected bool // the last request failed as a whole
	progress bool // a record was stored
	partial  bool // a record was not stored at the first attempt
	bytes    int
	failures int      // requests in a row that stored no record
	batches  []*batch // not stored yet
}

// batch has the events of one record.
type batch struct {
	events   []Event
	bytes    int // without the key
	inFlight bool
	stored   bool // by the last request
}

// units returns the PUT payload units of the record.
func (b *batch) units() int { return (b.bytes + keyBytes + unitBytes - 1) / unitBytes }

// keyBytes is the size of a record's partition key.
const keyBytes = 32

// startFlight starts a flight if the policy wants one.
func (e *environment) startFlight(why flush.Occasion) bool {
	load, ok := e.policy.StartFlight(e.clock(), e.queue.buffered(), why)
	if !ok {
		return false
	}
	f, q := &e.flight, &e.queue
	*f = flight{on: true, why: why, probe: load.Probe, began: e.now, deadline: e.now + flush.FlightTimeout, batches: f.batches[:0]}
	if why != flush.Background {
		f.deadline = e.until
	}
	if why == flush.AtShutdown && e.policy.LogsLast(q.buffered()) {
		q.platformFirst(e.End(), e.settings.RecordBytes)
	}
	limit := e.requestBytes
	if load.Bytes > 0 {
		limit = min(limit, load.Bytes)
	}
	request := 0
	for _, b := range q.batches {
		if request += b.bytes + keyBytes; request > limit && len(f.batches) > 0 {
			break
		}
		b.inFlight = true
		f.batches = append(f.batches, b)
		f.bytes += b.bytes
	}
	q.bytes -= f.bytes
	e.send()
	return true
}

// send sends the batches that are not stored yet.
func (e *environment) send() {
	f := &e.flight
	e.sizes = e.sizes[:0]
	events, total := 0, 0
	for _, b := range f.batches {
		e.sizes = append(e.sizes, b.bytes+keyBytes)
		events += len(b.events)
		total += b.bytes + keyBytes
	}
	answer, stored := e.stream.Put(e.now, e.shard, e.sizes)
	for i, b := range f.batches {
		b.stored = stored != nil && stored[i]
	}
	f.next, f.pauses, f.rejected = answer, false, stored == nil
	e.figures.request(e.now)
	e.trace(func() Step { return Step{What: fmt.Sprintf(Sends, events, len(f.batches), total, f.probe)} })
	e.at[flightStep] = min(f.next, f.deadline)
}

// continueFlight handles a reply, the end of a pause, or the end of the flight's time.
func (e *environment) continueFlight() {
	f := &e.flight
	switch {
	case e.now >= f.next && !f.pauses:
		e.readReply()
	case e.now >= f.deadline:
		e.endFlight(false)
	case e.now >= f.next:
		e.send()
	default: // a freeze has moved the deadline
		e.at[flightStep] = min(f.next, f.deadline)
	}
}

// readReply handles the reply of the last request.
func (e *environment) readReply() {
	f := &e.flight
	sent := len(f.batches)
	f.failures++
	left := f.batches[:0]
	for _, b := range f.batches {
		if !b.stored {
			left = append(left, b)
			continue
		}
		f.progress, f.failures = true, 0
		e.figures.Records++
		e.figures.Units += b.units()
		for _, t := range b.events {
			e.stored(t, f.next)
		}
		e.queue.remove(b)
	}
	f.batches, f.pauses = left, true
	f.partial = f.partial || len(left) > 0
	if !f.rejected {
		e.figures.Throttled += len(left)
	}
	e.trace(func() Step { return Step{What: fmt.Sprintf(Reads, sent-len(left), f.rejected)} })
	over := len(left) == 0 || f.probe && f.failures > 0
	if !over {
		f.next = e.now + time.Duration(e.draw()*float64(kinesis.BackoffBound(!f.rejected, f.failures)))
		over = f.why != flush.Background && f.next >= f.deadline // no pause beyond the deadline
	}
	if e.at[flightStep] = min(f.next, f.deadline); over {
		e.endFlight(false)
	}
}

// endFlight ends a flight; canceled means that another flight replaces it. Batches that are not stored return to the queue. So do
// batches of a request without a reply, even if the stream has stored them: they are sent again.
func (e *environment) endFlight(canceled bool) {
	f, q := &e.flight, &e.queue
	cut := !f.pauses
	if cut {
		e.trace(func() Step { return Step{What: GivesUp} })
	}
	fact := flush.Flight{
		Took: e.now - f.began, Bytes: f.bytes, Progress: f.progress, Failed: len(f.batches) > 0, Partial: f.partial || cut,
		Unanswered: cut && !f.partial && (canceled || f.why != flush.Background),
		Canceled:   canceled, Random: e.draw(),
	}
	for _, b := range f.batches {
		if cut && b.stored {
			e.figures.Units += b.units()
		}
		b.inFlight = false
		q.bytes += b.bytes
	}
	f.on = false
	if f.why != flush.Background {
		e.failed = fact.Failed
	}
	e.at[flightStep] = never
	e.note(fact)
}
