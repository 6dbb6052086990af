package simulate

import (
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/flush"
)

// extension is the extension's part of an environment. It calls the policy as internal/extension and internal/dispatcher do; a
// test of internal/extension compares them.
type extension struct {
	policy *flush.Policy
	shard  int
	step   step
	why    flush.Occasion // of shipping
	until  time.Duration  // the deadline of shipping
	failed bool           // the last flight of the main loop failed
	queue  queue
	flight flight
}

// step is the state of the extension's main loop.
type step uint8

const (
	nextCalled   step = iota // waits for Lambda's next event
	awaitingEnd              // waits for the function's end
	shuttingDown             // has SHUTDOWN, waits for the last telemetry
	shipping                 // ships everything
	terminated               // the environment has ended
)

// queue has the batches that are not stored, and the bytes of those that are not in flight.
type queue struct {
	batches []*batch
	bytes   int
}

// add adds an event to the last batch, or to a new one if that is full.
func (q *queue) add(t Event, recordBytes int) {
	var last *batch
	if n := len(q.batches); n > 0 {
		last = q.batches[n-1]
	}
	if last == nil || last.inFlight || last.bytes+keyBytes+int(t.Bytes) > recordBytes {
		last = new(batch)
		q.batches = append(q.batches, last)
	}
	last.events = append(last.events, t)
	last.bytes += int(t.Bytes)
	q.bytes += int(t.Bytes)
}

// platformFirst moves the platform's events to the front. end is the Index of an invocation's end.
func (q *queue) platformFirst(end int16, recordBytes int) {
	var platform, logs queue
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
			platform.batches = append(platform.batches, b)
			continue
		case len(rest) < len(b.events):
			for _, t := range b.events {
				if t.Index <= 0 || t.Index == end {
					b.bytes -= int(t.Bytes)
					platform.add(t, recordBytes)
				}
			}
			b.events = rest
		}
		logs.batches = append(logs.batches, b)
	}
	q.batches = slices.Concat(platform.batches, logs.batches)
}

func (q *queue) remove(b *batch) {
	i := slices.Index(q.batches, b)
	q.batches = slices.Delete(q.batches, i, i+1)
}

func (q *queue) buffered() flush.Buffered {
	for _, b := range q.batches {
		if !b.inFlight {
			return flush.Buffered{Bytes: q.bytes, Oldest: lambdaTime(b.events[0].batch)}
		}
	}
	return flush.Buffered{}
}

// lambdaTime returns a time with Lambda's precision, milliseconds.
func lambdaTime(at time.Duration) time.Time { return epoch.Add(at.Truncate(time.Millisecond)) }

// begin starts the extension of a new environment.
func (e *environment) begin() {
	e.number = 0
	e.extension = extension{policy: flush.New(e.settings), shard: e.world.random.IntN(e.Shards)}
}

// serve handles an INVOKE.
func (e *environment) serve() {
	e.step = awaitingEnd
	e.note(flush.Invoked{Number: int(e.number), Deadline: e.clock().Add(functionTimeout - flush.DeadlineMargin)})
}

// receive handles the events of a POST.
func (e *environment) receive(batch []Event) {
	e.facts = e.facts[:0]
	for _, t := range batch {
		t.batch = batch[0].At
		e.queue.add(t, e.settings.RecordBytes)
		switch t.Index {
		case 0:
			e.facts = append(e.facts, flush.Started{Number: int(t.Number)})
		case e.End():
			end := lambdaTime(t.At)
			e.facts = append(e.facts, flush.EndSeen{Number: int(t.Number), At: end, Took: end.Sub(lambdaTime(t.At - e.Handler))})
		}
	}
	e.note(e.facts...)
}

// close handles a SHUTDOWN.
func (e *environment) close() {
	e.step, e.until = shuttingDown, e.now+shutdownTime-flush.DeadlineMargin
	e.at[timer] = e.now + flush.LateTelemetryWait
	e.note(flush.ShuttingDown{})
}

// note gives facts to the policy, and then runs the main loop and the background until they have to wait.
func (e *environment) note(facts ...flush.Fact) {
	for _, fact := range facts {
		e.policy.Note(e.clock(), e.queue.buffered(), fact)
	}
	switch e.step {
	case awaitingEnd:
		until, seen := e.policy.AwaitEnd(e.clock())
		if e.at[timer] = until.Sub(epoch); seen {
			e.ship(flush.AtEnd)
		} else if until.IsZero() {
			e.ask()
		}
	case shipping:
		e.shipOn()
	case nextCalled, shuttingDown, terminated:
	}
	e.shipInBackground()
}

// timeOut handles the timeout of the main loop's wait.
func (e *environment) timeOut() {
	switch e.step {
	case awaitingEnd:
		e.note()
	case shuttingDown:
		e.ship(flush.AtShutdown)
	case shipping:
		e.endFlight(true)
	case nextCalled, terminated:
	}
}

// ship starts to ship everything. It waits for a flight of the background for a while, and then cancels it.
func (e *environment) ship(why flush.Occasion) {
	until, patience := e.policy.Bounds(e.clock(), why)
	if !until.IsZero() {
		e.until = until.Sub(epoch)
	}
	e.step, e.why, e.failed = shipping, why, false
	e.at[timer] = max(min(e.now+patience, e.until), e.now)
	e.shipOn()
}

// shipOn starts the next flight, unless one is active.
func (e *environment) shipOn() {
	if e.flight.on {
		return
	}
	e.at[timer] = never
	switch {
	case !e.failed && e.now < e.until && e.startFlight(e.why):
	case e.why == flush.AtEnd:
		e.ask()
	default:
		e.terminate()
	}
}

// ask asks Lambda for the next event.
func (e *environment) ask() {
	e.policy.Note(e.clock(), e.queue.buffered(), flush.NextCalled{})
	e.at[timer] = never
	e.step = nextCalled
	e.trace(func() Step { return Step{What: Asks} })
	e.freeze()
}

// terminate ends the environment. The events in its queue are undelivered.
func (e *environment) terminate() {
	e.step = terminated
	for _, b := range e.queue.batches {
		for _, t := range b.events {
			e.undelivered(t)
		}
	}
	e.queue = queue{}
}

// shipInBackground starts a flight of the background if the policy wants one, else it schedules its next check.
func (e *environment) shipInBackground() {
	e.at[background] = never
	if e.flight.on || e.frozen {
		return
	}
	switch wait, ever := e.policy.NextFlight(e.clock(), e.queue.buffered()); {
	case !ever:
	case wait > 0:
		e.at[background] = e.now + wait
	default:
		e.startFlight(flush.Background)
	}
}
