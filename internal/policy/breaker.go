package policy

import "time"

const (
	// failuresAllowed is how many attempts in a row may get nothing through before the breaker opens.
	failuresAllowed = 2
	// minRest is about how long a failing stream is first left alone; each further failure doubles it, up to MaxDelay and
	// at most maxRest: what works again shall not wait for longer than it may anyway.
	minRest = time.Second
	maxRest = time.Minute
	// spentShare is the share of FlushTimeout that, once spent in vain, opens the breaker: what is left is too little to
	// get anything through.
	spentShare = 0.8
	// regained is how many attempts in a row must go well for all of FlushTimeout to be granted again. Were it granted at
	// once, a stream that works now and then would be paid for again and again.
	regained = 20
)

// breaker remembers how the stream behaves. While it is open nothing is held back, and the background tries the stream
// at retryAt (half open). What is taken in full closes it.
type breaker struct {
	open      bool
	failures  int           // attempts in a row that got nothing through
	spent     time.Duration // that invocations were held back for a stream that failed, of late
	retryAt   time.Time     // no attempt before it
	roundTrip time.Duration // what an attempt takes, smoothed; at least what was waited in vain
}

func (b *breaker) flown(now time.Time, f Flight, s *Settings, random float64) {
	switch {
	case f.Frozen && !f.Progress:
		// An answer that was lost in a freeze says nothing about the stream.
	case !f.Failed:
		b.open, b.failures, b.retryAt = false, 0, time.Time{}
		if !f.Faltered {
			b.spent = max(b.spent-s.FlushTimeout/regained, 0)
		}
		if !f.Frozen {
			b.measure(f.Took)
		}
	case f.Progress:
		b.failures, b.retryAt = 0, time.Time{} // slow or throttled, not dead
		if b.open {
			b.retryAt = now.Add(jitter(minRest, random))
		}
	default:
		b.failures++
		b.roundTrip = max(b.roundTrip, f.Took)
		b.open = b.open || b.failures >= failuresAllowed
		if b.open {
			longest := max(min(s.MaxDelay, maxRest), minRest)
			b.retryAt = now.Add(jitter(min(minRest<<min(b.failures-1, 10), longest), random))
		}
	}
}

// spend takes time that was held back in vain off what may be held back.
func (b *breaker) spend(held, flushTimeout time.Duration) {
	b.spent = min(b.spent+held, flushTimeout)
	if float64(b.spent) >= spentShare*float64(flushTimeout) {
		b.open = true
	}
}

// measure smooths what an attempt takes.
func (b *breaker) measure(took time.Duration) {
	if b.roundTrip == 0 {
		b.roundTrip = took
	}
	b.roundTrip += (took - b.roundTrip) / 4
}

// jitter spreads a rest over its upper half.
func jitter(rest time.Duration, random float64) time.Duration {
	return rest/2 + time.Duration(float64(rest/2)*random)
}
