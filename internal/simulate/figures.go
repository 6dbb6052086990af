package simulate

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// Prices, US East (N. Virginia), USD.
const (
	// gbSecond is the price of a GB-second of a function on x86: https://aws.amazon.com/lambda/pricing
	gbSecond = 0.0000166667
	// millionUnits is the price of a million PUT payload units of a provisioned stream, unitBytes the size of one:
	// https://aws.amazon.com/kinesis/data-streams/pricing
	millionUnits = 0.014
	unitBytes    = 25 << 10
	// lateCost is the cost of a late batch in billed milliseconds: 20 waits of 30 ms, as internal/flush weighs them.
	lateCost = 600
)

// Figures are the results of one scenario in one mode.
type Figures struct {
	Begun       int       // all invocations
	Invocations int       // that began within the scenario's Length: Hold, Delay and Late are of these
	Hold        Histogram // of each invocation
	Delay       Histogram // from emission to storage, of each event except platform.report
	Late        int       // invocations with an event that was stored later than MaxDelay, or never

	Emitted, Stored, Undelivered int // events

	PerSecond []int // PutRecords
	Records   int   // stored
	Throttled int   // records, counted each time
	Units     int   // PUT payload units

	length time.Duration
	late   []bool // by invocation
}

// Added returns the mean billed time added to an invocation, in ms.
func (f *Figures) Added() float64 { return f.Hold.sum.Seconds() * 1000 / float64(f.Invocations) }

// Objective returns the cost that the policy minimizes, in ms per invocation.
func (f *Figures) Objective() float64 {
	return f.Added() + lateCost*float64(f.Late)/float64(f.Invocations)
}

// RequestRate returns the PutRecords per second over the time in which INVOKEs arrive.
func (f *Figures) RequestRate() float64 {
	total := 0
	for _, n := range f.PerSecond[:min(len(f.PerSecond), int(f.length.Seconds()))] {
		total += n
	}
	return float64(total) / f.length.Seconds()
}

// begin counts an invocation and returns its number. Invocations are numbered in the order of time.
func (f *Figures) begin(now time.Duration) int32 {
	f.Begun++
	if now < f.length {
		f.Invocations++
		f.late = append(f.late, false)
	}
	return int32(f.Begun - 1)
}

// includes reports whether the event counts in Delay and Late.
func (f *Figures) includes(t Event) bool {
	return t.Index != Report && int(t.invocation) < f.Invocations
}

// markLate counts the event's invocation as late.
func (f *Figures) markLate(t Event) {
	if !f.late[t.invocation] {
		f.late[t.invocation] = true
		f.Late++
	}
}

// request counts a PutRecords.
func (f *Figures) request(now time.Duration) {
	for int(now/time.Second) >= len(f.PerSecond) {
		f.PerSecond = append(f.PerSecond, 0)
	}
	f.PerSecond[now/time.Second]++
}

// Histogram counts durations in buckets with a width of at most 1/64 of their value. It computes with integers, so that the
// results are the same on every machine.
type Histogram struct {
	buckets      map[time.Duration]int // by the longest duration of the bucket
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

// Quantile returns the upper bound of the bucket that has the q-quantile; q is from 0 to 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := int(q * float64(h.count))
	for _, bucket := range slices.Sorted(maps.Keys(h.buckets)) {
		if left -= h.buckets[bucket]; left < 0 {
			return min(bucket, h.longest)
		}
	}
	return h.longest
}
