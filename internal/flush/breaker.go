package flush

import "time"

const (
	// failuresToOpen is how many attempts in a row may get nothing through before the breaker opens.
	failuresToOpen = 2
	// minBackoff is about how long a failing stream is first left alone; each further failure doubles it, up to MaxDelay and
	// at most maxBackoff: a stream that works again must not wait for longer than events may anyway.
	minBackoff = time.Second
	maxBackoff = time.Minute
	// spentShare is the share of FlushTimeout that, once spent in vain, opens the breaker: what is left is too little to
	// get anything through.
	spentShare = 0.8
	// regained is how many attempts in a row must go well for all of FlushTimeout to be granted again. Were it granted at
	// once, a stream that works now and then would be paid for again and again.
	regainFlights = 20
	// fadeShare is the share by which an estimate of the round trip that is too long to wait for shrinks with each invocation:
	// where all handlers are short, every flight is caught by a freeze and none confirms it.
	fadeShare = 64
)

// breaker remembers how the stream behaves. While it is open nothing is held back, and the background tries the stream
// at retryAt (half open). A flight that is taken in full closes it.
type breaker struct {
	open      bool
	failures  int           // attempts in a row that got nothing through
	spent     time.Duration // that invocations were held for a stream that failed, of late
	retryAt   time.Time     // no attempt before it
	roundTrip time.Duration // what an attempt takes, smoothed; at least what was waited in vain
}

// note notes a flight. timed: what it took is what the stream took.
func (b *breaker) note(now time.Time, f Flight, timed bool, s *Settings) {
	backoff := minBackoff
	switch {
	case f.Failed && !f.Progress && f.Unanswered && (f.Frozen || f.Canceled):
		// An answer that was lost in a freeze, or not awaited, says nothing about the stream.
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

// spend takes time that was held in vain off what may be held.
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

func (b *breaker) fade() { b.roundTrip -= b.roundTrip / fadeShare }
