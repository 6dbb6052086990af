package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

const (
	requestTimeout = 30 * time.Second // a reply has 10 MB at most
	firstBackoff   = 250 * time.Millisecond
	// childTime is how long a closed shard's children may take to be listed, where GetRecords does not name them.
	childTime = 20 * time.Second // less than requestTimeout
	// idlePolls is how many empty reads widen the interval by one.
	idlePolls = 10
	// endInterval is the time between the last reads of a shard in a reading that does not follow.
	endInterval = 250 * time.Millisecond
)

// place is where the reading of a shard goes on.
type place struct {
	kind     types.ShardIteratorType
	at       time.Time // of AT_TIMESTAMP
	sequence string    // of AFTER_SEQUENCE_NUMBER
}

// report is what a follower brings to the reader.
type report struct {
	shard    string
	placed   bool // it has its first iterator
	polled   bool
	records  []Record
	behind   time.Duration
	place    place // behind the records
	ended    bool
	children []types.Shard
	lineage  []types.Shard // all shards, where a child has another parent, too
	err      error
	final    bool // the follower has ended with err
}

// lostError ends a pass: the shards must be asked for again.
type lostError struct {
	shard string
	err   error
}

func (e *lostError) Error() string { return e.err.Error() }

func (e *lostError) Unwrap() error { return e.err }

// follower reads one shard, in a goroutine of its own.
type follower struct {
	stream *Stream
	o      ReadOptions
	shard  string
	place  place

	iterator *string
	placed   bool
	failures int // in a row
	failing  time.Time
	empty    int // reads in a row that brought nothing
}

// follow reads until the shard ends, the reading does, or something is wrong that another try would not change. It holds a slot from the
// call until its report is taken.
func (f *follower) follow(ctx context.Context, slots chan struct{}, reports chan<- report) {
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		start := time.Now()
		rep := f.step(ctx)
		rep.shard, rep.place = f.shard, f.place
		if ctx.Err() != nil {
			return
		}
		select {
		case reports <- rep:
			<-slots
		case <-ctx.Done():
			return
		}
		if rep.ended || rep.final || pause(ctx, f.wait(&rep, time.Since(start))) != nil {
			return
		}
	}
}

// wait is the time until the next step.
func (f *follower) wait(rep *report, took time.Duration) time.Duration {
	switch {
	case rep.err != nil:
		return backoff(f.failures)
	case rep.placed: // the first records are asked for at once
		return 0
	case !f.o.Follow && len(rep.records) > 0 && rep.behind == 0: // one more read shows whether that was all
		return 0
	case !f.o.Follow && rep.behind == 0: // the end of the reading is a second or two away
		return endInterval
	}
	interval := min(f.o.IdleInterval, f.o.Interval*time.Duration(1+f.empty/idlePolls))
	return interval - took
}

func backoff(failures int) time.Duration {
	return min(maxBackoff, firstBackoff<<min(failures-1, 10))
}

// step makes one call.
func (f *follower) step(ctx context.Context) report {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var (
		rep report
		err error
	)
	if f.iterator == nil {
		if err = f.locate(ctx); err == nil && !f.placed {
			f.placed = true
			return report{placed: true}
		}
	}
	if err == nil {
		rep, err = f.poll(ctx)
	}
	if err == nil {
		f.failures = 0
		return rep
	}
	if f.failures++; f.failures == 1 {
		f.failing = time.Now()
	}
	switch classify(err) {
	case expired:
		f.iterator = nil
		if f.failures == 1 { // no trouble: a machine that slept meets this
			return f.step(ctx)
		}
	case lost:
		return report{err: &lostError{f.shard, err}, final: true}
	case fatal:
		return report{err: err, final: true}
	case passing:
	}
	return report{err: err, final: f.stream.givesUp(&f.o, f.failing)}
}

// locate gets an iterator for the place.
func (f *follower) locate(ctx context.Context) error {
	input := &awskinesis.GetShardIteratorInput{
		StreamName: f.stream.name(), StreamARN: f.stream.arn(), ShardId: &f.shard, ShardIteratorType: f.place.kind,
	}
	switch f.place.kind {
	case types.ShardIteratorTypeAtTimestamp:
		input.Timestamp = &f.place.at
	case types.ShardIteratorTypeAfterSequenceNumber:
		input.StartingSequenceNumber = &f.place.sequence
	default:
	}
	answer, err := f.stream.client.GetShardIterator(ctx, input, once)
	if _, refused := errors.AsType[*types.InvalidArgumentException](err); refused && f.place.at.After(f.stream.Now().Add(-time.Second)) {
		// It lies in the future of the endpoint's clock, which tells whole seconds: no record has arrived since.
		f.place = place{kind: types.ShardIteratorTypeLatest}
		return f.locate(ctx)
	}
	if err != nil {
		return err
	}
	f.iterator = answer.ShardIterator
	if f.place.kind == types.ShardIteratorTypeLatest { // what comes from now on is new, also for the next iterator
		now, ok := middleware.GetServerTime(answer.ResultMetadata)
		if !ok {
			now = time.Now()
		}
		f.place = place{kind: types.ShardIteratorTypeAtTimestamp, at: now}
	}
	return nil
}

// poll gets records.
func (f *follower) poll(ctx context.Context) (report, error) {
	asked := time.Now()
	answer, err := f.stream.client.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: f.iterator, StreamARN: f.stream.arn()}, once)
	if err != nil {
		return report{}, err
	}
	before := f.place
	rep := report{polled: true, behind: time.Duration(aws.ToInt64(answer.MillisBehindLatest)) * time.Millisecond}
	position := asked.Add(skewOf(answer.ResultMetadata, asked).least) // all that arrived before has been read
	if rep.behind > 0 {
		position = position.Add(-rep.behind - time.Second) // which the clocks may differ by
	}
	for i := range answer.Records {
		r := &answer.Records[i]
		arrived := aws.ToTime(r.ApproximateArrivalTimestamp)
		f.place = place{kind: types.ShardIteratorTypeAfterSequenceNumber, sequence: aws.ToString(r.SequenceNumber)}
		if arrived.Before(f.o.Since) || !f.o.Until.IsZero() && !arrived.Before(f.o.Until) {
			continue
		}
		rep.records = append(rep.records, Record{f.shard, aws.ToString(r.SequenceNumber), aws.ToString(r.PartitionKey), arrived, r.Data})
	}
	if n := len(answer.Records); n > 0 {
		f.empty = 0
		position = aws.ToTime(answer.Records[n-1].ApproximateArrivalTimestamp)
	} else {
		f.empty++
	}
	f.iterator = answer.NextShardIterator
	switch {
	case !f.o.Until.IsZero() && !position.Before(f.o.Until): // the shard's children hold what arrived later still
		rep.ended = true
	case f.iterator == nil:
		rep.ended = true
		if rep.children, rep.lineage, err = f.children(ctx, answer.ChildShards); err != nil {
			f.place = before // the records are asked for again
		}
	case !f.o.Follow && f.o.Until.IsZero(): // the endpoint does not tell its time
		rep.ended = len(answer.Records) == 0 && rep.behind == 0
	}
	return rep, err
}

// children are the shards that go on where this one ended, and where one of them is a merger, all shards.
func (f *follower) children(ctx context.Context, named []types.ChildShard) (children, all []types.Shard, err error) {
	merged := len(named) == 0
	for _, child := range named {
		sh := types.Shard{ShardId: child.ShardId, ParentShardId: &f.shard}
		for _, parent := range child.ParentShards {
			if parent != f.shard {
				sh.AdjacentParentShardId, merged = &parent, true
			}
		}
		children = append(children, sh)
	}
	for start := time.Now(); merged; {
		if all, err = f.stream.listShards(ctx, nil, nil, once); err != nil {
			return nil, nil, err
		}
		if len(children) == 0 { // emulators do not name them
			children = slices.DeleteFunc(slices.Clone(all), func(sh types.Shard) bool { return !slices.Contains(parentsOf(sh), f.shard) })
		}
		if len(children) > 0 || !f.o.Follow || time.Since(start) > childTime {
			break
		}
		if err := pause(ctx, f.o.Interval); err != nil {
			return nil, nil, err
		}
	}
	return children, all, nil
}

func parentsOf(sh types.Shard) []string {
	var parents []string
	for _, id := range []*string{sh.ParentShardId, sh.AdjacentParentShardId} {
		if id != nil {
			parents = append(parents, *id)
		}
	}
	return parents
}

// listShards gives the shards that pass the filter and come after the one named.
func (s *Stream) listShards(
	ctx context.Context, filter *types.ShardFilter, after *string, options ...func(*awskinesis.Options),
) ([]types.Shard, error) {
	var found []types.Shard
	input := &awskinesis.ListShardsInput{StreamName: s.name(), StreamARN: s.arn(), ShardFilter: filter, ExclusiveStartShardId: after}
	for {
		page, err := s.client.ListShards(ctx, input, options...)
		if err != nil {
			return nil, err
		}
		found = append(found, page.Shards...)
		if page.NextToken == nil {
			return found, nil
		}
		input = &awskinesis.ListShardsInput{NextToken: page.NextToken, StreamARN: s.arn()}
	}
}

// once leaves the tries to the reader, which keeps the pace of each shard.
func once(o *awskinesis.Options) { o.Retryer = aws.NopRetryer{} }

// trouble is what an error means for the reading.
type trouble int

const (
	fatal   trouble = iota // another try gives the same
	passing                // throttled, or a failure of the service's
	expired                // the iterator
	lost                   // no connection, or the stream does not know its shard or iterator: it may be another stream by now
)

func classify(err error) trouble {
	if _, ok := errors.AsType[*types.ExpiredIteratorException](err); ok {
		return expired
	}
	if _, ok := errors.AsType[*types.InvalidArgumentException](err); ok || isMissing(err) || isConnection(err) {
		return lost
	}
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return passing
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && strings.Contains(api.ErrorCode(), "Throttling") { // the key's, of KMS
		return passing
	}
	return fatal
}

func isConnection(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}
