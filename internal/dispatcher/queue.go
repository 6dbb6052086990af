package dispatcher

import (
	"slices"

	"kinesis-telemetry-extension/record"
)

// Class says how readily an event is given up when the buffer is full.
type Class uint8

// The classes, from the first to be dropped to the last.
const (
	Log      Class = iota // function and extension logs
	Platform              // what the platform says of the function's life
	own                   // the extension's own events: as Platform, and their loss is not declared in turn
)

// eventOverhead is what an event takes beside its raw bytes, about: the queue's entry and the allocator's share.
const eventOverhead = 128

// queued is an event that waits for its turn or is on its way.
type queued struct {
	record.Event
	class Class
	at    int64 // about when it was emitted, Unix milliseconds: time passes while the environment is frozen
	// recovered events were left by an earlier life; their spill file is kept until they have ended.
	recovered bool
}

func (q *queued) cost() int { return len(q.Raw) + eventOverhead }

// queue is a FIFO of events that knows its weight. The zero value is empty.
type queue struct {
	events []queued
	head   int // events before it are gone
	bytes  int // cost of all
}

func (q *queue) len() int { return len(q.events) - q.head }

func (q *queue) front() *queued { return &q.events[q.head] }

func (q *queue) push(e queued) {
	q.events = append(q.events, e)
	q.bytes += e.cost()
}

// pop removes the first n events. Their slots are cleared, so that the POST bodies behind them can go.
func (q *queue) pop(n int) {
	gone := q.events[q.head : q.head+n]
	for i := range gone {
		q.bytes -= gone[i].cost()
	}
	clear(gone)
	q.head += n
	if q.head == len(q.events) {
		q.events, q.head = q.events[:0], 0
	} else if q.head > len(q.events)/2 {
		q.events = slices.Delete(q.events, 0, q.head) // amortised: as many steps as were popped
		q.head = 0
	}
}

// unpop puts events back to the front, in their order.
func (q *queue) unpop(events []queued) {
	if len(events) == 0 {
		return
	}
	for i := range events {
		q.bytes += events[i].cost()
	}
	q.events = slices.Replace(q.events, 0, q.head, events...)
	q.head = 0
}

// shed removes the oldest events of a class up to the given one until the weight is at most limit, and hands each to
// dropped.
func (q *queue) shed(limit int, upTo Class, dropped func(*queued)) {
	if q.bytes <= limit {
		return
	}
	kept := q.events[:q.head]
	for i := q.head; i < len(q.events); i++ {
		e := &q.events[i]
		if q.bytes > limit && e.class <= upTo {
			q.bytes -= e.cost()
			dropped(e)
			continue
		}
		kept = append(kept, *e)
	}
	clear(q.events[len(kept):])
	q.events = kept
}
