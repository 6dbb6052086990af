package kinesislocal_test

import (
	"crypto/md5" // Kinesis's hash
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

const arn = "arn:aws:kinesis:us-east-1:123456789012:stream/"

// The SDK's client creates, lists, describes and deletes streams, with AWS's errors.
func TestControlOperations(t *testing.T) {
	s := start(t, kinesislocal.Options{})
	c, ctx := client(t, s), t.Context()
	for _, name := range []string{"b", "a", "c"} {
		in := &awskinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(3), MaxRecordSizeInKiB: aws.Int32(2048)}
		if _, err := c.CreateStream(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateStream(ctx, &awskinesis.CreateStreamInput{StreamName: aws.String("a"), ShardCount: aws.Int32(1)})
	if e := (*types.ResourceInUseException)(nil); !errors.As(err, &e) || *e.Message != "Stream a under account 123456789012 already exists." {
		t.Errorf("second CreateStream: %v", err)
	}
	if err := s.CreateStream("a", 1); err == nil {
		t.Error("second Server.CreateStream succeeded")
	}
	_, err = c.CreateStream(ctx, &awskinesis.CreateStreamInput{StreamName: aws.String("d"), ShardCount: aws.Int32(20000)})
	if e := (*types.LimitExceededException)(nil); !errors.As(err, &e) {
		t.Errorf("CreateStream over the quota: %v", err)
	}

	var names []string
	for p := awskinesis.NewListStreamsPaginator(c, &awskinesis.ListStreamsInput{Limit: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, page.StreamNames...)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("ListStreams: %q", names)
	}

	d, err := c.DescribeStreamSummary(ctx, &awskinesis.DescribeStreamSummaryInput{StreamARN: aws.String(arn + "b")})
	if err != nil {
		t.Fatal(err)
	}
	sum := d.StreamDescriptionSummary
	if *sum.StreamName != "b" || *sum.StreamARN != arn+"b" || sum.StreamStatus != types.StreamStatusActive || *sum.OpenShardCount != 3 ||
		sum.EncryptionType != types.EncryptionTypeNone || *sum.MaxRecordSizeInKiB != 2048 ||
		sum.StreamModeDetails.StreamMode != types.StreamModeProvisioned {
		t.Errorf("DescribeStreamSummary: %+v", sum)
	}

	if _, err := c.DeleteStream(ctx, &awskinesis.DeleteStreamInput{StreamName: aws.String("b")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeStreamSummary(ctx, &awskinesis.DescribeStreamSummaryInput{StreamName: aws.String("b")})
	if e := (*types.ResourceNotFoundException)(nil); !errors.As(err, &e) || *e.Message != "Stream b under account 123456789012 not found." {
		t.Errorf("DescribeStreamSummary of a deleted stream: %v", err)
	}

	on := &awskinesis.CreateStreamInput{
		StreamName:        aws.String("on-demand"),
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand},
	}
	if _, err := c.CreateStream(ctx, on); err != nil {
		t.Fatal(err)
	}
	if list, err := c.ListShards(ctx, &awskinesis.ListShardsInput{StreamName: on.StreamName}); err != nil || len(list.Shards) != 4 {
		t.Errorf("shards of an on-demand stream: %v, %v", list, err)
	}
}

// Three shards have AWS's ranges of hash keys, and a record goes to the shard of its key, also at the borders.
func TestShards(t *testing.T) {
	s, c := withStream(t, kinesislocal.Options{}, 3)
	ctx := t.Context()
	want := [][2]string{
		{"0", "113427455640312821154458202477256070484"},
		{"113427455640312821154458202477256070485", "226854911280625642308916404954512140969"},
		{"226854911280625642308916404954512140970", "340282366920938463463374607431768211455"},
	}
	var shards []types.Shard
	for in := (&awskinesis.ListShardsInput{StreamName: aws.String("s"), MaxResults: aws.Int32(2)}); ; {
		page, err := c.ListShards(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, page.Shards...)
		if page.NextToken == nil {
			break
		}
		in = &awskinesis.ListShardsInput{NextToken: page.NextToken}
	}
	if len(shards) != 3 {
		t.Fatalf("%d shards", len(shards))
	}
	in := &awskinesis.PutRecordsInput{StreamName: aws.String("s")}
	var to []string
	for i, sh := range shards {
		if *sh.HashKeyRange.StartingHashKey != want[i][0] || *sh.HashKeyRange.EndingHashKey != want[i][1] ||
			*sh.ShardId != fmt.Sprintf("shardId-%012d", i) {
			t.Errorf("shard %d is %s, %+v", i, *sh.ShardId, sh.HashKeyRange)
		}
		for _, key := range want[i] {
			in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), ExplicitHashKey: &key})
			to = append(to, *sh.ShardId)
		}
	}
	for i := range 50 {
		key := fmt.Sprintf("clé %d", i)
		sum := md5.Sum([]byte(key))
		hash := new(big.Int).SetBytes(sum[:])
		n := slices.IndexFunc(shards, func(sh types.Shard) bool {
			end, _ := new(big.Int).SetString(*sh.HashKeyRange.EndingHashKey, 10)
			return hash.Cmp(end) <= 0
		})
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: &key})
		to = append(to, *shards[n].ShardId)
	}
	for i := range in.Records {
		in.Records[i].Data = []byte{}
	}
	out, err := c.PutRecords(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range out.Records {
		if *r.ShardId != to[i] {
			t.Errorf("record %d went to %s, not %s", i, *r.ShardId, to[i])
		}
	}
	if r := s.Records("s")[1]; r.ExplicitHashKey != want[0][1] {
		t.Errorf("stored %+v", r)
	}
	after, err := c.ListShards(ctx, &awskinesis.ListShardsInput{StreamName: aws.String("s"), ExclusiveStartShardId: shards[1].ShardId})
	if err != nil || len(after.Shards) != 1 || *after.Shards[0].ShardId != *shards[2].ShardId {
		t.Errorf("shards after the second: %v, %v", after, err)
	}
}

// clock is a stopped clock. It begins with the real time, so that the SDK's signatures are valid.
type clock struct {
	base    time.Time
	forward atomic.Int64
}

func newClock() *clock { return &clock{base: time.Now()} }

func (c *clock) now() time.Time          { return c.base.Add(time.Duration(c.forward.Load())) }
func (c *clock) advance(d time.Duration) { c.forward.Add(int64(d)) }

// Iterators of every type begin at their position, expire after five minutes, and are checked.
func TestIterators(t *testing.T) {
	clk := newClock()
	s, c := withStream(t, kinesislocal.Options{Now: clk.now}, 1)
	ctx, url := t.Context(), s.URL()
	var numbers []string
	var times []time.Time
	put := func() {
		out, err := c.PutRecord(ctx, &awskinesis.PutRecordInput{
			StreamARN:    aws.String(arn + "s"),
			PartitionKey: aws.String("k"),
			Data:         []byte{byte(len(numbers))},
		})
		if err != nil {
			t.Fatal(err)
		}
		numbers, times = append(numbers, *out.SequenceNumber), append(times, clk.now())
		clk.advance(time.Second)
	}
	iterator := func(in awskinesis.GetShardIteratorInput) (*string, error) {
		in.StreamName, in.ShardId = aws.String("s"), aws.String("shardId-000000000000")
		out, err := c.GetShardIterator(ctx, &in)
		if err != nil {
			return nil, err
		}
		return out.ShardIterator, nil
	}
	for range 4 {
		put()
	}
	latest, err := iterator(awskinesis.GetShardIteratorInput{ShardIteratorType: types.ShardIteratorTypeLatest})
	if err != nil {
		t.Fatal(err)
	}
	put()
	for name, test := range map[string]struct {
		in    awskinesis.GetShardIteratorInput
		first byte
	}{
		"horizon": {awskinesis.GetShardIteratorInput{ShardIteratorType: types.ShardIteratorTypeTrimHorizon}, 0},
		"at": {
			awskinesis.GetShardIteratorInput{ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: &numbers[2]},
			2,
		},
		"after": {
			awskinesis.GetShardIteratorInput{ShardIteratorType: types.ShardIteratorTypeAfterSequenceNumber, StartingSequenceNumber: &numbers[2]},
			3,
		},
		"time": {awskinesis.GetShardIteratorInput{
			ShardIteratorType: types.ShardIteratorTypeAtTimestamp,
			Timestamp:         aws.Time(times[1].Add(time.Millisecond)),
		}, 2},
		"exact time": {awskinesis.GetShardIteratorInput{
			ShardIteratorType: types.ShardIteratorTypeAtTimestamp,
			Timestamp:         aws.Time(times[1].Truncate(time.Millisecond)),
		}, 1},
	} {
		it, err := iterator(test.in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: it})
		if err != nil || len(got.Records) == 0 || got.Records[0].Data[0] != test.first {
			t.Errorf("%s: got %+v, %v, want record %d first", name, got, err, test.first)
		}
	}
	got, err := c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: latest})
	if err != nil || len(got.Records) != 1 || got.Records[0].Data[0] != 4 || *got.MillisBehindLatest != 0 {
		t.Errorf("latest: %+v, %v", got, err)
	}
	horizon, err := iterator(awskinesis.GetShardIteratorInput{ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		t.Fatal(err)
	}
	got, err = c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: horizon, Limit: aws.Int32(2)})
	if err != nil || len(got.Records) != 2 || *got.MillisBehindLatest != 3000 {
		t.Errorf("two of five records: %+v, %v", got, err)
	}

	_, err = iterator(awskinesis.GetShardIteratorInput{
		ShardIteratorType:      types.ShardIteratorTypeAtSequenceNumber,
		StartingSequenceNumber: aws.String("5"),
	})
	wantCode(t, err, "InvalidArgumentException", 400)
	_, err = iterator(awskinesis.GetShardIteratorInput{
		ShardIteratorType: types.ShardIteratorTypeAtTimestamp,
		Timestamp:         aws.Time(clk.now().Add(time.Hour)),
	})
	wantCode(t, err, "InvalidArgumentException", 400)
	_, err = c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: aws.String("AAAA")})
	wantCode(t, err, "InvalidArgumentException", 400)
	clk.advance(5*time.Minute + time.Second)
	a := send(t, signedAt(t, clk.now(), url, "GetRecords", `{"ShardIterator":"`+*horizon+`"}`))
	if a.code != "ExpiredIteratorException" {
		t.Errorf("an iterator older than five minutes: %d %s", a.status, a.code)
	}
}

// GetRecords returns at most 10 MiB.
func TestGetRecordsSize(t *testing.T) {
	_, c := withStream(t, kinesislocal.Options{ShardBytesPerSecond: -1}, 1)
	for range 3 {
		in := putInput(4, "")
		for i := range in.Records {
			in.Records[i].Data = make([]byte, 1<<20-16)
		}
		if _, err := c.PutRecords(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	it, err := c.GetShardIterator(t.Context(), &awskinesis.GetShardIteratorInput{
		StreamName: aws.String("s"), ShardId: aws.String("shardId-000000000000"), ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GetRecords(t.Context(), &awskinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil || len(got.Records) != 10 {
		t.Fatalf("%d records of 12 MiB in one reply, %v, want 10", len(got.Records), err)
	}
	rest, err := c.GetRecords(t.Context(), &awskinesis.GetRecordsInput{ShardIterator: got.NextShardIterator})
	if err != nil || len(rest.Records) != 2 {
		t.Fatalf("%d records in the second reply, %v, want 2", len(rest.Records), err)
	}
}

// A shard throttles the records above its limits of records and bytes per second.
func TestThrottling(t *testing.T) {
	clk := newClock()
	s, c := withStream(t, kinesislocal.Options{Now: clk.now}, 1)
	ctx := t.Context()
	put := func(in *awskinesis.PutRecordsInput) int {
		t.Helper()
		out, err := c.PutRecords(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		failed := 0
		for _, r := range out.Records {
			if r.ErrorCode == nil {
				continue
			}
			failed++
			if *r.ErrorCode != "ProvisionedThroughputExceededException" || r.SequenceNumber != nil ||
				*r.ErrorMessage != "Rate exceeded for shard shardId-000000000000 in stream s under account 123456789012." {
				t.Fatalf("failed record %s: %s", *r.ErrorCode, *r.ErrorMessage)
			}
		}
		if failed != int(*out.FailedRecordCount) {
			t.Fatalf("FailedRecordCount %d of %d", *out.FailedRecordCount, failed)
		}
		return failed
	}
	for i, want := range []int{0, 0, 500} {
		if got := put(putInput(500, "x")); got != want {
			t.Errorf("PutRecords %d of the same moment: %d failed, want %d", i, got, want)
		}
	}
	_, err := c.PutRecord(ctx, &awskinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("x")})
	if e := (*types.ProvisionedThroughputExceededException)(nil); !errors.As(err, &e) {
		t.Errorf("PutRecord over the limit: %v", err)
	}
	clk.advance(100 * time.Millisecond)
	if got := put(putInput(500, "x")); got != 400 {
		t.Errorf("a tenth of a second later %d failed, want 400", got)
	}

	clk.advance(time.Second)
	large := func(sizes ...int) *awskinesis.PutRecordsInput {
		in := putInput(len(sizes), "")
		for i, n := range sizes {
			in.Records[i].Data = make([]byte, n-len(*in.Records[i].PartitionKey))
		}
		return in
	}
	// A throttled record does not stop a smaller one behind it.
	if got := put(large(1<<19, 1<<19+1, 1<<19, 10)); got != 2 {
		t.Errorf("1 MiB and a little more: %d failed, want 2", got)
	}
	const throttled = 500 + 400 + 2
	if got := s.Stats().Operations["PutRecords"].Records["ProvisionedThroughputExceededException"].Count; got != throttled {
		t.Errorf("Stats counts %d throttled records, want %d", got, throttled)
	}
}

// A record larger than a second's limit empties the bucket and leaves a debt.
func TestLargeRecordBurst(t *testing.T) {
	clk := newClock()
	s := start(t, kinesislocal.Options{Now: clk.now})
	c, ctx := client(t, s), t.Context()
	create := &awskinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1), MaxRecordSizeInKiB: aws.Int32(4096)}
	if _, err := c.CreateStream(ctx, create); err != nil {
		t.Fatal(err)
	}
	put := func(n int) error {
		_, err := c.PutRecord(ctx, &awskinesis.PutRecordInput{
			StreamName:   aws.String("s"),
			PartitionKey: aws.String("k"),
			Data:         make([]byte, n-1),
		})
		return err
	}
	if err := put(3 << 20); err != nil {
		t.Fatal(err)
	}
	clk.advance(2 * time.Second)
	if err := put(1024); err == nil {
		t.Error("two seconds after 3 MiB a record is stored in spite of the debt")
	}
	clk.advance(time.Second / 2)
	if err := put(1024); err != nil {
		t.Errorf("two and a half seconds after 3 MiB: %v", err)
	}
	wantCode(t, put(4<<20+1), "ValidationException", 400)
}

// Invalid requests are rejected with AWS's errors and store nothing. Requests at the limits succeed.
func TestInvalidRequests(t *testing.T) {
	s, _ := withStream(t, kinesislocal.Options{}, 1)
	if err := s.CreateStream("other", 1); err != nil {
		t.Fatal(err)
	}
	records := func(n int, record string) string {
		return `{"StreamName":"s","Records":[` + strings.TrimSuffix(strings.Repeat(record+",", n), ",") + `]}`
	}
	one := func(record string) string { return records(1, record) }
	const ok = `{"Data":"eA==","PartitionKey":"k"}`
	data := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	at := func(key, tail string) string { return `{"` + key + `":"` + tail + `","Records":[` + ok + `]}` }
	for name, test := range map[string]struct{ operation, body, code, message string }{
		"broken JSON":      {"PutRecords", `{"StreamName":"s"`, "SerializationException", ""},
		"empty body":       {"PutRecords", ``, "SerializationException", ""},
		"not an object":    {"PutRecords", `[]`, "SerializationException", ""},
		"number for name":  {"PutRecords", `{"StreamName":1}`, "SerializationException", "String"},
		"bad base64":       {"PutRecords", one(`{"Data":"e?==","PartitionKey":"k"}`), "SerializationException", "Base64"},
		"base64 length":    {"PutRecords", one(`{"Data":"eA=","PartitionKey":"k"}`), "SerializationException", "multiple of 4"},
		"base64 last bits": {"PutRecords", one(`{"Data":"eB==","PartitionKey":"k"}`), "SerializationException", "Base64"},
		"base64 line end":  {"PutRecords", one(`{"Data":"\neA=\r=\n","PartitionKey":"k"}`), "SerializationException", "Base64"},
		"array for blob":   {"PutRecords", one(`{"Data":[1,2],"PartitionKey":"k"}`), "SerializationException", "Blob"},
		"invalid UTF-8":    {"PutRecords", one("{\"Data\":\"eA==\",\"PartitionKey\":\"\xff\"}"), "SerializationException", "UTF-8"},
		"lower case": {
			"PutRecords",
			`{"StreamName":"s","records":[` + ok + `]}`,
			"ValidationException",
			"'records' failed to satisfy constraint: Member must not be null",
		},
		"no records":  {"PutRecords", `{"StreamName":"s","Records":[]}`, "ValidationException", "greater than or equal to 1"},
		"501 records": {"PutRecords", records(501, ok), "ValidationException", "less than or equal to 500"},
		"no data":     {"PutRecords", one(`{"PartitionKey":"k"}`), "ValidationException", "'records.1.member.data'"},
		"no key": {
			"PutRecords",
			one(`{"Data":"eA==","PartitionKey":null}`),
			"ValidationException",
			"'records.1.member.partitionKey'",
		},
		"empty key": {"PutRecords", one(`{"Data":"eA==","PartitionKey":""}`), "ValidationException", "greater than or equal to 1"},
		"257 characters": {
			"PutRecords",
			one(`{"Data":"eA==","PartitionKey":"` + strings.Repeat("ä", 257) + `"}`),
			"ValidationException",
			"less than or equal to 256",
		},
		"hash not a number": {
			"PutRecords",
			one(`{"Data":"eA==","PartitionKey":"k","ExplicitHashKey":"-1"}`),
			"ValidationException",
			"explicitHashKey",
		},
		"hash 2^128": {
			"PutRecords",
			one(`{"Data":"eA==","PartitionKey":"k","ExplicitHashKey":"340282366920938463463374607431768211456"}`),
			"InvalidArgumentException",
			"[0, 2^128-1]",
		},
		"1 MiB and 1": {
			"PutRecords",
			one(`{"Data":"` + data(1<<20) + `","PartitionKey":"k"}`),
			"ValidationException",
			"'records.1.member.data' failed to satisfy constraint: Member must have length less than or equal to 1048576",
		},
		"5 MiB and 1": {
			"PutRecords",
			records(5, `{"Data":"`+data(1<<20-1)+`","PartitionKey":"k"},{"Data":"","PartitionKey":"k"}`),
			"InvalidArgumentException",
			"Records size exceeds 5 MB limit",
		},
		"no stream": {"PutRecords", `{"Records":[` + ok + `]}`, "InvalidArgumentException", "StreamName or StreamARN"},
		"unknown stream": {
			"PutRecords",
			at("StreamName", "x"),
			"ResourceNotFoundException",
			"Stream x under account 123456789012 not found.",
		},
		"bad name": {"PutRecords", at("StreamName", "a/b"), "ValidationException", "[a-zA-Z0-9_.-]+"},
		"bad ARN":  {"PutRecords", at("StreamARN", "s"), "ValidationException", "streamARN"},
		"ARN, other account": {
			"PutRecords",
			at("StreamARN", "arn:aws:kinesis:us-east-1:210987654321:stream/s"),
			"AccessDeniedException",
			"kinesis:PutRecords on resource: arn:aws:kinesis:us-east-1:210987654321:stream/s",
		},
		"ARN, other region": {
			"PutRecords",
			at("StreamARN", "arn:aws:kinesis:eu-west-1:123456789012:stream/s"),
			"ResourceNotFoundException",
			"not found",
		},
		"ARN and name": {
			"PutRecords",
			`{"StreamName":"other","StreamARN":"` + arn + `s","Records":[` + ok + `]}`,
			"InvalidArgumentException",
			"do not name the same",
		},
		"dry run": {
			"PutRecords",
			`{"StreamName":"s","DryRun":true,"Records":[` + ok + `]}`,
			"DryRunOperationException",
			"would have succeeded",
		},
		"dry run, invalid": {"PutRecords", `{"StreamName":"x","DryRun":true,"Records":[` + ok + `]}`, "ResourceNotFoundException", ""},
		"dry run, one":     {"PutRecord", `{"StreamName":"s","DryRun":true,"Data":"eA==","PartitionKey":"k"}`, "DryRunOperationException", ""},
		"dry iterator": {
			"GetShardIterator",
			`{"StreamName":"s","DryRun":true,"ShardId":"shardId-000000000000","ShardIteratorType":"LATEST"}`,
			"DryRunOperationException",
			"",
		},
		"unknown shard": {
			"GetShardIterator",
			`{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"LATEST"}`,
			"ResourceNotFoundException",
			"does not exist",
		},
		"unknown type": {
			"GetShardIterator",
			`{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"LAST"}`,
			"ValidationException",
			"enum value set",
		},
		"limit 0":      {"GetRecords", `{"ShardIterator":"x","Limit":0}`, "ValidationException", "'limit'"},
		"limit 10,001": {"GetRecords", `{"ShardIterator":"x","Limit":10001}`, "InvalidArgumentException", "10000"},
		"no shards":    {"CreateStream", `{"StreamName":"n"}`, "ValidationException", "'shardCount'"},
		"record size": {
			"CreateStream",
			`{"StreamName":"n","ShardCount":1,"MaxRecordSizeInKiB":10241}`,
			"ValidationException",
			"'maxRecordSizeInKiB'",
		},
		"stream mode": {"CreateStream", `{"StreamName":"n","StreamModeDetails":{"StreamMode":"x"}}`, "ValidationException", "streamMode"},
		"not emulated": {
			"CreateStream",
			`{"StreamName":"n","RecordDistributionStrategy":"AUTO"}`,
			"InvalidArgumentException",
			"not emulated",
		},
		"unknown operation": {"PutRecrods", `{}`, "UnknownOperationException", ""},
		"other operation":   {"UpdateShardCount", `{}`, "UnknownOperationException", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := send(t, signed(t, s.URL(), test.operation, test.body))
			if a.status != http.StatusBadRequest || a.code != test.code || !strings.Contains(a.message, test.message) {
				t.Errorf("got %d %s: %s, want %s: %s", a.status, a.code, a.message, test.code, test.message)
			}
			if a.header.Get("X-Amzn-Requestid") == "" || a.header.Get("Date") == "" || a.header.Get("Content-Type") != "application/x-amz-json-1.1" {
				t.Errorf("header %v", a.header)
			}
		})
	}
	if got := s.Records("s"); len(got) != 0 {
		t.Errorf("rejected requests stored %d records", len(got))
	}
	if got := s.Stats().Operations["PutRecords"].Outcomes["SerializationException"]; got != 10 {
		t.Errorf("Stats counts %d SerializationExceptions of PutRecords, want 10", got)
	}
	// Requests at the limits.
	for name, body := range map[string]string{
		"256 characters": one(`{"Data":"","PartitionKey":"` + strings.Repeat("語", 256) + `"}`),
		"escapes":        one(`{"Data":"\/\/\/\u002f","PartitionKey":"\u00e4\"\n"}`),
		"hash 2^128-1":   one(`{"Data":"eA==","PartitionKey":"k","ExplicitHashKey":"340282366920938463463374607431768211455"}`),
		"500 records":    records(500, ok),
	} {
		a := send(t, signed(t, s.URL(), "PutRecords", body))
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"FailedRecordCount":0`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	i := slices.IndexFunc(s.Records("s"), func(r kinesislocal.Record) bool { return r.PartitionKey == "ä\"\n" })
	if i < 0 || string(s.Records("s")[i].Data) != "\xff\xff\xff" {
		t.Error("the record with escapes is not stored unescaped")
	}
}

// MaxRequestBytes allows larger requests, and a body above its limit is rejected.
func TestRequestSizes(t *testing.T) {
	s, c := withStream(t, kinesislocal.Options{MaxRequestBytes: 10 << 20, ShardBytesPerSecond: -1}, 1)
	in := putInput(10, "")
	for i := range in.Records {
		in.Records[i].Data = make([]byte, 1<<20-len(*in.Records[i].PartitionKey))
	}
	if out, err := c.PutRecords(t.Context(), in); err != nil || *out.FailedRecordCount != 0 {
		t.Errorf("10 MiB: %v", err)
	}
	big := signed(t, s.URL(), "PutRecords", strings.Repeat(" ", 17<<20))
	if a := send(t, big); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("17 MiB of body: %d %s", a.status, a.code)
	}
}
