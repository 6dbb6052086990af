package simulate

import "time"

const (
	// shardBytes and shardRecords are a shard's limits per second, and the size of a burst after an idle second:
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	shardBytes   = 1 << 20
	shardRecords = 1000
	// roundTrip is the time of an empty PutRecords. bandwidth is that of a small function, in bytes per second.
	roundTrip = 20 * time.Millisecond
	bandwidth = 25e6
)

// Stream is a Kinesis data stream: a token bucket of bytes and one of records for each shard.
type Stream struct {
	shards        []shard
	outage, stall time.Duration
	stored        []bool
}

type shard struct {
	bytes, records float64       // the levels of its token buckets
	at             time.Duration // the time of these levels
}

// NewStream returns the stream of a scenario.
func NewStream(s Scenario) *Stream {
	stream := &Stream{shards: make([]shard, s.Shards), outage: s.Outage, stall: s.Stall}
	for i := range stream.shards {
		stream.shards[i] = shard{bytes: shardBytes, records: shardRecords}
	}
	return stream
}

// Put sends one request of records with these sizes to a shard. It returns the time of the reply and which records are stored,
// nil if the whole request is rejected. The next Put reuses the slice. The records are stored even if the extension does not read
// the reply.
func (s *Stream) Put(now time.Duration, to int, sizes []int) (answer time.Duration, stored []bool) {
	total := 0
	for _, size := range sizes {
		total += size
	}
	answer = max(now+roundTrip+time.Duration(float64(total)/bandwidth*float64(time.Second)), s.stall)
	if now < s.outage {
		return answer, nil
	}
	b := &s.shards[to]
	passed := (now - b.at).Seconds()
	b.at = now
	b.bytes = min(b.bytes+passed*shardBytes, shardBytes)
	b.records = min(b.records+passed*shardRecords, shardRecords)
	s.stored = s.stored[:0]
	for _, size := range sizes {
		fits := b.records >= 1 && b.bytes >= float64(size)
		if fits {
			b.records--
			b.bytes -= float64(size)
		}
		s.stored = append(s.stored, fits)
	}
	return answer, s.stored
}
