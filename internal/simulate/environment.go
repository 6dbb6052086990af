package simulate

import (
	"math/rand/v2"
	"time"

	"kinesis-telemetry-extension/internal/policy"
)

const (
	// buffering is how long the Telemetry API collects a batch, in time that the environment is awake.
	buffering = 25 * time.Millisecond
	// lastWordsWait is how long SHUTDOWN waits for telemetry that is on its way, shutdownTime what all of it may take.
	lastWordsWait = 50 * time.Millisecond
	shutdownTime  = 1900 * time.Millisecond
	// platformBytes is the size of a platform event, envelope what a log line's event has beside the line.
	platformBytes = 400
	envelope      = 150
	// reportIndex stands for the index of platform.report among the events of its invocation.
	reportIndex = -1
)

// telemetry is an event.
type telemetry struct {
	at         time.Duration // emission
	batch      time.Duration // emission of the oldest event in its POST, which is what the extension looks at
	invocation int32
	index      int16 // within the invocation: 0 is platform.start, then the lines, then platform.runtimeDone
	bytes      int16
}

// step is where the extension's main loop stands.
type step uint8

const (
	asked      step = iota // it has asked Lambda for the next event
	shipsFirst             // ships what is held at INVOKE
	awaits                 // the function's end
	shipsRest              // what came until then
	leaves                 // waits until nothing is on its way
	closes                 // SHUTDOWN: waits for the last telemetry
	drains                 // SHUTDOWN: ships what is left
	gone                   // the environment has ended
)

// environment is one execution environment with the extension in it, as internal/extension and internal/dispatcher run.
type environment struct {
	*world
	id      int32
	turns   [kinds]uint32
	overdue [kinds]bool // became due while frozen
	traffic arrivals
	random  *rand.Rand
	arrival time.Duration // of the next INVOKE

	invocation       int32
	began, ends      time.Duration // of the handler
	handling, frozen bool
	frozenAt         time.Duration

	emitted  int // events of this invocation that the platform has taken
	buffered []telemetry
	batching bool
	postAt   time.Duration // while frozen: what is left until then

	policy    *policy.Policy
	exposure  policy.Exposure
	shard     int
	plan      policy.Plan
	step      step
	endSeen   int32 // invocation whose platform.runtimeDone was received last
	urgent    bool
	calledOff bool // the invocation may be held back no longer
	failed    bool // the main loop's last flight
	beside    int  // events that are still to be shipped beside the handler
	queue     queue
	flight    flight
}

func (e *environment) schedule(k kind, at time.Duration) {
	e.turns[k]++
	e.agenda.add(appointment{at: at, environment: e.id, turn: e.turns[k], kind: k})
}

func (e *environment) cancel(k kind) { e.turns[k]++; e.overdue[k] = false }

func (e *environment) happen(k kind) {
	e.turns[k]++
	if e.frozen && k != invoke && k != shutdown {
		e.overdue[k] = true
		return
	}
	switch k {
	case invoke:
		e.invoke()
	case shutdown:
		e.shutdown()
	case handlerEnd:
		e.handling = false
		e.freeze()
	case post:
		e.receive()
	case flying:
		e.land()
	case due:
		e.shipInBackground()
	case holdOver, drainOver:
		e.calledOff = true
		e.abort()
		e.advance()
	case lastWords:
		e.step = drains
		e.advance()
	default:
		panic("nothing of this kind is ever scheduled")
	}
}

// invoke serves an INVOKE, in a new environment where there is none.
func (e *environment) invoke() {
	if e.step == gone {
		e.policy = policy.New(policy.Settings{
			Mode: e.mode, MaxDelay: maxDelay, FlushTimeout: flushTimeout,
			RecordBytes: recordBytes, BufferBytes: bufferBytes,
		})
		e.shard = e.world.random.IntN(e.Shards)
		e.endSeen = -1
	}
	e.cancel(shutdown)
	e.thaw()
	e.invocation = e.figures.begin(e.now)
	e.began, e.ends, e.handling, e.emitted = e.now, e.now+e.Handler, true, 0
	e.schedule(handlerEnd, e.ends)
	e.collect()

	e.plan = e.policy.Invoke(e.clock(), e.queue.held())
	e.exposure, e.urgent, e.calledOff = policy.Exposed, e.plan.Ship && e.plan.Hold == 0, false
	e.step = asked
	if e.plan.Hold > 0 {
		e.exposure, e.step = policy.Safe, leaves
		if e.plan.Wait {
			e.step = awaits
		}
		if e.plan.Ship {
			e.step, e.beside = shipsFirst, len(e.queue.events)-e.queue.head
		}
	}
	e.advance()
	e.shipInBackground()
}

// shutdown serves a SHUTDOWN.
func (e *environment) shutdown() {
	e.thaw()
	e.exposure, e.step, e.calledOff = policy.Ending, closes, false
	e.schedule(lastWords, e.now+lastWordsWait)
	e.schedule(drainOver, e.now+shutdownTime)
	e.shipInBackground()
}

// freeze ends the invocation phase if handler and extension are done, and makes out when the next thing comes.
func (e *environment) freeze() {
	if e.handling || e.step != asked || e.frozen {
		return
	}
	e.figures.ended(e.invocation, e.Handler, e.now-e.ends)
	e.buffer()
	e.emit(telemetry{at: e.now, invocation: e.invocation, index: reportIndex, bytes: platformBytes})
	if !e.batching {
		e.batching, e.postAt = true, e.now+buffering
	}
	e.cancel(post)
	e.postAt -= e.now
	e.frozen, e.frozenAt = true, e.now

	e.arrival = e.traffic(e.random, e.arrival)
	idle := idleLeast + time.Duration(e.world.random.Int64N(int64(idleMost-idleLeast)))
	if e.arrival < e.Length+e.RunOn {
		e.schedule(invoke, max(e.arrival, e.now))
	}
	if e.arrival >= e.Length+e.RunOn || e.arrival > e.now+idle {
		e.schedule(shutdown, e.now+idle)
	}
}

// thaw lets everything go on that became due meanwhile.
func (e *environment) thaw() {
	if !e.frozen {
		return
	}
	e.frozen = false
	slept := e.now - e.frozenAt
	e.flight.deadline += max(slept-flightTimeout/10, 0) // a freeze takes one of ten slices (internal/awake)
	e.flight.frozen = e.flight.frozen || slept > time.Second
	e.postAt += e.now
	e.schedule(post, e.postAt)
	for k := range kinds {
		if e.overdue[k] {
			e.overdue[k] = false
			e.schedule(k, e.now)
		}
	}
}

// emission is when the next event of this invocation is emitted.
func (e *environment) emission() time.Duration {
	return e.began + e.Handler*time.Duration(e.emitted)/time.Duration(e.Lines+1)
}

// buffer lets the platform take what was emitted until now.
func (e *environment) buffer() {
	for e.emitted < e.Lines+2 && e.emission() <= e.now {
		size := e.LineBytes + envelope
		if e.emitted == 0 || e.emitted == e.Lines+1 {
			size = platformBytes
		}
		e.emit(telemetry{at: e.emission(), invocation: e.invocation, index: int16(e.emitted), bytes: int16(size)})
		e.emitted++
	}
}

func (e *environment) emit(t telemetry) {
	e.figures.Emitted++
	e.buffered = append(e.buffered, t)
}

// collect begins a batch with the next event that is emitted.
func (e *environment) collect() {
	if !e.batching && e.emitted < e.Lines+2 {
		e.batching, e.postAt = true, max(e.emission(), e.now)+buffering
		e.schedule(post, e.postAt)
	}
}

// receive takes a POST.
func (e *environment) receive() {
	e.batching = false
	e.buffer()
	ended := false
	oldest := e.buffered[0].at
	for _, t := range e.buffered {
		t.batch = oldest
		e.queue.push(t)
		if int(t.index) == e.Lines+1 {
			ended, e.endSeen = true, t.invocation
		}
	}
	e.buffered = e.buffered[:0]
	if ended {
		if e.endSeen == e.invocation {
			e.exposure = policy.Ending
		}
		e.policy.End(e.Handler)
		if e.endSeen == e.invocation && e.plan.Hold > 0 && e.step < closes {
			e.schedule(holdOver, e.ends+e.plan.Hold-e.plan.Hold/20)
		}
	}
	e.collect()
	e.shipInBackground()
	e.advance()
}

// advance takes the main loop as far as it goes without waiting.
func (e *environment) advance() {
	for {
		switch e.step {
		case asked:
			e.freeze()
			return
		case shipsFirst, shipsRest, drains:
			if e.flight.on || e.takeOff(e.step) {
				return
			}
			e.failed = false
			switch {
			case e.step == drains:
				e.end()
				return
			case e.step == shipsFirst && e.plan.Wait:
				e.step = awaits
			default:
				e.step = leaves
			}
		case awaits:
			if e.endSeen != e.invocation {
				return
			}
			e.step = shipsRest
		case leaves:
			if !e.leave() {
				return
			}
		case closes, gone:
			return
		}
	}
}

// leave asks for the next event, once that may be.
func (e *environment) leave() bool {
	if e.endSeen == e.invocation {
		if e.flight.on {
			return false
		}
		e.policy.Held(e.now - e.ends)
	} else if e.exposure == policy.Safe {
		e.exposure = policy.Exposed
	}
	e.cancel(holdOver)
	e.step = asked
	return true
}

// end ends the environment and what is still in it.
func (e *environment) end() {
	e.step = gone
	for _, k := range []kind{flying, due, drainOver} {
		e.cancel(k)
	}
	for i := e.queue.head; i < len(e.queue.events); i++ {
		e.abandoned(e.queue.events[i])
	}
	e.queue = queue{}
}
