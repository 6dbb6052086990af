package flush

import "time"

// Occasion is why something is shipped.
type Occasion uint8

// The occasions.
const (
	Background Occasion = iota // full records and late events, while the environment runs, outside a backoff
	AtEnd                      // everything, after the function's end, outside a backoff
	AtShutdown                 // everything, even during a backoff
)

// Load bounds a flight.
type Load struct {
	// Bytes is about the largest size of the flight; 0: as much as fits into a request.
	Bytes int
	// Probe means that the stream has failed for so long that one request must find out whether it works again.
	Probe bool
}

// StartFlight reports whether a flight starts now, and how much it may carry. If ok, the caller must note a Flight when
// the flight has ended.
func (p *Policy) StartFlight(now time.Time, b Buffered, why Occasion) (load Load, ok bool) {
	if b.Bytes == 0 || why == AtEnd && (now.Before(p.breaker.retryAt) || p.noTimeLeft(now)) {
		return Load{}, false
	}
	if wait, ever := p.NextFlight(now, b); why == Background && (!ever || wait > 0) {
		return Load{}, false
	}
	p.mayHaveFrozen, p.flightExposed = false, p.exposure == exposed
	// A record that was refused for its content is not sent alone: only other records can show that it is to blame.
	if why != AtShutdown && p.breaker.open && !p.invalid {
		load = Load{Bytes: p.settings.RecordBytes, Probe: true} // one record shows as much as many
	}
	return load, true
}

// noTimeLeft reports whether the hold ends before another round trip would. Such a request is not started: it would be
// canceled and sent again, and its events would be duplicates.
func (p *Policy) noTimeLeft(now time.Time) bool {
	return !now.Add(p.breaker.roundTrip).Before(p.holdUntil)
}

// NextFlight reports how long from now the background ships next. ever is false if it ships nothing before another fact.
func (p *Policy) NextFlight(now time.Time, b Buffered) (wait time.Duration, ever bool) {
	if b.Bytes == 0 || p.exposure == closed {
		return 0, false
	}
	full := p.fullBacklog()
	if p.exposure == exposed {
		full = p.settings.BufferBytes / 2 // a freeze may interrupt the request: worth it only if events would be dropped
	}
	if b.Bytes < full && p.urgent <= 0 && !p.breaker.open {
		wait = b.Oldest.Add(p.shipAge()).Sub(now)
		if p.waitsForEnd {
			// The last platform.report arrives with the first POST after the freeze. It is late already. It leaves
			// together with the events of this invocation, unless that takes long.
			wait = max(wait, p.traffic.last.Add(p.settings.MaxDelay/4).Sub(now))
		}
	}
	return max(wait, p.breaker.retryAt.Sub(now), 0), true
}

// Bounds reports until when shipping on this occasion may go on (zero: as long as the caller has). patience is how long
// it may wait for a flight of the background before it cancels that flight (0: as long as the flight takes). So a
// request that hangs leaves time for another request, over another connection.
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

// LogsLast reports whether more is buffered than certainly leaves at SHUTDOWN. Then all other events must leave before
// logs.
func (p *Policy) LogsLast(b Buffered) bool { return b.Bytes > p.sureBytes }
