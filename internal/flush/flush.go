// Package flush decides when telemetry is shipped and how long an invocation may be held for it. It has no clock, does no
// I/O and starts nothing: times, facts and random numbers are handed in, so that every rule can be tested as a table. The
// Dispatcher and the simulator drive the same Policy.
//
// Facts go in by Note. Six questions come out: AwaitEnd (is this invocation's end waited for, until when), StartFlight (may
// something be shipped now, how much), Bounds (until when), NextFlight (when next), LogsLast (does what is no log leave
// first), TotalHold (how long invocations were held).
package flush

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
	// MaxDelay is how long after its emission an event should be on the stream.
	MaxDelay time.Duration
	// FlushTimeout is the most that one invocation is held after the function's end.
	FlushTimeout time.Duration
	// RecordBytes is the size of a full record, BufferBytes the bound of what is buffered.
	RecordBytes, BufferBytes int
}

const (
	// BufferingTimeout is how long Lambda may collect telemetry before it posts: the shortest time that it allows.
	// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html
	BufferingTimeout = 25 * time.Millisecond
	// FlightTimeout bounds one flight, in time that the environment is awake. It only ends flights that get nowhere.
	FlightTimeout = 10 * time.Second
	// DeadlineMargin is kept free before Lambda's deadlines, for what follows the last request: an answer that is on its
	// way, the call of next, the exit.
	DeadlineMargin = 100 * time.Millisecond
	// LateTelemetryWait is how long SHUTDOWN waits for telemetry that was emitted just before it: Buffering, twice.
	LateTelemetryWait = 2 * BufferingTimeout

	// firstRequest is the size of the Kinesis Client's first request, bytes.
	firstRequest = 1 << 20

	// telemetryWait is what a wait for a function's end costs beside the round trip: Lambda's buffering, and the POST.
	telemetryWait = BufferingTimeout + 5*time.Millisecond
	// startWait bounds the wait for an invocation's platform.start. Lambda emits it at once: where not even that arrives
	// there is no telemetry, and no end to wait for.
	startWait = 2 * time.Second
	// longHandler makes a wait negligible: a handler that takes this many times as long (1 %).
	longHandler = 100
	// handlerFactor and minHandlerWait bound the wait of Adaptive, from INVOKE, once an end was seen: a handler that takes
	// much longer than all before it ships while it runs.
	handlerFactor  = 4
	minHandlerWait = 10 * time.Second
	// shutdownPatience is how long a request in flight may take at SHUTDOWN, before a new connection is tried.
	shutdownPatience = 200 * time.Millisecond
)

// Buffered is what waits to be shipped, without what is in flight.
type Buffered struct {
	Bytes  int
	Oldest time.Time // emission of the oldest event; means nothing while Bytes is 0
}

// exposure says what the environment may do at any moment.
type exposure uint8

const (
	// closed: the function has ended, or the environment has not begun or shuts down. The background begins nothing.
	closed exposure = iota
	// exposed: Lambda has been asked for the next event while the function runs. A request in flight when the function
	// ends is caught by the freeze.
	exposed
	// safe: Lambda waits for the extension, or never freezes this environment.
	safe
)

// Policy is the state of the decisions. It is not safe for concurrent use. The zero value is not usable: see New.
type Policy struct {
	settings Settings
	traffic  traffic
	breaker  breaker
	exposure exposure

	// The invocation that INVOKE was sent for last. Invocations are numbered from 1, so that what is told of one in the
	// background, in any order, never strikes another.
	current     int
	started     int // the latest whose platform.start was seen
	ended       int // the latest whose end was seen
	endedAt     time.Time
	waitsForEnd bool      // its end is waited for, and everything is shipped then
	startBy     time.Time // the wait ends then, unless it has started
	waitUntil   time.Time // the wait ends then
	holdUntil   time.Time // shipping ends then, once the end was seen
	failed      bool      // something was not taken at once since INVOKE
	urgent      int       // bytes that the background ships at once

	sawEnd         bool
	lastHandler    time.Duration // of the last handler whose end was seen
	longestHandler time.Duration // of all of them
	ends           endHistory

	mayHaveFrozen bool    // an INVOKE came since the last flight began: a freeze may lie between
	flightExposed bool    // that flight was exposed: a freeze may lie within it
	invalid       bool    // it was refused for what it carried
	jitter        float64 // from [0, 1): how much earlier than necessary this environment ships

	sureBytes int // bytes that leave at SHUTDOWN in any case, about: what the stream takes in a second

	backlogHeld time.Duration // that invocations were held for a backlog that is still there: a full record, or more
	heldBack    time.Duration // that all invocations were held
}

// New returns the Policy of an environment that has just begun.
func New(settings Settings) *Policy { return &Policy{settings: settings, sureBytes: firstRequest} }

// wall removes a time's monotonic reading, so that wall time is counted from it: the monotonic clock may stand still while
// the environment is frozen.
func wall(t time.Time) time.Time { return t.Round(0) }

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// plan decides about the invocation that begins now.
func (p *Policy) plan(now time.Time, b Buffered) {
	fits := p.maxHold() > telemetryWait+p.breaker.roundTrip
	if !fits {
		p.breaker.fade()
	}
	p.waitsForEnd = fits && p.modeWaits() && !p.breaker.open
	p.exposure = exposed
	if p.waitsForEnd {
		p.exposure = safe
	}
	p.urgent = 0
	if !p.breaker.open && (p.settings.Mode != Adaptive && !p.waitsForEnd || p.shipsBesideHandler(now, b)) {
		p.urgent = b.Bytes
	}
}

// maxHold is how long after the function's end the invocation may be held for shipping: what is left of FlushTimeout, less
// what the way back to Lambda takes.
func (p *Policy) maxHold() time.Duration {
	hold := p.settings.FlushTimeout - max(p.breaker.spent, p.backlogHeld)
	return hold - hold/20
}

// modeWaits tells whether the mode modeWaits the invocation kept open until the function has ended and everything is shipped.
func (p *Policy) modeWaits() bool {
	switch {
	case p.ends.skipsWait() || p.settings.Mode == Deferred:
		return false
	case p.settings.Mode == Sync:
		return true
	}
	return p.traffic.nextIsFar() || p.lastHandler >= longHandler*telemetryWait
}

// horizon is how near the next INVOKE must be for deferring to be in time. What a function logs last is received in the
// next invocation and shipped in the one after that, two gaps later; a third is left for the way.
func (p *Policy) horizon() time.Duration { return p.settings.MaxDelay / 3 }

// shipsBesideHandler tells whether what is buffered is shipped shipsBesideHandler the handler: when it would be late at the next INVOKE, or fills
// a record. Less often is better: each record is billed as a whole, and each request takes of the function's CPU.
func (p *Policy) shipsBesideHandler(now time.Time, b Buffered) bool {
	return b.Bytes >= p.fullBacklog() || now.Add(p.traffic.gap).Sub(b.Oldest) >= p.shipAge()
}

// fullBacklog is the backlog that justifies a request by itself: one record, at most half of the buffer.
func (p *Policy) fullBacklog() int { return min(p.settings.RecordBytes, p.settings.BufferBytes/2) }

// shipAge is the age at which an event is shipped: a quarter of MaxDelay is left for the way. Environments that began in the
// same second would all ship in the same second, again and again; so each takes up to two quarters off, drawn anew each
// time.
func (p *Policy) shipAge() time.Duration {
	quarter := p.settings.MaxDelay / 4
	return 3*quarter - time.Duration(p.jitter*float64(2*quarter))
}

// AwaitEnd tells whether the end of the current invocation is still waited for: until is when to ask again at the latest, and
// zero where nothing is waited for any more. seen tells whether the end was seen and everything is to be shipped now.
func (p *Policy) AwaitEnd(now time.Time) (until time.Time, seen bool) {
	switch {
	case !p.waitsForEnd:
		return time.Time{}, false
	case p.ended >= p.current:
		return time.Time{}, true
	case p.breaker.open: // what it is waited for would not be sent
		p.waitsForEnd = false
		return time.Time{}, false
	}
	until = p.waitUntil
	if p.started < p.current {
		until = earlier(until, p.startBy)
	}
	if now = wall(now); !now.Before(until) {
		p.waitsForEnd = false
		p.ends.missed(now)
		return time.Time{}, false
	}
	return until, false
}

// TotalHold is how long invocations were held after the function's end, in sum.
func (p *Policy) TotalHold() time.Duration { return p.heldBack }
