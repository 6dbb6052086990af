package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// fakeStream is a stream whose answers a test scripts. It keeps the lines of the records that it accepted.
type fakeStream struct {
	mu    sync.Mutex
	put   func(ctx context.Context, records []kinesis.Record) kinesis.Result
	lines []record.Line
	calls int
}

// accepted returns the lines that the stream accepted, and the number of calls.
func (s *fakeStream) accepted() (lines []record.Line, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines), s.calls
}

// script sets the answer of later calls.
func (s *fakeStream) script(put func(ctx context.Context, records []kinesis.Record) kinesis.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put = put
}

func (s *fakeStream) Put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	s.mu.Lock()
	put := s.put
	s.calls++
	s.mu.Unlock()
	if put == nil {
		put = answerAll(kinesis.Sent, nil)
	}
	result := put(ctx, records)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, outcome := range result.Outcomes {
		if outcome != kinesis.Sent {
			continue
		}
		for line, err := range record.Unpack(bytes.Join(records[i].Data, nil)) {
			if err != nil {
				panic(err)
			}
			s.lines = append(s.lines, line)
		}
	}
	return result
}

func (s *fakeStream) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s.Put(ctx, records)
}

// answerAll gives every record of a request the same outcome.
func answerAll(outcome kinesis.Outcome, err error) func(context.Context, []kinesis.Record) kinesis.Result {
	return func(_ context.Context, records []kinesis.Record) kinesis.Result {
		return kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{outcome}, len(records)), Requests: 1, Err: err}
	}
}

func options() Options {
	return Options{
		Source: record.SourceFields{Function: "f"}, Format: record.NDJSON, PartitionKey: ByEnvironment,
		Flush: flush.Settings{
			Mode: flush.Sync, MaxDelay: 10 * time.Second, FlushTimeout: time.Second, RecordBytes: 2000, BufferBytes: 50_000,
		},
		MaxRecordBytes: 5000, RequestBytes: 20_000,
		Random: func() float64 { return 0 },
	}
}

// invoked returns an INVOKE with a deadline in a minute.
func invoked(number int) flush.Invoked {
	return flush.Invoked{Number: number, Deadline: time.Now().Add(time.Minute)}
}

func mustUnmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func logEvent(n, size int) Event {
	return Event{Raw: fmt.Appendf(nil, `{"time":"t","type":"function","record":"%0*d"}`, size, n)}
}

func platformEvent() Event {
	return Event{Raw: []byte(`{"time":"t","type":"platform.start","record":{}}`), Class: Platform}
}

// check compares the account, the buffer's sizes and the batches.
func check(t *testing.T, d *Dispatcher) Stats {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.statsLocked()
	if s.Received != s.Sent+s.Dropped+s.Buffered {
		t.Fatalf("received %d is not sent %d + dropped %d + buffered %d", s.Received, s.Sent, s.Dropped, s.Buffered)
	}
	events, size, inFlight, pages := 0, 0, 0, 0
	for b := range d.list.all() {
		lines, total := 0, 0
		for line := range d.eachLine(b) {
			lines++
			total += len(line)
		}
		if b.unread {
			lines, total = b.lines, b.size
		}
		if lines != b.lines || total != b.size || b.lines == 0 {
			t.Fatalf("a batch of %d lines, %d bytes has the counts %d, %d", lines, total, b.lines, b.size)
		}
		events += lines
		size += total
		pages += len(b.pages)
		if b.inFlight {
			inFlight += total
		}
	}
	if events != d.events || size != d.bytes || inFlight != d.flightBytes || pages != d.pages.count {
		t.Fatalf("%d events, %d bytes, %d in flight, %d pages; the counts are %d, %d, %d, %d",
			events, size, inFlight, pages, d.events, d.bytes, d.flightBytes, d.pages.count)
	}
	// An eighth more: lines that leave before logs at SHUTDOWN are copies.
	limit := d.options.Flush.BufferBytes/8*9 + d.options.RequestBytes + d.options.MaxRecordBytes
	if size := pages * d.pages.size; size-inFlight > limit {
		t.Fatalf("%d bytes are buffered of %d, %d pages of %d, %d batches, %d bytes in flight", size, d.options.Flush.BufferBytes,
			pages, d.pages.size, len(slices.Collect(d.list.all())), inFlight)
	}
	return s
}

// With any answers of the stream, every event ends exactly once, in the account and on the stream, and in order.
func TestEveryEventEndsOnce(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random, dice := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			stream := &fakeStream{}
			o := options()
			o.PartitionKey = []PartitionKey{ByEnvironment, ByRequest, ByRandom}[seed%3]
			d := New(o, stream)
			stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				check(t, d)
				result := kinesis.Result{Requests: 1}
				for range records {
					outcome := []kinesis.Outcome{kinesis.Sent, kinesis.Unsent, kinesis.Rejected}[dice.IntN(3)]
					if outcome == kinesis.Unsent {
						result.Err = errors.New("throttled")
					}
					result.Outcomes = append(result.Outcomes, outcome)
				}
				select {
				case <-time.After(time.Duration(dice.IntN(100)) * time.Millisecond):
				case <-ctx.Done():
				}
				return result
			})
			for n := range 300 {
				e := logEvent(n, random.IntN(6000))
				if random.IntN(10) == 0 {
					e = platformEvent()
				}
				e.RequestID = fmt.Sprint("r", n/20)
				d.Receive([]Event{e, logEvent(n, 10)}, time.Time{}, false)
				check(t, d)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(200))*time.Millisecond)
				switch random.IntN(20) {
				case 0:
					d.Note(invoked(n + 1))
				case 1:
					d.Note(flush.EndSeen{Number: random.IntN(n + 2), At: time.Now()})
					d.Ship(ctx, flush.AtEnd)
					d.Note(flush.NextCalled{})
				case 2:
					d.Note(flush.NeverFrozen{})
				case 3:
					time.Sleep(time.Duration(random.IntN(20)) * time.Second)
				case 4:
					d.Ship(ctx, flush.AtShutdown)
				case 5:
					d.Note(flush.TelemetryLost{})
					d.AwaitEnd(ctx)
				}
				cancel()
				check(t, d)
			}
			stream.script(nil)
			d.Ship(t.Context(), flush.AtShutdown)
			d.Close(false)
			stats := check(t, d)
			if stats.Buffered != 0 || int(stats.Sent) != len(stream.lines) {
				t.Fatalf("%+v, and the stream has %d", stats, len(stream.lines))
			}
			checkStream(t, stream, stats)
		})
	}
}

// checkStream checks the stream as a consumer does: no number arrives twice, and the missing numbers are the dropped
// events.
func checkStream(t *testing.T, stream *fakeStream, stats Stats) {
	t.Helper()
	seen := map[uint64]bool{}
	declared := 0
	for _, line := range stream.lines {
		if seen[line.Seq] {
			t.Fatalf("seq %d arrived twice", line.Seq)
		}
		seen[line.Seq] = true
		if line.Type == typeDropped {
			var l struct{ Count int }
			mustUnmarshal(t, line.Record, &l)
			declared += l.Count
		}
	}
	missing := 0
	for seq := range stats.Received {
		if !seen[seq] {
			missing++
		}
	}
	if missing != int(stats.Dropped) || declared > missing {
		t.Fatalf("%d numbers are missing, %d were dropped, %d declared", missing, stats.Dropped, declared)
	}
}

// After a flight that failed, order is kept.
func TestOrderIsKept(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	first := true
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		if first { // the stream accepts nothing: all records are sent again, before the later event
			first = false
			d.Receive([]Event{logEvent(1000, 50)}, time.Time{}, false)
			return answerAll(kinesis.Unsent, errors.New("no answer"))(ctx, records)
		}
		return answerAll(kinesis.Sent, nil)(ctx, records)
	})
	for n := range 100 {
		d.Receive([]Event{logEvent(n, 50)}, time.Time{}, false)
	}
	d.Ship(t.Context(), flush.AtShutdown)
	d.Ship(t.Context(), flush.AtShutdown)
	if len(stream.lines) != 101 {
		t.Fatalf("%d lines", len(stream.lines))
	}
	for i, line := range stream.lines {
		if line.Seq != uint64(i) {
			t.Fatalf("seq %d at position %d", line.Seq, i)
		}
	}
}

// Overflow drops the oldest logs first and platform events last, and the stream declares the loss.
func TestOverflowDropsTheOldestLogs(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	for n := range 100 {
		d.Receive([]Event{platformEvent(), logEvent(n, 1000)}, time.Time{}, false)
		check(t, d)
	}
	d.Ship(t.Context(), flush.AtShutdown)
	platform, logs := 0, []int{}
	for _, line := range stream.lines {
		switch line.Type {
		case "platform.start":
			platform++
		case "function":
			var n string
			mustUnmarshal(t, line.Record, &n)
			logs = append(logs, len(n))
			if line.Seq < 100 {
				t.Errorf("an old log, seq %d, was kept", line.Seq)
			}
		case typeDropped:
			var l loss
			mustUnmarshal(t, line.Record, &l)
			if l.Reason != reasonOverflow || l.FirstSeq != 1 || int(l.Count) != 100-len(logs) {
				t.Errorf("declared %+v, %d logs arrived", l, len(logs))
			}
		}
	}
	if stats := check(t, d); platform != 100 || len(logs) == 0 || stats.Buffered != 0 {
		t.Errorf("%d platform events, %d logs, %+v", platform, len(logs), stats)
	}
}

// An event above the stream's record limit is dropped and declared.
func TestTooLargeEventIsDeclared(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 5000), logEvent(3, 10)}, time.Time{}, false)
	d.Ship(t.Context(), flush.AtShutdown)
	if len(stream.lines) != 3 || stream.lines[2].Type != typeDropped || !strings.Contains(string(stream.lines[2].Record), reasonTooLarge) {
		t.Errorf("got %+v", stream.lines)
	}
}

// A record of exactly the stream's limit is sent, and one byte more is too large. A buffer that is exactly full drops
// nothing, and one page more drops the oldest batch.
func TestLimitsAreExact(t *testing.T) {
	o := options()
	o.Oversize = Drop
	e, larger := logEvent(1, 1000), logEvent(2, 1001)
	d := New(o, &fakeStream{})
	o.MaxRecordBytes = record.EventSize(&record.Event{Raw: e.Raw, Source: d.source}) + 1 + len(d.source.Instance())
	o.Flush.RecordBytes = o.MaxRecordBytes // one event a batch, one batch a page
	d.Close(false)
	d = New(o, &fakeStream{})
	o.Flush.BufferBytes = 5 * d.pages.size
	d.Close(false)
	d = New(o, &fakeStream{})
	defer d.Close(false)
	d.Receive(slices.Repeat([]Event{e}, 5), time.Time{}, false)
	if s := check(t, d); s.Buffered != 5 {
		t.Errorf("%+v", s)
	}
	d.Receive([]Event{e, larger}, time.Time{}, false)
	if s := check(t, d); s.Reasons[reasonOverflow] == 0 || s.Reasons[reasonTooLarge] != 1 {
		t.Errorf("%+v", s)
	}
}

// The partition key counts once for each record: in the size of the record, and in the size of the request.
func TestPartitionKeyCountsInSizes(t *testing.T) {
	e := logEvent(1, 300)
	for _, format := range []record.Format{record.NDJSON, record.JSON} {
		for _, short := range []int{0, 1} {
			var flights [][]int // sizes of records
			stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				var sizes []int
				for _, r := range records {
					sizes = append(sizes, r.Size())
				}
				flights = append(flights, sizes)
				return answerAll(kinesis.Sent, nil)(ctx, records)
			}}
			ship := func(o Options) {
				o.Format = format
				flights = nil
				d := New(o, stream)
				defer d.Close(false)
				d.Receive([]Event{e, e}, time.Time{}, false)
				d.Ship(t.Context(), flush.AtShutdown)
			}
			o := options()
			source := record.NewSource(record.SourceFields{Function: "f", Instance: strings.Repeat("0", 32)})
			size := record.EventSize(&record.Event{Raw: e.Raw, Source: source})
			if format == record.NDJSON {
				size++
				o.Flush.RecordBytes = 2*size + 32 - short
				ship(o)
				if len(flights[0]) != 1+short {
					t.Errorf("records %d bytes short of two events and a key: %d", short, flights)
				}
			}
			o.Flush.RecordBytes = 1
			o.RequestBytes = 2*(size+32) - short
			ship(o)
			// the format json never divides a batch
			if want := 1 + short; format == record.NDJSON && len(flights) != want {
				t.Errorf("%s: %d requests %d bytes short of two records, want %d: %d", format, len(flights), short, want, flights)
			}
		}
	}
}

// Requests that log at the same time, as on Managed Instances, each fill their own records.
func TestInterleavedRequestsFillTheirRecords(t *testing.T) {
	records := 0
	stream := &fakeStream{put: func(ctx context.Context, r []kinesis.Record) kinesis.Result {
		records += len(r)
		return answerAll(kinesis.Sent, nil)(ctx, r)
	}}
	o := options()
	o.PartitionKey, o.MaxRecordBytes, o.RequestBytes = ByRequest, 1<<20, 5<<20
	o.Flush.RecordBytes, o.Flush.BufferBytes = 100_000, 64<<20
	d := New(o, stream)
	defer d.Close(false)
	for n := range 10_000 {
		e := logEvent(n, 300)
		e.RequestID = fmt.Sprintf("8476a536-e9f4-11e8-9739-%012d", n%16)
		d.Receive([]Event{e}, time.Time{}, false)
	}
	pages := d.pages.count
	d.Ship(t.Context(), flush.AtShutdown)
	if s := check(t, d); s.Sent != 10_000 || records > 150 || pages > 16*4*7 {
		t.Errorf("%d events in %d records, %d pages", s.Sent, records, pages)
	}
}

// FORMAT.md: the partition key of an event, and that of an event without the value.
func TestPartitionKeys(t *testing.T) {
	instance := "the instance"
	for key, want := range map[PartitionKey][2]string{
		ByEnvironment: {instance, instance},
		ByRequest:     {"r", instance},
		ByTenant:      {"t", instance},
		ByFunction:    {"f", "f"},
		ByRandom:      {"random", "random"},
	} {
		var keys []string
		stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			for _, r := range records {
				keys = append(keys, r.PartitionKey)
			}
			return answerAll(kinesis.Sent, nil)(ctx, records)
		}}
		o := options()
		o.PartitionKey, o.Flush.RecordBytes = key, 1
		d := New(o, stream)
		with, without := Event{Raw: []byte(`{"a":1}`), RequestID: "r", TenantID: "t"}, Event{Raw: []byte(`{"b":1}`)}
		d.Receive([]Event{with, without}, time.Time{}, false)
		d.Ship(t.Context(), flush.AtShutdown)
		d.Close(false)
		for i := range keys {
			switch {
			case keys[i] == d.source.Instance():
				keys[i] = instance
			case key == ByRandom && len(keys[i]) == 16 && keys[0] != keys[1]:
				want[i] = keys[i]
			}
		}
		if !slices.Equal(keys, want[:]) {
			t.Errorf("%s: %q", key, keys)
		}
	}
	o := options()
	o.PartitionKey, o.Source.Function = ByFunction, ""
	d := New(o, &fakeStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	if key := d.list.next.key; key != d.source.Instance() {
		t.Errorf("a function without a name: %q", key)
	}
}

// An event above the record limit fills a record with its beginning, or is dropped and declared.
func TestOversizeEventIsTruncatedOrDropped(t *testing.T) {
	for _, oversize := range []Oversize{Truncate, Drop} {
		for _, format := range []record.Format{record.NDJSON, record.JSON} {
			stream := &fakeStream{}
			o := options()
			o.Oversize, o.Format, o.Flush.RecordBytes = oversize, format, o.MaxRecordBytes
			largest := 0
			stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				for _, r := range records {
					largest = max(largest, r.Size())
				}
				return answerAll(kinesis.Sent, nil)(ctx, records)
			})
			d := New(o, stream)
			long := logEvent(2, 6000)
			long.Record = record.Span{Start: len(long.Raw) - 6003, End: len(long.Raw) - 1, Size: 6002}
			d.Receive([]Event{logEvent(1, 10), long, logEvent(3, 10)}, time.Time{}, false)
			d.Ship(t.Context(), flush.AtShutdown)
			d.Close(false)
			var got []string
			for _, line := range stream.lines {
				got = append(got, fmt.Sprint(line.Seq, line.Type, line.Truncated))
			}
			if oversize == Drop {
				if fmt.Sprint(got) != "[0function0 2function0 3kinesis-telemetry.dropped0]" ||
					!strings.Contains(string(stream.lines[2].Record), reasonTooLarge) {
					t.Errorf("%s: got %v", format, got)
				}
				continue
			}
			var text string
			if mustUnmarshal(t, stream.lines[1].Record, &text); fmt.Sprint(got) != "[0function0 1function6002 2function0]" ||
				!strings.HasPrefix(string(long.Raw[long.Record.Start:]), text) {
				t.Errorf("%s: got %v, %s", format, got, text)
			}
			if largest != o.MaxRecordBytes {
				t.Errorf("%s: the truncated event takes %d of %d bytes", format, largest, o.MaxRecordBytes)
			}
		}
	}
}

// An element that is not an event gets a number, and the stream declares that it is dropped.
func TestMalformedIsDeclared(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10), {}, {Class: Platform}, logEvent(2, 10)}, time.Time{}, false)
	if stats := check(t, d); stats.Received != 4 || stats.Dropped != 2 || stats.Reasons[reasonMalformed] != 2 {
		t.Errorf("%+v", stats)
	}
	d.Ship(t.Context(), flush.AtShutdown)
	var l loss
	if len(stream.lines) != 3 || stream.lines[1].Seq != 3 || stream.lines[2].Type != typeDropped {
		t.Fatalf("got %+v", stream.lines)
	}
	if mustUnmarshal(t, stream.lines[2].Record, &l); l.Reason != "malformed" || l.Count != 2 || l.FirstSeq != 1 || l.LastSeq != 2 {
		t.Errorf("declared %+v", l)
	}
}

// A stats event is emitted every few minutes, in the next invocation.
func TestStatsEveryFewMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		for n := range 60 { // half an hour
			time.Sleep(30 * time.Second)
			d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
			d.Note(invoked(n+1), flush.EndSeen{Number: n + 1, At: time.Now()})
			d.Ship(t.Context(), flush.AtEnd)
			time.Sleep(100 * time.Millisecond)
			d.Note(flush.NextCalled{})
		}
		lines, _ := stream.accepted()
		count := 0
		for _, line := range lines {
			if line.Type == typeStats {
				var stats Stats
				mustUnmarshal(t, line.Record, &stats)
				if count++; stats.Received == 0 || stats.Received != stats.Sent+stats.Dropped+stats.Buffered || stats.HoldMs < 500 {
					t.Errorf("%s", line.Record)
				}
			}
		}
		if count < 5 || count > 6 {
			t.Errorf("%d stats events in half an hour", count)
		}
	})
}

// FORMAT.md: the stats are the last event of an instance, even if a loss is not declared yet.
func TestStatsAreTheLastEvent(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 6000)}, time.Time{}, false) // the second is too large
	d.EmitStats()
	d.Ship(t.Context(), flush.AtShutdown)
	check(t, d)
	if last := stream.lines[len(stream.lines)-1]; last.Type != typeStats || len(stream.lines) != 3 {
		t.Errorf("%d lines, the last is %s", len(stream.lines), last.Type)
	}
}

// A process that ends long after its last flight emits its stats once.
func TestStatsOnceAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		time.Sleep(statsEvery + time.Minute)
		d.EmitStats()
		d.Ship(t.Context(), flush.AtShutdown)
		if len(stream.lines) != 2 {
			t.Errorf("%d lines", len(stream.lines))
		}
	})
}

// A new instance has a new name and new numbers.
func TestNewInstanceHasNewNumbers(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.NewInstance()
	d.Receive([]Event{logEvent(2, 10)}, time.Time{}, false)
	d.Ship(t.Context(), flush.AtShutdown)
	a, b := stream.lines[0], stream.lines[1]
	if a.Seq != 0 || b.Seq != 0 || a.Source.Instance == b.Source.Instance || len(a.Source.Instance) != 32 {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// Receiving and shipping reuse their memory.
func BenchmarkReceiveAndFlush(b *testing.B) {
	o := options()
	o.Flush.BufferBytes, o.RequestBytes, o.Flush.RecordBytes = 8<<20, 2<<20, 100_000
	d := New(o, discardStream{})
	defer d.Close(false)
	events := slices.Repeat([]Event{logEvent(1, 300)}, 1000)
	b.ReportAllocs()
	for b.Loop() {
		d.Receive(events, time.Time{}, false)
		d.Ship(b.Context(), flush.AtShutdown)
	}
}

type discardStream struct{}

func (d discardStream) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return d.Put(ctx, records)
}

func (discardStream) Put(_ context.Context, records []kinesis.Record) kinesis.Result {
	return kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1}
}

// A loss is declared once, when the stream accepts something again. If the declaration is lost, the loss is declared
// again.
func TestLossIsDeclaredOnce(t *testing.T) {
	stream := &fakeStream{put: answerAll(kinesis.Rejected, nil)}
	d := New(options(), stream)
	defer d.Close(false)
	ship := func(n int) {
		d.Receive([]Event{logEvent(n, 10)}, time.Time{}, false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d.Ship(ctx, flush.AtShutdown)
		if s := check(t, d); s.Buffered != 0 || ctx.Err() != nil {
			t.Fatalf("%+v after %v", s, ctx.Err())
		}
	}
	ship(1)
	ship(2)
	if s := check(t, d); s.Dropped != 2 {
		t.Fatalf("%+v", s)
	}
	declares := func(records []kinesis.Record) bool {
		return bytes.Contains(bytes.Join(records[len(records)-1].Data, nil), []byte(typeDropped))
	}
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		if declares(records) {
			return answerAll(kinesis.Rejected, nil)(ctx, records)
		}
		return answerAll(kinesis.Sent, nil)(ctx, records)
	})
	ship(3) // the declaration has its own record, which is rejected
	stream.script(answerAll(kinesis.Sent, nil))
	ship(4)
	lines, _ := stream.accepted()
	var l loss
	mustUnmarshal(t, lines[len(lines)-1].Record, &l)
	if want := (loss{Reason: reasonRejected, Count: 3, FirstSeq: 0, LastSeq: 3, Instance: d.source.Instance()}); len(lines) != 3 || l != want {
		t.Errorf("%d lines, the last declares %+v, want %+v", len(lines), l, want)
	}
}

// If not even a declaration fits into a record, the loss stays undeclared, the declaration is not counted, and shipping
// ends.
func TestDeclarationThatDoesNotFitIsNotEmitted(t *testing.T) {
	o := options()
	o.Source.Tags = map[string]string{"tag": strings.Repeat("x", 1000)}
	o.MaxRecordBytes = 1024
	stream := &fakeStream{}
	d := New(o, stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		d.Ship(ctx, flush.AtShutdown)
		d.EmitStats()
		if s := check(t, d); s.Received != 1 || s.Dropped != 1 || ctx.Err() != nil {
			t.Errorf("%+v, %v", s, ctx.Err())
		}
	}
	if _, calls := stream.accepted(); calls > 0 {
		t.Errorf("%d empty requests", calls)
	}
	d.mu.Lock()
	d.options.MaxRecordBytes = 10_000
	d.mu.Unlock()
	d.Receive([]Event{logEvent(2, 10)}, time.Time{}, false)
	d.Ship(t.Context(), flush.AtShutdown) // the stream accepts the event, so the declaration follows
	lines, _ := stream.accepted()
	var l loss
	mustUnmarshal(t, lines[len(lines)-1].Record, &l)
	if want := (loss{Reason: reasonTooLarge, Count: 1, Instance: d.source.Instance()}); len(lines) != 2 || l != want {
		t.Errorf("%d lines, the last declares %+v", len(lines), l)
	}
}

// FORMAT.md: records and bytes count accepted records, keys included. Requests and retries are those of the client.
func TestStatsCountAcceptedRecords(t *testing.T) {
	bytes := 0
	stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for _, r := range records[:len(records)-1] {
			bytes += r.Size()
		}
		result := answerAll(kinesis.Sent, nil)(ctx, records)
		result.Outcomes[len(records)-1] = kinesis.Rejected
		result.Requests, result.Retried = 3, 2
		return result
	}}
	o := options()
	o.Format = "json"
	d := New(o, stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 10), logEvent(3, 10)}, time.Time{}, false)
	ctx, cancel := context.WithCancel(t.Context())
	inner := stream.put
	stream.script(func(c context.Context, r []kinesis.Record) kinesis.Result {
		cancel() // after one flight
		return inner(c, r)
	})
	d.Ship(ctx, flush.AtShutdown)
	s := check(t, d)
	if want := (Stats{
		Received: 3, Sent: 2, Dropped: 1, Reasons: map[string]uint64{reasonRejected: 1},
		Retried: 2, Records: 2, Bytes: uint64(bytes), Requests: 3, Flushes: 1,
	}); !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// Batches in flight count against the buffer's bound.
func TestFlightCountsAgainstTheBuffer(t *testing.T) {
	stream := &fakeStream{}
	o := options()
	d := New(o, stream)
	defer d.Close(false)
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for n := range 200 {
			d.Receive([]Event{logEvent(n, 1000)}, time.Time{}, false)
		}
		d.mu.Lock()
		used := d.pages.count * d.pages.size
		d.mu.Unlock()
		if used > o.Flush.BufferBytes {
			t.Errorf("%d bytes are buffered, %d allowed", used, o.Flush.BufferBytes)
		}
		stream.script(nil)
		return answerAll(kinesis.Unsent, context.Canceled)(ctx, records)
	})
	for n := range 20 {
		d.Receive([]Event{logEvent(n, 1000)}, time.Time{}, false)
	}
	d.Ship(t.Context(), flush.AtShutdown)
}

// A flight takes at most half of the buffer, however large a request may be: logs in flight cannot be dropped, so a flight of
// the whole buffer would let platform events be dropped before logs.
func TestFlightLeavesHalfTheBuffer(t *testing.T) {
	for _, key := range []PartitionKey{ByEnvironment, ByRequest} {
		stream := &fakeStream{}
		o := options()
		o.PartitionKey, o.RequestBytes = key, 2*o.Flush.BufferBytes
		d := New(o, stream)
		defer d.Close(false)
		log := func(n int) Event {
			e := logEvent(n, 1000)
			e.RequestID = fmt.Sprint(n / 2)
			return e
		}
		for n := range 200 {
			d.Receive([]Event{log(n)}, time.Time{}, false)
		}
		const platform = 50
		stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			d.mu.Lock()
			pages := 0
			for _, b := range d.flight {
				pages += len(b.pages)
			}
			if half := o.Flush.BufferBytes / d.pages.size / 2; pages != half {
				t.Errorf("by %s: a flight of %d pages, want %d", key, pages, half)
			}
			d.mu.Unlock()
			for n := range platform {
				d.Receive([]Event{platformEvent(), log(200 + n)}, time.Time{}, false)
			}
			stream.script(nil)
			return answerAll(kinesis.Unsent, context.Canceled)(ctx, records)
		})
		d.Ship(t.Context(), flush.AtShutdown)
		d.Ship(t.Context(), flush.AtShutdown)
		arrived := 0
		for _, line := range stream.lines {
			if line.Type == "platform.start" {
				arrived++
			}
		}
		if check(t, d); arrived != platform {
			t.Errorf("by %s: %d of %d platform events arrived", key, arrived, platform)
		}
	}
}
