package flush

import "time"

// Occasion is why something is shipped.
type Occasion uint8

// The occasions.
const (
	Background Occasion = iota // what is due, while the environment runs and the stream does not rest
	AtEnd                      // everything, behind the function's end, while the stream does not rest
	AtShutdown                 // everything, whatever stands against it
)

// Load is what a flight may carry.
type Load struct {
	// Bytes bounds it, about; 0: as much as a request takes.
	Bytes int
	// Probe means that the stream has failed for so long that one request is sent to find out whether it still does.
	Probe bool
}

// StartFlight tells whether something is to be shipped now, and how much of it. Where it is, the flight has begun: a Flight must be
// noted.
func (p *Policy) StartFlight(now time.Time, b Buffered, why Occasion) (load Load, ok bool) {
	if b.Bytes == 0 || why == AtEnd && (now.Before(p.breaker.retryAt) || p.noTimeLeft(now)) {
		return Load{}, false
	}
	if wait, ever := p.NextFlight(now, b); why == Background && (!ever || wait > 0) {
		return Load{}, false
	}
	p.mayHaveFrozen, p.flightExposed = false, p.exposure == exposed
	// What was refused for what it carries is not tried alone: only other records can show that it is to blame.
	if why != AtShutdown && p.breaker.open && !p.invalid {
		load = Load{Bytes: p.settings.RecordBytes, Probe: true} // one record tells as much as many
	}
	return load, true
}

// noTimeLeft tells whether the invocation may not be held for another round trip. A request that would be called off is not
// begun: it would be sent again, and be a duplicate.
func (p *Policy) noTimeLeft(now time.Time) bool {
	return !now.Add(p.breaker.roundTrip).Before(p.holdUntil)
}

// NextFlight tells how long from now the background begins to ship; never is not.
func (p *Policy) NextFlight(now time.Time, b Buffered) (wait time.Duration, ever bool) {
	if b.Bytes == 0 || p.exposure == closed {
		return 0, false
	}
	full := p.fullBacklog()
	if p.exposure == exposed {
		full = p.settings.BufferBytes / 2 // a request that a freeze may catch is worth it only where events would be dropped
	}
	if b.Bytes < full && p.urgent <= 0 && !p.breaker.open {
		wait = b.Oldest.Add(p.shipAge()).Sub(now)
		if p.waitsForEnd {
			// The last platform.report comes with the first POST after the freeze, and is old. It is late already, and goes
			// with what else this invocation has, unless that takes long.
			wait = max(wait, p.traffic.last.Add(p.settings.MaxDelay/4).Sub(now))
		}
	}
	return max(wait, p.breaker.retryAt.Sub(now), 0), true
}

// Bounds tells until when shipping on this occasion may go on (zero: as long as the caller has), and for how long a flight
// of the background that is under way is waited for before it is called off (0: for as long as it takes). What hangs
// leaves time for another request, over another connection.
func (p *Policy) Bounds(now time.Time, why Occasion) (until time.Time, patience time.Duration) {
	switch why {
	case AtEnd:
		return p.holdUntil, max(p.holdUntil.Sub(now)/2, 1)
	case AtShutdown:
		return time.Time{}, shutdownPatience
	case Background:
	}
	return time.Time{}, 0
}

// LogsLast tells whether at SHUTDOWN more is buffered than can surely go, so that what is no log is to leave first.
func (p *Policy) LogsLast(b Buffered) bool { return b.Bytes > p.sureBytes }
