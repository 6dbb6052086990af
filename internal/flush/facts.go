package flush

import "time"

// Fact is something that happened, to be handed to Policy.Note.
type Fact interface {
	note(p *Policy, now time.Time, b Buffered)
}

// The facts.
type (
	// Initialising means that init runs, and may end in a freeze at any moment. It is not noted where init ends in a
	// snapshot, which must not contain a request under way.
	Initialising struct{}
	// NeverFrozen means that Lambda never freezes this environment.
	NeverFrozen struct{}
	// Invoked means that INVOKE was received. Numbers count from 1 and rise.
	Invoked struct {
		Number   int
		Deadline time.Time // the wait for the function's end ends then
	}
	// Started means that the platform.start of an invocation was received.
	Started struct{ Number int }
	// EndSeen means that the platform.runtimeDone of an invocation was received, and all telemetry before it.
	EndSeen struct {
		Number int           // 0: of one that there was no INVOKE for yet, or long ago
		At     time.Time     // when the function ended; zero: not known
		Took   time.Duration // what the handler took; 0: not known
	}
	// TelemetryLost means that Lambda or a broken POST lost telemetry. The end of an invocation may be among it.
	TelemetryLost struct{}
	// NextCalled means that all is done about the invocation, and Lambda is asked for the next event.
	NextCalled struct{}
	// ShuttingDown means that SHUTDOWN was received. What the background began now would be called off.
	ShuttingDown struct{}
	// Flight is how an attempt to ship something ended.
	Flight struct {
		Took       time.Duration
		Bytes      int  // that it carried
		Progress   bool // the stream took something
		Failed     bool // something was not taken that may be taken later
		Partial    bool // something was not taken at once, though it may have been in the end
		Unanswered bool // it ended before its time, and no answer said why
		Frozen     bool // the clocks show that the environment was frozen meanwhile
		// Canceled means that it was ended for the freeze or for another flight. That says nothing about the stream.
		Canceled bool
		Invalid  bool // it was refused for what it carried
		// Random is from [0, 1): thousands of environments that failed or began at the same moment must not all come back at
		// the same moment.
		Random float64
	}
)

// Note takes a fact into account. b is what is buffered now.
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
	if p.ended >= p.current { // telemetry was faster than the Extensions API
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
	p.heldBack += held
	if p.failed {
		p.breaker.spend(held, p.settings.FlushTimeout)
	}
	if b.Bytes >= p.fullBacklog() && p.noTimeLeft(now) {
		p.backlogHeld = min(p.backlogHeld+held, p.settings.FlushTimeout)
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
	case p.mayHaveFrozen: // what is urgent was buffered while it flew
	case f.Failed:
		p.urgent = 0 // the breaker says when to try again
	default:
		p.urgent -= f.Bytes
	}
	if b.Bytes < p.fullBacklog() {
		p.backlogHeld = 0
	}
	p.breaker.note(now, f, timed, &p.settings)
	switch {
	case f.Progress && f.Failed: // it takes less than it gets
		p.sureBytes = p.settings.RecordBytes
	case f.Failed:
		p.sureBytes = firstRequest
	case f.Bytes >= firstRequest/4 && f.Took > 0: // what a small one takes says nothing
		p.sureBytes = int(float64(f.Bytes) * float64(time.Second) / float64(f.Took))
	default:
		p.sureBytes = max(p.sureBytes, firstRequest)
	}
}
