package simulate

import (
	"math/bits"
	"time"
)

// Prices, US East (N. Virginia), USD.
const (
	// gbSecond is a GB-second of a function on x86. https://aws.amazon.com/lambda/pricing
	gbSecond = 0.0000166667
	// functionGB is the memory of the function whose added time is priced.
	functionGB = 0.125
	// millionUnits is a million PUT payload units of a provisioned stream, unitBytes the size of one.
	// https://aws.amazon.com/kinesis/data-streams/pricing
	millionUnits = 0.014
	unitBytes    = 25 << 10
	// lateCost is what a late batch is worth in billed milliseconds: 20 waits of 30 ms, as internal/policy weighs them.
	lateCost = 600
)

// Figures are what came of one scenario in one mode.
type Figures struct {
	Invocations int           // that began within the scenario's Length: the figures are of these
	Begun       int           // all
	Handlers    time.Duration // all handlers together
	Added       time.Duration // billed beside that
	HeldBack    Histogram     // of each invocation

	Emitted, Stored, Undelivered int       // events
	Delay                        Histogram // from emission to storage, of each event but platform.report
	LateEvents, LateBatches      int       // LateBatches: invocations with such an event

	Requests    int
	Records     int // stored
	Throttled   int // records, each time
	Repeated    int // records stored whose answer was not waited for: duplicates
	Units       int // PUT payload units
	PerSecond   []int
	abandoned   int // Undelivered, of the invocations that count
	length      time.Duration
	lateInvoked []bool // by invocation
}

// AddedMillis is the billed time added to an invocation, in ms.
func (f *Figures) AddedMillis() float64 { return millis(f.Added) / float64(f.Invocations) }

// AddedShare is its share of the billed time, in percent.
func (f *Figures) AddedShare() float64 { return 100 * share(f.Added, f.Added+f.Handlers) }

// LateShare is the share of invocations that had an event stored later than MaxDelay, in percent.
func (f *Figures) LateShare() float64 { return 100 * share(f.LateBatches, f.Invocations) }

// LateEventShare is the share of late events, in percent.
func (f *Figures) LateEventShare() float64 {
	return 100 * share(f.LateEvents, f.Delay.count+f.abandoned)
}

// ThrottledShare is the share of records offered that were throttled, in percent.
func (f *Figures) ThrottledShare() float64 { return 100 * share(f.Throttled, f.Throttled+f.Records) }

// RequestRate is PutRecords a second over the time in which INVOKEs arrive.
func (f *Figures) RequestRate() float64 {
	first := f.PerSecond[:min(len(f.PerSecond), int(f.length.Seconds()))]
	total := 0
	for _, n := range first {
		total += n
	}
	return float64(total) / f.length.Seconds()
}

// RecordsEach is stored records per invocation.
func (f *Figures) RecordsEach() float64 { return share(f.Records, f.Begun) }

// LambdaCost is what the added time costs a million invocations, in USD.
func (f *Figures) LambdaCost() float64 { return f.AddedMillis() / 1000 * functionGB * gbSecond * 1e6 }

// StreamCost is what the PUT payload units cost a million invocations, in USD.
func (f *Figures) StreamCost() float64 { return share(f.Units, f.Begun) * millionUnits }

// Objective is what the policy minimises, in ms for an invocation.
func (f *Figures) Objective() float64 {
	return f.AddedMillis() + lateCost*share(f.LateBatches, f.Invocations)
}

// begin returns the number of an invocation that begins. They are numbered in the order of time.
func (f *Figures) begin(now time.Duration) int32 {
	f.Begun++
	if now < f.length {
		f.Invocations++
		f.lateInvoked = append(f.lateInvoked, false)
	}
	return int32(f.Begun - 1)
}

func (f *Figures) counts(invocation int32) bool { return int(invocation) < f.Invocations }

// ended takes note of an invocation that was held back so long.
func (f *Figures) ended(invocation int32, handler, heldBack time.Duration) {
	if f.counts(invocation) {
		f.Handlers += handler
		f.Added += heldBack
		f.HeldBack.add(heldBack)
	}
}

// late takes note that an invocation has an event that came late.
func (f *Figures) late(invocation int32) {
	if !f.counts(invocation) {
		return
	}
	f.LateEvents++
	if !f.lateInvoked[invocation] {
		f.lateInvoked[invocation] = true
		f.LateBatches++
	}
}

// count takes note of a PutRecords.
func (f *Figures) count(now time.Duration) {
	f.Requests++
	second := int(now / time.Second)
	for len(f.PerSecond) <= second {
		f.PerSecond = append(f.PerSecond, 0)
	}
	f.PerSecond[second]++
}

func share[T int | time.Duration](part, whole T) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Histogram counts durations in buckets of at most 1/64 of their value, in integers, so that it is the same everywhere.
type Histogram struct {
	buckets []int
	count   int
	longest time.Duration
}

// fine is how many bits of a value tell its bucket behind the highest one.
const fine = 6

func (h *Histogram) add(d time.Duration) {
	h.count++
	h.longest = max(h.longest, d)
	v := uint64(d / time.Microsecond)
	bucket := int(v)
	if shift := bits.Len64(v) - fine - 1; shift > 0 {
		bucket = shift<<fine + int(v>>shift)
	}
	for len(h.buckets) <= bucket {
		h.buckets = append(h.buckets, 0)
	}
	h.buckets[bucket]++
}

// Quantile returns the upper bound of the bucket in which the q-th part of the durations ends; q is from 0 to 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := int(q * float64(h.count))
	for bucket, n := range h.buckets {
		if left -= n; left >= 0 {
			continue
		}
		v := uint64(bucket)
		if shift := bucket>>fine - 1; shift > 0 {
			v = (uint64(bucket-shift<<fine)+1)<<shift - 1
		}
		return min(time.Duration(v)*time.Microsecond, h.longest)
	}
	return h.longest
}
