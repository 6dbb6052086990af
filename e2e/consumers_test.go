package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// The consumer in Go reads the real extension's records. One case of each format and of each compression is enough here.
func TestConsumerInGo(t *testing.T) {
	concurrent(t)
	command := buildConsumer(t)
	function := buildAwkward(t)
	for _, w := range []written{
		{record.NDJSON, record.Uncompressed}, {record.JSON, record.Zstd}, {record.KPL, record.Uncompressed}, {record.CloudWatch, record.Gzip},
	} {
		t.Run(fmt.Sprintf("%s %s", w.format, w.compression), func(t *testing.T) {
			t.Parallel()
			checkConsumer(t, w, w.batch(t, function), command)
		})
	}
}

// Each consumer of examples/consumers reads every format that it claims. conformance/consumers/runtimes.sh installs their runtimes.
func TestConformanceConsumers(t *testing.T) {
	if os.Getenv("CONFORMANCE") != "required" {
		t.Skip("CONFORMANCE=required is not set: this installs Node.js and packages of Python")
	}
	script := exec.Command("../conformance/consumers/runtimes.sh")
	var said bytes.Buffer
	script.Stderr = &said
	printed, err := script.Output()
	t.Logf("%s\n%s%s", script, said.Bytes(), printed)
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string][]string{"go": buildConsumer(t)}
	for line := range strings.Lines(string(printed)) {
		language, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch language {
		case "node":
			commands[language] = []string{path, "../cmd/ktel/clients/client.mjs", "../examples/consumers/node/index.mjs", "handler"}
		case "python":
			commands[language] = []string{path, "-Bu", "../conformance/consumers/runtime.py", "../examples/consumers/python/index.py"}
		}
	}
	function := buildAwkward(t)
	for _, w := range formats {
		t.Run(fmt.Sprintf("%s-%s", w.format, w.compression), func(t *testing.T) {
			b := w.batch(t, function)
			for language, command := range commands {
				if w.format == record.KPL && language != "go" {
					continue // their README excludes it
				}
				t.Run(language, func(t *testing.T) { checkConsumer(t, w, b, command) })
			}
		})
	}
}

func buildConsumer(t *testing.T) (command []string) {
	t.Helper()
	consumer := filepath.Join(t.TempDir(), "bootstrap")
	if err := build(consumer, "kinesis-telemetry-extension/examples/consumers/go"); err != nil {
		t.Fatal(err)
	}
	return []string{consumer}
}

func buildAwkward(t *testing.T) string {
	t.Helper()
	function := filepath.Join(t.TempDir(), "bootstrap")
	if err := build(function, "kinesis-telemetry-extension/e2e/testdata/awkward"); err != nil {
		t.Fatal(err)
	}
	return function
}

// batch has the data of each record that the extension wrote, and all events in them.
type batch struct {
	records [][]byte
	events  []record.Line
}

func (w written) batch(t *testing.T, function string) (b batch) {
	t.Helper()
	records, events := w.produce(t, function)
	for _, stored := range records {
		b.records = append(b.records, stored.Data)
	}
	b.events = events
	return b
}

// poisonWord must not appear in a consumer's output.
const poisonWord = "hunter2"

// poisons are unreadable records.
func (b batch) poisons() [][]byte {
	first := b.records[0]
	return [][]byte{
		[]byte(poisonWord + " is no JSON"),
		[]byte(`{"password":"` + poisonWord + `"}`),
		[]byte(`["` + poisonWord + `"]`),
		[]byte(`{"password":"` + poisonWord + "\"\n"),
		first[: len(first)/2 : len(first)/2],
		{0x1f, 0x8b, 8, 0},
		bytes.Repeat([]byte("["), 200_000), // too deep for a recursive parser
	}
}

// checkConsumer invokes a consumer with the records as Lambda does: also with duplicates, with unreadable records, and
// while its sink fails.
func checkConsumer(t *testing.T, w written, b batch, command []string) {
	if len(b.records) < 3 {
		t.Fatalf("%d records, too few for this test", len(b.records))
	}
	held := len(b.records) - 2
	data := slices.Clone(b.records[:held])
	var poisoned []string
	for i, poison := range b.poisons() { // one after each record, the rest at the end
		at := min(i*2+1, len(data))
		data = slices.Insert(data, at, poison)
	}
	data = slices.Insert(data, len(data)/2, b.records[0], b.records[0])
	list := lambdaRecords(data)
	for i, poison := range data {
		if slices.ContainsFunc(b.poisons(), func(p []byte) bool { return bytes.Equal(p, poison) }) {
			poisoned = append(poisoned, list[i].Kinesis.SequenceNumber)
		}
	}

	c := startConsumer(t, command, nil)
	c.checkFailures("a batch with poison records and duplicates", list, poisoned)
	c.checkFailures("the same again from the first that was reported", list[1:], poisoned)
	final := lambdaRecords(b.records)[held:]
	c.fail(true)
	c.checkFailures("two records while the sink fails", final, []string{final[0].Kinesis.SequenceNumber})
	c.fail(false)
	c.checkFailures("the same again", final, nil)
	c.checkFailures("and again", final, nil)
	c.compare(w, b.events)

	skipping := startConsumer(t, command, map[string]string{"UNREADABLE": "skip"})
	skipping.checkFailures("with UNREADABLE=skip", append(list, final...), nil)
	skipping.compare(w, b.events)
	if count := strings.Count(skipping.printed(), "not readable"); count != len(poisoned) {
		t.Errorf("%d records are logged as unreadable, want %d", count, len(poisoned))
	}
}

// lambdaRecord is a record as an event source mapping passes it to a function.
type lambdaRecord struct {
	Kinesis struct {
		SchemaVersion  string  `json:"kinesisSchemaVersion"`
		PartitionKey   string  `json:"partitionKey"`
		SequenceNumber string  `json:"sequenceNumber"`
		Data           []byte  `json:"data"`
		Arrival        float64 `json:"approximateArrivalTimestamp"`
	} `json:"kinesis"`
	EventSource       string `json:"eventSource"`
	EventVersion      string `json:"eventVersion"`
	EventID           string `json:"eventID"`
	EventName         string `json:"eventName"`
	InvokeIdentityARN string `json:"invokeIdentityArn"`
	Region            string `json:"awsRegion"`
	SourceARN         string `json:"eventSourceARN"`
}

func lambdaRecords(data [][]byte) []lambdaRecord {
	list := make([]lambdaRecord, len(data))
	for i, d := range data {
		r := lambdaRecord{
			EventSource: "aws:kinesis", EventVersion: "1.0", EventName: "aws:kinesis:record", Region: "us-east-1",
			InvokeIdentityARN: "arn:aws:iam::123456789012:role/consumer", SourceARN: "arn:aws:kinesis:us-east-1:123456789012:stream/" + stream,
		}
		r.Kinesis.SchemaVersion, r.Kinesis.PartitionKey, r.Kinesis.Data, r.Kinesis.Arrival = "1.0", "key", d, 1700000000.125
		r.Kinesis.SequenceNumber = fmt.Sprintf("4954000000000000000000000000000000000000000000000000%04d", i)
		r.EventID = "shardId-000000000000:" + r.Kinesis.SequenceNumber
		list[i] = r
	}
	return list
}

// consumerTrial is a consumer in an environment, and its sink.
type consumerTrial struct {
	*testing.T
	env    *sandbox.Environment
	output output

	mu       sync.Mutex
	failing  bool
	received []sinkLine
}

type sinkLine struct {
	Key   string          `json:"key"`
	Event json.RawMessage `json:"event"`
}

func startConsumer(t *testing.T, command []string, variables map[string]string) *consumerTrial {
	t.Helper()
	c := &consumerTrial{T: t}
	server := httptest.NewServer(http.HandlerFunc(c.sink))
	t.Cleanup(server.Close)
	env := map[string]string{"SINK_URL": server.URL}
	for name, value := range variables {
		env[name] = value
	}
	var err error
	c.env, err = sandbox.Start(t.Context(), sandbox.Config{
		Function: sandbox.Function{Command: command, Name: "consumer", Timeout: 30 * time.Second, Env: env},
		TmpDir:   t.TempDir(), Output: &c.output, InitTimeout: time.Minute,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, c.printed())
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.env.Shutdown(ctx)
		if strings.Contains(c.printed(), poisonWord) {
			t.Errorf("it prints the content of an unreadable record")
		}
		if t.Failed() {
			t.Logf("output of the consumer:\n%.4000s", c.printed())
		}
	})
	return c
}

// sink accepts all events of a consumer's request, or none.
func (c *consumerTrial) sink(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.failing {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for raw := range bytes.Lines(body) {
		var line sinkLine
		if err := json.Unmarshal(raw, &line); err != nil {
			c.Errorf("the consumer hands on %.200q: %v", raw, err)
		}
		c.received = append(c.received, line)
	}
}

func (c *consumerTrial) fail(failing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = failing
}

func (c *consumerTrial) printed() string {
	c.output.mu.Lock()
	defer c.output.mu.Unlock()
	return c.output.text.String()
}

// checkFailures invokes the consumer with the records, and checks that it reports these sequence numbers as failed.
func (c *consumerTrial) checkFailures(what string, records []lambdaRecord, report []string) {
	c.Helper()
	payload, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		c.Fatal(err)
	}
	result, err := c.env.Invoke(c.Context(), payload)
	if err != nil || result.Status != "success" {
		c.Fatalf("%s: %v, status %q %s: %s", what, err, result.Status, result.ErrorType, result.Payload)
	}
	var answer struct {
		Failures []struct {
			Identifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	unmarshal(c.T, result.Payload, &answer)
	var got []string
	for _, failure := range answer.Failures {
		got = append(got, failure.Identifier)
	}
	if !slices.Equal(got, report) {
		c.Errorf("%s: it reports\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(report, "\n"))
	}
}

// compare checks that the sink has every event once, in order, as in the stream, and under its key.
func (c *consumerTrial) compare(w written, events []record.Line) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.received) != len(events) {
		c.Fatalf("%d events were handed on, want %d", len(c.received), len(events))
	}
	for i, got := range c.received {
		want := events[i]
		key := fmt.Sprintf("%s/%d", want.Source.Instance, want.Seq)
		same := bytes.Equal(got.Event, want.Raw)
		if w.format == record.CloudWatch { // an element of the envelope: its JSON may be written in another way
			var left, right struct {
				ID        string
				Timestamp int64
				Message   string
			}
			unmarshal(c.T, got.Event, &left)
			unmarshal(c.T, want.Raw, &right)
			key, same = right.ID, left == right
		}
		if !same || got.Key != key {
			c.Fatalf("event %d differs:\n%s %.1000s\nwant\n%s %.1000s", i, got.Key, got.Event, key, want.Raw)
		}
	}
}
