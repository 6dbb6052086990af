package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go/logging"

	"kinesis-telemetry-extension/internal/sandbox"
)

const (
	// A shard answers 5 GetRecords a second: https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	pollInterval = 250 * time.Millisecond
	// quietTime is how long nothing new must arrive until what is missing counts as lost.
	quietTime         = 5 * time.Second
	credentialTimeout = 5 * time.Second
	activeTimeout     = 2 * time.Minute // a new stream takes well under a minute
	readRetries       = 5               // failed reads of a shard in a row, each tried again by the SDK
)

// remoteStream reads a stream behind a Kinesis endpoint from where its shards were when it was opened. It does not
// follow a resharding.
type remoteStream struct {
	client *kinesis.Client
	dest   destination
	record func(partitionKey string, data []byte)

	cancel context.CancelFunc
	rounds chan int      // how many records each round over the shards brought
	done   chan struct{} // closed when reading has ended
	err    error         // why it ended; read after done
}

// remoteOptions name a stream (its name or ARN) and where it is.
type remoteOptions struct {
	endpoint, region, stream string
	create                   bool
}

func openRemoteStream(ctx context.Context, o remoteOptions, record func(string, []byte)) (*remoteStream, error) {
	cfg, err := loadAWS(ctx, o)
	if err != nil {
		return nil, err
	}
	keys, err := retrieve(ctx, cfg, o.endpoint)
	if err != nil {
		return nil, err
	}
	cfg.Credentials = credentials.StaticCredentialsProvider{Value: keys}
	s := &remoteStream{
		client: kinesis.NewFromConfig(cfg, func(k *kinesis.Options) { k.BaseEndpoint = &o.endpoint }),
		dest: destination{o.stream, o.endpoint, cfg.Region, sandbox.Credentials{
			AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey, SessionToken: keys.SessionToken,
		}},
		record: record, rounds: make(chan int), done: make(chan struct{}),
	}
	if err := s.ensure(ctx, o.create); err != nil {
		return nil, err
	}
	iterators, err := s.latest(ctx)
	if err != nil {
		return nil, cannot(fmt.Errorf("read stream %s: %w", o.stream, err),
			"the credentials need kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords")
	}
	// Not bound to ctx: after an interruption the session still ends in its own order.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.read(reading, iterators)
	return s, nil
}

func loadAWS(ctx context.Context, o remoteOptions) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})} // its errors are told, its warnings are no news
	if o.region != "" {
		options = append(options, config.WithRegion(o.region))
	}
	if isLoopback(o.endpoint) { // no instance role is meant, and asking for one costs seconds elsewhere than on EC2
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, cannot(fmt.Errorf("load the AWS configuration: %w", err))
	}
	if cfg.Region == "" {
		cfg.Region = localRegion
	}
	return cfg, nil
}

// retrieve gets the credentials that the extension will use, too. An endpoint on this machine takes any.
func retrieve(ctx context.Context, cfg aws.Config, endpoint string) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialTimeout)
	defer cancel()
	var err error
	if cfg.Credentials != nil {
		var keys aws.Credentials
		if keys, err = cfg.Credentials.Retrieve(ctx); err == nil {
			return keys, nil
		}
	}
	if isLoopback(endpoint) {
		return aws.Credentials{AccessKeyID: "ktel", SecretAccessKey: "ktel"}, nil
	}
	return aws.Credentials{}, cannot(fmt.Errorf("find AWS credentials for %s: %w", endpoint, err),
		"set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

func isLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// name and arn: a stream is addressed by one of them.
func (s *remoteStream) name() *string {
	if strings.HasPrefix(s.dest.stream, "arn:") {
		return nil
	}
	return &s.dest.stream
}

func (s *remoteStream) arn() *string {
	if s.name() == nil {
		return &s.dest.stream
	}
	return nil
}

// ensure makes the stream if asked to, and waits until it is active.
func (s *remoteStream) ensure(ctx context.Context, create bool) error {
	if create {
		_, err := s.client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: s.name(), ShardCount: aws.Int32(localShards)})
		if _, exists := errors.AsType[*types.ResourceInUseException](err); err != nil && !exists {
			return s.failed("create", err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, activeTimeout, errors.New("it did not become active in time"))
	defer cancel()
	for {
		answer, err := s.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: s.name(), StreamARN: s.arn()})
		if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
			return cannot(fmt.Errorf("there is no stream %s at %s", s.dest.stream, s.dest.endpoint), "--create-stream makes it")
		}
		if err != nil {
			return s.failed("describe", err)
		}
		status := answer.StreamDescriptionSummary.StreamStatus
		if status == types.StreamStatusActive || status == types.StreamStatusUpdating {
			return nil
		}
		if err := pause(ctx, pollInterval); err != nil {
			return cannot(fmt.Errorf("wait for stream %s: %w", s.dest.stream, context.Cause(ctx)))
		}
	}
}

// failed explains why the stream could not be prepared.
func (s *remoteStream) failed(verb string, err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return cannot(fmt.Errorf("%s stream %s: nothing listens at %s", verb, s.dest.stream, s.dest.endpoint))
	}
	if denied, ok := errors.AsType[*types.AccessDeniedException](err); ok {
		return cannot(fmt.Errorf("%s stream %s: %w", verb, s.dest.stream, denied),
			"the credentials need kinesis:DescribeStreamSummary, and kinesis:CreateStream for --create-stream")
	}
	return cannot(fmt.Errorf("%s stream %s: %w", verb, s.dest.stream, err))
}

// latest returns an iterator for each open shard: what is put from now on.
func (s *remoteStream) latest(ctx context.Context) ([]string, error) {
	var iterators []string
	input := &kinesis.ListShardsInput{StreamName: s.name(), StreamARN: s.arn()}
	for {
		page, err := s.client.ListShards(ctx, input)
		if err != nil {
			return nil, fmt.Errorf("list its shards: %w", err)
		}
		for _, shard := range page.Shards {
			if r := shard.SequenceNumberRange; r != nil && r.EndingSequenceNumber != nil {
				continue // closed: nothing new comes
			}
			answer, err := s.client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
				StreamName: s.name(), StreamARN: s.arn(), ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeLatest,
			})
			if err != nil {
				return nil, fmt.Errorf("get an iterator of %s: %w", aws.ToString(shard.ShardId), err)
			}
			iterators = append(iterators, aws.ToString(answer.ShardIterator))
		}
		if page.NextToken == nil {
			return iterators, nil
		}
		input = &kinesis.ListShardsInput{NextToken: page.NextToken}
	}
}

// read polls the shards until ctx ends or a shard cannot be read.
func (s *remoteStream) read(ctx context.Context, iterators []string) {
	defer close(s.done)
	failures := 0
	for {
		start, fresh := time.Now(), 0
		for i, iterator := range iterators {
			if iterator == "" { // the shard was closed by a resharding
				continue
			}
			answer, err := s.client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator, StreamARN: s.arn()})
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if failures++; failures >= readRetries {
					s.err = fmt.Errorf("get records: %w", err)
					return
				}
				continue
			}
			failures = 0
			for _, r := range answer.Records {
				s.record(aws.ToString(r.PartitionKey), r.Data)
			}
			fresh += len(answer.Records)
			iterators[i] = aws.ToString(answer.NextShardIterator)
		}
		select {
		case s.rounds <- fresh:
		default: // nobody waits yet
		}
		if pause(ctx, pollInterval-time.Since(start)) != nil {
			return
		}
	}
}

func (s *remoteStream) destination() destination { return s.dest }

// drain returns when everything has arrived and one more round over the shards brought nothing (a copy, say), or when
// nothing has come for some time.
func (s *remoteStream) drain(ctx context.Context, complete func() bool) error {
	last := time.Now()
	for {
		select {
		case fresh := <-s.rounds:
			if fresh > 0 {
				last = time.Now()
			} else if complete() || time.Since(last) > quietTime {
				return nil
			}
		case <-s.done:
			return cannot(fmt.Errorf("read stream %s back: %w", s.dest.stream, s.err))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// throttled is not known of a stream elsewhere.
func (s *remoteStream) throttled() int64 { return 0 }

func (s *remoteStream) close() error {
	s.cancel()
	<-s.done
	return nil
}

// pause waits, or returns the context's error when it ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
