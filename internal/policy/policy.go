// Package policy decides when telemetry is shipped and how long an invocation may be held back for it. It has no clock,
// does no I/O and starts nothing: times, facts and random numbers are handed in, so that every rule can be tested as a
// table and driven by a simulator.
package policy

import "time"

// Mode is how delivery and the function's billed time are weighed against each other.
type Mode string

// The modes.
const (
	// Adaptive is as Deferred where the next invocation is near enough, else as Sync.
	Adaptive Mode = "adaptive"
	// Sync ships everything before the environment may freeze.
	Sync Mode = "sync"
	// Deferred ships beside the next invocation's handler.
	Deferred Mode = "deferred"
)

// Settings are what the user has chosen.
type Settings struct {
	Mode Mode
	// MaxDelay is how long after its emission an event shall be on the stream.
	MaxDelay time.Duration
	// FlushTimeout is the most that one invocation is held back.
	FlushTimeout time.Duration
	// RecordBytes is the size of a full record, BufferBytes the bound of what is held.
	RecordBytes, BufferBytes int
}

// Held is what waits to be shipped.
type Held struct {
	Bytes  int
	Oldest time.Time // emission of the oldest event; means nothing while Bytes is 0
}

// Exposure says what the environment may do at any moment.
type Exposure uint8

// The exposures.
const (
	// Ending: the function has ended. Nothing new is begun, since the freeze is near.
	Ending Exposure = iota
	// Exposed: Lambda has been asked for the next event while the function runs. What is under way when the function
	// ends is caught by the freeze.
	Exposed
	// Safe: Lambda waits for the extension, or never freezes this environment.
	Safe
)

// Plan is what is done about an invocation. The zero value asks Lambda for the next event at once.
type Plan struct {
	Ship bool // what is held, at once, beside the handler
	Wait bool // for the function's end, and ship what came until then
	// Hold is how long after the function's end the invocation may be held back for that. 0: it is shipped in the
	// background, and nothing waits for it.
	Hold time.Duration
}

// Flight is how an attempt to ship something ended.
type Flight struct {
	Took     time.Duration
	Progress bool // the stream took something
	Failed   bool // something was not taken that may be taken later
	Faltered bool // something was not taken at once, though it may have been in the end
	Frozen   bool // the environment stood still meanwhile, so that neither Took nor a failure says anything
}

const (
	// telemetryWait is what waiting for a function's end costs beside the round trip: Lambda's shortest buffering, which
	// the extension asks for, and the way.
	telemetryWait = 30 * time.Millisecond
	// dear is what share of an invocation the wait may cost to be no matter at all.
	dear = 100
)

// Policy is the state of the decisions. It is not safe for concurrent use.
type Policy struct {
	settings Settings
	traffic  traffic
	breaker  breaker
	duration time.Duration // of the last invocation whose end was seen
	blind    bool          // the last wait for an end was in vain, and none was seen since
	lags     int           // waits in a row whose end came too late
	skips    int           // so many invocations are not waited for, since ends come too late
	failed   bool          // something failed since the last INVOKE, at least once
	waiting  bool          // the present invocation is waited for, and everything shipped at its end
	spread   float64       // from [0, 1): how much earlier than need be this environment ships
}

// New returns the Policy of an environment that has just begun.
func New(settings Settings) *Policy { return &Policy{settings: settings} }

// wall takes off a time's monotonic reading, so that what is counted from it is wall time: the monotonic clock may stand
// still while the environment is frozen.
func wall(t time.Time) time.Time { return t.Round(0) }

// Invoke plans an invocation that begins now.
func (p *Policy) Invoke(now time.Time, held Held) Plan {
	now = wall(now)
	p.traffic.invoke(now, p.horizon())
	p.failed = false
	p.skips = max(p.skips-1, 0)
	plan := p.plan(now, held)
	p.waiting = plan.Wait
	return plan
}

func (p *Policy) plan(now time.Time, held Held) Plan {
	if p.breaker.open {
		return Plan{} // the background probes; nobody waits for it
	}
	hold := p.settings.FlushTimeout - p.breaker.spent
	if p.breaker.roundTrip >= hold {
		return Plan{Ship: held.Bytes > 0} // it would not be done in time: to hold is to pay for nothing
	}
	if p.waits() && hold > telemetryWait+p.breaker.roundTrip {
		return Plan{Ship: held.Bytes > 0 && p.beside(now, held), Wait: true, Hold: hold}
	}
	if held.Bytes == 0 || p.settings.Mode != Deferred && !p.beside(now, held) {
		return Plan{}
	}
	return Plan{Ship: true, Hold: hold}
}

// waits tells whether the invocation is kept open until the function has ended and everything is shipped.
func (p *Policy) waits() bool {
	switch {
	case p.blind || p.skips > 0 || p.settings.Mode == Deferred:
		return false
	case p.settings.Mode == Sync:
		return true
	}
	return p.traffic.nextIsFar() || p.duration >= dear*telemetryWait
}

// horizon is how near the next INVOKE must be for deferring to be in time. What a function logs last is received in the
// next invocation and shipped in the one after that, two gaps later; a third is left for the way.
func (p *Policy) horizon() time.Duration { return p.settings.MaxDelay / 3 }

// beside tells whether what is held is shipped beside the handler: when it would be late at the next INVOKE, or fills a
// record. Less often is better: each record is billed as a whole, and each request takes of the function's CPU.
func (p *Policy) beside(now time.Time, held Held) bool {
	return held.Bytes >= p.full() || now.Add(p.traffic.gap).Sub(held.Oldest) >= p.late()
}

// full is how much is worth a request in any case: a record, but no more than the buffer surely has room for.
func (p *Policy) full() int { return min(p.settings.RecordBytes, p.settings.BufferBytes/2) }

// late is the age at which an event is shipped: a quarter of MaxDelay is left for the way. Environments that began in the
// same second would all ship in the same second, again and again; so each takes up to two quarters off, drawn anew each
// time.
func (p *Policy) late() time.Duration {
	quarter := p.settings.MaxDelay / 4
	return 3*quarter - time.Duration(p.spread*float64(2*quarter))
}

// End takes note that an invocation's end was seen, and how long its handler took (0: that is not known).
func (p *Policy) End(took time.Duration) {
	p.blind = false
	if took > 0 {
		p.duration = took
	}
}

// Missed takes note that a wait for an invocation's end was in vain. Until one is seen the next are not waited for: a
// function whose telemetry is cut off must not be dragged to its timeout.
func (p *Policy) Missed() { p.blind, p.waiting = true, false }

// mostLags bounds the doubling of what is skipped: at most one of 64 invocations is held back in vain.
const mostLags = 6

// Awaited takes note of whether an invocation's end that was waited for was seen in time to ship anything. Where telemetry
// lags behind a wait is in vain, and longer than it may be: twice as many invocations are not waited for each time.
func (p *Policy) Awaited(inTime bool) {
	if inTime {
		p.lags = 0
		return
	}
	p.lags = min(p.lags+1, mostLags)
	p.skips = 1 << p.lags
}

// Held takes note that the invocation was held back for so long. What it was held back in vain is taken off what the
// next ones may be.
func (p *Policy) Held(back time.Duration) {
	if p.failed {
		p.breaker.spend(back, p.settings.FlushTimeout)
	}
}

// Due tells how long from now the background begins to ship; never is not.
func (p *Policy) Due(now time.Time, held Held, exposure Exposure) (wait time.Duration, ever bool) {
	if held.Bytes == 0 || exposure == Ending {
		return 0, false
	}
	full := p.full()
	if exposure == Exposed {
		full = max(full, p.settings.BufferBytes/2) // to be caught in a freeze is better than to lose, and only than that
	}
	if held.Bytes < full && !p.breaker.open {
		wait = held.Oldest.Add(p.late()).Sub(now)
		if p.waiting {
			// The last platform.report comes with the first POST after the freeze, and is old. It is late already, and goes
			// with what else this invocation has, unless that takes long.
			wait = max(wait, p.traffic.last.Add(p.settings.MaxDelay/4).Sub(now))
		}
	}
	return max(wait, p.breaker.retryAt.Sub(now), 0), true
}

// Ready tells whether the stream may be tried now.
func (p *Policy) Ready(now time.Time) bool { return !now.Before(p.breaker.retryAt) }

// Probing tells whether the stream has failed for so long that little is sent to find out whether it still does.
func (p *Policy) Probing() bool { return p.breaker.open }

// Flown takes note of how an attempt ended. random is from [0, 1): thousands of environments that failed at the same
// moment, or began at the same moment, shall not all come at the same moment.
func (p *Policy) Flown(now time.Time, f Flight, random float64) {
	if (f.Failed || f.Faltered) && !f.Frozen {
		p.failed = true
	}
	p.spread = random
	p.breaker.flown(wall(now), f, &p.settings, random)
}
