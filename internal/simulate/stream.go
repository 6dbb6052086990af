package simulate

import "time"

const (
	// shardBytes and shardRecords are what a shard takes a second, and at once after a quiet second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	shardBytes   = 1 << 20
	shardRecords = 1000
	// roundTrip is what an empty PutRecords takes, bandwidth what a small function sends, bytes a second.
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
	bytes, records float64       // that it takes now
	at             time.Duration // of that
}

// NewStream returns the stream of a scenario.
func NewStream(s Scenario) *Stream {
	stream := &Stream{shards: make([]shard, s.Shards), outage: s.Outage, stall: s.Stall}
	for i := range stream.shards {
		stream.shards[i] = shard{bytes: shardBytes, records: shardRecords}
	}
	return stream
}

// Put offers one request of records, of which the sizes are given, to a shard. It returns when the answer comes and which
// records are stored, nil where the request as a whole is refused; the slice is used again by the next Put. What is stored
// is stored even if nobody reads the answer.
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
