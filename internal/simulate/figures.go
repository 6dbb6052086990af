package simulate

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// Prices, US East (N. Virginia), USD.
const (
	// gbSecond is a GB-second of a function on x86. https://aws.amazon.com/lambda/pricing
	gbSecond = 0.0000166667
	// millionUnits is a million PUT payload units of a provisioned stream, unitBytes the size of one.
	// https://aws.amazon.com/kinesis/data-streams/pricing
	millionUnits = 0.014
	unitBytes    = 25 << 10
	// lateCost is what a late batch is worth in billed milliseconds: 20 waits of 30 ms, as internal/flush weighs them.
	lateCost = 600
)

// Figures are the outcome of one scenario in one mode.
type Figures struct {
	Begun       int       // all invocations
	Invocations int       // that began within the scenario's Length: HeldBack, Delay and Late are of these
	HeldBack    Histogram // of each invocation
	Delay       Histogram // from emission to storage, of each event but platform.report
	Late        int       // invocations with an event that was stored later than MaxDelay, or never

	Emitted, Stored, Undelivered int // events

	PerSecond []int // PutRecords
	Records   int   // stored
	Throttled int   // records, each time
	Units     int   // PUT payload units

	length time.Duration
	late   []bool // by invocation
}

// Added is the billed time added to an invocation, the mean in ms.
func (f *Figures) Added() float64 { return f.HeldBack.sum.Seconds() * 1000 / float64(f.Invocations) }

// Objective is what the policy minimises, in ms for an invocation.
func (f *Figures) Objective() float64 {
	return f.Added() + lateCost*float64(f.Late)/float64(f.Invocations)
}

// RequestRate is PutRecords a second over the time in which INVOKEs arrive.
func (f *Figures) RequestRate() float64 {
	total := 0
	for _, n := range f.PerSecond[:min(len(f.PerSecond), int(f.length.Seconds()))] {
		total += n
	}
	return float64(total) / f.length.Seconds()
}

// begin returns the number of an invocation that begins. They are numbered in the order of time.
func (f *Figures) begin(now time.Duration) int32 {
	f.Begun++
	if now < f.length {
		f.Invocations++
		f.late = append(f.late, false)
	}
	return int32(f.Begun - 1)
}

// counts tells whether the figures are of an event.
func (f *Figures) counts(t Event) bool { return t.Index != Report && int(t.invocation) < f.Invocations }

// isLate notes that an event is late, and its invocation with it.
func (f *Figures) isLate(t Event) {
	if !f.late[t.invocation] {
		f.late[t.invocation] = true
		f.Late++
	}
}

// request notes a PutRecords.
func (f *Figures) request(now time.Duration) {
	for int(now/time.Second) >= len(f.PerSecond) {
		f.PerSecond = append(f.PerSecond, 0)
	}
	f.PerSecond[now/time.Second]++
}

// Histogram counts durations in buckets of at most 1/64 of their value, in integers, so that it is the same everywhere.
type Histogram struct {
	buckets      map[time.Duration]int // by the longest duration that belongs there
	count        int
	sum, longest time.Duration
}

func (h *Histogram) add(d time.Duration) {
	if h.buckets == nil {
		h.buckets = map[time.Duration]int{}
	}
	v := uint64(d / time.Microsecond)
	v |= 1<<max(bits.Len64(v)-7, 0) - 1
	h.buckets[time.Duration(v)*time.Microsecond]++
	h.count++
	h.sum += d
	h.longest = max(h.longest, d)
}

// Quantile returns the upper bound of the bucket in which the q-th part of the durations ends; q is from 0 to 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := int(q * float64(h.count))
	for _, bucket := range slices.Sorted(maps.Keys(h.buckets)) {
		if left -= h.buckets[bucket]; left < 0 {
			return min(bucket, h.longest)
		}
	}
	return h.longest
}
