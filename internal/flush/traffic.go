package flush

import "time"

const (
	// gapMemory is about how many gaps the estimate remembers.
	gapMemory = 64
	// farShare is how likely a far next INVOKE must be for an invocation to wait. A wait costs about 30 ms. So one late
	// batch is worth 20 waits.
	farShare = 0.05
	// priorFar and priorNear are the counts of gaps before any gap was seen. Two near gaps in a row outweigh them.
	priorFar, priorNear = 0.1, 0.4
	// forgetAfter is the idle time after which the estimate starts again: traffic of yesterday says nothing about
	// today.
	forgetAfter = 5 * time.Minute
)

// traffic estimates when the next INVOKE comes. It counts near and far gaps. A mean of gaps would be useless after a
// burst or a night.
type traffic struct {
	last      time.Time     // INVOKE
	near, far float64       // counts of gaps; older gaps weigh less
	gap       time.Duration // estimate of the next near gap: grows at once, shrinks slowly
}

// invoke notes an INVOKE. A gap up to horizon is near.
func (t *traffic) invoke(now time.Time, horizon time.Duration) {
	gap := now.Sub(t.last) // before the first INVOKE: centuries
	t.last = now
	if gap > forgetAfter {
		*t = traffic{last: now}
		return
	}
	if gap < 0 { // the clock was set
		return
	}
	const keep = 1 - 1.0/gapMemory
	t.near *= keep
	t.far *= keep
	if gap > horizon {
		t.far++
		return
	}
	t.near++
	t.gap = max(gap, t.gap-t.gap/8)
}

// nextIsFar reports whether the next INVOKE is too likely to come after the horizon.
func (t *traffic) nextIsFar() bool {
	return t.far+priorFar > farShare*(t.near+t.far+priorNear+priorFar)
}
