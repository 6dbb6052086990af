package kinesislocal_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

func shardID(n int) *string { return aws.String(fmt.Sprintf("shardId-%012d", n)) }

// After a split, and a merge of one half with its neighbour, records go to the new shards, ListShards filters them, and the
// reader of a closed shard gets its children.
func TestReshard(t *testing.T) {
	clk := newClock()
	_, c := withStream(t, kinesislocal.Options{Now: clk.now}, 2)
	ctx, stream := t.Context(), aws.String("s")
	half := new(big.Int).Lsh(big.NewInt(1), 127)
	quarter, three := new(big.Int).Rsh(half, 1), new(big.Int).Add(half, big.NewInt(3))
	put := func(hash *big.Int) string {
		t.Helper()
		out, err := c.PutRecord(ctx, &awskinesis.PutRecordInput{
			StreamName:      stream,
			PartitionKey:    aws.String("k"),
			ExplicitHashKey: aws.String(hash.String()),
			Data:            []byte("x"),
		})
		if err != nil {
			t.Fatal(err)
		}
		return *out.ShardId
	}
	list := func(f *types.ShardFilter) []string {
		t.Helper()
		var ids []string
		for in := (&awskinesis.ListShardsInput{StreamName: stream, ShardFilter: f, MaxResults: aws.Int32(2)}); ; {
			out, err := c.ListShards(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, sh := range out.Shards {
				ids = append(ids, (*sh.ShardId)[len(*sh.ShardId)-1:])
			}
			if out.NextToken == nil {
				return ids
			}
			in = &awskinesis.ListShardsInput{NextToken: out.NextToken}
		}
	}
	began := clk.now()
	put(quarter)
	clk.advance(time.Second)
	if _, err := c.SplitShard(ctx, &awskinesis.SplitShardInput{
		StreamName:         stream,
		ShardToSplit:       shardID(0),
		NewStartingHashKey: aws.String(quarter.String()),
	}); err != nil {
		t.Fatal(err)
	}
	split := clk.now()
	clk.advance(time.Second)
	if got := put(quarter); got != *shardID(3) {
		t.Errorf("the start of the upper half is in %s", got)
	}
	if got := put(new(big.Int).Sub(quarter, big.NewInt(1))); got != *shardID(2) {
		t.Errorf("the end of the lower half is in %s", got)
	}
	if _, err := c.MergeShards(ctx, &awskinesis.MergeShardsInput{
		StreamName:           stream,
		ShardToMerge:         shardID(1),
		AdjacentShardToMerge: shardID(3),
	}); err != nil {
		t.Fatal(err)
	}
	for _, hash := range []*big.Int{quarter, three} {
		if got := put(hash); got != *shardID(4) {
			t.Errorf("%s is in %s", hash, got)
		}
	}
	for _, test := range []struct {
		filter types.ShardFilterType
		at     *time.Time
		want   []string
	}{
		{types.ShardFilterTypeAtLatest, nil, []string{"2", "4"}},
		{types.ShardFilterTypeAtTrimHorizon, nil, []string{"0", "1"}},
		{types.ShardFilterTypeFromTrimHorizon, nil, []string{"0", "1", "2", "3", "4"}},
		{types.ShardFilterTypeAtTimestamp, &began, []string{"0", "1"}},
		{types.ShardFilterTypeFromTimestamp, aws.Time(split.Add(time.Millisecond)), []string{"1", "2", "3", "4"}},
	} {
		if got := list(&types.ShardFilter{Type: test.filter, Timestamp: test.at}); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.filter, got, test.want)
		}
	}
	iterator, err := c.GetShardIterator(ctx, &awskinesis.GetShardIteratorInput{
		StreamName:        stream,
		ShardId:           shardID(3),
		ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator})
	if err != nil || len(got.Records) != 1 || got.NextShardIterator != nil || len(got.ChildShards) != 1 ||
		*got.ChildShards[0].ShardId != *shardID(4) || !slices.Equal(got.ChildShards[0].ParentShards, []string{*shardID(1), *shardID(3)}) {
		t.Errorf("the end of a closed shard: %+v, %v", got, err)
	}
	_, err = c.SplitShard(ctx, &awskinesis.SplitShardInput{StreamName: stream, ShardToSplit: shardID(0), NewStartingHashKey: aws.String("7")})
	wantCode(t, err, "ResourceInUseException", 400)
	_, err = c.SplitShard(ctx, &awskinesis.SplitShardInput{
		StreamName:         stream,
		ShardToSplit:       shardID(2),
		NewStartingHashKey: aws.String(half.String()),
	})
	wantCode(t, err, "InvalidArgumentException", 400)
	_, err = c.MergeShards(ctx, &awskinesis.MergeShardsInput{StreamName: stream, ShardToMerge: shardID(2), AdjacentShardToMerge: shardID(9)})
	wantCode(t, err, "ResourceNotFoundException", 400)
}
