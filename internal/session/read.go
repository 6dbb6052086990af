package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	smithytime "github.com/aws/smithy-go/time"
)

const (
	// A shard answers 5 GetRecords a second to all who read it: Firehose takes one or two, each function that it triggers one.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	pollInterval = time.Second
	idleInterval = 4 * time.Second
	maxBackoff   = 5 * time.Second
	// missingTime is how long a stream that was there may be missing: an emulator restarts without its streams.
	missingTimeout = 30 * time.Second
	// patience is how long a reading that has an end goes on without an answer.
	noAnswerTimeout = time.Minute
	// maxReplies is how many replies are held at once, those that are still to come included. One has 10 MB, and more while it is decoded.
	maxReplies = 6
)

// Record is one record of a stream.
type Record struct {
	Shard          string
	SequenceNumber string
	PartitionKey   string
	Arrival        time.Time // at Kinesis, to the millisecond
	Data           []byte    // the receiver's to keep
}

// ReadOptions say what is read.
type ReadOptions struct {
	// Since is the earliest arrival of a record that is read. Where it is zero, a reading that follows begins with what arrives from now
	// on, any other and one with All with what the stream holds.
	Since time.Time
	All   bool
	// Until is the arrival from which on records are not read, and the reading ends; zero: none.
	Until time.Time
	// Follow waits for what is still to arrive. Without it Until is now at the latest, by the endpoint's clock.
	Follow bool

	// Interval is the time between two GetRecords of a shard, 0 for a second; IdleInterval that of a shard into which nothing was
	// written for a while, 0 for four seconds.
	Interval, IdleInterval time.Duration

	// What is called is called by Read, one call at a time.
	OnReady   func()      // once, when what is put from then on is read
	OnPoll    func(Poll)  // after each GetRecords, when its records were taken
	OnTrouble func(error) // what is tried again; nil when it is over
}

// Poll is the outcome of one GetRecords.
type Poll struct {
	Shard   string
	Records int
	Ended   bool          // nothing more comes of the shard
	Behind  time.Duration // how far the shard's newest record is ahead of what was read
	// CaughtUp: since the last record of any shard, each open one was read to its end.
	CaughtUp bool
}

// Read hands every record on, once, in the order of its shard; the children of a shard come after all of their parents. It returns nil
// where the reading has an end, the error of take, or ctx's, or why the stream cannot be read.
func (s *Stream) Read(ctx context.Context, o ReadOptions, take func(Record) error) error {
	o.Interval = orElse(o.Interval, pollInterval)
	o.IdleInterval = max(o.Interval, orElse(o.IdleInterval, idleInterval))
	o.All = o.All || !o.Follow && o.Since.IsZero()
	if now := s.endTime(); !o.Follow && s.skew.known && (o.Until.IsZero() || now.Before(o.Until)) {
		o.Until = now
	}
	r := &reader{stream: s, o: o, take: take, troubled: make(map[string]bool)}
	if err := r.list(ctx, r.startPosition()); err != nil {
		return r.explain(ctx, err)
	}
	for {
		err := r.pass(ctx)
		lost, ok := errors.AsType[*disconnectError](err)
		if ok && ctx.Err() == nil {
			r.disconnectedShard = lost.shard
			if err = r.reconnect(ctx, lost.err); err == nil {
				continue
			}
		}
		return r.explain(ctx, err)
	}
}

func orElse(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}

// reader is one reading. Its fields belong to the goroutine that called Read.
type reader struct {
	stream *Stream
	o      ReadOptions
	take   func(Record) error

	shards          map[string]*shard
	running         int             // shards that are being read
	done            int             // shards that have ended
	withoutIterator int             // of those being read, those that have no iterator yet
	ready           bool            // Ready was called
	caughtUp        map[string]bool // shards that were read to their end since the last record
	troubled        map[string]bool // shards in trouble; "" for the connection

	disconnectedShard string // the one that asked for the last reconnection
	reconnects        int    // reconnections, and tries of one, since it was read again
}

// shard is where the reading is in a shard.
type shard struct {
	id       string
	parents  []string
	position position
	reading  bool
	ended    bool
}

// beginning is where the reading starts in each shard.
func (r *reader) startPosition() position {
	switch {
	case !r.o.Since.IsZero():
		return position{kind: types.ShardIteratorTypeAtTimestamp, at: r.o.Since}
	case r.o.All:
		return position{kind: types.ShardIteratorTypeTrimHorizon}
	}
	return position{kind: types.ShardIteratorTypeLatest}
}

// list finds the shards to begin with.
func (r *reader) list(ctx context.Context, from position) error {
	filter := &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}
	switch {
	case from.kind == types.ShardIteratorTypeTrimHorizon || !from.at.After(r.stream.created) && !from.at.IsZero():
		filter = nil
	case from.kind == types.ShardIteratorTypeAtTimestamp:
		filter = &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &from.at}
	}
	found, err := r.stream.listShards(ctx, filter, nil)
	if _, refused := errors.AsType[*types.InvalidArgumentException](err); refused && filter != nil { // the places say the same
		found, err = r.stream.listShards(ctx, nil, nil)
	}
	if err != nil {
		return err
	}
	r.shards, r.done = make(map[string]*shard), 0
	for _, sh := range found {
		// Emulators list all shards, whatever the filter: nothing new comes of a closed one.
		closed := sh.SequenceNumberRange != nil && sh.SequenceNumberRange.EndingSequenceNumber != nil
		if closed && from.kind == types.ShardIteratorTypeLatest {
			continue
		}
		r.add(aws.ToString(sh.ShardId), parentsOf(sh), from)
	}
	return nil
}

func (r *reader) add(id string, parents []string, from position) {
	if r.shards[id] == nil {
		r.shards[id] = &shard{id: id, parents: parents, position: from}
	}
}

// descend adds a shard that came after one that is read. Its other parent may itself be one that is still to come of another shard: it
// is then added, too, and read first.
func (r *reader) addChild(sh types.Shard, all []types.Shard) {
	r.add(aws.ToString(sh.ShardId), parentsOf(sh), position{kind: types.ShardIteratorTypeTrimHorizon})
	for _, parent := range parentsOf(sh) {
		at := slices.IndexFunc(all, func(other types.Shard) bool { return aws.ToString(other.ShardId) == parent })
		if r.shards[parent] == nil && at >= 0 && r.hasReadAncestor(all[at], all) {
			r.addChild(all[at], all)
		}
	}
}

// descends tells whether one of the shard's ancestors is read.
func (r *reader) hasReadAncestor(sh types.Shard, all []types.Shard) bool {
	return slices.ContainsFunc(parentsOf(sh), func(parent string) bool {
		at := slices.IndexFunc(all, func(other types.Shard) bool { return aws.ToString(other.ShardId) == parent })
		return r.shards[parent] != nil || at >= 0 && r.hasReadAncestor(all[at], all)
	})
}

// pass reads the shards until all have ended, or the connection to the stream is lost.
func (r *reader) pass(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	reports, slots := make(chan report), make(chan struct{}, maxReplies)
	r.running, r.withoutIterator, r.caughtUp = 0, 0, make(map[string]bool)
	launch := func() {
		if r.running+r.done == len(r.shards) { // nothing has changed
			return
		}
		for _, sh := range r.shards {
			if sh.reading || sh.ended || !r.parentsEnded(sh) {
				continue
			}
			sh.reading = true
			r.running++
			r.withoutIterator++
			f := &follower{stream: r.stream, o: r.o, shard: sh.id, position: sh.position}
			followers.Go(func() { f.follow(ctx, slots, reports) })
		}
	}
	for _, sh := range r.shards {
		sh.reading = false
	}
	for launch(); r.running > 0; launch() {
		select {
		case rep := <-reports:
			if err := r.accept(&rep); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if r.o.Follow && r.o.Until.IsZero() {
		return errors.New("its shards have ended, and none came after them")
	}
	return nil
}

// parentsEnded tells whether the shard's turn has come. A parent that is not read was there before what is read.
func (r *reader) parentsEnded(sh *shard) bool {
	for _, id := range sh.parents {
		if parent := r.shards[id]; parent != nil && !parent.ended {
			return false
		}
	}
	return true
}

// accept takes what a follower brought.
func (r *reader) accept(rep *report) error {
	sh := r.shards[rep.shard]
	if rep.err != nil {
		if rep.final {
			return rep.err
		}
		r.reportTrouble(rep.shard, rep.err)
		return nil
	}
	if rep.polled && rep.shard == r.disconnectedShard {
		r.reconnects = 0
	}
	if rep.polled {
		r.clearTrouble(rep.shard)
	}
	for _, record := range rep.records {
		if err := r.take(record); err != nil {
			return &receiverError{err}
		}
	}
	sh.position = rep.position
	if rep.gotIterator {
		r.withoutIterator--
	}
	for _, child := range rep.children {
		r.addChild(child, rep.allShards)
	}
	if rep.ended {
		sh.ended = true
		r.running--
		r.done++
		delete(r.caughtUp, rep.shard)
	}
	if r.withoutIterator == 0 && !r.ready {
		r.ready = true
		if r.o.OnReady != nil {
			r.o.OnReady()
		}
	}
	if rep.polled {
		r.polled(rep)
	}
	return nil
}

func (r *reader) polled(rep *report) {
	switch {
	case len(rep.records) > 0:
		clear(r.caughtUp)
	case rep.behind == 0 && !rep.ended:
		r.caughtUp[rep.shard] = true
	}
	if r.o.OnPoll != nil {
		idle := len(r.caughtUp) == r.running && r.running+r.done == len(r.shards)
		r.o.OnPoll(Poll{Shard: rep.shard, Records: len(rep.records), Ended: rep.ended, Behind: rep.behind, CaughtUp: idle})
	}
}

func (r *reader) reportTrouble(shard string, err error) {
	r.troubled[shard] = true
	if r.o.OnTrouble != nil {
		r.o.OnTrouble(r.stream.explain("read", err))
	}
}

// calm ends the trouble of a shard that was read, and of the connection.
func (r *reader) clearTrouble(shard string) {
	if len(r.troubled) == 0 {
		return
	}
	delete(r.troubled, shard)
	delete(r.troubled, "")
	if len(r.troubled) == 0 && r.o.OnTrouble != nil {
		r.o.OnTrouble(nil)
	}
}

// reconnect waits until the stream can be asked again. Where it is another one of the same name, as after the restart of an emulator that
// keeps nothing, all in it is new.
func (r *reader) reconnect(ctx context.Context, cause error) error {
	clear(r.troubled) // every shard begins again
	r.reportTrouble("", cause)
	var missing time.Time // since when the stream is
	start := time.Now()
	for {
		if r.reconnects++; r.reconnects > 1 {
			if err := smithytime.SleepWithContext(ctx, backoff(r.reconnects-1)); err != nil {
				return err
			}
		}
		asking, cancel := context.WithTimeout(ctx, requestTimeout)
		summary, err := r.stream.describe(asking, noRetry)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && isReadable(summary.StreamStatus):
			if created := aws.ToTime(summary.StreamCreationTimestamp); !created.Equal(r.stream.created) {
				err = r.restart(ctx, created)
			} else if !isConnection(cause) && r.reconnects > 3 { // the stream is there, and does not know its own shards or iterators
				return cause
			}
			if err == nil {
				return nil
			}
		case isMissing(err):
			if missing.IsZero() {
				missing = time.Now()
			}
			if time.Since(missing) > missingTimeout {
				return err
			}
		}
		if r.stream.gaveUp(&r.o, start) {
			return cause
		}
		if err != nil && classify(err) == fatal {
			return err
		}
		if err != nil {
			r.reportTrouble("", err)
		}
	}
}

// givesUp tells whether a reading that has an end was without an answer for too long, and one that follows until a time for as long after
// that time.
func (s *Stream) gaveUp(o *ReadOptions, failing time.Time) bool {
	waited := time.Since(failing)
	switch {
	case o.Follow && o.Until.IsZero():
		return false
	case o.Follow:
		waited = min(waited, s.Now().Sub(o.Until))
	}
	return waited > noAnswerTimeout
}

// restart begins with a stream that was not there before.
func (r *reader) restart(ctx context.Context, created time.Time) error {
	from := r.startPosition()
	if from.kind == types.ShardIteratorTypeLatest {
		from = position{kind: types.ShardIteratorTypeTrimHorizon}
	}
	if err := r.list(ctx, from); err != nil {
		return err
	}
	r.stream.created = created
	return nil
}

// takeError is what the receiver of the records did not like.
type receiverError struct{ err error }

func (e *receiverError) Error() string { return e.err.Error() }

// failed explains why the reading ended.
func (r *reader) explain(ctx context.Context, err error) error {
	taking, took := errors.AsType[*receiverError](err)
	switch {
	case took:
		return taking.err
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return r.stream.explain("read", err)
}
