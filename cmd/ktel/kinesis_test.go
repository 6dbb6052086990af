//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// kinesisCommand is a running 'ktel kinesis' in this process.
type kinesisCommand struct {
	url     string
	welcome string
	env     []string    // variables that the welcome has users export
	lines   chan string // of its standard output after the welcome
	cancel  context.CancelFunc
	status  chan int
}

func startKinesisCommand(t *testing.T, args ...string) *kinesisCommand {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	k := &kinesisCommand{lines: make(chan string, 10000), cancel: cancel, status: make(chan int, 1)}
	var stderr strings.Builder
	go func() {
		k.status <- run(ctx, append([]string{"kinesis", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), write, &stderr)
		_ = write.Close()
	}()
	first := make(chan string, 1)
	go func() {
		defer close(k.lines)
		scanner := bufio.NewScanner(read)
		scanner.Scan()
		first <- scanner.Text()
		for scanner.Scan() {
			k.lines <- scanner.Text()
		}
	}()
	line := <-first
	url, ok := strings.CutPrefix(line, "Kinesis at ")
	if !ok {
		t.Fatalf("first line %q, status %d, standard error %s", line, <-k.status, stderr.String())
	}
	k.url = url
	for line := range k.lines {
		if variables, ok := strings.CutPrefix(line, "  export "); ok {
			k.env = append(k.env, strings.Fields(variables)...)
		}
		k.welcome += line + "\n"
		if strings.HasPrefix(line, "Ctrl-C stops it") {
			break
		}
	}
	t.Cleanup(func() { k.end(t) })
	return k
}

// end interrupts the command and returns all lines that it printed.
func (k *kinesisCommand) end(t *testing.T) []string {
	t.Helper()
	k.cancel()
	var lines []string
	for line := range k.lines {
		lines = append(lines, line)
	}
	select {
	case status := <-k.status:
		if status != 0 {
			t.Errorf("exit status %d", status)
		}
	default: // it ended before
	}
	return lines
}

// A client writes, tail reads, faults change in between, and the log has a line for each call.
func TestKinesis(t *testing.T) {
	t.Parallel()
	k := startKinesisCommand(t, "--stream", "orders:2", "--stream", "returns", "--log")
	client := kinesisClient(k.url)
	put := func() *awskinesis.PutRecordsOutput {
		t.Helper()
		entry := types.PutRecordsRequestEntry{PartitionKey: aws.String("a"), Data: []byte("hello\n")}
		out, err := client.PutRecords(t.Context(), &awskinesis.PutRecordsInput{
			StreamName: aws.String("orders"), Records: []types.PutRecordsRequestEntry{entry, entry},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	fault := func(want string, args ...string) {
		t.Helper()
		status, stdout, stderr := runKtel(t, append([]string{"kinesis", "fault", "--endpoint-url", k.url}, args...)...)
		if status != 0 || stdout != want+"\n" {
			t.Errorf("fault %v: status %d, %q, %s", args, status, stdout, stderr)
		}
	}
	put()
	fault("none")
	fault("throttle", "throttle")
	if out := put(); *out.FailedRecordCount != 2 || *out.Records[0].ErrorCode != "ProvisionedThroughputExceededException" {
		t.Errorf("throttled: %+v", out)
	}
	fault("throttle")
	fault("none", "none")
	status, stdout, _ := runKtel(t, "tail", "orders", "--endpoint-url", k.url, "--since", "1h", "--no-follow")
	if status != 0 || strings.Count(stdout, "hello") != 2 {
		t.Errorf("tail: status %d\n%s", status, stdout)
	}
	address := strings.TrimPrefix(k.url, "http://")
	if status, _, stderr := runKtel(t, "kinesis", "--listen", address); status != 4 ||
		!strings.Contains(stderr, "another program listens at "+address) {
		t.Errorf("a port that is taken: status %d, %s", status, stderr)
	}
	lines := k.welcome + strings.Join(k.end(t), "\n")
	for _, want := range []string{
		"  stream orders of 2 shards\n", "  stream returns of 1 shard\n", "  export AWS_ENDPOINT_URL_KINESIS=" + k.url + "\n",
		"  ktel tail orders\n", " PutRecords       orders 2 records\n", " PutRecords       orders 2 refused\n", " GetRecords       orders ",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
}

// The words become rules of the emulator. Each request matches at most one of them, and their shares are exact.
func TestFaultWords(t *testing.T) {
	f, err := parseFaults("error=0.5, lost=0.25,reset=0.25,throttle=0.1,latency=20ms")
	if err != nil {
		t.Fatal(err)
	}
	left, got := 1.0, []float64{}
	for _, r := range f.rules.Rules {
		if r.Delay != 20*time.Millisecond {
			t.Errorf("rule without latency: %+v", r)
		}
		if r.Operation == everyCall && (r.ErrorType != "" || r.StoreThenReset || r.Reset) {
			got = append(got, left*r.Probability)
			left -= left * r.Probability
		}
	}
	if !slices.EqualFunc(got, []float64{0.5, 0.25, 0.25}, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
		t.Errorf("shares %v", got)
	}
	for text, want := range map[string]string{
		"bogus=1": `there is no fault "bogus"`, "throttle=2": "the value must be a share from 0 to 1", "throttle=x": "the value must be a share",
		"throttle=NaN": "the value must be a share", "latency=5": "the value must be a duration", "latency": "the value must be a duration",
		"error,error":        "error is given twice",
		"error=0.6,lost=0.6": "add up to more than 1", "error,reset=0.5": "add up to more than 1",
		`{"rules":[{"operation":"PutRecords"}]}`: "no action", `{"rule":[]}`: "unknown field",
	} {
		if _, err := parseFaults(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"", "none", " none\n"} {
		if f, err := parseFaults(text); err != nil || f.text != "" || f.rules != nil {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
	f, err = parseFaults("throttle=0")
	if err != nil || len(f.rules.Rules) != 0 {
		t.Errorf("throttle=0: %+v, %v", f.rules, err)
	}
}

// AWS's own clients write and read, with and without faults. The SDKs retry failed requests, so all records arrive.
func TestConformanceKinesisClients(t *testing.T) {
	if os.Getenv("CONFORMANCE") != "required" {
		t.Skip("CONFORMANCE=required is not set: this test installs boto3 and the AWS CLI")
	}
	for _, test := range []struct {
		name, faults string
		duplicates   bool
	}{{"well", "none", false}, {"throttled", "throttle=0.3,latency=20ms", false}, {"failing", "error=0.2,lost=0.2", true}} {
		t.Run(test.name, func(t *testing.T) {
			setEnviron(t, nil)
			for _, client := range []struct {
				name  string
				count int
				run   func(t *testing.T, k *kinesisCommand, count int) []string
			}{{"boto3", 100, scripted("boto3")}, {"aws", 10, scripted("aws")}, {"go", 100, goSDK}} {
				t.Run(client.name, func(t *testing.T) {
					k := startKinesisCommand(t, "--stream", "orders:2", "--fault", test.faults, "--log")
					read := client.run(t, k, client.count)
					log := strings.Join(k.end(t), "\n")
					if len(read) == 0 && os.Getenv("CI") != "true" {
						t.Skip("the client is not available")
					}
					slices.Sort(read)
					if once := slices.Compact(slices.Clone(read)); len(once) != client.count || !test.duplicates && len(read) != len(once) {
						t.Errorf("%d records written, %d read, %d of them different", client.count, len(read), len(once))
					}
					struck := strings.Contains(log, "refused") || strings.Contains(log, "Exception") || strings.Contains(log, "StoreThenReset")
					if struck != (test.faults != "none") {
						t.Errorf("faults struck: %v, with %s\n%s", struck, test.faults, log)
					}
				})
			}
		})
	}
}

// scripted returns a client that conformance/kinesis/check.sh runs.
func scripted(name string) func(*testing.T, *kinesisCommand, int) []string {
	return func(t *testing.T, k *kinesisCommand, count int) []string {
		t.Helper()
		check := exec.CommandContext(t.Context(), "../../conformance/kinesis/check.sh", name, fmt.Sprint(count))
		check.Env = append(os.Environ(), k.env...)
		printed, err := check.CombinedOutput()
		before, read, _ := strings.Cut(string(printed), "\nread\n")
		t.Log(before)
		if err != nil {
			t.Fatalf("%v\n%s", err, read)
		}
		return strings.Split(strings.TrimSpace(read), "\n")
	}
}

func goSDK(t *testing.T, k *kinesisCommand, count int) []string {
	t.Helper()
	client := kinesisClient(k.url)
	var batch []types.PutRecordsRequestEntry
	for i := range count {
		data := fmt.Sprintf("go %d", i)
		batch = append(batch, types.PutRecordsRequestEntry{PartitionKey: &data, Data: []byte(data)})
	}
	retryLong := func(o *awskinesis.Options) { o.RetryMaxAttempts = 20 }
	for len(batch) > 0 {
		out, err := client.PutRecords(t.Context(), &awskinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: batch}, retryLong)
		if err != nil {
			t.Fatal(err)
		}
		var refused []types.PutRecordsRequestEntry
		for i, r := range out.Records {
			if r.ErrorCode != nil {
				refused = append(refused, batch[i])
			}
		}
		batch = refused
	}
	shards, err := client.ListShards(t.Context(), &awskinesis.ListShardsInput{StreamName: aws.String("orders")}, retryLong)
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	for _, shard := range shards.Shards {
		it, err := client.GetShardIterator(t.Context(), &awskinesis.GetShardIteratorInput{
			StreamName: aws.String("orders"), ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		}, retryLong)
		if err != nil {
			t.Fatal(err)
		}
		out, err := client.GetRecords(t.Context(), &awskinesis.GetRecordsInput{ShardIterator: it.ShardIterator}, retryLong)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range out.Records {
			read = append(read, string(r.Data))
		}
	}
	return read
}
