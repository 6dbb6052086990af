package audit

import (
	"math"
	"time"
)

// Delay is the time from an event's own time to its arrival in the stream, in milliseconds. Percentiles are exact to 1 % of
// their value.
type Delay struct {
	Events uint64  `json:"events"`
	P50Ms  float64 `json:"p50Ms"`
	P90Ms  float64 `json:"p90Ms"`
	P99Ms  float64 `json:"p99Ms"`
	MaxMs  float64 `json:"maxMs"`
}

// delays is a histogram of delays in logarithmic buckets: a stream has more delays than fit in memory.
type delays struct {
	buckets [2200]uint64 // the last one holds delays of 37 days
	events  uint64
	max     float64 // ms
}

const bucketGrowth = 1.01

// add adds a delay. The clocks of Lambda and Kinesis differ a little, so that a delay can be negative: it counts as zero.
func (d *delays) add(delay time.Duration) {
	ms := max(0, float64(delay)/float64(time.Millisecond))
	bucket := int(math.Ceil(math.Log1p(ms) / math.Log(bucketGrowth)))
	d.buckets[min(bucket, len(d.buckets)-1)]++
	d.events++
	d.max = max(d.max, ms)
}

func (d *delays) summary() *Delay {
	if d.events == 0 {
		return nil
	}
	return &Delay{
		Events: d.events, P50Ms: d.percentile(.5), P90Ms: d.percentile(.9), P99Ms: d.percentile(.99), MaxMs: wholeMicros(d.max),
	}
}

// percentile returns the delay that this share of the events did not exceed, by nearest rank.
func (d *delays) percentile(share float64) float64 {
	rank := uint64(math.Ceil(share * float64(d.events)))
	for bucket, n := range d.buckets {
		if n >= rank {
			return wholeMicros(min(d.max, math.Expm1(float64(bucket)*math.Log(bucketGrowth))))
		}
		rank -= n
	}
	return wholeMicros(d.max)
}

func wholeMicros(ms float64) float64 { return math.Round(ms*1000) / 1000 }
