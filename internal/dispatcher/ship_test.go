package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// neverAnswer is an unreachable stream: it returns when its context is done.
func neverAnswer(ctx context.Context, records []kinesis.Record) kinesis.Result {
	<-ctx.Done()
	return answerAll(kinesis.Unsent, &kinesis.Error{Kind: kinesis.KindDeadline})(ctx, records)
}

// slowStream returns a stream that accepts everything after a round trip.
func slowStream(roundTrip time.Duration) *fakeStream {
	return &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		time.Sleep(roundTrip)
		return answerAll(kinesis.Sent, nil)(ctx, records)
	}}
}

// The background ships when a record is full or MaxDelay is near, and never while a freeze is near.
func TestBackgroundShips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		time.Sleep(time.Minute)
		if _, calls := stream.accepted(); calls != 0 {
			t.Error("ships while a freeze is near")
		}
		d.Note(flush.NeverFrozen{})
		synctest.Wait()
		if lines, _ := stream.accepted(); len(lines) != 1 {
			t.Error("a late event does not ship at once")
		}
		d.Receive([]Event{logEvent(2, 10)}, time.Time{}, false)
		time.Sleep(7*time.Second + 499*time.Millisecond)
		if lines, _ := stream.accepted(); len(lines) != 1 {
			t.Error("ships long before MaxDelay")
		}
		time.Sleep(2 * time.Millisecond)
		if lines, _ := stream.accepted(); len(lines) != 2 {
			t.Error("does not ship when MaxDelay is near")
		}
		d.Receive([]Event{logEvent(3, 3000)}, time.Time{}, false)
		synctest.Wait()
		if lines, _ := stream.accepted(); len(lines) != 3 {
			t.Error("does not ship a full record")
		}
	})
}

// After the end of the current invocation the background starts no request; after the end of an earlier one it goes on.
func TestNothingStartsAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		d.Note(invoked(1))
		d.Note(invoked(2), flush.EndSeen{Number: 1, At: time.Now()})
		d.Receive([]Event{logEvent(1, 3000)}, time.Time{}, false)
		synctest.Wait()
		if _, calls := stream.accepted(); calls != 1 {
			t.Errorf("%d calls with a full record while the handler runs", calls)
		}
		d.Note(flush.EndSeen{Number: 2, At: time.Now()})
		d.Receive([]Event{logEvent(2, 3000)}, time.Time{}, false)
		time.Sleep(time.Hour)
		if _, calls := stream.accepted(); calls != 1 {
			t.Errorf("%d calls after the end", calls)
		}
		d.Ship(t.Context(), flush.AtShutdown)
		if s := check(t, d); s.Buffered > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// After the call of next the background sends only late events, also after a wait that was given up.
func TestOnlyLateEventsAfterNextIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		d.Note(invoked(1), flush.TelemetryLost{})
		if d.AwaitEnd(t.Context()) {
			t.Error("an end was seen")
		}
		d.Note(flush.NextCalled{})
		d.Receive([]Event{logEvent(1, 3000)}, time.Time{}, false)
		synctest.Wait()
		if _, calls := stream.accepted(); calls != 0 {
			t.Error("ships a full record, though a freeze may interrupt it")
		}
		time.Sleep(8 * time.Second)
		if _, calls := stream.accepted(); calls != 1 {
			t.Error("does not ship late events while the handler runs")
		}
	})
}

// The age of an event from the future counts from its arrival: an error of its clock does not delay it.
func TestTimeInTheFutureDoesNotDelayShipping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{}
		d := New(options(), stream)
		defer d.Close(false)
		d.Note(flush.NeverFrozen{})
		d.Receive([]Event{logEvent(1, 10)}, time.Now().Add(time.Hour), false)
		time.Sleep(options().Flush.MaxDelay)
		if lines, _ := stream.accepted(); len(lines) != 1 {
			t.Error("does not ship within MaxDelay")
		}
	})
}

// AwaitEnd returns when the end is seen, when ctx is done, or if no platform.start arrives within 2 s.
func TestAwaitEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(options(), &fakeStream{})
		defer d.Close(false)
		await := func(ctx context.Context, facts ...flush.Fact) (seen bool, took time.Duration) {
			began := time.Now()
			d.Note(facts...)
			return d.AwaitEnd(ctx), time.Since(began)
		}
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if seen, took := await(short, invoked(1)); seen || took != 300*time.Millisecond {
			t.Errorf("ctx is done: seen %t after %s", seen, took)
		}
		time.AfterFunc(3*time.Second, func() { d.Note(flush.EndSeen{Number: 2, At: time.Now()}) })
		if seen, took := await(t.Context(), invoked(2), flush.Started{Number: 2}); !seen || took != 3*time.Second {
			t.Errorf("the end arrives: seen %t after %s", seen, took)
		}
		if seen, took := await(t.Context(), invoked(3)); seen || took != 2*time.Second {
			t.Errorf("no platform.start: seen %t after %s", seen, took)
		}
	})
}

// A flight that failed is retried in the background while the handler runs, even if the handler logs nothing.
func TestFailedFlightIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: answerAll(kinesis.Unsent, errors.New("no answer"))}
		o := options()
		o.Flush.Mode = flush.Deferred
		d := New(o, stream)
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.Note(invoked(1), flush.NextCalled{})
		synctest.Wait()
		stream.script(nil)
		time.Sleep(o.Flush.MaxDelay)
		if lines, calls := stream.accepted(); len(lines) != 1 || calls != 2 {
			t.Errorf("%d calls, %d lines, %+v", calls, len(lines), check(t, d))
		}
	})
}

// probedStream remembers the number of events of each probe.
type probedStream struct {
	fakeStream
	probes []int
}

func (s *probedStream) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	events := 0
	for _, r := range records {
		for range record.Unpack(bytes.Join(r.Data, nil)) {
			events++
		}
	}
	s.mu.Lock()
	s.probes = append(s.probes, events)
	s.mu.Unlock()
	return s.Put(ctx, records)
}

// A probe sends one record to a stream that failed. A record that was refused for its content is not sent alone, but
// with others.
func TestProbeHasOneRecord(t *testing.T) {
	for kind, want := range map[kinesis.Kind]bool{kinesis.KindService: true, kinesis.KindInvalid: false} {
		synctest.Test(t, func(t *testing.T) {
			stream := &probedStream{fakeStream: fakeStream{put: answerAll(kinesis.Unsent, &kinesis.Error{Kind: kind})}}
			d := New(options(), stream)
			defer d.Close(false)
			d.Note(flush.NeverFrozen{})
			size := 800 // two events are a record
			d.Receive(slices.Repeat([]Event{logEvent(1, size)}, 9), time.Time{}, false)
			time.Sleep(time.Minute)
			if _, calls := stream.accepted(); calls < 5 || len(stream.probes) > 0 != want || want && slices.Compact(stream.probes)[0] != 2 {
				t.Errorf("%s: %d calls, probes of %d events", kind, calls, stream.probes)
			}
		})
	}
}

// A handler logs all the time, and the stream answers more slowly than POSTs arrive. Requests are as full as with a
// fast stream, with and without a freeze ahead.
func TestRequestsAreFilled(t *testing.T) {
	for _, mode := range []flush.Mode{flush.Sync, flush.Deferred} {
		synctest.Test(t, func(t *testing.T) {
			stream := slowStream(30 * time.Millisecond)
			o := options()
			o.Flush.Mode, o.Flush.BufferBytes, o.Flush.RecordBytes, o.RequestBytes = mode, 1<<20, 5000, 100_000
			d := New(o, stream)
			defer d.Close(false)
			d.Receive([]Event{logEvent(0, 250)}, time.Now().Add(-time.Minute), false)
			d.Note(invoked(1))
			const lines = 400
			for n := range lines {
				d.Receive([]Event{logEvent(n, 250)}, time.Time{}, false)
				time.Sleep(25 * time.Millisecond)
			}
			d.Note(flush.EndSeen{Number: 1, At: time.Now()})
			synctest.Wait()
			s := check(t, d)
			if filled := s.Bytes / 4000; s.Requests > filled+3 || s.Sent < lines/2 {
				t.Errorf("%s: %d events, %d bytes in %d requests", mode, s.Sent, s.Bytes, s.Requests)
			}
		})
	}
}

// Deferred ships everything that is buffered at INVOKE while the handler runs, in as many requests as necessary.
func TestDeferredShipsAllThatIsBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Flush.Mode, o.RequestBytes, o.Flush.MaxDelay = flush.Deferred, 10_000, time.Minute
		d := New(o, slowStream(1200*time.Millisecond))
		defer d.Close(false)
		for n := range 20 {
			d.Receive([]Event{logEvent(n, 900)}, time.Time{}, false)
		}
		d.Note(invoked(1), flush.NextCalled{})
		time.Sleep(10 * time.Second)
		if s := check(t, d); s.Buffered > 0 || s.Flushes < 2 {
			t.Errorf("%d of %d events are still buffered after %d flights", s.Buffered, s.Received, s.Flushes)
		}
	})
}

// The background ships during init: it may log more than fits into the buffer, and an invocation may be hours away.
func TestBackgroundShipsDuringInit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := slowStream(10 * time.Millisecond)
		d := New(options(), stream)
		defer d.Close(false)
		d.Note(flush.Initialising{})
		for n := range 200 { // 100 KB, the buffer has 50
			d.Receive([]Event{logEvent(n, 350)}, time.Time{}, false)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(options().Flush.MaxDelay)
		if s := check(t, d); s.Dropped > 0 || s.Buffered > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A background flight that hangs is canceled when half of the hold is over, or after 200 ms at SHUTDOWN. Then another
// request with the same events has the rest of the time.
func TestHangingFlightIsCanceled(t *testing.T) {
	for _, test := range []struct {
		why        flush.Occasion
		facts      func() []flush.Fact
		canceledAt time.Duration
	}{
		{flush.AtEnd, func() []flush.Fact { return []flush.Fact{flush.EndSeen{Number: 1, At: time.Now()}} }, 475 * time.Millisecond},
		{flush.AtShutdown, func() []flush.Fact { return []flush.Fact{flush.ShuttingDown{}} }, 200 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			stream := &fakeStream{put: neverAnswer}
			o, log := options(), &logLines{then: func() {}}
			o.Log = slog.New(log)
			d := New(o, stream)
			defer d.Close(false)
			d.Note(invoked(1))
			d.Receive([]Event{logEvent(1, 3000)}, time.Time{}, false)
			synctest.Wait() // the background's flight hangs
			stream.script(nil)
			began := time.Now()
			d.Note(test.facts()...)
			d.Ship(t.Context(), test.why)
			if took := time.Since(began); took != test.canceledAt || check(t, d).Sent != 1 {
				t.Errorf("%d: took %s, %+v", test.why, took, d.Stats())
			}
			if len(log.text) > 0 {
				t.Errorf("%d: everything was delivered, but it logged %q", test.why, log.text)
			}
		})
	}
}

// Shipping at the end stops when the hold is over: a stream that hangs costs at most FlushTimeout.
func TestHoldEndsShipping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(options(), &fakeStream{put: neverAnswer})
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.Note(invoked(1), flush.EndSeen{Number: 1, At: time.Now().Add(-300 * time.Millisecond)}) // the end is seen late
		began := time.Now()
		d.Ship(t.Context(), flush.AtEnd)
		if took := time.Since(began); took != 650*time.Millisecond || check(t, d).Buffered != 1 {
			t.Errorf("took %s, %+v", took, d.Stats())
		}
	})
}

// A flight without an answer that a freeze may have interrupted is no failure of the stream, however often it happens:
// the next INVOKE ships as usual. A flight that was answered with an error is a failure.
func TestInterruptedFlightIsNoFailure(t *testing.T) {
	for kind, want := range map[kinesis.Kind]int{kinesis.KindNetwork: 10, kinesis.KindService: 2} {
		synctest.Test(t, func(t *testing.T) {
			stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				time.Sleep(50 * time.Millisecond)
				return answerAll(kinesis.Unsent, &kinesis.Error{Kind: kind})(ctx, records)
			}}
			o := options()
			o.Flush.Mode, o.Flush.MaxDelay = flush.Deferred, time.Hour
			d := New(o, stream)
			defer d.Close(false)
			d.Receive([]Event{logEvent(0, 10)}, time.Time{}, false)
			calls := 0
			for n := range 10 {
				d.Note(invoked(2*n+1), flush.NextCalled{})
				time.Sleep(20 * time.Millisecond)
				d.Note(flush.EndSeen{Number: 2*n + 1, At: time.Now()})
				d.Note(invoked(2*n+2), flush.NextCalled{}) // after a freeze
				time.Sleep(20 * time.Millisecond)
				d.Note(flush.EndSeen{Number: 2*n + 2, At: time.Now()})
				time.Sleep(20 * time.Millisecond) // the answer is read after the thaw
				calls = d.flights()
			}
			if check(t, d); calls != want {
				t.Errorf("%s: %d flights in 10 invocations that started without one, want %d", kind, calls, want)
			}
		})
	}
}

// A flight without an answer during 10 s awake is a failure, even with invocations in between. After two failures a
// probe is sent.
func TestHangingFlightIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &probedStream{fakeStream: fakeStream{put: neverAnswer}}
		o := options()
		o.Flush.Mode = flush.Deferred
		d := New(o, stream)
		defer d.Close(false)
		d.Receive([]Event{logEvent(0, 10)}, time.Time{}, false)
		for n := range 240 {
			d.Note(invoked(n+1), flush.NextCalled{})
			time.Sleep(100 * time.Millisecond)
		}
		if _, calls := stream.accepted(); calls != 3 || len(stream.probes) != 1 {
			t.Errorf("%d calls in 24 s, %d of them probes", calls, len(stream.probes))
		}
	})
}

// flights returns the number of flights.
func (d *Dispatcher) flights() int { return int(d.Stats().Flushes) }

// The duration of a flight that a freeze may have interrupted does not count as a round trip: the next invocation still
// waits.
func TestInterruptedFlightIsNoRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(options(), slowStream(10*time.Minute)) // includes the freeze
		defer d.Close(false)
		d.Note(invoked(1), flush.TelemetryLost{})
		d.AwaitEnd(t.Context())
		d.Note(flush.NextCalled{})
		d.Receive([]Event{logEvent(0, 10)}, time.Now().Add(-time.Minute), false)
		synctest.Wait() // the event is late already: it ships while the handler runs
		d.Note(flush.EndSeen{Number: 1, At: time.Now()})
		d.Note(invoked(2))
		time.Sleep(11 * time.Minute)
		time.AfterFunc(time.Second, func() { d.Note(flush.EndSeen{Number: 3, At: time.Now()}) })
		d.Note(invoked(3))
		if !d.AwaitEnd(t.Context()) {
			t.Errorf("does not wait for the end: %+v", d.Stats())
		}
	})
}

// A dead stream holds a few invocations, not all. When it works again, it is used again.
func TestDeadStreamHoldsFewInvocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: neverAnswer}
		d := New(options(), stream)
		defer d.Close(false)
		var held time.Duration
		for n := range 200 {
			d.Receive([]Event{logEvent(n, 100)}, time.Time{}, false)
			d.Note(invoked(n + 1))
			began := time.Now()
			d.Note(flush.EndSeen{Number: n + 1, At: began})
			if d.AwaitEnd(t.Context()) {
				d.Ship(t.Context(), flush.AtEnd)
			}
			d.Note(flush.NextCalled{})
			held += time.Since(began)
			time.Sleep(100 * time.Millisecond)
			check(t, d)
		}
		if held != 950*time.Millisecond {
			t.Errorf("200 invocations were held for %s, not FlushTimeout in sum", held)
		}
		if _, calls := stream.accepted(); calls > 10 {
			t.Errorf("a dead stream was tried %d times in 20 s", calls)
		}
		stream.script(nil)
		time.Sleep(2 * time.Minute)
		d.Note(invoked(201))
		synctest.Wait()
		if stats := check(t, d); stats.Buffered != 0 {
			t.Errorf("a stream that works again is not used: %+v", stats)
		}
	})
}

// A hold for retries counts as a wasted hold, though the stream accepted everything in the end.
func TestHoldForRetriesIsWasted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			time.Sleep(900 * time.Millisecond)
			result := answerAll(kinesis.Sent, nil)(ctx, records)
			result.AttemptFailed = true
			return result
		}}
		d := New(options(), stream)
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.Note(invoked(1), flush.EndSeen{Number: 1, At: time.Now()})
		d.Ship(t.Context(), flush.AtEnd)
		d.Note(flush.NextCalled{})
		if s := check(t, d); s.Sent != 1 || s.HoldMs != 900 {
			t.Errorf("%+v", s)
		}
		d.Note(invoked(2), flush.EndSeen{Number: 2, At: time.Now()})
		if d.AwaitEnd(t.Context()) {
			t.Error("the next invocation waits, too")
		}
	})
}

// If the stream panics, Guard recovers, and the next flight ships the batches in flight, once.
func TestFlightIsRepeatedAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &fakeStream{put: func(context.Context, []kinesis.Record) kinesis.Result { panic("a bug") }}
		var recovered any
		o := options()
		o.Guard = func() { recovered = recover() }
		d := New(o, stream)
		d.Note(flush.NeverFrozen{})
		d.Receive([]Event{logEvent(1, 3000), logEvent(2, 10)}, time.Time{}, false)
		synctest.Wait()
		if recovered == nil {
			t.Fatal("Guard did not recover")
		}
		check(t, d)
		stream.script(nil)
		d.EmitStats()
		d.Ship(t.Context(), flush.AtShutdown)
		d.Close(false)
		if lines, _ := stream.accepted(); len(lines) != 3 || lines[0].Seq != 0 || lines[1].Seq != 1 || check(t, d).Buffered > 0 {
			t.Errorf("%+v", lines)
		}
	})
}

// The log is called without the lock, since it may block. Each kind of error is logged once, and so is the recovery.
func TestLogIsCalledWithoutTheLock(t *testing.T) {
	log := &logLines{}
	o := options()
	o.Log = slog.New(log)
	stream := &fakeStream{}
	d := New(o, stream)
	defer d.Close(false)
	log.then = func() { d.Stats() } // takes the lock
	for _, put := range []func(context.Context, []kinesis.Record) kinesis.Result{
		nil,
		nil,
		answerAll(kinesis.Unsent, &kinesis.Error{Kind: kinesis.KindThrottled}),
		answerAll(kinesis.Unsent, &kinesis.Error{Kind: kinesis.KindThrottled}),
		answerAll(kinesis.Unsent, io.ErrUnexpectedEOF),
		nil,
		nil,
		answerAll(kinesis.Rejected, &kinesis.Error{Kind: kinesis.KindInvalid}),
	} {
		stream.script(put)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.Ship(t.Context(), flush.AtShutdown)
	}
	want := []string{
		"WARN telemetry is buffered, cannot be delivered: ", "WARN telemetry is buffered, cannot be delivered: unexpected EOF",
		"INFO the stream accepts records again", "WARN telemetry is dropped: ",
	}
	if !slices.Equal(log.text, want) {
		t.Errorf("logged %q", log.text)
	}
}

// logLines is a log that keeps its lines.
type logLines struct {
	text []string
	then func()
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (l *logLines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logLines) WithGroup(string) slog.Handler            { return l }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	l.text = append(l.text, r.Level.String()+" "+r.Message)
	l.then()
	return nil
}

// The policy sees the bytes that are not in flight. Once pages fill three quarters of the buffer, it sees the pages.
func TestBufferedBytesOfThePolicy(t *testing.T) {
	d := New(options(), discardStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.mu.Lock()
	defer d.mu.Unlock()
	pages, size := d.pages.count, d.bytes
	defer func() { d.pages.count, d.bytes, d.flightBytes = pages, size, 0 }()
	d.options.Flush.BufferBytes = 16 * d.pages.size
	for _, c := range []struct{ pages, bytes, flying, want int }{
		{3, 1000, 0, 1000},
		{3, 1000, 300, 700},
		{12, 1000, 300, 700}, // exactly three quarters
		{13, 1000, 300, 13*d.pages.size - 300},
		{13, 20 * d.pages.size, 300, 20*d.pages.size - 300},
	} {
		d.pages.count, d.bytes, d.flightBytes = c.pages, c.bytes, c.flying
		if got := d.bufferedLocked().Bytes; got != c.want {
			t.Errorf("%+v: %d bytes are buffered", c, got)
		}
	}
}

// A flight is filled to the byte up to its bound. The bound includes keys. In the format json each line is a record.
func TestFlightIsFilled(t *testing.T) {
	for _, format := range []record.Format{record.NDJSON, record.JSON} {
		size := func(limit int) (records, bytes int) {
			var sizes []int
			o := options()
			o.Format, o.PartitionKey = format, ByTenant
			d := New(o, sizeRecorder(&sizes))
			defer d.Close(false)
			for n := range 6 {
				e := logEvent(n, 10)
				e.TenantID = strings.Repeat("k", 100) + strconv.Itoa(n%2)
				d.Receive([]Event{e}, time.Time{}, false)
			}
			d.options.RequestBytes = limit
			d.sendFlight(t.Context(), flush.AtShutdown)
			for _, n := range sizes {
				bytes += n
			}
			return len(sizes), bytes
		}
		all, bytes := size(1 << 20)
		if records, _ := size(bytes); records != all {
			t.Errorf("%s: %d records of %d, with room for all", format, records, all)
		}
		if records, _ := size(bytes - 1); records != all/2 {
			t.Errorf("%s: %d records of %d, with a byte too little", format, records, all)
		}
	}
}

// At SHUTDOWN logs leave last, unless moving the other lines takes too many pages.
func TestLogsLeaveLast(t *testing.T) {
	first := func(why flush.Occasion, excess int) string {
		o := options()
		d := New(o, discardStream{})
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10), platformEvent(), logEvent(2, 10)}, time.Time{}, false)
		d.mu.Lock()
		pages := d.pages.count
		limit := d.options.Flush.BufferBytes / d.pages.size
		if limit < 16 || limit%8 == 0 {
			t.Fatalf("a limit of %d pages tests nothing", limit)
		}
		d.pages.count = limit + limit/8 + excess
		if why == flush.AtShutdown {
			d.moveLogsLastLocked()
		}
		d.pages.count -= limit + limit/8 + excess - pages
		var all []string
		for b := range d.list.all() {
			for line := range d.eachLine(b) {
				all = append(all, fmt.Sprint(classOf(line)))
			}
		}
		d.mu.Unlock()
		return strings.Join(all, " ")
	}
	platform, logs := fmt.Sprint(Platform), fmt.Sprint(Log)
	inOrder, logsLast := strings.Join([]string{logs, platform, logs}, " "), strings.Join([]string{platform, logs, logs}, " ")
	if got := first(flush.AtShutdown, 0); got != logsLast {
		t.Errorf("at the limit of pages: %s, want %s", got, logsLast)
	}
	if got := first(flush.AtShutdown, 1); got != inOrder {
		t.Errorf("above the limit of pages: %s, want %s", got, inOrder)
	}
	// A batch with only logs is not divided.
	d := New(options(), discardStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.list.next
	d.moveLogsLastLocked()
	if d.list.next != before || before.logsOnly {
		t.Error("a batch with only logs is divided")
	}
}
