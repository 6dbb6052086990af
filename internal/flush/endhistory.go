package flush

import "time"

// maxLateEnds bounds the doubling of what is skipped: at most one of 64 invocations waits for an end that comes too late.
const maxLateEnds = 6

// endings remembers how the ends of invocations arrive, and says which invocations are not to be waited for. The zero value
// waits for each.
type endHistory struct {
	skipWaits int       // so many invocations, the present one included, are not waited for
	endsLost  bool      // none is, until an end is seen
	lateEnds  int       // waits in a row whose end came too late
	gaveUpAt  time.Time // when the last wait in vain was over
}

// skipsWait tells whether the present invocation is not to be waited for.
func (e *endHistory) skipsWait() bool { return e.endsLost || e.skipWaits > 0 }

// invoked counts an invocation.
func (e *endHistory) invoked() { e.skipWaits = max(e.skipWaits-1, 0) }

// missed notes that the wait for an end is over, and nothing came.
func (e *endHistory) missed(now time.Time) { e.endsLost, e.gaveUpAt = true, now }

// seen notes an end. One that lay before a wait was given up shows that telemetry is late, whichever invocation's it is; any
// other that ends are seen again.
func (e *endHistory) seen(at time.Time) {
	if e.endsLost && at.Before(e.gaveUpAt) {
		e.tooLate()
	}
	e.endsLost = false
}

// tooLate notes an end that came too late to ship anything. Each time twice as many invocations are not waited for: where
// telemetry lags behind, a wait is in vain and longer than any that is not.
func (e *endHistory) tooLate() {
	e.lateEnds = min(e.lateEnds+1, maxLateEnds)
	e.skipWaits = 1 << e.lateEnds
}

// inTime notes an end that was waited for and came in time.
func (e *endHistory) inTime() { e.lateEnds = 0 }
