package simulate

import (
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/flush"
)

// extension is the extension's part of an environment. It does around the policy what internal/extension and
// internal/dispatcher do; a test of internal/extension compares them.
type extension struct {
	policy *flush.Policy
	shard  int
	step   step
	why    flush.Occasion // of ships
	until  time.Duration  // ships no longer than that
	failed bool           // the last flight of the main loop
	queue  queue
	flight flight
}

// step is where the extension's main loop stands.
type step uint8

const (
	asked  step = iota // it has asked Lambda for the next event
	awaits             // the function's end
	closes             // SHUTDOWN: waits for the last telemetry
	ships              // everything
	gone               // the environment has ended
)

// queue is what is not stored yet, and how many bytes of it wait to be shipped.
type queue struct {
	batches []*batch
	bytes   int
}

// add adds an event to the last batch, if that has room.
func (q *queue) add(t Event, recordBytes int) {
	var last *batch
	if n := len(q.batches); n > 0 {
		last = q.batches[n-1]
	}
	if last == nil || last.flying || last.bytes+keyBytes+int(t.Bytes) > recordBytes {
		last = new(batch)
		q.batches = append(q.batches, last)
	}
	last.events = append(last.events, t)
	last.bytes += int(t.Bytes)
	q.bytes += int(t.Bytes)
}

// lastWordsFirst puts what the platform says in front. end is the Index of an invocation's end.
func (q *queue) lastWordsFirst(end int16, recordBytes int) {
	var words, logs queue
	for _, b := range q.batches {
		var rest []Event
		for _, t := range b.events {
			if t.Index <= 0 || t.Index == end {
				continue
			}
			rest = append(rest, t)
		}
		switch {
		case len(rest) == 0:
			words.batches = append(words.batches, b)
			continue
		case len(rest) < len(b.events):
			for _, t := range b.events {
				if t.Index <= 0 || t.Index == end {
					b.bytes -= int(t.Bytes)
					words.add(t, recordBytes)
				}
			}
			b.events = rest
		}
		logs.batches = append(logs.batches, b)
	}
	q.batches = slices.Concat(words.batches, logs.batches)
}

func (q *queue) remove(b *batch) {
	i := slices.Index(q.batches, b)
	q.batches = slices.Delete(q.batches, i, i+1)
}

func (q *queue) buffered() flush.Buffered {
	for _, b := range q.batches {
		if !b.flying {
			return flush.Buffered{Bytes: q.bytes, Oldest: told(b.events[0].batch)}
		}
	}
	return flush.Buffered{}
}

// told is a time as Lambda tells it: in milliseconds.
func told(at time.Duration) time.Time { return epoch.Add(at.Truncate(time.Millisecond)) }

// begin begins the extension of a new environment.
func (e *environment) begin() {
	e.number = 0
	e.extension = extension{policy: flush.New(e.settings), shard: e.world.random.IntN(e.Shards)}
}

// serve serves an INVOKE.
func (e *environment) serve() {
	e.step = awaits
	e.note(flush.Invoked{Number: int(e.number), Deadline: e.clock().Add(functionTimeout - flush.DeadlineMargin)})
}

// receive takes the events of a POST.
func (e *environment) receive(batch []Event) {
	e.facts = e.facts[:0]
	for _, t := range batch {
		t.batch = batch[0].At
		e.queue.add(t, e.settings.RecordBytes)
		switch t.Index {
		case 0:
			e.facts = append(e.facts, flush.Started{Number: int(t.Number)})
		case e.End():
			end := told(t.At)
			e.facts = append(e.facts, flush.EndSeen{Number: int(t.Number), At: end, Took: end.Sub(told(t.At - e.Handler))})
		}
	}
	e.note(e.facts...)
}

// close serves a SHUTDOWN.
func (e *environment) close() {
	e.step, e.until = closes, e.now+shutdownTime-flush.DeadlineMargin
	e.at[timer] = e.now + flush.LateTelemetryWait
	e.note(flush.ShuttingDown{})
}

// note notes facts, all at once, and takes the main loop and the background as far as they go without waiting.
func (e *environment) note(facts ...flush.Fact) {
	for _, fact := range facts {
		e.policy.Note(e.clock(), e.queue.buffered(), fact)
	}
	switch e.step {
	case awaits:
		until, seen := e.policy.AwaitEnd(e.clock())
		if e.at[timer] = until.Sub(epoch); seen {
			e.ship(flush.AtEnd)
		} else if until.IsZero() {
			e.ask()
		}
	case ships:
		e.shipOn()
	case asked, closes, gone:
	}
	e.shipInBackground()
}

// timeOut is called when what the main loop waits for has not come in time.
func (e *environment) timeOut() {
	switch e.step {
	case awaits:
		e.note()
	case closes:
		e.ship(flush.AtShutdown)
	case ships:
		e.land(true)
	case asked, gone:
	}
}

// ship begins to ship everything. A flight of the background that is under way is waited for, and then called off.
func (e *environment) ship(why flush.Occasion) {
	until, patience := e.policy.Bounds(e.clock(), why)
	if !until.IsZero() {
		e.until = until.Sub(epoch)
	}
	e.step, e.why, e.failed = ships, why, false
	e.at[timer] = max(min(e.now+patience, e.until), e.now)
	e.shipOn()
}

// shipOn begins the next flight, when none is under way.
func (e *environment) shipOn() {
	if e.flight.on {
		return
	}
	e.at[timer] = never
	switch {
	case !e.failed && e.now < e.until && e.takeOff(e.why):
	case e.why == flush.AtEnd:
		e.ask()
	default:
		e.leave()
	}
}

// ask asks for the next event.
func (e *environment) ask() {
	e.policy.Note(e.clock(), e.queue.buffered(), flush.NextCalled{})
	e.at[timer] = never
	e.step = asked
	e.trace(func() Step { return Step{What: Asks} })
	e.freeze()
}

// leave ends the environment and what is still in it.
func (e *environment) leave() {
	e.step = gone
	for _, b := range e.queue.batches {
		for _, t := range b.events {
			e.abandoned(t)
		}
	}
	e.queue = queue{}
}

// shipInBackground ships what is due, else it looks again when something will be.
func (e *environment) shipInBackground() {
	e.at[due] = never
	if e.flight.on || e.frozen {
		return
	}
	switch wait, ever := e.policy.NextFlight(e.clock(), e.queue.buffered()); {
	case !ever:
	case wait > 0:
		e.at[due] = e.now + wait
	default:
		e.takeOff(flush.Background)
	}
}
