package flush

import "time"

const (
	// failuresToOpen is how many flights in a row must deliver nothing before the breaker opens.
	failuresToOpen = 2
	// minBackoff is about the first backoff of a failing stream. Each further failure doubles it, up to MaxDelay and at
	// most maxBackoff: after the stream recovers, events must not wait longer than MaxDelay.
	minBackoff = time.Second
	maxBackoff = time.Minute
	// spentShare is a share of FlushTimeout. Once wasted holds have used it, the breaker opens: the rest is too short
	// to deliver anything.
	spentShare = 0.8
	// regainFlights is how many flights in a row must succeed until all of FlushTimeout is available again. If one
	// flight were enough, invocations would be held again and again for a stream that works now and then.
	regainFlights = 20
	// fadeShare: if the estimated round trip is too long to wait for, it shrinks by one part in fadeShare with each
	// invocation. If all handlers are short, a freeze interrupts every flight, and no flight measures the round trip
	// again.
	fadeShare = 64
)

// breaker is the circuit breaker of the stream. While it is open no invocation is held, and the background tries the
// stream at retryAt (half open). A flight that the stream accepts in full closes it.
type breaker struct {
	open      bool
	failures  int           // flights in a row that delivered nothing
	spent     time.Duration // recent holds for a stream that failed
	retryAt   time.Time     // no flight starts before it
	roundTrip time.Duration // duration of a flight, smoothed; at least that of the last wasted wait
}

// note takes a flight into account. timed means that its duration measures the stream.
func (b *breaker) note(now time.Time, f Flight, timed bool, s *Settings) {
	backoff := minBackoff
	switch {
	case f.Failed && !f.Progress && f.Unanswered && (f.Frozen || f.Canceled):
		// The freeze lost the answer, or nothing waited for it: the flight says nothing about the stream.
	case !f.Failed:
		b.open, b.failures = false, 0
		if !f.Partial {
			b.spent = max(b.spent-s.FlushTimeout/regainFlights, 0)
		}
		if timed {
			b.measure(f.Took)
		}
	case f.Progress:
		b.failures = 0 // slow or throttled, not dead
	default:
		backoff = min(minBackoff<<min(b.failures, 10), max(min(s.MaxDelay, maxBackoff), minBackoff))
		b.failures++
		b.open = b.open || b.failures >= failuresToOpen
		if timed {
			b.roundTrip = max(b.roundTrip, f.Took)
		}
	}
	b.retryAt = time.Time{}
	if b.open {
		b.retryAt = now.Add(backoff/2 + time.Duration(float64(backoff/2)*f.Random))
	}
}

// spend subtracts a wasted hold from the time that invocations may be held.
func (b *breaker) spend(held, flushTimeout time.Duration) {
	b.spent = min(b.spent+held, flushTimeout)
	if float64(b.spent) >= spentShare*float64(flushTimeout) {
		b.open = true
	}
}

// measure smooths the duration of a flight.
func (b *breaker) measure(took time.Duration) {
	if b.roundTrip == 0 {
		b.roundTrip = took
	}
	b.roundTrip += (took - b.roundTrip) / 4
}

// fade shrinks the estimated round trip.
func (b *breaker) fade() { b.roundTrip -= b.roundTrip / fadeShare }
