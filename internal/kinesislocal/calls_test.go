package kinesislocal_test

import (
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// OnCall gets the stream, the outcome and the records of each request.
func TestOnCall(t *testing.T) {
	var mu sync.Mutex
	var calls []kinesislocal.Call
	s, c := withStream(t, kinesislocal.Options{
		OnCall: func(c kinesislocal.Call) { mu.Lock(); defer mu.Unlock(); calls = append(calls, c) },
	}, 1)
	ctx := t.Context()
	if _, err := c.PutRecords(ctx, putInput(3, "x")); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(faulty(kinesislocal.Rule{RecordError: &kinesislocal.RecordError{}}))
	if _, err := c.PutRecords(ctx, putInput(2, "x")); err != nil {
		t.Fatal(err)
	}
	s.SetFaults(nil)
	it, err := c.GetShardIterator(ctx, &awskinesis.GetShardIteratorInput{
		StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: it.ShardIterator}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteStream(ctx, &awskinesis.DeleteStreamInput{StreamName: aws.String("none")}); err == nil {
		t.Error("deleted a stream that does not exist")
	}
	want := []kinesislocal.Call{
		{Operation: "PutRecords", Stream: "s", Outcome: "OK", Records: 3},
		{Operation: "PutRecords", Stream: "s", Outcome: "OK", Failed: 2},
		{Operation: "GetShardIterator", Stream: "s", Outcome: "OK"},
		{Operation: "GetRecords", Stream: "s", Outcome: "OK", Records: 3},
		{Operation: "DeleteStream", Outcome: "ResourceNotFoundException"},
	}
	mu.Lock()
	defer mu.Unlock()
	if len(calls) != len(want) {
		t.Fatalf("%+v", calls)
	}
	for i := range want {
		if calls[i] != want[i] {
			t.Errorf("call %d: %+v, want %+v", i, calls[i], want[i])
		}
	}
}

// DescribeStream returns the stream and its shards, in pages.
func TestDescribeStream(t *testing.T) {
	_, c := withStream(t, kinesislocal.Options{}, 3)
	in := &awskinesis.DescribeStreamInput{StreamName: aws.String("s"), Limit: aws.Int32(2)}
	first, err := c.DescribeStream(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	d := first.StreamDescription
	if d.StreamStatus != types.StreamStatusActive || *d.StreamARN != arn+"s" || len(d.Shards) != 2 || !*d.HasMoreShards {
		t.Errorf("first page: %+v", d)
	}
	in.ExclusiveStartShardId = d.Shards[1].ShardId
	second, err := c.DescribeStream(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if d := second.StreamDescription; len(d.Shards) != 1 || *d.HasMoreShards || *d.Shards[0].ShardId != "shardId-000000000002" {
		t.Errorf("second page: %+v", d)
	}
}

// With AnyRegion a request may be signed for another region.
func TestAnyRegion(t *testing.T) {
	for _, anyRegion := range []bool{false, true} {
		_, c := withStream(t, kinesislocal.Options{AnyRegion: anyRegion, Credentials: map[string]string{accessKey: secretKey}}, 1)
		_, err := c.ListStreams(t.Context(), &awskinesis.ListStreamsInput{}, func(o *awskinesis.Options) { o.Region = "eu-west-1" })
		if (err == nil) != anyRegion {
			t.Errorf("AnyRegion %v: %v", anyRegion, err)
		}
	}
}
