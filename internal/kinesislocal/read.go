package kinesislocal

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"
)

// Limits of reading. https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
const (
	maxAge        = 5 * time.Minute // of iterators and tokens
	maxGetBytes   = 10 << 20
	maxGetRecords = 10000
	maxShardsPage = 1000
)

const (
	cursorRecords = "records"
	cursorShards  = "shards"
	cursorStreams = "streams"
)

// cursor is the content of a shard iterator or a NextToken, which clients treat as opaque.
type cursor struct {
	Kind    string
	Stream  string    // with cursorStreams the last that was listed
	Created time.Time `json:",omitzero"` // of the stream: it may have been deleted and created again
	Shard   int       // index; with cursorShards the first to list
	Next    int       // with cursorRecords the index of the next record in the shard
	Filter  filter    `json:",omitzero"` // with cursorShards
	Issued  time.Time
}

func (c cursor) encode() string {
	b, _ := json.Marshal(c) // strings, numbers and times always encode
	return base64.StdEncoding.EncodeToString(b)
}

// decodeCursor reads the member name of the request. Clients may send anything, so it checks the content.
func decodeCursor(s, kind, name string, now time.Time) (cursor, error) {
	var c cursor
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &c) != nil || c.Kind != kind || c.Shard < 0 || c.Next < 0 {
		return c, invalidArgument("Invalid %s.", name)
	}
	if now.Sub(c.Issued) > maxAge {
		code := codeExpiredNextToken
		if kind == cursorRecords {
			code = codeExpiredIterator
		}
		return c, newError(code, "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future "+
			"than the tolerated delay of %d milliseconds.",
			c.Issued.UTC().Format(time.UnixDate), now.UTC().Format(time.UnixDate), maxAge.Milliseconds())
	}
	return c, nil
}

type hashRange struct{ StartingHashKey, EndingHashKey string }

type sequenceRange struct {
	StartingSequenceNumber string
	EndingSequenceNumber   string `json:",omitempty"`
}

type shardDescription struct {
	ShardId               string
	ParentShardId         string `json:",omitempty"`
	AdjacentParentShardId string `json:",omitempty"`
	HashKeyRange          hashRange
	SequenceNumberRange   sequenceRange
}

func (st *stream) describe(sh *shard) shardDescription {
	d := shardDescription{
		ShardId: sh.id, HashKeyRange: hashRange{sh.start.String(), sh.end.String()},
		SequenceNumberRange: sequenceRange{StartingSequenceNumber: st.sequenceNumber(sh, 0)},
	}
	if len(sh.parents) > 0 {
		d.ParentShardId = sh.parents[0]
	}
	if len(sh.parents) > 1 {
		d.AdjacentParentShardId = sh.parents[1]
	}
	if !sh.open() {
		d.SequenceNumberRange.EndingSequenceNumber = st.sequenceNumber(sh, len(sh.records)+1)
	}
	return d
}

func (s *Server) listShards(c *call) (any, error) {
	t, limit := c.in.target(), min(c.in.integer("MaxResults", maxShardsPage), maxShardsPage)
	after, token := c.in.text("ExclusiveStartShardId"), c.in.text("NextToken")
	filter, behind, err := c.filter()
	if behind != nil {
		after = behind
	}
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case err != nil:
		return nil, err
	case limit < 1:
		return nil, constraint("maxResults", "have value greater than or equal to 1")
	case token != nil && t.name != nil:
		return nil, invalidArgument("NextToken and StreamName cannot be provided together.")
	}
	var cur cursor
	if token != nil {
		var err error
		if cur, err = decodeCursor(*token, cursorShards, "NextToken", c.now); err != nil {
			return nil, err
		}
		t, filter = target{name: &cur.Stream}, cur.Filter
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err != nil {
		return nil, err
	}
	var reply struct {
		Shards    []shardDescription
		NextToken string `json:",omitempty"`
	}
	reply.Shards = []shardDescription{}
	for _, sh := range st.shards[min(cur.Shard, len(st.shards)):] {
		if after != nil && sh.id <= *after || !filter.keeps(sh) {
			continue
		}
		if len(reply.Shards) == limit {
			reply.NextToken = cursor{Kind: cursorShards, Stream: st.name, Shard: sh.index, Filter: filter, Issued: c.now}.encode()
			break
		}
		reply.Shards = append(reply.Shards, st.describe(sh))
	}
	return reply, nil
}

// start is the position at which an iterator begins.
type start struct {
	kind     *string
	sequence *string
	at       time.Time
	timed    bool
}

func (s *Server) getShardIterator(c *call) (any, error) {
	t, id, dry := c.in.target(), c.in.text("ShardId"), c.in.dryRun()
	from := start{kind: c.in.text("ShardIteratorType"), sequence: c.in.text("StartingSequenceNumber")}
	from.at, from.timed = c.in.instant("Timestamp")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case id == nil:
		return nil, constraint("shardId", "not be null")
	case from.kind == nil:
		return nil, constraint("shardIteratorType", "not be null")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(st.shards, func(sh *shard) bool { return sh.id == *id })
	if i < 0 {
		return nil, newError(codeResourceNotFound, "Shard %s in stream %s under account %s does not exist", *id, st.name, s.options.AccountID)
	}
	next, err := s.position(st, st.shards[i], from, c.now)
	if err == nil && dry {
		err = dryRun()
	}
	if err != nil {
		return nil, err
	}
	cur := cursor{Kind: cursorRecords, Stream: st.name, Created: st.created, Shard: i, Next: next, Issued: c.now}
	return struct{ ShardIterator string }{cur.encode()}, nil
}

// position returns the index in the shard at which an iterator begins.
func (s *Server) position(st *stream, sh *shard, from start, now time.Time) (int, error) {
	switch *from.kind {
	case "TRIM_HORIZON":
		return 0, nil
	case "LATEST":
		return len(sh.records), nil
	case "AT_TIMESTAMP":
		if !from.timed {
			return 0, invalidArgument("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. " +
				"Current request has no timestamp parameter.")
		}
		if from.at.After(now) {
			return 0, invalidArgument("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "+
				"timestampInMillis: %d, currentTimestampInMillis: %d", from.at.UnixMilli(), now.UnixMilli())
		}
		return st.first(sh, func(r *Record) bool { return !r.Arrived.Before(from.at) }), nil
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
	default:
		return 0, constraint("shardIteratorType",
			"satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]")
	}
	if from.sequence == nil {
		return 0, invalidArgument("Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "+
			"(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and no StartingSequenceNumber.", *from.kind)
	}
	prefix := st.sequenceNumber(sh, 0)[:sequencePrefix]
	if !sequencePattern.MatchString(*from.sequence) || (*from.sequence)[:sequencePrefix] != prefix {
		return 0, invalidArgument("StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account %s is invalid.",
			*from.sequence, sh.id, st.name, s.options.AccountID)
	}
	at := *from.kind == "AT_SEQUENCE_NUMBER"
	return st.first(sh, func(r *Record) bool {
		return r.SequenceNumber > *from.sequence || at && r.SequenceNumber == *from.sequence
	}), nil
}

// first returns the index in the shard of the first record that fits, or the shard's length if none does.
func (st *stream) first(sh *shard, fits func(*Record) bool) int {
	for i, n := range sh.records {
		if fits(&st.records[n]) {
			return i
		}
	}
	return len(sh.records)
}

type record struct {
	SequenceNumber              string
	ApproximateArrivalTimestamp float64
	Data                        []byte
	PartitionKey                string
	EncryptionType              string
}

type childShard struct {
	ShardId      string
	ParentShards []string
	HashKeyRange hashRange
}

func (s *Server) getRecords(c *call) (any, error) {
	token, limit, arn, dry := c.in.text("ShardIterator"), c.in.integer("Limit", maxGetRecords), c.in.text("StreamARN"), c.in.dryRun()
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case token == nil:
		return nil, constraint("shardIterator", "not be null")
	case limit < 1:
		return nil, constraint("limit", "have value greater than or equal to 1")
	case limit > maxGetRecords: // AWS: "If you specify a value that is greater than 10,000, GetRecords throws InvalidArgumentException"
		return nil, invalidArgument("Limit must be at most %d.", maxGetRecords)
	}
	cur, err := decodeCursor(*token, cursorRecords, "ShardIterator", c.now)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(target{&cur.Stream, arn}, c)
	if err != nil {
		return nil, err
	}
	if !st.created.Equal(cur.Created) || cur.Shard >= len(st.shards) || cur.Next > len(st.shards[cur.Shard].records) {
		return nil, invalidArgument("Invalid ShardIterator.")
	}
	if dry {
		return nil, dryRun()
	}
	sh := st.shards[cur.Shard]
	rest, size := sh.records[cur.Next:], 0
	var reply struct {
		Records            []record
		NextShardIterator  *string
		MillisBehindLatest int64
		ChildShards        []childShard `json:",omitempty"`
	}
	reply.Records = []record{}
	for _, n := range rest {
		r := &st.records[n]
		size += len(r.Data) + len(r.PartitionKey)
		if len(reply.Records) == limit || size > maxGetBytes && len(reply.Records) > 0 {
			reply.MillisBehindLatest = max(0, c.now.Sub(r.Arrived).Milliseconds())
			break
		}
		reply.Records = append(reply.Records, record{r.SequenceNumber, epoch(r.Arrived), r.Data, r.PartitionKey, encryptionType})
	}
	c.records = len(reply.Records)
	cur.Next += c.records
	cur.Issued = c.now
	if !sh.open() && cur.Next == len(sh.records) { // the end of a closed shard
		for _, child := range sh.children {
			reply.ChildShards = append(reply.ChildShards, childShard{child.id, child.parents, hashRange{child.start.String(), child.end.String()}})
		}
		return reply, nil
	}
	next := cur.encode()
	reply.NextShardIterator = &next
	return reply, nil
}
