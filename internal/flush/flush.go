// Package flush is the flush policy: it decides when telemetry is shipped and how long an invocation may be held for
// that. It has no clock, does no I/O and starts no goroutine. The caller passes in times, facts and random numbers, so
// a test can state each rule as a table. The Dispatcher and the simulator drive the same Policy.
//
// Note takes facts in. Six methods answer questions:
//
//   - AwaitEnd: does the current invocation wait for the function's end, and until when?
//   - StartFlight: may something be shipped now, and how much?
//   - Bounds: until when may shipping go on?
//   - NextFlight: when does the background ship next?
//   - LogsLast: must logs leave last at SHUTDOWN?
//   - TotalHold: how long were invocations held?
package flush

import "time"

// Mode weighs early delivery against the function's billed time.
type Mode string

// The modes.
const (
	// Adaptive acts as Deferred if the next invocation is near enough, else as Sync.
	Adaptive Mode = "adaptive"
	// Sync ships everything before the environment may freeze.
	Sync Mode = "sync"
	// Deferred ships while the handler of the next invocation runs.
	Deferred Mode = "deferred"
)

// Settings are the user's choices.
type Settings struct {
	Mode Mode
	// MaxDelay is the longest time that should pass between an event's emission and its arrival on the stream.
	MaxDelay time.Duration
	// FlushTimeout is the longest hold of one invocation after the function's end.
	FlushTimeout time.Duration
	// RecordBytes is the size of a full record. BufferBytes bounds the buffer.
	RecordBytes, BufferBytes int
}

const (
	// BufferingTimeout is how long Lambda may collect telemetry before it posts: the shortest time that it allows.
	// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html
	BufferingTimeout = 25 * time.Millisecond
	// FlightTimeout bounds one flight, in time that the environment is awake. It ends only flights without progress.
	FlightTimeout = 10 * time.Second
	// DeadlineMargin stays free before Lambda's deadlines, for the steps after the last request: the answer's way back,
	// the call of next, the exit.
	DeadlineMargin = 100 * time.Millisecond
	// LateTelemetryWait is how long SHUTDOWN waits for telemetry that was emitted just before it: BufferingTimeout,
	// twice.
	LateTelemetryWait = 2 * BufferingTimeout

	// firstRequest is the size of the Kinesis Client's first request, in bytes.
	firstRequest = 1 << 20

	// telemetryWait is the cost of a wait for a function's end besides the round trip: Lambda's buffering, and the POST.
	telemetryWait = BufferingTimeout + 5*time.Millisecond
	// startWait bounds the wait for an invocation's platform.start. Lambda emits it at once. If it does not arrive, no
	// telemetry arrives, and no end either.
	startWait = 2 * time.Second
	// longHandler: a wait is negligible (1 %) if the handler takes this many times as long.
	longHandler = 100
	// handlerFactor and minHandlerWait bound the wait of Adaptive, counted from INVOKE, once an end was seen. A handler
	// that takes much longer than all handlers before it ships while it runs.
	handlerFactor  = 4
	minHandlerWait = 10 * time.Second
	// shutdownPatience is how long a request in flight may take at SHUTDOWN before a new connection is tried.
	shutdownPatience = 200 * time.Millisecond
)

// Buffered describes the buffer, without the events in flight.
type Buffered struct {
	Bytes  int
	Oldest time.Time // emission of the oldest event; has no meaning while Bytes is 0
}

// exposure is what the environment may do at any moment.
type exposure uint8

const (
	// closed: the function has ended, or the environment has not started yet, or it shuts down. The background starts no
	// request.
	closed exposure = iota
	// exposed: Lambda has been asked for the next event while the function runs. When the function ends, the freeze
	// interrupts a request in flight.
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

	// The current invocation is that of the last INVOKE. Invocations are numbered from 1. With its number, a fact that
	// the background notes in any order never changes another invocation.
	current     int
	started     int // the latest invocation whose platform.start was seen
	ended       int // the latest invocation whose end was seen
	endedAt     time.Time
	waitsForEnd bool      // the current invocation waits for its end, and ships everything then
	startBy     time.Time // the wait ends then if no platform.start was seen
	waitUntil   time.Time // the wait ends then in any case
	holdUntil   time.Time // once the end was seen: shipping ends then
	failed      bool      // since INVOKE the stream did not accept something at once
	urgent      int       // bytes that the background ships at once

	sawEnd         bool
	lastHandler    time.Duration // of the last handler whose end was seen
	longestHandler time.Duration // of all of them
	ends           endHistory

	mayHaveFrozen bool    // an INVOKE came after the last flight started: a freeze may have been in between
	flightExposed bool    // that flight was exposed: a freeze may have interrupted it
	invalid       bool    // that flight was refused for its content
	jitter        float64 // from [0, 1): how much earlier than necessary this environment ships

	sureBytes int // about how many bytes always leave at SHUTDOWN: the stream's throughput of a second

	backlogHold time.Duration // sum of the holds for a backlog that still exists: a full record, or more
	totalHold   time.Duration // sum of all holds
}

// New returns the Policy of an environment that has just started.
func New(settings Settings) *Policy { return &Policy{settings: settings, sureBytes: firstRequest} }

// wall removes a time's monotonic reading, so that differences count wall time: the monotonic clock may stand still
// while the environment is frozen.
func wall(t time.Time) time.Time { return t.Round(0) }

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// plan decides how the invocation that starts now ships.
func (p *Policy) plan(now time.Time, b Buffered) {
	hasTime := p.maxHold() > telemetryWait+p.breaker.roundTrip
	if !hasTime {
		p.breaker.fade()
	}
	p.waitsForEnd = hasTime && p.modeWaits() && !p.breaker.open
	p.exposure = exposed
	if p.waitsForEnd {
		p.exposure = safe
	}
	p.urgent = 0
	if !p.breaker.open && (p.settings.Mode != Adaptive && !p.waitsForEnd || p.shipsBesideHandler(now, b)) {
		p.urgent = b.Bytes
	}
}

// maxHold is how long the invocation may be held for shipping after the function's end. It is the rest of FlushTimeout,
// less the time that the way back to Lambda takes.
func (p *Policy) maxHold() time.Duration {
	hold := p.settings.FlushTimeout - max(p.breaker.spent, p.backlogHold)
	return hold - hold/20
}

// modeWaits reports whether the mode keeps the invocation open until the function has ended and everything is shipped.
func (p *Policy) modeWaits() bool {
	switch {
	case p.ends.skipsWait() || p.settings.Mode == Deferred:
		return false
	case p.settings.Mode == Sync:
		return true
	}
	return p.traffic.nextIsFar() || p.lastHandler >= longHandler*telemetryWait
}

// horizon is how near the next INVOKE must be for Deferred to deliver in time. The last logs of a function are received
// in the next invocation and shipped in the one after that, two gaps later. A third of MaxDelay is left for delivery.
func (p *Policy) horizon() time.Duration { return p.settings.MaxDelay / 3 }

// shipsBesideHandler reports whether the buffer is shipped while the handler runs: if it would be late at the next
// INVOKE, or fills a record. Fewer requests are better: each record is billed as a whole, and each request takes CPU
// from the function.
func (p *Policy) shipsBesideHandler(now time.Time, b Buffered) bool {
	return b.Bytes >= p.fullBacklog() || now.Add(p.traffic.gap).Sub(b.Oldest) >= p.shipAge()
}

// fullBacklog is the backlog that is worth a request: one record, at most half of the buffer.
func (p *Policy) fullBacklog() int { return min(p.settings.RecordBytes, p.settings.BufferBytes/2) }

// shipAge is the age at which an event is shipped. A quarter of MaxDelay is left for delivery. Environments that
// started in the same second would ship in the same second, again and again. So jitter, drawn after each flight,
// subtracts up to two more quarters.
func (p *Policy) shipAge() time.Duration {
	quarter := p.settings.MaxDelay / 4
	return 3*quarter - time.Duration(p.jitter*float64(2*quarter))
}

// AwaitEnd reports until when the current invocation waits for its end. The caller must ask again at until, or after
// the next fact. until is zero if the wait is over. seen reports whether the end was seen; the caller ships everything
// then.
func (p *Policy) AwaitEnd(now time.Time) (until time.Time, seen bool) {
	switch {
	case !p.waitsForEnd:
		return time.Time{}, false
	case p.ended >= p.current:
		return time.Time{}, true
	case p.breaker.open: // after the end there is no request to hold the invocation for
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

// TotalHold returns the sum of the holds of all invocations, each counted from the function's end.
func (p *Policy) TotalHold() time.Duration { return p.totalHold }
