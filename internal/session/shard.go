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
	requestTimeout = 30 * time.Second // a reply has up to 10 MB
	firstBackoff   = 250 * time.Millisecond
	// childTimeout is how long to wait until a closed shard's children are listed, if GetRecords does not name them.
	childTimeout = 20 * time.Second // less than requestTimeout
	// idlePolls is the number of empty GetRecords after which the interval grows by one Interval.
	idlePolls = 10
	// endInterval is the time between the last GetRecords of a shard in a read without Follow.
	endInterval = 250 * time.Millisecond
)

// position is the point in a shard at which the read continues.
type position struct {
	kind     types.ShardIteratorType
	at       time.Time // of AT_TIMESTAMP
	sequence string    // of AFTER_SEQUENCE_NUMBER
}

// report is the result of one step of a follower.
type report struct {
	shard       string
	gotIterator bool // the follower has its first iterator
	polled      bool
	records     []Record
	behind      time.Duration
	position    position // after the records
	ended       bool
	children    []types.Shard
	allShards   []types.Shard // set if a child also has another parent
	err         error
	final       bool // the follower has ended with err
}

// disconnectError ends a pass: the stream must be described and its shards listed again.
type disconnectError struct {
	shard string
	err   error
}

func (e *disconnectError) Error() string { return e.err.Error() }

func (e *disconnectError) Unwrap() error { return e.err }

// follower reads one shard, in its own goroutine.
type follower struct {
	stream   *Stream
	o        ReadOptions
	shard    string
	position position

	iterator     *string
	gotIterator  bool
	failures     int // in a row
	failingSince time.Time
	emptyReads   int // GetRecords in a row without records
}

// follow reads until the shard ends, the read ends, or an error occurs that a retry would not fix. It occupies a slot
// from the call until the reader has received its report.
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

// wait returns the time until the next step.
func (f *follower) wait(rep *report, took time.Duration) time.Duration {
	switch {
	case rep.err != nil:
		return backoff(f.failures)
	case rep.gotIterator: // request the first records at once
		return 0
	case !f.o.Follow && len(rep.records) > 0 && rep.behind == 0: // one more GetRecords shows whether these were the last
		return 0
	case !f.o.Follow && rep.behind == 0: // the read ends in a second or two
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
		if f.failures == 1 { // no trouble: happens after the machine slept
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

// locate gets an iterator for the position.
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
		// The time is in the future of the endpoint's clock, known to the second: no record has arrived since.
		f.position = position{kind: types.ShardIteratorTypeLatest}
		return f.locate(ctx)
	}
	if err != nil {
		return err
	}
	f.iterator = answer.ShardIterator
	if f.position.kind == types.ShardIteratorTypeLatest { // the next iterator must start at this time, too
		now, ok := middleware.GetServerTime(answer.ResultMetadata)
		if !ok {
			now = time.Now()
		}
		f.position = position{kind: types.ShardIteratorTypeAtTimestamp, at: now}
	}
	return nil
}

// poll calls GetRecords once.
func (f *follower) poll(ctx context.Context) (report, error) {
	asked := time.Now()
	answer, err := f.stream.client.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: f.iterator, StreamARN: f.stream.arn()}, noRetry)
	if err != nil {
		return report{}, err
	}
	before := f.position
	rep := report{polled: true, behind: time.Duration(aws.ToInt64(answer.MillisBehindLatest)) * time.Millisecond}
	readUpTo := asked.Add(skewOf(answer.ResultMetadata, asked).atLeast) // all records that arrived before have been read
	if rep.behind > 0 {
		readUpTo = readUpTo.Add(-rep.behind - time.Second) // the clocks may differ by a second
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
	case !f.o.Until.IsZero() && !readUpTo.Before(f.o.Until): // the shard's children have only later records
		rep.ended = true
	case f.iterator == nil:
		rep.ended = true
		if rep.children, rep.allShards, err = f.children(ctx, answer.ChildShards); err != nil {
			f.position = before // read the records again
		}
	case !f.o.Follow && f.o.Until.IsZero(): // the endpoint's replies have no time
		rep.ended = len(answer.Records) == 0 && rep.behind == 0
	}
	return rep, err
}

// children returns the shard's children. If a child also has another parent, it returns all shards as well.
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
		if all, err = f.stream.listShards(ctx, nil, noRetry); err != nil {
			return nil, nil, err
		}
		if len(children) == 0 { // emulators do not name the children
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

// listShards returns the shards that match the filter.
func (s *Stream) listShards(
	ctx context.Context, filter *types.ShardFilter, options ...func(*awskinesis.Options),
) ([]types.Shard, error) {
	var found []types.Shard
	input := &awskinesis.ListShardsInput{StreamName: s.name(), StreamARN: s.arn(), ShardFilter: filter}
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

// noRetry turns off the SDK's retries: the reader retries, at each shard's pace.
func noRetry(o *awskinesis.Options) { o.Retryer = aws.NopRetryer{} }

// errorClass is the consequence of an error for the read.
type errorClass int

const (
	fatal        errorClass = iota // a retry would fail as well
	transient                      // throttled, or a failure of the service
	expired                        // the iterator has expired
	disconnected                   // no connection, or the stream rejects the shard or iterator: it may be a new stream
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
	if api, ok := errors.AsType[smithy.APIError](err); ok && strings.Contains(api.ErrorCode(), "Throttling") { // KMS throttles the key
		return transient
	}
	return fatal
}

func isConnection(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}
