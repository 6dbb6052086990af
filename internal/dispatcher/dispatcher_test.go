package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/policy"
	"kinesis-telemetry-extension/record"
)

// fakeStream answers Put by a script and keeps what it took.
type fakeStream struct {
	mu    sync.Mutex
	put   func(ctx context.Context, records []kinesis.Record) kinesis.Result
	lines []record.Line
	calls int
}

// took returns what the stream holds, and how often it was called.
func (s *fakeStream) took() (lines []record.Line, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines), s.calls
}

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
		put = all(kinesis.Sent, nil)
	}
	result := put(ctx, records)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, outcome := range result.Outcomes {
		if outcome != kinesis.Sent {
			continue
		}
		for line, err := range record.Unpack(records[i].Data) {
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

// all answers every record of a request alike.
func all(outcome kinesis.Outcome, err error) func(context.Context, []kinesis.Record) kinesis.Result {
	return func(_ context.Context, records []kinesis.Record) kinesis.Result {
		return kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{outcome}, len(records)), Requests: 1, Err: err}
	}
}

func options() Options {
	return Options{
		Source: record.SourceFields{Function: "f"}, Format: record.NDJSON, PartitionKey: ByEnvironment,
		RecordBytes: 2000, MaxRecordBytes: 5000, RequestBytes: 20_000, BufferBytes: 50_000,
		Mode: policy.Sync, MaxDelay: 10 * time.Second, FlushTimeout: time.Second,
	}
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

func check(t *testing.T, d *Dispatcher) Stats {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats()
	if s.Received != s.Sent+s.Dropped+s.Held {
		t.Fatalf("received %d is not sent %d + dropped %d + held %d", s.Received, s.Sent, s.Dropped, s.Held)
	}
	weight := 0
	for i := d.queue.head; i < len(d.queue.events); i++ {
		weight += d.queue.events[i].cost()
	}
	if weight != d.queue.bytes || weight+d.flightCost > d.options.BufferBytes+d.options.RequestBytes {
		t.Fatalf("the queue weighs %d and says %d; %d on their way", weight, d.queue.bytes, d.flightCost)
	}
	return s
}

// Whatever the stream answers, every event ends once, in the account as on the stream, and in order.
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
				d.Receive([]Event{e, logEvent(n, 10)}, time.Time{})
				check(t, d)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(200))*time.Millisecond)
				switch random.IntN(20) {
				case 0:
					d.Flush(ctx)
				case 1:
					d.Suspend()
					d.Idle(ctx)
				case 2:
					d.Resume()
				case 3:
					time.Sleep(time.Duration(random.IntN(20)) * time.Second)
				}
				cancel()
				check(t, d)
			}
			stream.script(nil)
			d.Drain(t.Context())
			d.Drain(t.Context()) // what the first one dropped is declared by the second
			d.Close()
			stats := check(t, d)
			if stats.Held != 0 || int(stats.Sent) != len(stream.lines) {
				t.Fatalf("%+v, and the stream holds %d", stats, len(stream.lines))
			}
			checkStream(t, stream, stats)
		})
	}
}

// checkStream looks at the stream as a consumer does: no number twice, and as many missing as were declared dropped.
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

func TestOrderIsKept(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close()
	first := true
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		if first { // nothing taken: all of it comes again, before what came later
			first = false
			d.Receive([]Event{logEvent(1000, 50)}, time.Time{})
			return all(kinesis.Unsent, errors.New("no answer"))(ctx, records)
		}
		return all(kinesis.Sent, nil)(ctx, records)
	})
	for n := range 100 {
		d.Receive([]Event{logEvent(n, 50)}, time.Time{})
	}
	d.Flush(t.Context())
	d.Flush(t.Context())
	if len(stream.lines) != 101 {
		t.Fatalf("%d lines", len(stream.lines))
	}
	for i, line := range stream.lines {
		if line.Seq != uint64(i) {
			t.Fatalf("seq %d in place %d", line.Seq, i)
		}
	}
}

// Overflow drops the oldest logs, platform events last, and says so in the stream.
func TestOverflow(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close()
	for n := range 100 {
		d.Receive([]Event{platformEvent(), logEvent(n, 1000)}, time.Time{})
		check(t, d)
	}
	d.Flush(t.Context())
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
				t.Errorf("declared %+v, %d logs are there", l, len(logs))
			}
		}
	}
	if stats := check(t, d); platform != 100 || len(logs) == 0 || stats.Held != 0 {
		t.Errorf("%d platform events, %d logs, %+v", platform, len(logs), stats)
	}
}

func TestTooLargeForTheStream(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 5000), logEvent(3, 10)}, time.Time{})
	d.Flush(t.Context())
	if len(stream.lines) != 3 || stream.lines[2].Type != typeDropped || !strings.Contains(string(stream.lines[2].Record), reasonTooLarge) {
		t.Errorf("got %+v", stream.lines)
	}
}

// Events leave while an invocation runs when a record is full or MaxDelay is near, and not while it does not.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close()
		d.Receive([]Event{logEvent(1, 10)}, time.Time{})
		time.Sleep(time.Minute)
		if _, calls := stream.took(); calls != 0 {
			t.Error("shipped while the environment may be frozen")
		}
		d.Resume()
		synctest.Wait()
		if lines, _ := stream.took(); len(lines) != 1 {
			t.Error("what was late already did not leave at once")
		}
		d.Receive([]Event{logEvent(2, 10)}, time.Time{})
		time.Sleep(9 * time.Second)
		if lines, _ := stream.took(); len(lines) != 2 {
			t.Error("MaxDelay was near and nothing left")
		}
		d.Receive([]Event{logEvent(3, 3000)}, time.Time{})
		synctest.Wait()
		if lines, _ := stream.took(); len(lines) != 3 {
			t.Error("a record was full and nothing left")
		}
	})
}

// What a flush could not send is tried again in the background, though the handler that runs on logs nothing.
func TestFailedFlushIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			<-ctx.Done()
			return all(kinesis.Unsent, errors.New("no answer"))(ctx, records)
		}}
		o := options()
		o.Mode = policy.Deferred
		d := New(o, stream)
		defer d.Close()
		d.Receive([]Event{logEvent(1, 10)}, time.Time{})
		if plan := d.Invoke(); !plan.Ship || plan.Hold == 0 {
			t.Fatalf("%+v", plan)
		}
		d.Flush(t.Context())
		stream.script(nil)
		d.Expose()
		time.Sleep(o.MaxDelay)
		if lines, calls := stream.took(); len(lines) != 1 {
			t.Errorf("%d calls, %d lines, %+v", calls, len(lines), check(t, d))
		}
	})
}

// probed counts the probes.
type probed struct {
	fakeStream
	probes int
}

func (s *probed) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	s.mu.Lock()
	s.probes++
	s.mu.Unlock()
	return s.Put(ctx, records)
}

// A stream that failed is probed with a little. What was refused for what it carries is not tried alone, but with all else.
func TestProbes(t *testing.T) {
	for kind, want := range map[kinesis.Kind]bool{kinesis.KindNetwork: true, kinesis.KindInvalid: false} {
		synctest.Test(t, func(t *testing.T) {
			stream := &probed{fakeStream: fakeStream{put: all(kinesis.Unsent, &kinesis.Error{Kind: kind})}}
			d := New(options(), stream)
			defer d.Close()
			d.Resume()
			d.Receive([]Event{logEvent(1, 1500), logEvent(2, 1500), logEvent(3, 1500)}, time.Time{})
			time.Sleep(time.Minute)
			if _, calls := stream.took(); calls < 5 || stream.probes > 0 != want {
				t.Errorf("%s: %d calls, %d of them probes", kind, calls, stream.probes)
			}
		})
	}
}

// slow is a stream that takes everything after a while.
func slow(roundTrip time.Duration) *fakeStream {
	return &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		time.Sleep(roundTrip)
		return all(kinesis.Sent, nil)(ctx, records)
	}}
}

// A handler that logs on and on, and a stream that answers more slowly than POSTs come: each request is as full as it would be
// with a fast one, in the background and beside the handler.
func TestRequestsAreFilled(t *testing.T) {
	for name, ship := range map[string]func(*Dispatcher, context.Context){
		"background": func(d *Dispatcher, _ context.Context) { d.Resume() },
		"beside":     (*Dispatcher).Begin,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := slow(30 * time.Millisecond)
				o := options()
				o.BufferBytes, o.RecordBytes, o.RequestBytes = 1<<20, 5000, 100_000
				d := New(o, stream)
				defer d.Close()
				d.Receive([]Event{logEvent(0, 250)}, time.Now().Add(-time.Minute))
				d.Invoke()
				go ship(d, t.Context())
				const lines = 400
				for n := range lines {
					d.Receive([]Event{logEvent(n, 250)}, time.Time{})
					time.Sleep(25 * time.Millisecond)
				}
				d.Suspend()
				synctest.Wait()
				s := check(t, d)
				if filled := s.Bytes / 4000; s.Requests > filled+3 || s.Sent < lines/2 {
					t.Errorf("%d events, %d bytes in %d requests", s.Sent, s.Bytes, s.Requests)
				}
			})
		})
	}
}

// A stream that answers more slowly than an invocation may be held back gets in the background all that is held at INVOKE.
func TestSlowStreamGetsAllThatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Mode, o.RequestBytes, o.MaxDelay = policy.Deferred, 10_000, time.Minute
		d := New(o, slow(1200*time.Millisecond))
		defer d.Close()
		d.Receive([]Event{logEvent(0, 10)}, time.Time{})
		d.Flush(t.Context()) // measures the round trip
		for n := range 20 {
			d.Receive([]Event{logEvent(n, 900)}, time.Time{})
		}
		if plan := d.Invoke(); !plan.Ship || plan.Hold != 0 {
			t.Fatalf("%+v", plan)
		}
		time.Sleep(10 * time.Second)
		d.Suspend()
		if s := check(t, d); s.Held > 0 {
			t.Errorf("%d of %d events are still held", s.Held, s.Received)
		}
	})
}

// Init may log more than the buffer holds, and what it logs may wait for an invocation for hours.
func TestInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := slow(10 * time.Millisecond)
		d := New(options(), stream)
		defer d.Close()
		d.Init()
		for n := range 200 { // 100 KB, the buffer holds 50
			d.Receive([]Event{logEvent(n, 350)}, time.Time{})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(options().MaxDelay)
		if s := check(t, d); s.Dropped > 0 || s.Held > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A hanging stream holds Idle back until its deadline, and what was on its way is held again.
func TestIdleCallsOffABackgroundFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			<-ctx.Done()
			return all(kinesis.Unsent, ctx.Err())(ctx, records)
		}}
		d := New(options(), stream)
		defer d.Close()
		d.Resume()
		d.Receive([]Event{logEvent(1, 3000)}, time.Time{})
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		d.Suspend()
		d.Idle(ctx)
		if took := time.Since(began); took != 300*time.Millisecond || check(t, d).Held != 1 {
			t.Errorf("Idle took %s, %+v", took, d.Stats())
		}
	})
}

// A dead stream is paid for a few times, not by every invocation; and a working one is used again.
func TestDeadStreamRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			<-ctx.Done()
			return all(kinesis.Unsent, errors.New("no answer from the stream"))(ctx, records)
		}
		stream := &fakeStream{put: hang}
		d := New(options(), stream)
		defer d.Close()
		var held time.Duration
		for n := range 200 {
			d.Receive([]Event{logEvent(n, 100)}, time.Time{})
			if plan := d.Invoke(); plan.Hold > 0 {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), plan.Hold)
				d.Flush(ctx)
				cancel()
				d.HeldBack(time.Since(began))
				held += time.Since(began)
			}
			time.Sleep(100 * time.Millisecond)
			check(t, d)
		}
		if held != time.Second {
			t.Errorf("200 invocations were held back %s, not FlushTimeout in sum", held)
		}
		if _, calls := stream.took(); calls > 10 {
			t.Errorf("a dead stream was tried %d times in 20 s", calls)
		}
		stream.script(nil)
		time.Sleep(2 * time.Minute)
		d.Invoke()
		synctest.Wait()
		if stats := check(t, d); stats.Held != 0 {
			t.Errorf("a stream that works again is not used: %+v", stats)
		}
	})
}

// The figures are put into the stream every few minutes, by the invocation that comes then.
func TestStatsEveryFewMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close()
		for range 60 { // half an hour
			time.Sleep(30 * time.Second)
			d.Receive([]Event{logEvent(1, 10)}, time.Time{})
			d.Invoke()
			d.HeldBack(time.Second)
			d.Flush(t.Context())
		}
		lines, _ := stream.took()
		said := 0
		for _, line := range lines {
			if line.Type == typeStats {
				var stats Stats
				mustUnmarshal(t, line.Record, &stats)
				if said++; stats.Received == 0 || stats.Received != stats.Sent+stats.Dropped+stats.Held || stats.HeldBackMs < 1000 {
					t.Errorf("%s", line.Record)
				}
			}
		}
		if said < 5 || said > 6 {
			t.Errorf("said %d times in half an hour", said)
		}
	})
}

// FORMAT.md: the figures are the last event of an instance, also where a loss is still to be declared.
func TestStatsAreTheLastEvent(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 6000)}, time.Time{}) // the second is too large
	d.SayStats()
	d.Drain(t.Context())
	check(t, d)
	if last := stream.lines[len(stream.lines)-1]; last.Type != typeStats || len(stream.lines) != 3 {
		t.Errorf("%d lines, the last is %s", len(stream.lines), last.Type)
	}
}

// A life that ends long after it has shipped says its figures once.
func TestStatsOnceAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close()
		d.Receive([]Event{logEvent(1, 10)}, time.Time{})
		time.Sleep(statsEvery + time.Minute)
		d.SayStats()
		d.Drain(t.Context())
		if len(stream.lines) != 2 {
			t.Errorf("%d lines", len(stream.lines))
		}
	})
}

func TestNewInstance(t *testing.T) {
	stream := &fakeStream{}
	d := New(options(), stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	d.NewInstance()
	d.Receive([]Event{logEvent(2, 10)}, time.Time{})
	d.Flush(t.Context())
	a, b := stream.lines[0], stream.lines[1]
	if a.Seq != 0 || b.Seq != 0 || a.Source.Instance == b.Source.Instance || len(a.Source.Instance) != 32 {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// Receiving allocates for the queue alone, which is used again.
func BenchmarkReceiveAndFlush(b *testing.B) {
	o := options()
	o.BufferBytes, o.RequestBytes, o.RecordBytes = 8<<20, 2<<20, 100_000
	d := New(o, discard{})
	defer d.Close()
	events := slices.Repeat([]Event{logEvent(1, 300)}, 1000)
	b.ReportAllocs()
	for b.Loop() {
		d.Receive(events, time.Time{})
		d.Flush(b.Context())
	}
}

type discard struct{}

func (d discard) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return d.Put(ctx, records)
}

func (discard) Put(_ context.Context, records []kinesis.Record) kinesis.Result {
	return kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1}
}

// A stream that rejects everything rejects the declaration of that, too: there it ends.
func TestRejectedDeclarationIsNotDeclared(t *testing.T) {
	stream := &fakeStream{put: all(kinesis.Rejected, nil)}
	d := New(options(), stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	d.Flush(ctx)
	if s := check(t, d); s.Held != 0 || s.Dropped != 2 || ctx.Err() != nil {
		t.Errorf("%+v after %v", s, ctx.Err())
	}
}

// FORMAT.md: records and bytes that were taken, keys included; requests, repetitions and flushes as the client tells them.
func TestFigures(t *testing.T) {
	bytes := 0
	stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for _, r := range records[:len(records)-1] {
			bytes += len(r.Data) + len(r.PartitionKey)
		}
		result := all(kinesis.Sent, nil)(ctx, records)
		result.Outcomes[len(records)-1] = kinesis.Rejected
		result.Requests, result.Retried = 3, 2
		return result
	}}
	o := options()
	o.Format = "json"
	d := New(o, stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10), logEvent(2, 10), logEvent(3, 10)}, time.Time{})
	ctx, cancel := context.WithCancel(t.Context())
	inner := stream.put
	stream.script(func(c context.Context, r []kinesis.Record) kinesis.Result { cancel(); return inner(c, r) }) // one flight
	d.Flush(ctx)
	s := check(t, d)
	if s.Records != 2 || s.Bytes != uint64(bytes) || s.Requests != 3 || s.Retried != 2 || s.Flushes != 1 || s.Sent != 2 || s.Reasons[reasonRejected] != 1 {
		t.Errorf("%+v, and %d bytes", s, bytes)
	}
}

// What is on its way counts against the buffer.
func TestFlightCountsAgainstTheBuffer(t *testing.T) {
	stream := &fakeStream{}
	o := options()
	d := New(o, stream)
	defer d.Close()
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for n := range 200 {
			d.Receive([]Event{logEvent(n, 1000)}, time.Time{})
		}
		d.mu.Lock()
		weight := d.queue.bytes + d.flightCost
		d.mu.Unlock()
		if weight > o.BufferBytes {
			t.Errorf("%d bytes are held, %d allowed", weight, o.BufferBytes)
		}
		stream.script(nil)
		return all(kinesis.Unsent, context.Canceled)(ctx, records)
	})
	for n := range 20 {
		d.Receive([]Event{logEvent(n, 1000)}, time.Time{})
	}
	d.Flush(t.Context())
}

// What a retry was held back for counts as failing, though all was taken in the end.
func TestFalteringIsPaidOnce(t *testing.T) {
	stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		result := all(kinesis.Sent, nil)(ctx, records)
		result.Faltered = true
		return result
	}}
	d := New(options(), stream)
	defer d.Close()
	d.Receive([]Event{logEvent(1, 10)}, time.Time{})
	d.Invoke()
	d.Flush(t.Context())
	d.HeldBack(900 * time.Millisecond)
	if plan := d.Invoke(); plan != (policy.Plan{}) {
		t.Errorf("%+v", plan)
	}
}
