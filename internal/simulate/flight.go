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
	parcels   []parcel // not stored yet
}

// parcel is a record and where its events are in the queue.
type parcel struct {
	from, to, bytes int
	stored          bool // by the last request
}

// units is how many PUT payload units a record is billed as.
func (p *parcel) units() int { return (p.bytes + unitBytes - 1) / unitBytes }

// keyBytes is the size of a record's partition key.
const keyBytes = 32

// takeOff begins a flight, where the policy wants something shipped.
func (e *environment) takeOff(why flush.Occasion) bool {
	load, ok := e.policy.Take(e.clock(), e.queue.buffered(), why)
	if !ok {
		return false
	}
	f, q := &e.flight, &e.queue
	*f = flight{on: true, why: why, probe: load.Probe, began: e.now, deadline: e.now + flush.FlightTimeout, parcels: f.parcels[:0]}
	if why != flush.Background {
		f.deadline = e.until
	}
	for request := 0; q.head < len(q.events) && (load.Bytes == 0 || f.bytes <= load.Bytes); q.head++ {
		size, last := int(q.events[q.head].Bytes), len(f.parcels)-1
		opens := last < 0 || f.parcels[last].bytes+size > e.settings.RecordBytes
		if request += size; opens {
			request += keyBytes
		}
		if request > e.requestBytes {
			break
		}
		if opens {
			f.parcels = append(f.parcels, parcel{from: q.head, bytes: keyBytes})
			last++
		}
		f.parcels[last].bytes += size
		f.parcels[last].to = q.head + 1
		f.bytes += size
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
	for _, p := range f.parcels {
		e.sizes = append(e.sizes, p.bytes)
		events += p.to - p.from
		total += p.bytes
	}
	answer, stored := e.stream.Put(e.now, e.shard, e.sizes)
	for i := range f.parcels {
		f.parcels[i].stored = stored != nil && stored[i]
	}
	f.next, f.pauses, f.refused = answer, false, stored == nil
	e.figures.request(e.now)
	e.trace(func() Step { return Step{What: fmt.Sprintf(Sends, events, len(f.parcels), total, f.probe)} })
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
	sent := len(f.parcels)
	f.fruitless++
	left := f.parcels[:0]
	for _, p := range f.parcels {
		if !p.stored {
			left = append(left, p)
			continue
		}
		f.progress, f.fruitless = true, 0
		e.figures.Records++
		e.figures.Units += p.units()
		for _, t := range e.queue.events[p.from:p.to] {
			e.stored(t, f.next)
		}
	}
	f.parcels, f.pauses = left, true
	f.partial = f.partial || len(left) > 0
	if !f.refused {
		e.figures.Throttled += len(left)
	}
	e.trace(func() Step { return Step{What: fmt.Sprintf(Reads, sent-len(left), f.refused)} })
	over := len(left) == 0 || f.probe && f.fruitless > 0
	if !over {
		f.next = e.now + time.Duration(e.draw()*float64(kinesis.PauseBound(!f.refused, f.fruitless)))
		over = f.why != flush.Background && f.next >= f.deadline // such a pause is not begun
	}
	if e.at[flying] = min(f.next, f.deadline); over {
		e.land(false)
	}
}

// land ends a flight, which may be called off for another one. What was not stored waits again, in front. What a request
// stored that is not answered yet is not known, and is sent again.
func (e *environment) land(calledOff bool) {
	f, q := &e.flight, &e.queue
	cut := !f.pauses
	if cut {
		e.trace(func() Step { return Step{What: Cuts} })
	}
	fact := flush.Flight{
		Took: e.now - f.began, Bytes: f.bytes, Progress: f.progress, Failed: len(f.parcels) > 0, Partial: f.partial || cut,
		Silent:    cut && !f.partial && (calledOff || f.why != flush.Background),
		CalledOff: calledOff, Random: e.draw(),
	}
	for i := len(f.parcels) - 1; i >= 0; i-- {
		p := &f.parcels[i]
		if cut && p.stored {
			e.figures.Units += p.units()
		}
		q.head -= p.to - p.from
		copy(q.events[q.head:], q.events[p.from:p.to])
		q.bytes += p.bytes - keyBytes
	}
	if q.head == len(q.events) {
		q.events, q.head = q.events[:0], 0
	}
	f.on = false
	if f.why != flush.Background {
		e.failed = fact.Failed
	}
	e.at[flying] = never
	e.note(fact)
}
