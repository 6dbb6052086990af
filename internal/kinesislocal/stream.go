package kinesislocal

import (
	"crypto/md5" // the hash by which Kinesis maps partition keys to shards
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of streams. https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
const (
	shardBytesPerSecond   = 1 << 20
	shardRecordsPerSecond = 1000
	accountShards         = 20000
	onDemandShards        = 4
	maxNameLength         = 128
	minRecordKiB          = 1024
	maxRecordKiB          = 10240
)

// Record is a stored record. The caller must not change Data, which it shares with the server.
type Record struct {
	Stream          string    `json:"stream"`
	ShardID         string    `json:"shardId"`
	SequenceNumber  string    `json:"sequenceNumber"`
	PartitionKey    string    `json:"partitionKey"`
	ExplicitHashKey string    `json:"explicitHashKey,omitempty"` // of the request; decimal
	Data            []byte    `json:"data"`
	Arrived         time.Time `json:"arrived"` // to the millisecond
}

type stream struct {
	name       string
	arn        string
	created    time.Time
	mode       string   // PROVISIONED or ON_DEMAND
	maxRecord  int      // bytes of data and key
	shards     []*shard // by index, including closed ones
	openShards []*shard // in the order of their hash keys
	records    []Record // in the order of storing
}

type shard struct {
	index      int
	id         string
	start, end *big.Int // hash keys, both inclusive
	created    time.Time
	closed     time.Time // zero: it is open
	parents    []string  // one after a split, two after a merge
	children   []*shard
	records    []int // indexes into the stream's records
	bytes      bucket
	count      bucket
}

func newShard(index int, start, end *big.Int, now time.Time) *shard {
	return &shard{index: index, id: fmt.Sprintf("shardId-%012d", index), start: start, end: end, created: now.Truncate(time.Millisecond)}
}

func (sh *shard) open() bool { return sh.closed.IsZero() }

func hashSpace() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 128) }

func newStream(name, arn, mode string, shards, maxKiB int, now time.Time) *stream {
	st := &stream{name: name, arn: arn, created: now.Truncate(time.Millisecond), mode: mode, maxRecord: maxKiB << 10}
	width := new(big.Int).Div(hashSpace(), big.NewInt(int64(shards)))
	for i := range shards {
		start := new(big.Int).Mul(width, big.NewInt(int64(i)))
		end := new(big.Int).Add(start, width)
		if i == shards-1 {
			end = hashSpace() // the last shard has the remainder of the division
		}
		st.shards = append(st.shards, newShard(i, start, end.Sub(end, big.NewInt(1)), now))
	}
	st.openShards = slices.Clone(st.shards)
	return st
}

// shardOf returns the shard of a record by the MD5 of its partition key, or by its explicit hash key.
func (st *stream) shardOf(e *entry) *shard {
	hash := e.hash
	if hash == nil {
		sum := md5.Sum([]byte(e.key))
		hash = new(big.Int).SetBytes(sum[:])
	}
	i, _ := slices.BinarySearchFunc(st.openShards, hash, func(sh *shard, key *big.Int) int { return sh.end.Cmp(key) })
	return st.openShards[i]
}

// sequenceNumber returns the sequence number of the shard's n-th record. It has 56 digits like AWS's, and rises within a shard
// with gaps. Number 0 is that of the shard itself.
func (st *stream) sequenceNumber(sh *shard, n int) string {
	ms := uint64(st.created.UnixMilli()) % 1e13 // identifies the stream
	return fmt.Sprintf("49%013d%06d%035d", ms, sh.index, n*16)
}

// put stores the entry in its shard. It reports false if a limit of the shard is reached.
func (st *stream) put(sh *shard, e *entry, now time.Time) (Record, bool) {
	r := Record{Stream: st.name, ShardID: sh.id, PartitionKey: e.key, ExplicitHashKey: e.explicit, Data: e.data}
	size := float64(e.size())
	if !sh.bytes.holds(now, size) || !sh.count.holds(now, 1) {
		return r, false
	}
	sh.bytes.level -= size
	sh.count.level--
	r.Arrived = now.Truncate(time.Millisecond)
	r.SequenceNumber = st.sequenceNumber(sh, len(sh.records)+1)
	sh.records = append(sh.records, len(st.records))
	st.records = append(st.records, r)
	return r, true
}

// bucket is a token bucket with the capacity of one second. A rate of 0 or less is no limit.
type bucket struct {
	rate  float64 // per second
	level float64
	last  time.Time
}

func newBucket(option, fallback int, now time.Time) bucket {
	if option == 0 {
		option = fallback
	}
	return bucket{rate: float64(option), level: float64(option), last: now}
}

// holds refills the bucket and reports whether it holds n. An n above the capacity needs a full bucket and leaves a debt, which
// keeps the average rate: "This burst capacity is continuously replenished",
// https://docs.aws.amazon.com/streams/latest/dev/large-records.html
func (b *bucket) holds(now time.Time, n float64) bool {
	if b.rate <= 0 {
		return true
	}
	if passed := now.Sub(b.last); passed > 0 {
		b.level = math.Min(b.rate, b.level+passed.Seconds()*b.rate)
		b.last = now
	}
	const rounding = 1e-6
	return b.level+rounding >= math.Min(n, b.rate)
}

const sequencePrefix = 2 + 13 + 6

// entry is a record of a request.
type entry struct {
	at       string // its path in the request, such as "records.1.member."
	key      string
	explicit string
	hash     *big.Int // of explicit; nil for the MD5 of key
	data     []byte
}

func (e *entry) size() int { return len(e.data) + len(e.key) }

var (
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
	arnPattern  = regexp.MustCompile(`^arn:(aws[^:]*):kinesis:([^:]*):(\d{12}):stream/(\S+)$`)
	// sequencePattern matches the numbers of sequenceNumber. Their first sequencePrefix digits are those of the shard.
	sequencePattern = regexp.MustCompile(`^49\d{54}$`)
	hashPattern     = regexp.MustCompile(`^(0|[1-9]\d{0,38})$`)
)

func checkName(at, name string) error {
	switch {
	case name == "":
		return constraint(at, "have length greater than or equal to 1")
	case len(name) > maxNameLength:
		return constraint(at, "have length less than or equal to %d", maxNameLength)
	case !namePattern.MatchString(name):
		return constraint(at, "satisfy regular expression pattern: [a-zA-Z0-9_.-]+")
	}
	return nil
}

// partition returns the second part of every ARN in a Region. It is a copy of kinesis.Partition for the partitions that are
// used here: this package imports no other package of this module.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}
