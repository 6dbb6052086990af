package flush

import "time"

// maxLateEnds bounds the doubling of skipped waits: while ends come too late, at least one of 64 invocations still
// waits.
const maxLateEnds = 6

// endHistory remembers how the ends of invocations arrive. It decides which invocations skip the wait for their end.
// With the zero value none skips it.
type endHistory struct {
	skipWaits int       // how many invocations skip the wait, the current one included
	endsLost  bool      // all skip it until an end is seen
	lateEnds  int       // waits in a row whose end came too late
	gaveUpAt  time.Time // when the last wait was given up
}

// skipsWait reports whether the current invocation skips the wait.
func (e *endHistory) skipsWait() bool { return e.endsLost || e.skipWaits > 0 }

// invoked counts an invocation.
func (e *endHistory) invoked() { e.skipWaits = max(e.skipWaits-1, 0) }

// missed notes that a wait is over and no end arrived.
func (e *endHistory) missed(now time.Time) { e.endsLost, e.gaveUpAt = true, now }

// seen notes an end, of any invocation. If the function ended before the last wait was given up, telemetry is late. In
// any case ends arrive again.
func (e *endHistory) seen(at time.Time) {
	if e.endsLost && at.Before(e.gaveUpAt) {
		e.tooLate()
	}
	e.endsLost = false
}

// tooLate notes an end that came too late to ship anything. Each time twice as many invocations skip the wait: if
// telemetry lags, a wait is wasted, and longer than any wait that succeeds.
func (e *endHistory) tooLate() {
	e.lateEnds = min(e.lateEnds+1, maxLateEnds)
	e.skipWaits = 1 << e.lateEnds
}

// inTime notes a wait whose end came in time.
func (e *endHistory) inTime() { e.lateEnds = 0 }
