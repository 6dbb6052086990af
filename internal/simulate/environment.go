package simulate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/awake"
	"kinesis-telemetry-extension/internal/flush"
)

// kind is a kind of simulated event of an environment.
type kind uint8

const (
	invoke     kind = iota // Lambda sends INVOKE
	shutdown               // Lambda sends SHUTDOWN
	handlerEnd             // the function's handler returns
	post                   // the Telemetry API delivers a batch
	flightStep             // a reply arrives, or the pause after it or the flight's time ends
	background             // the background starts to ship
	timer                  // a wait of the main loop times out
	kinds
)

// never is the time of an event that is not scheduled.
const never = time.Duration(math.MaxInt64)

// environment is one execution environment. The methods in this file are Lambda's part.
type environment struct {
	*world
	id   int
	at   [kinds]time.Duration // the time of each kind; while frozen, at[post] is the rest of its wait
	next time.Duration        // the first of these times
	kind kind                 // of next

	random             *rand.Rand    // for the arrival of INVOKEs
	memory             int           // of Arrivals
	arrival            time.Duration // of the next INVOKE
	invocation, number int32         // see Event
	ends               time.Duration // end of the handler
	frozen             bool
	frozenAt           time.Duration
	emitted            int16 // events of this invocation in the platform's buffer
	buffered           []Event

	extension
}

func newEnvironment(w *world, id int) *environment {
	e := &environment{world: w, id: id, random: rand.New(rand.NewPCG(seed, uint64(id)+1))}
	if w.Spread > 0 {
		e.arrival = time.Duration(e.random.Int64N(int64(w.Spread)))
	}
	e.at = [kinds]time.Duration{e.arrival, never, never, never, never, never, never}
	e.next, e.kind, e.step = e.arrival, invoke, terminated
	return e
}

func (e *environment) advance() {
	e.at[e.kind] = never
	[kinds]func(*environment){
		(*environment).invoke, (*environment).shutdown, (*environment).freeze, (*environment).post,
		(*environment).continueFlight, (*environment).shipInBackground, (*environment).timeOut,
	}[e.kind](e)
	e.next = never
	for k, at := range e.at {
		if at < e.next && (!e.frozen || kind(k) <= shutdown) {
			e.next, e.kind = at, kind(k)
		}
	}
	e.next = max(e.next, e.now) // its time may have passed during a freeze
}

// invoke sends INVOKE. It starts a new environment if the last one has terminated.
func (e *environment) invoke() {
	switch e.step {
	case terminated:
		e.begin()
	case shuttingDown, shipping: // the last environment has not terminated yet
		e.at[invoke] = e.until
		return
	case nextCalled, awaitingEnd:
	}
	e.at[shutdown] = never
	e.thaw()
	e.invocation = e.figures.begin(e.now)
	e.number++
	e.ends, e.emitted = e.now+e.Handler, 0
	e.at[handlerEnd] = e.ends
	e.collect()
	e.trace(func() Step { return Step{What: Invoke, Number: int(e.number), Deadline: e.now + functionTimeout} })
	e.serve()
}

// shutdown sends SHUTDOWN.
func (e *environment) shutdown() {
	e.thaw()
	e.trace(func() Step { return Step{What: Shutdown, Deadline: e.now + shutdownTime} })
	e.close()
}

// freeze ends the invocation when the handler and the extension are done, and schedules the next INVOKE or SHUTDOWN.
func (e *environment) freeze() {
	if e.now < e.ends || e.step != nextCalled || e.frozen {
		return
	}
	if int(e.invocation) < e.figures.Invocations {
		e.figures.Hold.add(e.now - e.ends)
	}
	e.buffer()
	e.emit(Event{At: e.now, Index: Report, Bytes: platformBytes})
	e.at[post] = min(e.at[post], e.now+flush.BufferingTimeout+e.Lag) - e.now
	e.frozen, e.frozenAt = true, e.now
	e.trace(func() Step { return Step{What: Frozen} })

	e.arrival = e.Traffic(e.random, e.arrival, &e.memory)
	idle := e.now + cmp.Or(e.Idle, idleMin+time.Duration(e.world.random.Int64N(int64(idleMax-idleMin))))
	if e.arrival >= e.Length+e.RunOn {
		e.arrival = never
	}
	if e.at[invoke] = max(e.arrival, e.now); e.arrival > idle {
		e.at[shutdown] = idle
	}
}

func (e *environment) thaw() {
	if e.frozen {
		e.frozen = false
		e.at[post] += e.now
		e.flight.deadline += max(e.now-e.frozenAt-awake.MaxDrift, 0) // of the freeze, only awake.MaxDrift counts
	}
}

// emission returns the time of this invocation's next event.
func (e *environment) emission() time.Duration {
	return e.ends - e.Handler + e.Handler*time.Duration(e.emitted)/time.Duration(e.Lines+1)
}

// buffer moves the events that were emitted until now into the platform's buffer.
func (e *environment) buffer() {
	for e.emitted <= e.End() && e.emission() <= e.now {
		size := e.LineBytes + envelope
		if e.emitted == 0 || e.emitted == e.End() {
			size = platformBytes
		}
		e.emit(Event{At: e.emission(), Index: e.emitted, Bytes: int16(size)})
		e.emitted++
	}
}

func (e *environment) emit(t Event) {
	t.invocation, t.Number = e.invocation, e.number
	e.figures.Emitted++
	e.buffered = append(e.buffered, t)
}

// collect schedules the POST of the batch that begins with the next event.
func (e *environment) collect() {
	if e.at[post] == never && e.emitted <= e.End() {
		e.at[post] = max(e.emission(), e.now) + flush.BufferingTimeout + e.Lag
	}
}

// post delivers a batch.
func (e *environment) post() {
	e.buffer()
	e.trace(func() Step { return Step{What: Post, Posted: slices.Clone(e.buffered)} })
	batch := e.buffered
	e.buffered = e.buffered[:0]
	e.collect()
	e.receive(batch)
}
