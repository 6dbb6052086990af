package flush

import "time"

// Fact is something that happened to the environment or to a flight. Policy.Note takes it into account.
type Fact interface {
	note(p *Policy, now time.Time, b Buffered)
}

// The facts.
type (
	// Initialising means that init runs and may end in a freeze at any moment. It is not noted if init ends in a
	// snapshot: a snapshot must not contain a request in flight.
	Initialising struct{}
	// NeverFrozen means that Lambda never freezes this environment.
	NeverFrozen struct{}
	// Invoked means that INVOKE was received. Numbers count from 1 and rise.
	Invoked struct {
		Number   int
		Deadline time.Time // ends the wait for the function's end
	}
	// Started means that the platform.start of an invocation was received.
	Started struct{ Number int }
	// EndSeen means that the platform.runtimeDone of an invocation was received, and all telemetry before it.
	EndSeen struct {
		Number int           // 0: its INVOKE has not arrived yet, or was long ago
		At     time.Time     // when the function ended; zero: unknown
		Took   time.Duration // duration of the handler; 0: unknown
	}
	// TelemetryLost means that Lambda or a broken POST lost telemetry. The end of an invocation may be among it.
	TelemetryLost struct{}
	// NextCalled means that the extension is done with the invocation and asks Lambda for the next event.
	NextCalled struct{}
	// ShuttingDown means that SHUTDOWN was received. The background starts no request from now on: it would be canceled.
	ShuttingDown struct{}
	// Flight is the result of a flight: one attempt to ship batches.
	Flight struct {
		Took       time.Duration
		Bytes      int  // size of its batches
		Progress   bool // the stream accepted something
		Failed     bool // the stream did not accept something, and may accept it later
		Partial    bool // the stream did not accept everything at once; it may have accepted it after retries
		Unanswered bool // it ended before its timeout, without an answer that gives the reason
		Frozen     bool // the clocks show that the environment was frozen during it
		// Canceled means that the extension ended it, before a freeze or for another flight. That says nothing about
		// the stream.
		Canceled bool
		Invalid  bool // the stream refused it for its content
		// Random is the jitter, from [0, 1): thousands of environments that failed or started at the same moment must
		// not all retry at the same moment.
		Random float64
	}
)

// Note takes a fact into account. b describes the buffer now.
func (p *Policy) Note(now time.Time, b Buffered, f Fact) { f.note(p, wall(now), b) }

func (Initialising) note(p *Policy, _ time.Time, _ Buffered) { p.exposure = exposed }

func (NeverFrozen) note(p *Policy, _ time.Time, _ Buffered) { p.exposure = safe }

func (f Invoked) note(p *Policy, now time.Time, b Buffered) {
	p.traffic.invoke(now, p.horizon())
	p.ends.invoked()
	p.current, p.failed, p.mayHaveFrozen = f.Number, false, true
	p.startBy, p.waitUntil = now.Add(startWait), wall(f.Deadline)
	p.plan(now, b)
	if p.settings.Mode == Adaptive && p.sawEnd {
		p.waitUntil = earlier(p.waitUntil, now.Add(max(minHandlerWait, handlerFactor*p.longestHandler)))
	}
	if p.ended >= p.current { // the telemetry arrived before the INVOKE
		p.end(now)
	}
}

func (f Started) note(p *Policy, _ time.Time, _ Buffered) { p.started = max(p.started, f.Number) }

func (f EndSeen) note(p *Policy, now time.Time, _ Buffered) {
	at := wall(f.At)
	if f.At.IsZero() || at.After(now) {
		at = now
	}
	p.sawEnd = true
	if f.Took > 0 {
		p.lastHandler, p.longestHandler = f.Took, max(p.longestHandler, f.Took)
	}
	p.ends.seen(at)
	if f.Number <= p.ended {
		return
	}
	p.ended, p.endedAt = f.Number, at
	if f.Number == p.current {
		p.end(now)
	}
}

// end notes that the current invocation's function has ended: the freeze is near.
func (p *Policy) end(now time.Time) {
	p.exposure = closed
	p.holdUntil = p.endedAt.Add(p.maxHold())
	switch {
	case !p.waitsForEnd:
	case now.Before(p.holdUntil):
		p.ends.inTime()
	default:
		p.ends.tooLate()
	}
}

func (TelemetryLost) note(p *Policy, now time.Time, _ Buffered) {
	p.ends.endsLost = true
	p.waitUntil = earlier(p.waitUntil, now.Add(p.settings.FlushTimeout))
}

func (NextCalled) note(p *Policy, now time.Time, b Buffered) {
	if p.exposure == safe {
		p.exposure, p.flightExposed = exposed, true
	}
	if !p.waitsForEnd || p.ended < p.current {
		return
	}
	p.waitsForEnd = false
	held := max(now.Sub(p.endedAt), 0)
	p.totalHold += held
	if p.failed {
		p.breaker.spend(held, p.settings.FlushTimeout)
	}
	if b.Bytes >= p.fullBacklog() && p.noTimeLeft(now) {
		p.backlogHold = min(p.backlogHold+held, p.settings.FlushTimeout)
	}
}

func (ShuttingDown) note(p *Policy, _ time.Time, _ Buffered) {
	p.exposure, p.waitsForEnd = closed, false
}

func (f Flight) note(p *Policy, now time.Time, b Buffered) {
	f.Frozen = f.Frozen || p.mayHaveFrozen
	timed := !f.Frozen && !p.flightExposed && !f.Canceled
	p.invalid, p.jitter = f.Invalid, f.Random
	p.failed = p.failed || (f.Failed || f.Partial) && !f.Frozen
	switch {
	case p.mayHaveFrozen: // the urgent bytes were buffered during the flight
	case f.Failed:
		p.urgent = 0 // the breaker decides when to retry
	default:
		p.urgent -= f.Bytes
	}
	if b.Bytes < p.fullBacklog() {
		p.backlogHold = 0
	}
	p.breaker.note(now, f, timed, &p.settings)
	switch {
	case f.Progress && f.Failed: // the stream accepts less than it gets
		p.sureBytes = p.settings.RecordBytes
	case f.Failed:
		p.sureBytes = firstRequest
	case f.Bytes >= firstRequest/4 && f.Took > 0: // the duration of a small flight says nothing about throughput
		p.sureBytes = int(float64(f.Bytes) * float64(time.Second) / float64(f.Took))
	default:
		p.sureBytes = max(p.sureBytes, firstRequest)
	}
}
