package simulate

import "time"

const (
	// shardBytes and shardRecords are what a shard takes a second, and at once after a quiet second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	shardBytes   = 1 << 20
	shardRecords = 1000
	// roundTrip is what an empty PutRecords takes, bandwidth what a small function sends, bytes a second.
	roundTrip = 5 * time.Millisecond
	bandwidth = 25e6
)

// stream is a Kinesis data stream: a token bucket of bytes and one of records for each shard.
type stream struct {
	shards []shard
	outage time.Duration // it answers 500 to everything until then
}

type shard struct {
	bytes, records float64       // that it takes now
	at             time.Duration // of that
}

func newStream(shards int, outage time.Duration) stream {
	s := stream{shards: make([]shard, shards), outage: outage}
	for i := range s.shards {
		s.shards[i] = shard{bytes: shardBytes, records: shardRecords}
	}
	return s
}

// put offers one request of records that all go to one shard, and marks those that it stores. It returns when the answer
// comes and whether the request as a whole was refused. What is stored is stored even if nobody reads the answer.
func (s *stream) put(now time.Duration, to int, parcels []parcel) (answer time.Duration, refused bool) {
	total := 0
	for i := range parcels {
		total += parcels[i].bytes
	}
	answer = now + roundTrip + time.Duration(float64(total)/bandwidth*float64(time.Second))
	if now < s.outage {
		return answer, true
	}
	b := &s.shards[to]
	passed := (now - b.at).Seconds()
	b.at = now
	b.bytes = min(b.bytes+passed*shardBytes, shardBytes)
	b.records = min(b.records+passed*shardRecords, shardRecords)
	for i := range parcels {
		p := &parcels[i]
		p.stored = b.records >= 1 && b.bytes >= float64(p.bytes)
		if p.stored {
			b.records--
			b.bytes -= float64(p.bytes)
		}
	}
	return answer, false
}
