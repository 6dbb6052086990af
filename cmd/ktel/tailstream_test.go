//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// tail follows a resharding of ktel's own endpoint, which throttles reads and expires iterators.
func TestTailThroughReshard(t *testing.T) {
	t.Parallel()
	server := startKinesis(t, kinesislocal.Options{Faults: &kinesislocal.Faults{Seed: 1, Rules: []kinesislocal.Rule{
		{Operation: "GetRecords", ErrorType: "ProvisionedThroughputExceededException", Probability: 0.2},
		{Operation: "GetRecords", ErrorType: "ExpiredIteratorException", Probability: 0.2, From: 3},
	}}})
	tailThroughReshard(t, server.URL())
	outcomes := server.Stats().Operations["GetRecords"].Outcomes
	if outcomes["ExpiredIteratorException"] == 0 || outcomes["ProvisionedThroughputExceededException"] == 0 {
		t.Errorf("no request had a fault: %v", outcomes)
	}
}

// --since and --until are exact to the millisecond.
func TestTailSince(t *testing.T) {
	t.Parallel()
	tailSince(t, startKinesis(t, kinesislocal.Options{}).URL())
}

// tail follows a resharding of independent emulators, which .ci/run installs.
func TestConformanceTailKinesisLocal(t *testing.T) {
	folder := os.Getenv("KINESIS_LOCAL")
	if folder == "" && os.Getenv("CONFORMANCE") == "required" {
		t.Fatal("KINESIS_LOCAL must name the folder of the npm package kinesis-local")
	}
	if folder == "" {
		t.Skip("KINESIS_LOCAL does not name the folder of the npm package kinesis-local; .ci/run installs it")
	}
	setEnviron(t, nil)
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	_, tls, _ := net.SplitHostPort(freePort(t))
	server := exec.Command("node", filepath.Join(folder, "main.js"))
	server.Env = append(os.Environ(), "KINESIS_MOCK_CERT_PATH="+filepath.Join(folder, "server.json"), "LOG_LEVEL=ERROR",
		"KINESIS_MOCK_PLAIN_PORT="+port, "KINESIS_MOCK_TLS_PORT="+tls)
	tailConforms(t, startServer(t, address, server))
}

// tail follows a resharding of moto, which .ci/run installs.
func TestConformanceTailMoto(t *testing.T) {
	setEnviron(t, nil)
	tailConforms(t, startMoto(t))
}

func tailConforms(t *testing.T, url string) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, string){"reshard": tailThroughReshard, "since": tailSince} {
		t.Run(name, func(t *testing.T) {
			client := kinesisClient(url)
			in := &awskinesis.CreateStreamInput{StreamName: aws.String("orders"), ShardCount: aws.Int32(2)}
			if _, err := client.CreateStream(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			waitActive(t, client)
			test(t, url)
			if _, err := client.DeleteStream(t.Context(), &awskinesis.DeleteStreamInput{StreamName: aws.String("orders")}); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "the stream is deleted", func() bool {
				_, err := client.DescribeStreamSummary(t.Context(), &awskinesis.DescribeStreamSummaryInput{StreamName: aws.String("orders")})
				return err != nil
			})
		})
	}
}

func kinesisClient(url string) *awskinesis.Client {
	return awskinesis.New(awskinesis.Options{
		Region: testRegion, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIATESTTESTTESTTEST", "secret", ""),
	})
}

func waitActive(t *testing.T, client *awskinesis.Client) {
	t.Helper()
	waitUntil(t, "the stream is active", func() bool {
		d, err := client.DescribeStreamSummary(t.Context(), &awskinesis.DescribeStreamSummaryInput{StreamName: aws.String("orders")})
		return err == nil && d.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
	})
}

// tailThroughReshard runs a function whose events go to the stream orders. While it runs, it splits both shards, and
// then merges the halves. tail must show each event once and in order. All events have one partition key, so the
// children of a shard continue with them.
func tailThroughReshard(t *testing.T, url string) {
	t.Helper()
	dir, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	client := kinesisClient(url)
	tail := startTail(t, "orders", "--endpoint-url", url, "--since", "1m", "-o", "ndjson")
	produced := make(chan string, 1)
	go func() {
		status, _, stderr := runKtel(t, "run", patient, "-n", "30", "--freeze", "150ms", "-q", "--endpoint-url", url, "--stream", "orders",
			"--env", "KINESIS_TELEMETRY_DELIVERY=sync", "--layer-extension", filepath.Join(dir, "kinesis-telemetry-extension"),
			"--event", `{"text":3,"json":2}`, "--", filepath.Join(dir, "hello"))
		if status == 0 {
			stderr = ""
		}
		produced <- stderr
	}()
	events := func() int { return strings.Count(tail.out(), "\n") }
	waitUntil(t, "the first events", func() bool { return events() > 20 })
	split(t, client)
	waitUntil(t, "events after the split", func() bool { return events() > 90 })
	merge(t, client)
	if failure := <-produced; failure != "" {
		t.Errorf("ktel run: %s", failure)
	}
	var want int
	waitUntil(t, "the last event", func() bool {
		for line := range strings.Lines(tail.out()) {
			var e struct {
				Type   string
				Record json.RawMessage
				Seq    int
			}
			if json.Unmarshal([]byte(line), &e) == nil && e.Type == "kinesis-telemetry.stats" {
				want = e.Seq + 1
			}
		}
		return want > 0
	})
	time.Sleep(3 * time.Second) // any duplicate would be shown now
	tail.cancel()
	<-tail.status
	var seqs []int
	for line := range strings.Lines(tail.out()) {
		var e struct{ Seq int }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, e.Seq)
	}
	if !slices.IsSorted(seqs) || len(slices.Compact(slices.Clone(seqs))) != want || len(seqs) != want {
		t.Errorf("%d events of %d: %v", len(seqs), want, seqs)
	}
	if stderr := tail.stderr.String(); strings.Contains(stderr, "error") {
		t.Error(stderr)
	}
}

// openShards returns the open shards in the order of their hash keys.
func openShards(t *testing.T, client *awskinesis.Client) []types.Shard {
	t.Helper()
	waitActive(t, client)
	answer, err := client.ListShards(t.Context(), &awskinesis.ListShardsInput{StreamName: aws.String("orders")})
	if err != nil {
		t.Fatal(err)
	}
	shards := slices.DeleteFunc(answer.Shards, func(sh types.Shard) bool { return sh.SequenceNumberRange.EndingSequenceNumber != nil })
	slices.SortFunc(shards, func(a, b types.Shard) int {
		x, y := fmt.Sprintf("%039s", *a.HashKeyRange.StartingHashKey), fmt.Sprintf("%039s", *b.HashKeyRange.StartingHashKey)
		return strings.Compare(x, y)
	})
	return shards
}

// split splits both shards in the middle.
func split(t *testing.T, client *awskinesis.Client) {
	t.Helper()
	shards := openShards(t, client)
	for i, middle := range []string{"85070591730234615865843651857942052864", "255211775190703847597530955573826158592"} {
		if _, err := client.SplitShard(t.Context(), &awskinesis.SplitShardInput{
			StreamName: aws.String("orders"), ShardToSplit: shards[i].ShardId, NewStartingHashKey: &middle,
		}); err != nil {
			t.Fatal(err)
		}
		waitActive(t, client)
	}
}

// merge merges the four shards to two.
func merge(t *testing.T, client *awskinesis.Client) {
	t.Helper()
	shards := openShards(t, client)
	for i := 0; i < 4; i += 2 {
		if _, err := client.MergeShards(t.Context(), &awskinesis.MergeShardsInput{
			StreamName: aws.String("orders"), ShardToMerge: shards[i].ShardId, AdjacentShardToMerge: shards[i+1].ShardId,
		}); err != nil {
			t.Fatal(err)
		}
		waitActive(t, client)
	}
}

// tailSince checks that --since and --until are exact to the millisecond.
func tailSince(t *testing.T, url string) {
	t.Helper()
	client := kinesisClient(url)
	const count = 12
	for seq := range count {
		if _, err := client.PutRecord(t.Context(), &awskinesis.PutRecordInput{
			StreamName: aws.String("orders"), PartitionKey: aws.String("k"), Data: event(seq, "checkout", "function", requestA, `"x"`),
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	var arrived []time.Time
	for _, shard := range openShards(t, client) {
		in := awskinesis.GetShardIteratorInput{ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
		records := readFrom(t, client, in)
		for _, r := range records {
			arrived = append(arrived, r.ApproximateArrivalTimestamp.Truncate(time.Millisecond))
		}
		if len(records) == count { // log whether the endpoint's AT_TIMESTAMP is exact
			in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &arrived[5]
			at := readFrom(t, client, in)
			t.Logf("AT_TIMESTAMP of the sixth of %d records gives %d", count, len(at))
		}
	}
	if len(arrived) != count {
		t.Fatalf("%d records", len(arrived))
	}
	// Some endpoints have times of whole seconds: records of the same second cannot be separated.
	from := func(at time.Time) int {
		return slices.IndexFunc(arrived, func(a time.Time) bool { return !a.Before(at) })
	}
	for _, i := range []int{0, 1, 5, count - 1} {
		for _, j := range []int{i + 1, count} {
			args, end := []string{"tail", "orders", "--endpoint-url", url, "--no-follow", "-o", "ndjson"}, count
			args = append(args, "--since", arrived[i].UTC().Format(time.RFC3339Nano))
			if j < count && arrived[j].After(arrived[i]) {
				args, end = append(args, "--until", arrived[j].UTC().Format(time.RFC3339Nano)), from(arrived[j])
			}
			status, stdout, stderr := runKtel(t, args...)
			if want := end - from(arrived[i]); status != 0 || strings.Count(stdout, "\n") != want {
				t.Errorf("%q: exit status %d, %d events, want %d: %s", args, status, strings.Count(stdout, "\n"), want, stderr)
			}
		}
	}
}

func readFrom(t *testing.T, client *awskinesis.Client, in awskinesis.GetShardIteratorInput) []types.Record {
	t.Helper()
	in.StreamName = aws.String("orders")
	iterator, err := client.GetShardIterator(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.GetRecords(t.Context(), &awskinesis.GetRecordsInput{ShardIterator: iterator.ShardIterator})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Records
}
