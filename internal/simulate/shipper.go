package simulate

import (
	"time"

	"kinesis-telemetry-extension/internal/policy"
)

// Pauses between the requests of a flight, as internal/kinesis makes them.
const (
	basePause     = 50 * time.Millisecond
	throttlePause = 200 * time.Millisecond
	maxPause      = 2 * time.Second
	// flightTimeout bounds a flight, awake, as internal/dispatcher does.
	flightTimeout = 10 * time.Second
)

// queue is what waits to be shipped. What a flight carries stays in front of head until the flight has ended.
type queue struct {
	events []telemetry
	head   int
	bytes  int
}

func (q *queue) push(t telemetry) {
	q.events = append(q.events, t)
	q.bytes += int(t.bytes)
}

func (q *queue) held() policy.Held {
	if q.head == len(q.events) {
		return policy.Held{}
	}
	return policy.Held{Bytes: q.bytes, Oldest: epoch.Add(q.events[q.head].batch)}
}

// parcel is a record and where its events are in the queue.
type parcel struct {
	from, to, bytes int
	stored          bool // by the last request
}

// flight is an attempt to ship something: requests and pauses until all is stored, or its time is over.
type flight struct {
	on        bool
	by        step // of the main loop; asked: the background shipper
	began     time.Duration
	deadline  time.Duration
	answer    time.Duration // when the request under way is answered; 0: it pauses
	refused   bool          // the request as a whole
	frozen    bool
	progress  bool
	probe     bool // it ends with the first request that gets nothing through
	requests  int
	fruitless int
	parcels   []parcel // not stored yet
}

// takeOff begins a flight with what is held, for the main loop at this step or for the background shipper.
func (e *environment) takeOff(by step) bool {
	switch {
	case by != asked && (e.failed || e.calledOff),
		by == shipsFirst && e.beside <= 0 && !e.isDue(),
		by != drains && !e.policy.Ready(e.clock()),
		by == asked && e.exposure == policy.Ending:
		return false
	}
	e.urgent = false
	f, q := &e.flight, &e.queue
	*f = flight{by: by, began: e.now, deadline: e.now + flightTimeout, parcels: f.parcels[:0]}
	f.probe = by != drains && e.policy.Probing()
	total, first := 0, q.head
	for q.head < len(q.events) && (!f.probe || total <= recordBytes) {
		size := int(q.events[q.head].bytes)
		if total += size; total > requestBytes {
			break
		}
		last := len(f.parcels) - 1
		if last < 0 || f.parcels[last].bytes+size > recordBytes {
			f.parcels = append(f.parcels, parcel{from: q.head})
			last++
		}
		q.head++
		q.bytes -= size
		f.parcels[last].bytes += size
		f.parcels[last].to = q.head
	}
	e.beside -= q.head - first
	f.on = len(f.parcels) > 0
	if f.on {
		e.send()
	}
	return f.on
}

func (e *environment) send() {
	f := &e.flight
	f.requests++
	f.answer, f.refused = e.stream.put(e.now, e.shard, f.parcels)
	e.figures.count(e.now)
	e.schedule(flying, f.answer)
}

// land goes on with a flight that has its answer, or whose pause or time is over.
func (e *environment) land() {
	f := &e.flight
	if f.answer == 0 {
		if e.now < f.deadline {
			e.send()
		} else {
			e.landed()
		}
		return
	}
	e.settle()
	if len(f.parcels) == 0 || f.probe && f.fruitless > 0 {
		e.landed()
		return
	}
	base := throttlePause
	if f.refused {
		base = basePause
	}
	bound := min(base<<min(max(f.fruitless-1, 0), 10), maxPause)
	pause := time.Duration(e.world.random.Int64N(int64(bound) + 1))
	f.answer = 0
	e.schedule(flying, max(e.now, min(e.now+pause, f.deadline)))
}

// settle reads the answer.
func (e *environment) settle() {
	f := &e.flight
	f.fruitless++
	if f.refused {
		return
	}
	left := f.parcels[:0]
	for _, p := range f.parcels {
		if !p.stored {
			e.figures.Throttled++
			left = append(left, p)
			continue
		}
		e.figures.Records++
		e.figures.Units += (p.bytes + unitBytes - 1) / unitBytes
		f.progress, f.fruitless = true, 0
		for i := p.from; i < p.to; i++ {
			e.stored(e.queue.events[i], f.answer)
		}
	}
	f.parcels = left
}

// abort calls a flight off. What its request stored is not known and will be sent again.
func (e *environment) abort() {
	f := &e.flight
	if !f.on {
		return
	}
	for i := range f.parcels {
		if f.answer > 0 && !f.refused && f.parcels[i].stored {
			e.figures.Repeated++
			e.figures.Units += (f.parcels[i].bytes + unitBytes - 1) / unitBytes
		}
	}
	e.cancel(flying)
	e.landed()
}

// landed ends a flight; what was not stored is held again, in front.
func (e *environment) landed() {
	f, q := &e.flight, &e.queue
	failed := len(f.parcels) > 0
	for i := len(f.parcels) - 1; i >= 0; i-- {
		p := &f.parcels[i]
		q.head -= p.to - p.from
		copy(q.events[q.head:], q.events[p.from:p.to])
		q.bytes += p.bytes
	}
	if q.head == len(q.events) {
		q.events, q.head = q.events[:0], 0
	}
	f.on = false
	e.policy.Flown(e.clock(), policy.Flight{
		Took: e.now - f.began, Progress: f.progress, Failed: failed, Faltered: f.requests > 1, Frozen: f.frozen,
	}, e.world.random.Float64())
	if f.by != asked {
		e.failed = failed
	}
	e.advance()
	e.shipInBackground()
}

// isDue tells whether the policy wants something to be shipped now.
func (e *environment) isDue() bool {
	wait, ever := e.policy.Due(e.clock(), e.queue.held(), e.exposure)
	return ever && wait <= 0
}

// shipInBackground is the background shipper: it ships what is due, else it looks again when something will be.
func (e *environment) shipInBackground() {
	e.cancel(due)
	if e.flight.on || e.frozen || e.step >= drains {
		return
	}
	if e.urgent && e.queue.bytes > 0 && e.exposure != policy.Ending && e.policy.Ready(e.clock()) {
		e.takeOff(asked)
		return
	}
	wait, ever := e.policy.Due(e.clock(), e.queue.held(), e.exposure)
	switch {
	case !ever:
	case wait > 0:
		e.schedule(due, e.now+wait)
	default:
		e.takeOff(asked)
	}
}
