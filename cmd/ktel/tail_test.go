package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/session"
	"kinesis-telemetry-extension/record"
)

// fold breaks lines between words, and indents all but the first.
func TestFold(t *testing.T) {
	for _, test := range []struct {
		text                string
		columns, at, indent int
		want                string
	}{
		{"one two three", 0, 0, 2, "one two three"},
		{"one two three", 13, 0, 2, "one two three"},
		{"one two three", 9, 0, 2, "one two\n  three"},
		{"one two three", 13, 4, 2, "one two\n  three"},
		{"one two three", 13, 11, 2, "\n  one two\n  three"},
		{"abcdefghijkl", 10, 3, 2, "\n  abcdefgh\n  ijkl"},
		{"日本語 日本語", 8, 0, 2, "日本語\n  日本語"},
	} {
		got := fold(test.text, test.columns, test.at, test.indent)
		if got != test.want {
			t.Errorf("fold(%q, %d, %d, %d) = %q, want %q", test.text, test.columns, test.at, test.indent, got, test.want)
		}
	}
}

// A time is a duration before now, a time of today, a date, or both.
func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 26, 8, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"5m": "2026-11-26T08:25:00Z", "90s": "2026-11-26T08:28:30Z", "1d": "2026-11-25T08:30:00Z", "2d12h": "2026-11-23T20:30:00Z",
		"0s": "2026-11-26T08:30:00Z", "07:15": "2026-11-26T07:15:00Z", "07:15:30": "2026-11-26T07:15:30Z",
		"2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T10:00": "2026-11-20T10:00:00Z", "2026-11-20 10:00:05": "2026-11-20T10:00:05Z",
		"2026-11-20T10:00:05.25+01:00": "2026-11-20T09:00:05.25Z",
		"yesterday":                    "", "5": "", "-5m": "", "5x": "", "d": "", "25:00": "", "1dd": "",
		"10md": "", "1h30d": "", "1d5": "", "-1d": "", "1d-2h": "", "367d": "", "1.5d": "", " 1d": "", "+1d": "", "999999999999d": "",
	} {
		got, err := parseTime("since", text, now)
		if want == "" && err == nil || want != "" && (err != nil || got.UTC().Format(time.RFC3339Nano) != want) {
			t.Errorf("%q: %v, %v, want %q", text, got.UTC(), err, want)
		}
	}
}

// putRecords puts records of data into the stream orders.
func putRecords(t *testing.T, url string, data ...[]byte) {
	t.Helper()
	client := awskinesis.New(awskinesis.Options{
		Region: testRegion, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("AKIATESTTESTTESTTEST", "secret", ""),
	})
	for _, d := range data {
		in := &awskinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("k"), Data: d}
		if _, err := client.PutRecord(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

// event returns an event as the extension delivers it.
func event(seq int, function, kind, request, payload string) []byte {
	e := record.Event{
		Raw:       fmt.Appendf(nil, `{"time":"2026-11-26T08:30:00.%03dZ","type":%q,"record":%s}`, seq, kind, payload),
		RequestID: request, Seq: uint64(seq),
		Source: record.NewSource(record.SourceFields{Function: function, Instance: "0123456789abcdef0123" + function}),
	}
	return append(record.AppendEvent(nil, &e), '\n')
}

const (
	requestA = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	requestB = "9f8c5671-1111-2222-3333-444455556666"
	report   = `{"requestId":"r","status":"success","metrics":` +
		`{"durationMs":21.48,"billedDurationMs":22,"memorySizeMB":128,"maxMemoryUsedMB":18,"initDurationMs":97.3}}`
	timedOut = `{"requestId":"r","status":"timeout","errorType":"Sandbox.Timedout","metrics":` +
		`{"durationMs":3000,"billedDurationMs":3000,"memorySizeMB":128,"maxMemoryUsedMB":20}}`
)

// streamOfEvents starts a stream with events of two functions, and a record of another writer.
func streamOfEvents(t *testing.T) (server *kinesislocal.Server, url string) {
	t.Helper()
	server = startKinesis(t, kinesislocal.Options{})
	putRecords(t, server.URL(),
		slices.Concat(
			event(1, "checkout", "platform.start", requestA, `{"requestId":"r","version":"$LATEST"}`),
			event(2, "checkout", "function", requestA, `{"level":"INFO","message":"order received","order":1001}`),
			event(3, "checkout", "function", requestA, `{"level":"WARN","message":"stock is low","order":1007}`),
		),
		slices.Concat(
			event(4, "payment", "function", requestB, `"plain text with an ERROR in it\n"`),
			event(5, "payment", "platform.report", requestB, timedOut),
		),
		slices.Concat(
			event(6, "checkout", "platform.report", requestA, report),
			event(7, "checkout", "kinesis-telemetry.dropped", "", `{"reason":"bufferFull","count":3}`),
		),
		[]byte(`[{"not":"ours"}]`),
	)
	return server, server.URL()
}

// tailNow runs 'ktel tail orders --no-follow', which must print these lines.
func tailNow(t *testing.T, url string, args []string, want ...string) {
	t.Helper()
	status, stdout, stderr := runKtel(t, append([]string{"tail", "orders", "--no-follow", "--endpoint-url", url}, args...)...)
	if got := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n"); status != 0 || stderr != "" || !slices.Equal(got, want) {
		t.Errorf("%q: exit status %d, %s\n got %s\nwant %s", args, status, stderr, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// tail shows the events that match its filters, as text, ndjson, JSON or by invocation.
func TestTail(t *testing.T) {
	t.Parallel()
	_, url := streamOfEvents(t)
	const (
		day     = "2026-11-26 UTC"
		start   = "08:30:00.001 checkout 8476a536 start version $LATEST"
		info    = "08:30:00.002 checkout 8476a536 INFO  order received order=1001"
		warn    = "08:30:00.003 checkout 8476a536 WARN  stock is low order=1007"
		text    = "08:30:00.004 payment  9f8c5671 plain text with an ERROR in it"
		timeout = "08:30:00.005 payment  9f8c5671 report timeout Sandbox.Timedout 3000 ms billed 3000 ms memory 20 MB"
		success = "08:30:00.006 checkout 8476a536 report success 21.48 ms billed 22 ms init 97.3 ms memory 18 MB"
		dropped = "08:30:00.007 checkout          dropped reason=bufferFull count=3"
	)
	status, stdout, _ := runKtel(t, "tail", "orders", "--no-follow", "--endpoint-url", url)
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	last := lines[len(lines)-1]
	if status != 0 || !strings.HasPrefix(last, "foreign shardId-00000000000") || !strings.HasSuffix(last, " 16 bytes: a JSON array") {
		t.Errorf("%d, %q", status, last)
	}
	if want := []string{day, start, info, warn, text, timeout, success, dropped}; !slices.Equal(lines[:len(lines)-1], want) {
		t.Errorf("got  %s\nwant %s", strings.Join(lines, "\n     "), strings.Join(want, "\n     "))
	}
	tailNow(t, url, []string{"--function", "payment"}, day,
		strings.Replace(text, "payment ", "payment", 1), strings.Replace(timeout, "payment ", "payment", 1))
	tailNow(t, url, []string{"--function", "check*", "--request", "8476"}, day, start, info, warn, success)
	tailNow(t, url, []string{"--level", "warn"}, day, warn, text, timeout)
	tailNow(t, url, []string{"--level", "WARN", "--function", "checkout"}, day, warn)
	tailNow(t, url, []string{"--type", "report,platform.start"}, day, start, timeout, success)
	tailNow(t, url, []string{"--type", "kinesis-telemetry"}, day, dropped)
	tailNow(t, url, []string{"--grep", "^INFO order|count=3"}, day, info, dropped)
	tailNow(t, url, []string{"--grep", `"order":1007`}, day, warn)
	tailNow(t, url, []string{"--type", "report", "-o", "ndjson"},
		strings.TrimSpace(string(event(5, "payment", "platform.report", requestB, timedOut))),
		strings.TrimSpace(string(event(6, "checkout", "platform.report", requestA, report))))
	tailNow(t, url, []string{"--by-invocation", "--grep", "level|ERROR|report"}, day,
		"checkout "+requestA+" 21.48 ms, billed 22 ms, memory 18 of 128 MB, cold start 97.3 ms",
		"  08:30:00.002 INFO  order received order=1001",
		"  08:30:00.003 WARN  stock is low order=1007",
		"payment "+requestB+" 3000 ms, billed 3000 ms, memory 20 of 128 MB, timeout Sandbox.Timedout",
		"  08:30:00.004 plain text with an ERROR in it")
	tailNow(t, url, []string{"--by-invocation", "--type", "function", "--function", "payment"}, day,
		"payment "+requestB+" 3000 ms, billed 3000 ms, memory 20 of 128 MB, timeout Sandbox.Timedout",
		"  08:30:00.004 plain text with an ERROR in it")
	_, stdout, _ = runKtel(t, "tail", "orders", "--no-follow", "--endpoint-url", url, "--type", "foreign", "-o", "ndjson")
	var foreign struct{ Type, ShardID, SequenceNumber, Reason, Data string }
	if json.Unmarshal([]byte(stdout), &foreign) != nil || foreign.Reason != "a JSON array" || foreign.Data != "W3sibm90Ijoib3VycyJ9XQ==" {
		t.Errorf("%q", stdout)
	}
	_, stdout, _ = runKtel(t, "tail", "orders", "--no-follow", "--endpoint-url", url, "--type", "start", "-o", "json")
	if !strings.HasPrefix(stdout, "{\n  \"time\": \"2026-11-26T08:30:00.001Z\",\n") || !json.Valid([]byte(stdout)) {
		t.Errorf("%q", stdout)
	}
}

// tail reads every format and compression, and -o raw writes the records unchanged.
func TestTailFormats(t *testing.T) {
	t.Parallel()
	server := startKinesis(t, kinesislocal.Options{})
	vectors, err := filepath.Glob("../../record/testdata/vectors/*.bin")
	if err != nil || len(vectors) < 10 {
		t.Fatal(vectors, err)
	}
	var all []byte
	want := 0
	for _, name := range vectors {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range record.Unpack(data) {
			if err != nil {
				t.Fatal(name, err)
			}
			want++
		}
		putRecords(t, server.URL(), data)
		all = append(all, data...)
	}
	status, stdout, stderr := runKtel(t, "tail", "orders", "--no-follow", "--endpoint-url", server.URL(), "-o", "ndjson")
	if lines := strings.Count(stdout, "\n"); status != 0 || stderr != "" || lines != want {
		t.Errorf("exit status %d, %d lines of %d: %s", status, lines, want, stderr)
	}
	for line := range strings.Lines(stdout) {
		if !json.Valid([]byte(line)) || strings.Contains(line, typeForeign) {
			t.Errorf("%q", line)
		}
	}
	if _, stdout, _ = runKtel(t, "tail", "orders", "--no-follow", "--endpoint-url", server.URL(), "-o", "raw"); stdout != string(all) {
		t.Errorf("raw: %d bytes of %d", len(stdout), len(all))
	}
}

// On a terminal, tail wraps lines to the width, cuts no short word, and gives each function a colour.
func TestTailColumns(t *testing.T) {
	words := "a line of words that are read by people in a hurry and not cut in the middle of one, whatever the terminal has of room for it"
	line := record.Line{
		Time: "2026-11-26T08:30:00.123Z", Type: "function", RequestID: requestA, Source: record.SourceFields{Function: "checkout"},
		Record: json.RawMessage(`{"level":"INFO","message":"` + words + `"}`),
	}
	for _, columns := range []int{60, 80, 200} {
		for _, kind := range []string{"function", "platform.telemetrySubscription", "kinesis-telemetry.stats"} {
			tail := &tailer{app: &app{}, flags: &tailFlags{}, colors: newPalette(true), columns: func() int { return columns }}
			line.Type = kind
			m := messageOf(kind, line.Record)
			var b strings.Builder
			tail.render(&b, &line, &m, "")
			plain := ansi.Strip(b.String())
			for shown := range strings.Lines(plain) {
				if ansi.StringWidth(strings.TrimSuffix(shown, "\n")) > columns {
					t.Errorf("%d columns: %q", columns, shown)
				}
			}
			if got := strings.Join(strings.Fields(plain), " "); !strings.Contains(got, words) && kind == "function" || strings.Contains(got, "…") {
				t.Errorf("%d columns: %q", columns, got)
			}
			if plain == b.String() {
				t.Error("the line has no colour")
			}
		}
	}
	if colors := newPalette(true); colors.functionColor("checkout")("x") == colors.functionColor("payment")("x") {
		t.Error("two functions have the same colour")
	}
}

// backgroundTail is 'ktel tail' in the background, in this process.
type backgroundTail struct {
	mu             sync.Mutex
	stdout, stderr bytes.Buffer
	cancel         context.CancelFunc
	status         chan int
}

type guarded struct {
	mu *sync.Mutex
	io.Writer
}

func (g guarded) Write(data []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Writer.Write(data)
}

func startTail(t *testing.T, args ...string) *backgroundTail {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &backgroundTail{cancel: cancel, status: make(chan int, 1)}
	go func() {
		r.status <- run(ctx, append([]string{"tail"}, args...), strings.NewReader(""), guarded{&r.mu, &r.stdout}, guarded{&r.mu, &r.stderr})
	}()
	t.Cleanup(cancel)
	return r
}

func (r *backgroundTail) out() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stdout.String()
}

func (r *backgroundTail) errs() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.String()
}

// waitUntil waits until the condition holds, at most awaitTime.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(awaitTime); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", awaitTime, what)
		}
	}
}

// Interrupted at any time after its start, tail ends cleanly.
func TestTailInterrupted(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, 1200 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			r := startTail(t, "orders", "--endpoint-url", startKinesis(t, kinesislocal.Options{}).URL())
			time.Sleep(after)
			r.cancel()
			if status := <-r.status; status != statusInterrupted || r.stderr.String() != "ktel: interrupted\n" {
				t.Errorf("exit status %d, %q", status, r.stderr.String())
			}
		})
	}
}

// Interrupted while the stream does not answer, tail ends at once.
func TestTailInterruptedWithoutAnswer(t *testing.T) {
	for _, operation := range []string{"*", "GetRecords"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			rule := kinesislocal.Rule{Operation: operation, Hang: true}
			server := startKinesis(t, kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}}})
			r := startTail(t, "orders", "--endpoint-url", server.URL())
			time.Sleep(300 * time.Millisecond)
			start := time.Now()
			r.cancel()
			if status := <-r.status; status != statusInterrupted || time.Since(start) > endTailTime/2 {
				t.Errorf("exit status %d after %v, %q", status, time.Since(start), r.stderr.String())
			}
		})
	}
}

// Interrupted while nobody reads its output, tail ends after endTailTime.
func TestTailInterruptedWithoutReader(t *testing.T) {
	t.Parallel()
	server := startKinesis(t, kinesislocal.Options{})
	putRecords(t, server.URL(), event(1, "checkout", "function", requestA, `"x"`))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	for range 1 << 16 / 512 { // fill the pipe
		writer.Write(bytes.Repeat([]byte("."), 512))
	}
	ctx, cancel := context.WithCancel(t.Context())
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, []string{"tail", "orders", "--since", "1h", "--endpoint-url", server.URL()}, strings.NewReader(""), writer, io.Discard)
	}()
	time.Sleep(500 * time.Millisecond)
	cancel()
	select {
	case got := <-status:
		if got != statusInterrupted {
			t.Errorf("exit status %d", got)
		}
	case <-time.After(endTailTime + time.Minute):
		t.Error("tail did not end although nobody reads its output")
	}
}

// brokenPipe is a pipe whose reader has gone.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

// tail ends with the status of SIGPIPE if the reader of its output goes away.
func TestTailClosedPipe(t *testing.T) {
	t.Parallel()
	_, url := streamOfEvents(t)
	var stderr bytes.Buffer
	for _, args := range [][]string{{"--since", "1h"}, {"--since", "1h", "--by-invocation"}} {
		args = append([]string{"tail", "orders", "--endpoint-url", url}, args...)
		if status := run(t.Context(), args, strings.NewReader(""), brokenPipe{}, &stderr); status != statusPipe || stderr.Len() > 0 {
			t.Errorf("%q: exit status %d, %q", args, status, stderr.String())
		}
	}
}

// When the endpoint goes away and comes back, tail reports each once, and shows no event twice.
func TestTailRestart(t *testing.T) {
	t.Parallel()
	backend := kinesislocal.New(kinesislocal.Options{Region: testRegion})
	t.Cleanup(func() { backend.Close() })
	if err := backend.CreateStream("orders", 2); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	serve := func() *http.Server {
		server := &http.Server{Addr: address, Handler: backend}
		go server.ListenAndServe()
		waitUntil(t, "the endpoint listens", func() bool {
			response, err := http.Get("http://" + address)
			if err == nil {
				response.Body.Close()
			}
			return err == nil
		})
		return server
	}
	server := serve()
	r := startTail(t, "orders", "--endpoint-url", "http://"+address, "--since", "1m", "-o", "ndjson")
	putRecords(t, "http://"+address, event(1, "checkout", "function", requestA, `"x"`))
	waitUntil(t, "the first event", func() bool { return strings.Count(r.out(), "\n") == 1 })
	server.Close()
	waitUntil(t, "the trouble", func() bool { return strings.Contains(r.errs(), "; retrying\n") })
	server = serve()
	defer server.Close()
	putRecords(t, "http://"+address, event(2, "checkout", "function", requestA, `"x"`))
	waitUntil(t, "the second event", func() bool { return strings.Count(r.out(), "\n") == 2 })
	waitUntil(t, "the recovery", func() bool { return strings.Contains(r.errs(), "reading again\n") })
	r.cancel()
	<-r.status
	messages := strings.Split(r.stderr.String(), "\n")
	if len(messages) != 4 || !strings.HasPrefix(messages[0], "ktel: read stream orders: ") || !strings.HasSuffix(messages[0], "; retrying") ||
		messages[1] != "ktel: reading again" {
		t.Errorf("%q", messages)
	}
	want := slices.Concat(event(1, "checkout", "function", requestA, `"x"`), event(2, "checkout", "function", requestA, `"x"`))
	if r.out() != string(want) {
		t.Errorf("%s", r.out())
	}
}

// The status line shows rates of the last seconds, the delay of the last event, and the lag of the slowest shard.
func TestTailStatus(t *testing.T) {
	start := time.Date(2026, 11, 26, 8, 30, 0, 0, time.UTC)
	s := newTailStatus(start)
	if got := s.text(start); got != "0 events/s   0 KB/s   lag 0s   0 shards" {
		t.Errorf("%q", got)
	}
	s.record(&session.Record{Data: make([]byte, 7500)}, start.Add(9*time.Second))
	for range 12 {
		s.event(&record.Line{Time: "2026-11-26T08:30:08.5Z"}, start.Add(9*time.Second))
	}
	s.polled(session.Poll{Shard: "a", Behind: 90 * time.Second})
	s.polled(session.Poll{Shard: "b"})
	s.polled(session.Poll{Shard: "c", Ended: true, Behind: time.Hour})
	if got, want := s.text(start.Add(10*time.Second)), "2.4 events/s   1.5 KB/s   delay 500ms   lag 1m30s   2 shards"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := s.text(start.Add(20*time.Second)), "0 events/s   0 KB/s   delay 500ms   lag 1m30s   2 shards"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
