package kinesislocal

import (
	"math/big"
	"slices"
	"time"
)

// SplitShard and MergeShards are complete before the reply. In AWS the stream is UPDATING for about half a minute.

func (s *Server) splitShard(c *call) (any, error) {
	t, id, key := c.in.target(), c.in.text("ShardToSplit"), c.in.text("NewStartingHashKey")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case id == nil:
		return nil, constraint("shardToSplit", "not be null")
	case key == nil:
		return nil, constraint("newStartingHashKey", "not be null")
	case !hashPattern.MatchString(*key):
		return nil, constraint("newStartingHashKey", `satisfy regular expression pattern: 0|([1-9]\d{0,38})`)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, sh, err := s.openShard(t, c, *id)
	if err != nil {
		return nil, err
	}
	middle, _ := new(big.Int).SetString(*key, 10)
	if middle.Cmp(sh.start) <= 0 || middle.Cmp(sh.end) >= 0 {
		return nil, invalidArgument("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not "+
			"both greater than one plus the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.",
			*key, sh.id, st.name, s.options.AccountID, sh.start, sh.end)
	}
	s.closeShards(st, c.now, sh)
	s.addShard(st, sh.start, new(big.Int).Sub(middle, big.NewInt(1)), c.now, sh)
	s.addShard(st, middle, sh.end, c.now, sh)
	return emptyReply{}, nil
}

func (s *Server) mergeShards(c *call) (any, error) {
	t, first, second := c.in.target(), c.in.text("ShardToMerge"), c.in.text("AdjacentShardToMerge")
	switch {
	case c.in.err != nil:
		return nil, c.in.err
	case first == nil:
		return nil, constraint("shardToMerge", "not be null")
	case second == nil:
		return nil, constraint("adjacentShardToMerge", "not be null")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, a, err := s.openShard(t, c, *first)
	if err != nil {
		return nil, err
	}
	_, b, err := s.openShard(t, c, *second)
	if err != nil {
		return nil, err
	}
	low, high := a, b
	if low.start.Cmp(high.start) > 0 {
		low, high = b, a
	}
	if new(big.Int).Add(low.end, big.NewInt(1)).Cmp(high.start) != 0 {
		return nil, invalidArgument("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging",
			*first, *second, st.name, s.options.AccountID)
	}
	s.closeShards(st, c.now, a, b)
	s.addShard(st, low.start, high.end, c.now, a, b)
	return emptyReply{}, nil
}

// openShard returns a shard that is not closed. The caller holds s.mu.
func (s *Server) openShard(t target, c *call, id string) (*stream, *shard, error) {
	st, err := s.find(t, c)
	if err != nil {
		return nil, nil, err
	}
	for _, sh := range st.shards {
		switch {
		case sh.id != id:
		case !sh.open():
			return nil, nil, newError(codeResourceInUse, "Shard %s in stream %s under account %s has already been merged or split, "+
				"and thus is not eligible for merging or splitting.", id, st.name, s.options.AccountID)
		default:
			return st, sh, nil
		}
	}
	return nil, nil, newError(codeResourceNotFound, "Shard %s in stream %s under account %s does not exist", id, st.name, s.options.AccountID)
}

// closeShards closes shards. The caller holds s.mu.
func (s *Server) closeShards(st *stream, now time.Time, shards ...*shard) {
	for _, sh := range shards {
		sh.closed = now.Truncate(time.Millisecond)
	}
	st.openShards = slices.DeleteFunc(st.openShards, func(sh *shard) bool { return !sh.open() })
}

// addShard adds a shard for a range of hash keys. The caller holds s.mu.
func (s *Server) addShard(st *stream, start, end *big.Int, now time.Time, parents ...*shard) {
	sh := newShard(len(st.shards), start, end, now)
	for _, parent := range parents {
		sh.parents = append(sh.parents, parent.id)
		parent.children = append(parent.children, sh)
	}
	s.setLimits(sh, now)
	st.shards = append(st.shards, sh)
	at, _ := slices.BinarySearchFunc(st.openShards, start, func(sh *shard, key *big.Int) int { return sh.start.Cmp(key) })
	st.openShards = slices.Insert(st.openShards, at, sh)
}

// setLimits gives a shard the server's write limits.
func (s *Server) setLimits(sh *shard, now time.Time) {
	sh.bytes = newBucket(s.options.ShardBytesPerSecond, shardBytesPerSecond, now)
	sh.count = newBucket(s.options.ShardRecordsPerSecond, shardRecordsPerSecond, now)
}

// filter selects shards for ListShards: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_ShardFilter.html
type filter struct {
	Kind string    `json:",omitempty"`
	At   time.Time `json:",omitzero"`
}

// keeps reports whether the shard is listed. This server does not trim: every shard without parents was open at the horizon.
func (f filter) keeps(sh *shard) bool {
	switch f.Kind {
	case "AT_LATEST":
		return sh.open()
	case "AT_TRIM_HORIZON":
		return len(sh.parents) == 0
	case "AT_TIMESTAMP":
		return !sh.created.After(f.At) && (sh.open() || !sh.closed.Before(f.At))
	case "FROM_TIMESTAMP":
		return sh.open() || !sh.closed.Before(f.At)
	}
	return true
}

func (c *call) filter() (f filter, after *string, err error) {
	in := c.in.structure("ShardFilter")
	kind, id := in.text("Type"), in.text("ShardId")
	at, timed := in.instant("Timestamp")
	if kind == nil || in.err != nil {
		return f, nil, in.err
	}
	switch *kind {
	case "AFTER_SHARD_ID":
		return f, id, nil
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
		if !timed {
			return f, nil, invalidArgument("Must specify the Timestamp in the ShardFilter for the type %s.", *kind)
		}
	case "AT_LATEST", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON":
	default:
		return f, nil, constraint("shardFilter.type",
			"satisfy enum value set: [FROM_TIMESTAMP, AT_TIMESTAMP, AT_LATEST, FROM_TRIM_HORIZON, AT_TRIM_HORIZON, AFTER_SHARD_ID]")
	}
	return filter{*kind, at}, nil, nil
}
