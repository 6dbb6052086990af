package flush

import "time"

const (
	// gapMemory is how many gaps the estimate looks back on, about.
	gapMemory = 64
	// farShare is how likely a far next INVOKE must be for an invocation to wait. The wait costs about 30 ms; so one
	// late batch is taken to be worth 20 waits.
	farShare = 0.05
	// priorFar and priorNear are gaps that are assumed before any was seen. Two near gaps in a row outweigh them.
	priorFar, priorNear = 0.1, 0.4
	// forgetAfter is how much idle time makes what was seen before it worthless: the traffic of another time of day.
	forgetAfter = 5 * time.Minute
)

// traffic estimates when the next INVOKE comes. It counts how many gaps were near enough and how many were not, since a
// mean of gaps is ruined by a burst as by a night.
type traffic struct {
	last      time.Time // INVOKE
	near, far float64   // gaps, older ones weighing less
	gap       time.Duration
}

// invoke notes an INVOKE. Gaps up to horizon are near.
func (t *traffic) invoke(now time.Time, horizon time.Duration) {
	gap := now.Sub(t.last) // of the first INVOKE: centuries
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

// nextIsFar tells whether the next INVOKE is too likely to come after the horizon.
func (t *traffic) nextIsFar() bool {
	return t.far+priorFar > farShare*(t.near+t.far+priorNear+priorFar)
}
