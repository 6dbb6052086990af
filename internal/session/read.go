package session

import (
	"cmp"
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
	// All consumers of a shard share 5 GetRecords a second: Firehose uses one or two, each function with an event source
	// mapping one. https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	pollInterval = time.Second
	idleInterval = 4 * time.Second
	maxBackoff   = 5 * time.Second
	// missingTimeout is how long a stream may be missing after it was read: an emulator restarts without its streams.
	missingTimeout = 30 * time.Second
	// noAnswerTimeout is how long a read with an end retries without an answer.
	noAnswerTimeout = time.Minute
	// maxReplies bounds the replies in memory, including those in flight. A reply has up to 10 MB, and more while it is
	// decoded.
	maxReplies = 6
)

// Record is one record of a stream.
type Record struct {
	Shard          string
	SequenceNumber string
	PartitionKey   string
	Arrival        time.Time // at Kinesis, in milliseconds
	Data           []byte    // the receiver may keep it
}

// ReadOptions select the records to read.
type ReadOptions struct {
	// Since is the earliest arrival time to read. If it is zero, a read without Follow starts at the stream's oldest
	// record. A read with Follow starts there with All, and without All at the records that arrive from now on.
	Since time.Time
	All   bool
	// Until ends the read: records that arrive at or after it are not read. Zero means no such time.
	Until time.Time
	// Follow waits for new records. Without it, Until is at the latest the current time of the endpoint's clock.
	Follow bool

	// Interval is the time between two GetRecords of a shard, 0 for one second. IdleInterval is the same for a shard
	// without recent records, 0 for four seconds.
	Interval, IdleInterval time.Duration

	// Read makes these calls, one at a time.
	OnReady   func()      // once, when every later record will be read
	OnPoll    func(Poll)  // after each GetRecords, when its records were passed on
	OnTrouble func(error) // with each error that is retried; nil when reading works again
}

// Poll is the outcome of one GetRecords.
type Poll struct {
	Shard   string
	Records int
	Ended   bool          // the shard has no further records to read
	Behind  time.Duration // how far the read is behind the shard's newest record
	// CaughtUp: every open shard has been read to its end since the last record of any shard.
	CaughtUp bool
}

// Read passes every record to take, once, in the order of its shard. The records of a shard come after those of all its
// parents. Read returns nil when a read with an end is complete. Otherwise it returns take's error, ctx's error, or the
// reason why the stream cannot be read.
func (s *Stream) Read(ctx context.Context, o ReadOptions, take func(Record) error) error {
	o.Interval = cmp.Or(o.Interval, pollInterval)
	o.IdleInterval = max(o.Interval, cmp.Or(o.IdleInterval, idleInterval))
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

// reader is the state of one Read. Only the goroutine that called Read uses its fields.
type reader struct {
	stream *Stream
	o      ReadOptions
	take   func(Record) error

	shards          map[string]*shard
	running         int             // shards that are being read
	done            int             // shards that have ended
	withoutIterator int             // running shards that have no iterator yet
	ready           bool            // OnReady was called
	caughtUp        map[string]bool // shards that were read to their end since the last record
	troubled        map[string]bool // shards whose last call failed; "" for the connection

	disconnectedShard string // the shard that requested the last reconnection
	reconnects        int    // reconnections and their attempts since that shard was last read
}

// shard is the state of a shard.
type shard struct {
	id       string
	parents  []string
	position position
	reading  bool
	ended    bool
}

// startPosition returns the position in each shard at which the read starts.
func (r *reader) startPosition() position {
	switch {
	case !r.o.Since.IsZero():
		return position{kind: types.ShardIteratorTypeAtTimestamp, at: r.o.Since}
	case r.o.All:
		return position{kind: types.ShardIteratorTypeTrimHorizon}
	}
	return position{kind: types.ShardIteratorTypeLatest}
}

// list finds the shards with which the read starts.
func (r *reader) list(ctx context.Context, from position) error {
	filter := &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}
	switch {
	case from.kind == types.ShardIteratorTypeTrimHorizon || !from.at.After(r.stream.created) && !from.at.IsZero():
		filter = nil
	case from.kind == types.ShardIteratorTypeAtTimestamp:
		filter = &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &from.at}
	}
	found, err := r.stream.listShards(ctx, filter)
	// Some endpoints reject the filter. The start positions have the same effect.
	if _, refused := errors.AsType[*types.InvalidArgumentException](err); refused && filter != nil {
		found, err = r.stream.listShards(ctx, nil)
	}
	if err != nil {
		return err
	}
	r.shards, r.done = make(map[string]*shard), 0
	for _, sh := range found {
		// Emulators list all shards, whatever the filter. A closed shard has no new records.
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

// addChild adds a child of a shard that is read. The child's other parent may be unknown so far, because it descends
// from a shard that is still being read. addChild then adds that parent, too, and it is read first.
func (r *reader) addChild(sh types.Shard, all []types.Shard) {
	r.add(aws.ToString(sh.ShardId), parentsOf(sh), position{kind: types.ShardIteratorTypeTrimHorizon})
	for _, parent := range parentsOf(sh) {
		at := slices.IndexFunc(all, func(other types.Shard) bool { return aws.ToString(other.ShardId) == parent })
		if r.shards[parent] == nil && at >= 0 && r.hasReadAncestor(all[at], all) {
			r.addChild(all[at], all)
		}
	}
}

// hasReadAncestor reports whether the read includes one of the shard's ancestors.
func (r *reader) hasReadAncestor(sh types.Shard, all []types.Shard) bool {
	return slices.ContainsFunc(parentsOf(sh), func(parent string) bool {
		at := slices.IndexFunc(all, func(other types.Shard) bool { return aws.ToString(other.ShardId) == parent })
		return r.shards[parent] != nil || at >= 0 && r.hasReadAncestor(all[at], all)
	})
}

// pass reads the shards until all have ended or the connection is lost.
func (r *reader) pass(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	reports, slots := make(chan report), make(chan struct{}, maxReplies)
	r.running, r.withoutIterator, r.caughtUp = 0, 0, make(map[string]bool)
	launch := func() {
		if r.running+r.done == len(r.shards) { // no new shard
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
		return errors.New("all shards have ended, and they have no children")
	}
	return nil
}

// parentsEnded reports whether all parents of the shard have ended. A parent outside the read has only older records.
func (r *reader) parentsEnded(sh *shard) bool {
	for _, id := range sh.parents {
		if parent := r.shards[id]; parent != nil && !parent.ended {
			return false
		}
	}
	return true
}

// accept processes a follower's report.
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
		r.reportPoll(rep)
	}
	return nil
}

func (r *reader) reportPoll(rep *report) {
	switch {
	case len(rep.records) > 0:
		clear(r.caughtUp)
	case rep.behind == 0 && !rep.ended:
		r.caughtUp[rep.shard] = true
	}
	if r.o.OnPoll != nil {
		caughtUp := len(r.caughtUp) == r.running && r.running+r.done == len(r.shards)
		r.o.OnPoll(Poll{Shard: rep.shard, Records: len(rep.records), Ended: rep.ended, Behind: rep.behind, CaughtUp: caughtUp})
	}
}

func (r *reader) reportTrouble(shard string, err error) {
	r.troubled[shard] = true
	if r.o.OnTrouble != nil {
		r.o.OnTrouble(r.stream.explain("read", err))
	}
}

// clearTrouble records that a shard was read again, and with it that the connection works. It reports the end of all
// trouble.
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

// reconnect waits until the stream can be described again. If it is another stream of the same name, as after the
// restart of an emulator without persistence, all its records are new.
func (r *reader) reconnect(ctx context.Context, cause error) error {
	clear(r.troubled) // every shard starts again
	r.reportTrouble("", cause)
	var missing time.Time // since when the stream is missing
	start := time.Now()
	for {
		if r.reconnects++; r.reconnects > 1 {
			if err := smithytime.SleepWithContext(ctx, backoff(r.reconnects-1)); err != nil {
				return err
			}
		}
		callCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		summary, err := r.stream.describe(callCtx, noRetry)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && isReadable(summary.StreamStatus):
			if created := aws.ToTime(summary.StreamCreationTimestamp); !created.Equal(r.stream.created) {
				err = r.restart(ctx, created)
			} else if !isConnection(cause) && r.reconnects > 3 { // the stream exists but rejects its own shards or iterators
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

// gaveUp reports whether a read with an end had no answer for longer than noAnswerTimeout since failing. A read that
// follows until a time counts only the time after it.
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

// restart starts reading a new stream of the same name, from its oldest record unless Since is set.
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

// receiverError wraps an error of the receiver of the records.
type receiverError struct{ err error }

func (e *receiverError) Error() string { return e.err.Error() }

// explain returns the error with which Read ends.
func (r *reader) explain(ctx context.Context, err error) error {
	receiver, fromReceiver := errors.AsType[*receiverError](err)
	switch {
	case fromReceiver:
		return receiver.err
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return r.stream.explain("read", err)
}
