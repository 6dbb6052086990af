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
	smithytime "github.com/aws/smithy-go/time"
)

const (
	requestTimeout = 30 * time.Second // a reply has 10 MB at most
	firstBackoff   = 250 * time.Millisecond
	// childTime is how long a closed shard's children may take to be listed, where GetRecords does not name them.
	childTimeout = 20 * time.Second // less than requestTimeout
	// idlePolls is how many empty reads widen the interval by one.
	idlePolls = 10
	// endInterval is the time between the last reads of a shard in a reading that does not follow.
	endInterval = 250 * time.Millisecond
)

// place is where the reading of a shard goes on.
type position struct {
	kind     types.ShardIteratorType
	at       time.Time // of AT_TIMESTAMP
	sequence string    // of AFTER_SEQUENCE_NUMBER
}

// report is what a follower brings to the reader.
type report struct {
	shard       string
	gotIterator bool // it has its first iterator
	polled      bool
	records     []Record
	behind      time.Duration
	position    position // behind the records
	ended       bool
	children    []types.Shard
	allShards   []types.Shard // all shards, where a child has another parent, too
	err         error
	final       bool // the follower has ended with err
}

// lostError ends a pass: the shards must be asked for again.
type disconnectError struct {
	shard string
	err   error
}

func (e *disconnectError) Error() string { return e.err.Error() }

func (e *disconnectError) Unwrap() error { return e.err }

// follower reads one shard, in a goroutine of its own.
type follower struct {
	stream   *Stream
	o        ReadOptions
	shard    string
	position position

	iterator     *string
	gotIterator  bool
	failures     int // in a row
	failingSince time.Time
	emptyReads   int // reads in a row that brought nothing
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
		rep.shard, rep.position = f.shard, f.position
		if ctx.Err() != nil {
			return
		}
		select {
		case reports <- rep:
			<-slots
		case <-ctx.Done():
			return
		}
		if rep.ended || rep.final || smithytime.SleepWithContext(ctx, f.wait(&rep, time.Since(start))) != nil {
			return
		}
	}
}

// wait is the time until the next step.
func (f *follower) wait(rep *report, took time.Duration) time.Duration {
	switch {
	case rep.err != nil:
		return backoff(f.failures)
	case rep.gotIterator: // the first records are asked for at once
		return 0
	case !f.o.Follow && len(rep.records) > 0 && rep.behind == 0: // one more read shows whether that was all
		return 0
	case !f.o.Follow && rep.behind == 0: // the end of the reading is a second or two away
		return endInterval
	}
	interval := min(f.o.IdleInterval, f.o.Interval*time.Duration(1+f.emptyReads/idlePolls))
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
		if err = f.locate(ctx); err == nil && !f.gotIterator {
			f.gotIterator = true
			return report{gotIterator: true}
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
		f.failingSince = time.Now()
	}
	switch classify(err) {
	case expired:
		f.iterator = nil
		if f.failures == 1 { // no trouble: a machine that slept meets this
			return f.step(ctx)
		}
	case disconnected:
		return report{err: &disconnectError{f.shard, err}, final: true}
	case fatal:
		return report{err: err, final: true}
	case transient:
	}
	return report{err: err, final: f.stream.gaveUp(&f.o, f.failingSince)}
}

// locate gets an iterator for the place.
func (f *follower) locate(ctx context.Context) error {
	input := &awskinesis.GetShardIteratorInput{
		StreamName: f.stream.name(), StreamARN: f.stream.arn(), ShardId: &f.shard, ShardIteratorType: f.position.kind,
	}
	switch f.position.kind {
	case types.ShardIteratorTypeAtTimestamp:
		input.Timestamp = &f.position.at
	case types.ShardIteratorTypeAfterSequenceNumber:
		input.StartingSequenceNumber = &f.position.sequence
	default:
	}
	answer, err := f.stream.client.GetShardIterator(ctx, input, noRetry)
	if _, refused := errors.AsType[*types.InvalidArgumentException](err); refused && f.position.at.After(f.stream.Now().Add(-time.Second)) {
		// It lies in the future of the endpoint's clock, which tells whole seconds: no record has arrived since.
		f.position = position{kind: types.ShardIteratorTypeLatest}
		return f.locate(ctx)
	}
	if err != nil {
		return err
	}
	f.iterator = answer.ShardIterator
	if f.position.kind == types.ShardIteratorTypeLatest { // what comes from now on is new, also for the next iterator
		now, ok := middleware.GetServerTime(answer.ResultMetadata)
		if !ok {
			now = time.Now()
		}
		f.position = position{kind: types.ShardIteratorTypeAtTimestamp, at: now}
	}
	return nil
}

// poll gets records.
func (f *follower) poll(ctx context.Context) (report, error) {
	asked := time.Now()
	answer, err := f.stream.client.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: f.iterator, StreamARN: f.stream.arn()}, noRetry)
	if err != nil {
		return report{}, err
	}
	before := f.position
	rep := report{polled: true, behind: time.Duration(aws.ToInt64(answer.MillisBehindLatest)) * time.Millisecond}
	readUpTo := asked.Add(skewOf(answer.ResultMetadata, asked).atLeast) // all that arrived before has been read
	if rep.behind > 0 {
		readUpTo = readUpTo.Add(-rep.behind - time.Second) // which the clocks may differ by
	}
	for i := range answer.Records {
		r := &answer.Records[i]
		arrived := aws.ToTime(r.ApproximateArrivalTimestamp)
		f.position = position{kind: types.ShardIteratorTypeAfterSequenceNumber, sequence: aws.ToString(r.SequenceNumber)}
		if arrived.Before(f.o.Since) || !f.o.Until.IsZero() && !arrived.Before(f.o.Until) {
			continue
		}
		rep.records = append(rep.records, Record{f.shard, aws.ToString(r.SequenceNumber), aws.ToString(r.PartitionKey), arrived, r.Data})
	}
	if n := len(answer.Records); n > 0 {
		f.emptyReads = 0
		readUpTo = aws.ToTime(answer.Records[n-1].ApproximateArrivalTimestamp)
	} else {
		f.emptyReads++
	}
	f.iterator = answer.NextShardIterator
	switch {
	case !f.o.Until.IsZero() && !readUpTo.Before(f.o.Until): // the shard's children hold what arrived later still
		rep.ended = true
	case f.iterator == nil:
		rep.ended = true
		if rep.children, rep.allShards, err = f.children(ctx, answer.ChildShards); err != nil {
			f.position = before // the records are asked for again
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
		if all, err = f.stream.listShards(ctx, nil, nil, noRetry); err != nil {
			return nil, nil, err
		}
		if len(children) == 0 { // emulators do not name them
			children = slices.DeleteFunc(slices.Clone(all), func(sh types.Shard) bool { return !slices.Contains(parentsOf(sh), f.shard) })
		}
		if len(children) > 0 || !f.o.Follow || time.Since(start) > childTimeout {
			break
		}
		if err := smithytime.SleepWithContext(ctx, f.o.Interval); err != nil {
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
func noRetry(o *awskinesis.Options) { o.Retryer = aws.NopRetryer{} }

// trouble is what an error means for the reading.
type errorClass int

const (
	fatal        errorClass = iota // another try gives the same
	transient                      // throttled, or a failure of the service's
	expired                        // the iterator
	disconnected                   // no connection, or the stream does not know its shard or iterator: it may be another stream by now
)

func classify(err error) errorClass {
	if _, ok := errors.AsType[*types.ExpiredIteratorException](err); ok {
		return expired
	}
	if _, ok := errors.AsType[*types.InvalidArgumentException](err); ok || isMissing(err) || isConnection(err) {
		return disconnected
	}
	if retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary {
		return transient
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && strings.Contains(api.ErrorCode(), "Throttling") { // the key's, of KMS
		return transient
	}
	return fatal
}

func isConnection(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}
