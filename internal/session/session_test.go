package session

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// endpoint is a Kinesis endpoint without a network. A test can switch it off or replace it. It records the times of
// GetRecords.
type endpoint struct {
	mu            sync.Mutex
	server        *kinesislocal.Server // nil: connections are refused
	reads         []time.Time          // when GetRecords was called
	broken        int                  // index of a shard that cannot be read; -1: none
	noAtTimestamp bool                 // AT_TIMESTAMP starts at TRIM_HORIZON
	empty         int                  // how many GetRecords get an empty page
	behind        time.Duration        // MillisBehindLatest of empty pages
	ahead         time.Duration        // how far its clock is ahead
}

func (e *endpoint) now() time.Time { return time.Now().Add(e.ahead) }

// emptyPages makes the next n GetRecords return no records, and behind as MillisBehindLatest.
func (e *endpoint) emptyPages(n int, behind time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.empty, e.behind = n, behind
}

func (e *endpoint) breakShard(shard int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken = shard
}

// readsSince returns the times of GetRecords since t.
func (e *endpoint) readsSince(t time.Time) []time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.reads), t.After)
}

func (e *endpoint) setServer(s *kinesislocal.Server) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server = s
}

func (e *endpoint) Do(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	server := e.server
	e.mu.Unlock()
	if server == nil {
		return nil, &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetRecords") {
		e.mu.Lock()
		e.reads = append(e.reads, time.Now())
		broken, empty := e.broken, e.empty > 0
		e.empty = max(0, e.empty-1)
		e.mu.Unlock()
		var in struct{ ShardIterator []byte }
		var cursor struct{ Shard int } // as kinesislocal has it
		if json.Unmarshal(body, &in) != nil || json.Unmarshal(in.ShardIterator, &cursor) != nil {
			return nil, fmt.Errorf("no iterator in %s", body)
		}
		if cursor.Shard == broken {
			return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}, nil
		}
		if empty {
			out := httptest.NewRecorder()
			out.Header().Set("Date", e.now().UTC().Format(http.TimeFormat))
			fmt.Fprintf(out, `{"Records":[],"MillisBehindLatest":%d,"NextShardIterator":%q}`,
				e.behind.Milliseconds(), base64.StdEncoding.EncodeToString(in.ShardIterator))
			return out.Result(), nil
		}
	}
	if e.noAtTimestamp {
		body = bytes.ReplaceAll(body, []byte(`"AT_TIMESTAMP"`), []byte(`"TRIM_HORIZON"`))
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header = r.Header
	in.Host = r.URL.Host
	out := httptest.NewRecorder()
	server.ServeHTTP(out, in)
	return out.Result(), nil
}

// fixture is a stream on fake time.
type fixture struct {
	*endpoint
	t      *testing.T
	stream *Stream
	client *awskinesis.Client
	put    int // number of records written
}

func (f *fixture) serve(shards int) {
	f.t.Helper()
	server := kinesislocal.New(kinesislocal.Options{Now: f.now})
	f.t.Cleanup(func() { server.Close() })
	if err := server.CreateStream("orders", shards); err != nil {
		f.t.Fatal(err)
	}
	f.setServer(server)
}

func withoutAWS(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

func onFakeTime(t *testing.T, shards int, test func(*testing.T, *fixture)) {
	t.Helper()
	withoutAWS(t)
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, endpoint: &endpoint{broken: -1}}
		f.serve(shards)
		f.stream = f.open()
		f.client = f.stream.client
		test(t, f)
	})
}

func (f *fixture) open() *Stream {
	f.t.Helper()
	s, err := Open(f.t.Context(), Target{Stream: "orders", Endpoint: "http://127.0.0.1:1", HTTP: f.endpoint})
	if err == nil {
		err = s.WaitActive(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// write puts n records with hash keys spread over the stream. The data of a record is its number, counted from 1.
func (f *fixture) write(n int) {
	f.t.Helper()
	for range n {
		hash := new(big.Int).Div(new(big.Int).Mul(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(f.put%16))), big.NewInt(16))
		f.put++
		if _, err := f.client.PutRecord(f.t.Context(), &awskinesis.PutRecordInput{
			StreamName:      aws.String("orders"),
			PartitionKey:    aws.String("k"),
			ExplicitHashKey: aws.String(hash.String()),
			Data:            fmt.Append(nil, f.put),
		}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// reading is a Read in the background.
type reading struct {
	f       *fixture
	records []Record
	polls   []Poll
	trouble []error
	cancel  context.CancelFunc
	err     error
	done    chan struct{}
}

func (f *fixture) read(o ReadOptions) *reading {
	ctx, cancel := context.WithCancel(f.t.Context())
	r := &reading{f: f, cancel: cancel, done: make(chan struct{})}
	ready := make(chan struct{})
	o.OnReady = func() { close(ready) }
	o.OnPoll = func(p Poll) { r.polls = append(r.polls, p) }
	o.OnTrouble = func(err error) { r.trouble = append(r.trouble, err) }
	go func() {
		defer close(r.done)
		r.err = f.stream.Read(ctx, o, func(record Record) error { r.records = append(r.records, record); return nil })
	}()
	select {
	case <-ready:
	case <-r.done:
	}
	return r
}

func (r *reading) stop() {
	r.cancel()
	<-r.done
}

// wait lets fake time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// checkRecords checks that the read returned the records from first to last, each once, in the order of each shard.
func (r *reading) checkRecords(first, last int) {
	r.f.t.Helper()
	var all []int
	lastSequence := map[string]string{}
	for _, record := range r.records {
		var n int
		fmt.Sscan(string(record.Data), &n)
		all = append(all, n)
		if record.SequenceNumber <= lastSequence[record.Shard] {
			r.f.t.Errorf("%s: %s after %s", record.Shard, record.SequenceNumber, lastSequence[record.Shard])
		}
		lastSequence[record.Shard] = record.SequenceNumber
	}
	slices.Sort(all)
	var want []int
	for n := first; n <= last; n++ {
		want = append(want, n)
	}
	if !slices.Equal(all, want) {
		r.f.t.Errorf("got %v, want %d to %d", all, first, last)
	}
}

// A read with Follow returns the records that are written after its start.
func TestReadFollows(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		f.write(5)
		r := f.read(ReadOptions{Follow: true})
		f.write(20)
		wait(3 * time.Second)
		f.write(20)
		wait(2 * time.Second)
		if last := r.polls[len(r.polls)-1]; !last.CaughtUp || last.Behind != 0 {
			t.Errorf("the last poll: %+v", last)
		}
		r.stop()
		r.checkRecords(6, 45)
		if !errors.Is(r.err, context.Canceled) || len(r.trouble) > 0 {
			t.Error(r.err, r.trouble)
		}
	})
}

// A shard with new records gets one GetRecords a second, an idle shard fewer.
func TestReadPace(t *testing.T) {
	onFakeTime(t, 1, func(t *testing.T, f *fixture) {
		began := time.Now()
		r := f.read(ReadOptions{Follow: true})
		for range 20 {
			f.write(1)
			wait(time.Second)
		}
		busy := len(f.readsSince(began))
		wait(2 * time.Minute)
		r.stop()
		reads := f.readsSince(began)
		if idle := len(reads) - busy; busy > 21 || busy < 19 || idle > 70 || idle < 30 {
			t.Errorf("%d reads in 20 s, then %d in two minutes", busy, idle)
		}
		for i := 1; i < len(reads); i++ {
			if gap := reads[i].Sub(reads[i-1]); gap < time.Second || gap > 4*time.Second {
				t.Errorf("%v between two reads", gap)
			}
		}
	})
}

func (f *fixture) split(shard, start string) {
	f.t.Helper()
	if _, err := f.client.SplitShard(f.t.Context(), &awskinesis.SplitShardInput{
		StreamName: aws.String("orders"), ShardToSplit: &shard, NewStartingHashKey: &start,
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) merge(a, b string) {
	f.t.Helper()
	if _, err := f.client.MergeShards(f.t.Context(), &awskinesis.MergeShardsInput{
		StreamName: aws.String("orders"), ShardToMerge: &a, AdjacentShardToMerge: &b,
	}); err != nil {
		f.t.Fatal(err)
	}
}

// reshard splits the first of two shards, then merges its upper half with the second shard. It writes records before,
// between and after.
func (f *fixture) reshard() {
	f.write(16)
	f.split("shardId-000000000000", "85070591730234615865843651857942052864")
	f.write(16)
	f.merge("shardId-000000000001", "shardId-000000000003")
	f.write(16)
}

// If a closed shard's children cannot be listed at once, the records of its last GetRecords are not lost.
func TestReadReshardWithoutList(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		r := f.read(ReadOptions{Follow: true})
		f.server.SetFaults(fault(kinesislocal.Rule{Operation: "ListShards", ErrorType: "LimitExceededException", Count: 3}))
		f.reshard()
		wait(time.Minute)
		r.stop()
		r.checkRecords(1, 48)
		if f.server.Stats().Operations["ListShards"].Outcomes["LimitExceededException"] != 3 || r.trouble[len(r.trouble)-1] != nil {
			t.Errorf("reported %v", r.trouble)
		}
	})
}

// While calls for one shard fail, successful calls for other shards do not report the end of the trouble.
func TestReadTroubleOfOneShard(t *testing.T) {
	onFakeTime(t, 4, func(t *testing.T, f *fixture) {
		r := f.read(ReadOptions{Follow: true})
		f.breakShard(2)
		wait(time.Minute)
		f.breakShard(-1)
		wait(time.Minute)
		r.stop()
		if n := slices.Index(r.trouble, nil); n != len(r.trouble)-1 || n < 10 {
			t.Errorf("reported %v", r.trouble)
		}
	})
}

// A read goes on through a split and a merge: children after parents, every record once.
func TestReadReshard(t *testing.T) {
	for name, o := range map[string]ReadOptions{
		"follow":          {Follow: true},
		"follow, all":     {Follow: true, All: true},
		"present records": {},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, 2, func(t *testing.T, f *fixture) {
				if !o.Follow {
					f.reshard()
				}
				r := f.read(o)
				if o.Follow {
					f.reshard()
				}
				wait(10 * time.Second)
				r.stop()
				r.checkRecords(1, 48)
				seen := map[string]bool{}
				for _, record := range r.records {
					seen[record.Shard[len(record.Shard)-1:]] = true
					for _, child := range map[string][]string{"0": {"2", "3"}, "1": {"4"}, "3": {"4"}}[record.Shard[len(record.Shard)-1:]] {
						if seen[child] {
							t.Errorf("a record of %s after one of its child %s", record.Shard, child)
						}
					}
				}
				if len(seen) != 5 || len(r.trouble) > 0 || (r.err == nil) != !o.Follow {
					t.Error(seen, r.trouble, r.err)
				}
			})
		})
	}
}

// Since and Until are exact to the millisecond, also across a resharding.
func TestReadSinceUntil(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		began := time.Now()
		at := func(second int) time.Time { return began.Add(time.Duration(second) * time.Second) }
		for second := range 10 { // 16 records a second
			f.write(16)
			if second == 4 {
				f.split("shardId-000000000000", "85070591730234615865843651857942052864")
			}
			wait(time.Second)
		}
		for _, test := range []struct {
			o           ReadOptions
			first, last int
		}{
			{ReadOptions{Since: at(2)}, 33, 160},
			{ReadOptions{Since: at(2).Add(time.Millisecond)}, 49, 160},
			{ReadOptions{Since: at(2).Add(-time.Millisecond), Until: at(4)}, 33, 64},
			{ReadOptions{Since: at(6), Until: at(8), Follow: true}, 97, 128},
			{ReadOptions{Since: at(2)}, 33, 160},
			{ReadOptions{Until: at(1)}, 1, 16},
			{ReadOptions{Since: at(-60), Until: at(5).Add(time.Millisecond)}, 1, 96},
		} {
			f.noAtTimestamp = !f.noAtTimestamp
			r := f.read(test.o)
			<-r.done
			if r.err != nil {
				t.Errorf("%+v: %v", test.o, r.err)
			}
			r.checkRecords(test.first, test.last)
		}
		// Until is in the future.
		r := f.read(ReadOptions{Follow: true, Until: time.Now().Add(5 * time.Second)})
		for range 8 {
			f.write(1)
			wait(time.Second)
		}
		<-r.done
		r.checkRecords(161, 165)
	})
}

// A bounded read that needs several GetRecords returns all records, even if the local clock is wrong.
func TestReadWithSkewedClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Minute, 0, time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			onFakeTime(t, 1, func(t *testing.T, f *fixture) {
				f.ahead = ahead
				f.serve(1) // with that clock
				f.stream = f.open()
				records := make([]types.PutRecordsRequestEntry, 500)
				for i := range records {
					records[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: []byte("x")}
				}
				for range 50 {
					input := &awskinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: records}
					if _, err := f.client.PutRecords(t.Context(), input); err != nil {
						t.Fatal(err)
					}
					wait(500 * time.Millisecond) // a shard takes 1,000 a second
				}
				r := f.read(ReadOptions{})
				if <-r.done; r.err != nil || len(r.records) != 25_000 {
					t.Errorf("%d records, %v", len(r.records), r.err)
				}
			})
		})
	}
}

// An empty page before the last record does not end a read, even if the local clock is ahead.
func TestReadEmptyPage(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Minute, -400 * time.Millisecond, 0, time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			onFakeTime(t, 1, func(_ *testing.T, f *fixture) {
				f.ahead = ahead
				f.serve(1) // with that clock
				f.stream = f.open()
				wait(time.Minute + 500*time.Millisecond) // to the middle of a second; replies have whole seconds
				f.write(16)
				wait(100 * time.Millisecond)
				until := f.now()
				wait(10 * time.Second)
				f.emptyPages(1, 10100*time.Millisecond) // as far behind as the first record
				r := f.read(ReadOptions{Until: until})
				<-r.done
				r.checkRecords(1, 16)
			})
		})
	}
}

// A Since that is in the future of the endpoint's clock is no error.
func TestReadSinceInTheFuture(t *testing.T) {
	onFakeTime(t, 1, func(t *testing.T, f *fixture) {
		f.ahead = -time.Minute
		f.serve(1)
		f.stream = f.open()
		f.write(3)
		r := f.read(ReadOptions{Since: time.Now().Add(-50 * time.Second), Follow: true})
		f.write(3)
		wait(11 * time.Second)
		f.write(3)
		wait(5 * time.Second)
		r.stop()
		r.checkRecords(7, 9)
		if len(r.trouble) > 0 || !errors.Is(r.err, context.Canceled) {
			t.Error(r.trouble, r.err)
		}
	})
}

// A bounded read of a live stream ends at one moment in all shards: records that arrive later are not read.
func TestReadEndsAtOneMoment(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		f.write(32)
		r := &reading{f: f}
		err := f.stream.Read(t.Context(), ReadOptions{}, func(record Record) error {
			r.records = append(r.records, record)
			wait(100 * time.Millisecond) // a slow receiver
			f.write(1)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		r.checkRecords(1, 32)
	})
}

// A reply has up to 10 MB: while the receiver processes one, only a few more are in memory, however many shards there are.
func TestReadHoldsFewReplies(t *testing.T) {
	onFakeTime(t, 16, func(t *testing.T, f *fixture) {
		f.write(32) // into each shard
		began, taken, polled, most := time.Now(), 0, 0, 0
		o := ReadOptions{OnPoll: func(Poll) { polled++ }}
		err := f.stream.Read(t.Context(), o, func(Record) error {
			taken++
			wait(100 * time.Millisecond)
			most = max(most, len(f.readsSince(began))-polled)
			return nil
		})
		if err != nil || taken != 32 || most == 0 || most > maxReplies+1 { // 1 for the reply that is being processed
			t.Errorf("%d records, %d replies, %v", taken, most, err)
		}
	})
}

func fault(rule kinesislocal.Rule) *kinesislocal.Faults {
	return &kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}}
}

// An expired iterator is replaced, even before the first record, and no record is lost or read twice.
func TestReadExpiredIterator(t *testing.T) {
	for _, before := range []int{0, 16} {
		onFakeTime(t, 1, func(t *testing.T, f *fixture) {
			r := f.read(ReadOptions{Follow: true})
			wait(time.Second)
			f.write(before)
			wait(5 * time.Second)
			f.server.SetFaults(fault(kinesislocal.Rule{Operation: "GetRecords", ErrorType: "ExpiredIteratorException", Count: 1}))
			f.write(16)
			wait(10 * time.Second)
			r.stop()
			r.checkRecords(1, before+16)
			if n := f.server.Stats().Operations["GetShardIterator"].Requests; n != 2 || len(r.trouble) > 0 {
				t.Errorf("%d iterators, %v", n, r.trouble)
			}
		})
	}
}

// Throttling and internal failures are retried with a backoff of up to 5 s.
func TestReadThrottled(t *testing.T) {
	for _, code := range []string{"ProvisionedThroughputExceededException", "KMSThrottlingException", "InternalFailureException"} {
		onFakeTime(t, 1, func(t *testing.T, f *fixture) {
			r := f.read(ReadOptions{Follow: true})
			f.server.SetFaults(fault(kinesislocal.Rule{Operation: "GetRecords", ErrorType: code, Count: 10}))
			began := time.Now()
			f.write(3)
			wait(time.Minute)
			r.stop()
			r.checkRecords(1, 3)
			if len(r.trouble) != 11 || r.trouble[10] != nil {
				t.Errorf("%s: reported %v", code, r.trouble)
			}
			longest := time.Duration(0)
			reads := f.readsSince(began)
			for i, at := range reads[1:] {
				longest = max(longest, at.Sub(reads[i]))
			}
			if longest != 5*time.Second {
				t.Errorf("%s: backed off for %v at most", code, longest)
			}
		})
	}
}

// An endpoint restarts, first with its streams, then with a new stream of the same name, in which all records are new.
func TestReadRestart(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		r := f.read(ReadOptions{Follow: true})
		f.write(16)
		wait(2 * time.Second)
		server := f.server
		f.setServer(nil)
		wait(20 * time.Second)
		f.setServer(server)
		f.write(16)
		wait(20 * time.Second)
		r.checkRecords(1, 32)
		if len(r.trouble) == 0 || !strings.Contains(r.trouble[0].Error(), "nothing listens at http://127.0.0.1:1") ||
			r.trouble[len(r.trouble)-1] != nil {
			t.Errorf("reported %v", r.trouble)
		}

		r.records = nil // the new stream starts with new sequence numbers
		f.setServer(nil)
		wait(7 * time.Second)
		f.setServer(kinesislocal.New(kinesislocal.Options{})) // without a stream yet
		wait(20 * time.Second)
		f.serve(3)
		f.write(16)
		wait(20 * time.Second)
		f.write(16)
		wait(20 * time.Second)
		r.stop()
		r.checkRecords(33, 64)
		if !errors.Is(r.err, context.Canceled) {
			t.Error(r.err)
		}
	})
}

// Deleting the stream ends a read.
func TestReadEndsWithTheStream(t *testing.T) {
	onFakeTime(t, 1, func(t *testing.T, f *fixture) {
		r := f.read(ReadOptions{Follow: true})
		if _, err := f.client.DeleteStream(t.Context(), &awskinesis.DeleteStreamInput{StreamName: aws.String("orders")}); err != nil {
			t.Fatal(err)
		}
		<-r.done
		if !errors.Is(r.err, ErrNotFound) || r.err.Error() != "there is no stream orders at http://127.0.0.1:1" {
			t.Error(r.err)
		}
	})
}

// A bounded read gives up after a minute without an answer.
func TestReadGivesUp(t *testing.T) {
	for _, unreachable := range []bool{true, false} {
		onFakeTime(t, 1, func(t *testing.T, f *fixture) {
			f.server.SetFaults(fault(kinesislocal.Rule{Operation: "GetRecords", ErrorType: "ProvisionedThroughputExceededException"}))
			began := time.Now()
			r := f.read(ReadOptions{})
			if unreachable {
				f.setServer(nil)
			}
			<-r.done
			if took := time.Since(began); r.err == nil || took < time.Minute || took > 70*time.Second {
				t.Errorf("unreachable %v: %v after %v", unreachable, r.err, took)
			}
		})
	}
}

// A read with Follow and Until gives up a minute after Until.
func TestReadGivesUpAfterUntil(t *testing.T) {
	for _, unreachable := range []bool{true, false} {
		onFakeTime(t, 1, func(t *testing.T, f *fixture) {
			f.server.SetFaults(fault(kinesislocal.Rule{Operation: "GetRecords", ErrorType: "ProvisionedThroughputExceededException"}))
			began := time.Now()
			r := f.read(ReadOptions{Follow: true, Until: began.Add(10 * time.Minute)})
			if unreachable {
				f.setServer(nil)
			}
			select {
			case <-r.done:
			case <-time.After(time.Hour):
				r.stop()
			}
			if took := time.Since(began); r.err == nil || took < 11*time.Minute || took > 11*time.Minute+10*time.Second {
				t.Errorf("unreachable %v: %v after %v", unreachable, r.err, took)
			}
		})
	}
}

// Read returns the receiver's error unchanged and stops.
func TestReadReturnsTheReceiversError(t *testing.T) {
	onFakeTime(t, 2, func(t *testing.T, f *fixture) {
		f.write(10)
		enough := errors.New("enough")
		n := 0
		err := f.stream.Read(t.Context(), ReadOptions{Follow: true, All: true}, func(Record) error {
			if n++; n == 3 {
				return enough
			}
			return nil
		})
		if err != enough || n != 3 { //nolint:errorlint // the receiver's error itself, unwrapped
			t.Error(err, n)
		}
	})
}

// Each error names the attempted action and its cause, and has a hint.
func TestErrors(t *testing.T) {
	onFakeTime(t, 1, func(t *testing.T, f *fixture) {
		denied := kinesislocal.Rule{Operation: "*", ErrorType: "AccessDeniedException", Message: "User: me is not authorized"}
		for _, test := range []struct {
			operation, code string
			want, hint      string
		}{
			{
				operation: "DescribeStreamSummary",
				code:      "AccessDeniedException",
				want:      "describe stream orders: kinesis:DescribeStreamSummary is denied: no",
				hint:      "kinesis:DescribeStreamSummary, ",
			},
			{
				operation: "ListShards",
				code:      "AccessDeniedException",
				want:      "read stream orders: kinesis:ListShards is denied: no",
				hint:      "kinesis:ListShards, ",
			},
			{
				operation: "GetShardIterator",
				code:      "AccessDeniedException",
				want:      "read stream orders: kinesis:GetShardIterator is denied: no",
				hint:      "kinesis:GetShardIterator",
			},
			{
				operation: "GetRecords",
				code:      "AccessDeniedException",
				want:      "read stream orders: kinesis:GetRecords is denied: no",
				hint:      "kinesis:GetRecords",
			},
			{
				operation: "GetRecords",
				code:      "KMSAccessDeniedException",
				want:      "read stream orders: KMSAccessDeniedException: no",
				hint:      "kms:Decrypt",
			},
			{
				operation: "GetRecords",
				code:      "ExpiredTokenException",
				want:      "read stream orders: the credentials are not accepted: ExpiredTokenException: no",
				hint:      "AWS_PROFILE",
			},
			{
				operation: "DescribeStreamSummary",
				code:      "ResourceNotFoundException",
				want:      "there is no stream orders at http://127.0.0.1:1",
			},
		} {
			rule := denied
			rule.Operation, rule.ErrorType, rule.Message = test.operation, test.code, "no"
			f.server.SetFaults(fault(rule))
			err := f.stream.WaitActive(t.Context())
			if err == nil {
				err = f.stream.Read(t.Context(), ReadOptions{Follow: true}, func(Record) error { return nil })
			}
			advised, ok := errors.AsType[*Error](err)
			if !ok || advised.Error() != test.want || !strings.Contains(strings.Join(advised.Hints, "\n"), test.hint) {
				t.Errorf("%s %s: %v", test.operation, test.code, err)
			}
		}
		f.setServer(nil)
		if err := f.stream.WaitActive(t.Context()); err == nil || err.Error() != "describe stream orders: nothing listens at http://127.0.0.1:1" {
			t.Error(err)
		}
	})
}

// The endpoint of the AWS configuration may contain a password: an error about it does not quote it.
func TestOpenHidesEndpoint(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, endpoint := range []string{
		"http://user:SECRET@127.0.0.1:1", "http://127.0.0.1:1/?token=SECRET", "http://127.0.0.1:1/#SECRET", "http://user:SEC RET@127.0.0.1:1",
		"SECRET", "ftp://SECRET",
	} {
		t.Setenv("AWS_ENDPOINT_URL_KINESIS", endpoint)
		_, err := Open(t.Context(), Target{Stream: "orders", Region: "eu-west-1"})
		advised, ok := errors.AsType[*Error](err)
		if !ok || !strings.HasPrefix(err.Error(), "the endpoint of the AWS configuration is ") ||
			strings.Contains(err.Error()+strings.Join(advised.Hints, ""), "SEC") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// Open rejects invalid targets, and finds the region of a valid one.
func TestOpen(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for _, test := range []struct {
		target  Target
		wantErr string // its beginning; "" for success
		region  string
	}{
		{
			target:  Target{Stream: "or ders"},
			wantErr: `"or ders" is not the name of a stream: it has 1 to 128 of A-Z a-z 0-9 _ . -`,
		},
		{
			target: Target{Stream: "arn:aws:s3:::x"},
			wantErr: `"arn:aws:s3:::x" is not the ARN of a stream, ` +
				`such as arn:aws:kinesis:eu-west-1:123456789012:stream/my-stream`,
		},
		{
			target:  Target{Stream: "arn:aws:kinesis:eu-west-1:123456789012:stream/x", Region: "us-east-1"},
			wantErr: "the ARN's region is eu-west-1, not us-east-1",
		},
		{target: Target{Stream: "x"}, wantErr: "no region is set"},
		{target: Target{Stream: "x", Region: "eu-west-1"}, wantErr: "find AWS credentials for Kinesis in eu-west-1"},
		{target: Target{Stream: "x", Endpoint: "http://localhost:4567"}, region: "us-east-1"},
		{
			target: Target{Stream: "arn:aws:kinesis:eu-west-1:123456789012:stream/x", Endpoint: "http://127.0.0.1:4567"},
			region: "eu-west-1",
		},
	} {
		s, err := Open(t.Context(), test.target)
		switch {
		case test.wantErr != "":
			if err == nil || !strings.HasPrefix(err.Error(), test.wantErr) {
				t.Errorf("%+v: %+v, %v", test.target, s, err)
			}
		case err != nil || s.Region != test.region:
			t.Errorf("%+v: %+v, %v", test.target, s, err)
		}
	}
}
