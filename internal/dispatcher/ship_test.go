package dispatcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/policy"
)

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
