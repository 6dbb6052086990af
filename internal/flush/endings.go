package flush

import "time"

// mostLate bounds the doubling of what is skipped: at most one of 64 invocations waits for an end that comes too late.
const mostLate = 6

// endings remembers how the ends of invocations arrive, and says which invocations are not to be waited for. The zero value
// waits for each.
type endings struct {
	skip   int       // so many invocations, the present one included, are not waited for
	lost   bool      // none is, until an end is seen
	late   int       // waits in a row whose end came too late
	gaveUp time.Time // when the last wait in vain was over
}

// skips tells whether the present invocation is not to be waited for.
func (e *endings) skips() bool { return e.lost || e.skip > 0 }

// invoked counts an invocation.
func (e *endings) invoked() { e.skip = max(e.skip-1, 0) }

// missed notes that the wait for an end is over, and nothing came.
func (e *endings) missed(now time.Time) { e.lost, e.gaveUp = true, now }

// seen notes an end. One that lay before a wait was given up shows that telemetry is late, whichever invocation's it is; any
// other that ends are seen again.
func (e *endings) seen(at time.Time) {
	if e.lost && at.Before(e.gaveUp) {
		e.tooLate()
	}
	e.lost = false
}

// tooLate notes an end that came too late to ship anything. Each time twice as many invocations are not waited for: where
// telemetry lags behind, a wait is in vain and longer than any that is not.
func (e *endings) tooLate() {
	e.late = min(e.late+1, mostLate)
	e.skip = 1 << e.late
}

// inTime notes an end that was waited for and came in time.
func (e *endings) inTime() { e.late = 0 }
