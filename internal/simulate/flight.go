package simulate

import (
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// flight is an attempt to ship something: requests and pauses until all is stored, or its time is over.
type flight struct {
	on        bool
	why       flush.Occasion
	probe     bool // it ends with the first request of which nothing is stored
	began     time.Duration
	deadline  time.Duration
	next      time.Duration // when the request is answered, or the pause is over
	pauses    bool
	refused   bool // the last request as a whole
	progress  bool // something was stored
	partial   bool // something was not stored at once
	bytes     int
	fruitless int      // requests in a row of which nothing was stored
	batches   []*batch // not stored yet
}

// batch is what becomes a record.
type batch struct {
	events []Event
	bytes  int // without the key
	flying bool
	stored bool // by the last request
}

// units is how many PUT payload units a record is billed as.
func (b *batch) units() int { return (b.bytes + keyBytes + unitBytes - 1) / unitBytes }

// keyBytes is the size of a record's partition key.
const keyBytes = 32

// takeOff begins a flight, where the policy wants something shipped.
func (e *environment) takeOff(why flush.Occasion) bool {
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
		q.lastWordsFirst(e.End(), e.settings.RecordBytes)
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
		b.flying = true
		f.batches = append(f.batches, b)
		f.bytes += b.bytes
	}
	q.bytes -= f.bytes
	e.send()
	return true
}

// send sends what is not stored yet.
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
	f.next, f.pauses, f.refused = answer, false, stored == nil
	e.figures.request(e.now)
	e.trace(func() Step { return Step{What: fmt.Sprintf(Sends, events, len(f.batches), total, f.probe)} })
	e.at[flying] = min(f.next, f.deadline)
}

// fly goes on with a flight when the answer is there, or the pause or the flight's time is over.
func (e *environment) fly() {
	f := &e.flight
	switch {
	case e.now >= f.next && !f.pauses:
		e.settle()
	case e.now >= f.deadline:
		e.land(false)
	case e.now >= f.next:
		e.send()
	default: // a freeze has put the deadline off
		e.at[flying] = min(f.next, f.deadline)
	}
}

// settle reads the answer.
func (e *environment) settle() {
	f := &e.flight
	sent := len(f.batches)
	f.fruitless++
	left := f.batches[:0]
	for _, b := range f.batches {
		if !b.stored {
			left = append(left, b)
			continue
		}
		f.progress, f.fruitless = true, 0
		e.figures.Records++
		e.figures.Units += b.units()
		for _, t := range b.events {
			e.stored(t, f.next)
		}
		e.queue.remove(b)
	}
	f.batches, f.pauses = left, true
	f.partial = f.partial || len(left) > 0
	if !f.refused {
		e.figures.Throttled += len(left)
	}
	e.trace(func() Step { return Step{What: fmt.Sprintf(Reads, sent-len(left), f.refused)} })
	over := len(left) == 0 || f.probe && f.fruitless > 0
	if !over {
		f.next = e.now + time.Duration(e.draw()*float64(kinesis.BackoffBound(!f.refused, f.fruitless)))
		over = f.why != flush.Background && f.next >= f.deadline // such a pause is not begun
	}
	if e.at[flying] = min(f.next, f.deadline); over {
		e.land(false)
	}
}

// land ends a flight, which may be called off for another one. What was not stored waits again. What a request
// stored that is not answered yet is not known, and is sent again.
func (e *environment) land(calledOff bool) {
	f, q := &e.flight, &e.queue
	cut := !f.pauses
	if cut {
		e.trace(func() Step { return Step{What: Cuts} })
	}
	fact := flush.Flight{
		Took: e.now - f.began, Bytes: f.bytes, Progress: f.progress, Failed: len(f.batches) > 0, Partial: f.partial || cut,
		Unanswered: cut && !f.partial && (calledOff || f.why != flush.Background),
		Canceled:   calledOff, Random: e.draw(),
	}
	for _, b := range f.batches {
		if cut && b.stored {
			e.figures.Units += b.units()
		}
		b.flying = false
		q.bytes += b.bytes
	}
	f.on = false
	if f.why != flush.Background {
		e.failed = fact.Failed
	}
	e.at[flying] = never
	e.note(fact)
}
