package extension

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
)

// In deferred, and in adaptive where traffic is steady, Lambda is asked for the next event at once, whatever the stream takes:
// nothing is waited for beside a handler.
func TestNextIsCalledImmediately(t *testing.T) {
	for name, s := range map[string]fakeClient{
		"50ms": acceptAfter(50 * time.Millisecond), "150ms": acceptAfter(150 * time.Millisecond), "hung": neverAnswer,
	} {
		for _, mode := range []string{"deferred", "adaptive"} {
			synctest.Test(t, func(t *testing.T) {
				e := fakeEnvironment{T: t, Extension: newExtension(t, s, "KINESIS_TELEMETRY_DELIVERY="+mode)}
				defer e.dispatcher.Close(false)
				for n := range 120 {
					held := e.run(20 * time.Millisecond)
					if held > 0 && (mode == "deferred" || n > 2) {
						t.Errorf("%s, a stream of %s: invocation %d was held back %s", mode, name, n, held)
					}
					time.Sleep(80 * time.Millisecond)
				}
				if stats := e.dispatcher.Stats(); name != "hung" && stats.Sent < 100 {
					t.Errorf("%s, a stream of %s: %+v", mode, name, stats)
				}
			})
		}
	}
}

// In sync, and in adaptive where it waits for the end, everything is on the stream and nothing is on its way when the environment
// freezes. (In deferred, and in adaptive where it does not wait, the freeze may catch a request: that is new, and was forbidden.)
func TestNothingInFlightAtFreeze(t *testing.T) {
	for mode, gap := range map[string]time.Duration{"sync": 50 * time.Millisecond, "adaptive": 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var flying atomic.Int32
			x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				flying.Add(1)
				defer flying.Add(-1)
				return acceptAfter(30*time.Millisecond)(ctx, records)
			}, "KINESIS_TELEMETRY_DELIVERY="+mode)
			defer x.dispatcher.Close(false)
			e := fakeEnvironment{T: t, Extension: x}
			for n := range 20 {
				e.run(40 * time.Millisecond)
				if held := x.dispatcher.Stats().Buffered; flying.Load() > 0 || held > 0 {
					t.Errorf("%s: the freeze after invocation %d caught %d requests, and %d events are not on the stream", mode, n, flying.Load(), held)
				}
				time.Sleep(gap)
			}
		})
	}
}

// sync ships at the end of each invocation as long as FLUSH_TIMEOUT has room for it: 60 ms have.
func TestShortFlushTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(5*time.Millisecond), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=60ms")
		e := fakeEnvironment{T: t, Extension: x}
		defer e.dispatcher.Close(false)
		for n := range 20 {
			held := e.run(20 * time.Millisecond)
			if stats := e.dispatcher.Stats(); stats.Buffered > 0 || held > 60*time.Millisecond {
				t.Errorf("invocation %d was held back %s, and %d events are not on the stream", n, held, stats.Buffered)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// A backlog that one hold cannot ship costs FLUSH_TIMEOUT in all, and the rest leaves beside handlers; then invocations are held
// as before.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(400*time.Millisecond), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_BUFFER_BYTES=16777216")
		e := fakeEnvironment{T: t, Extension: x}
		defer e.dispatcher.Close(false)
		for range 100 {
			post(e.Extension, `[{"time":"`+time.Now().UTC().Format(time.RFC3339)+`","type":"function","record":"`+strings.Repeat("x", 100_000)+`"}]`)
		}
		var held time.Duration
		for e.dispatcher.Stats().Sent < 100 {
			held += e.run(5 * time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			if e.number > 1000 {
				t.Fatalf("the backlog does not leave: %+v", e.dispatcher.Stats())
			}
		}
		if held > time.Second || e.dispatcher.Stats().Dropped > 0 {
			t.Errorf("held back %s in sum, %+v", held, e.dispatcher.Stats())
		}
		for e.dispatcher.Stats().Buffered > 0 && e.number < 1100 {
			e.run(20 * time.Millisecond)
			time.Sleep(50 * time.Millisecond)
		}
		if held := e.run(20 * time.Millisecond); held == 0 || e.dispatcher.Stats().Buffered > 0 {
			t.Errorf("after the backlog an invocation is held back %s, and leaves %d events", held, e.dispatcher.Stats().Buffered)
		}
	})
}

// When Lambda says that telemetry was lost, or a POST arrives broken, the end may be lost with it: the invocation that is waited
// for goes on FLUSH_TIMEOUT later, and no other is waited for until an end is seen again.
func TestLostTelemetry(t *testing.T) {
	for name, lose := range map[string]func(x *Extension){
		"logsDropped": func(x *Extension) { post(x, "["+eventNow("platform.logsDropped", "")+"]") },
		"malformed":   func(x *Extension) { post(x, "["+eventNow("platform.runtimeDone", "1")[:50]+"}]") },
		"truncated":   func(x *Extension) { x.receive(listener.Batch{Truncated: true}) },
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=700ms")
			defer x.dispatcher.Close(false)
			invoke := func(id string) time.Duration {
				return elapsed(func() {
					x.invoke(t.Context(), lambdaapi.Event{RequestID: id, Deadline: time.Now().Add(30 * time.Second)})
				})
			}
			time.AfterFunc(5*time.Millisecond, func() { post(x, "["+eventNow("platform.start", "1")+"]") })
			time.AfterFunc(3*time.Second, func() { lose(x) })
			if held := invoke("1"); held != 3700*time.Millisecond {
				t.Errorf("%s: the invocation whose end is lost took %s", name, held)
			}
			for _, id := range []string{"2", "3"} {
				if held := invoke(id); held > 0 {
					t.Errorf("%s: invocation %s was waited for %s", name, id, held)
				}
				post(x, "["+eventNow("platform.start", id)+"]")
			}
			e := fakeEnvironment{T: t, Extension: x, number: 3, unposted: []string{eventNow("platform.runtimeDone", "3")}}
			e.run(20 * time.Millisecond)
			if held := e.run(20 * time.Millisecond); held == 0 || x.dispatcher.Stats().Buffered > 0 {
				t.Errorf("%s: an end was seen again, and the next invocation was held back %s", name, held)
			}
		})
	}
}

// After a wait that was given up Lambda has been asked for the next event, and the freeze may come at any moment: the background
// sends what is late, and no full record.
func TestAfterWaitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_RECORD_BYTES=1024")
		defer x.dispatcher.Close(false)
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(15 * time.Minute)})
		post(x, `[`+eventNow("function", strings.Repeat("x", 2000))+`]`)
		synctest.Wait()
		if stats := x.dispatcher.Stats(); stats.Sent > 0 {
			t.Error("a request was started that the freeze may catch")
		}
		time.Sleep(10 * time.Second)
		if stats := x.dispatcher.Stats(); stats.Sent != 1 {
			t.Errorf("a handler that runs on ships nothing: %+v", stats)
		}
	})
}

// An end that stands in the same POST as the loss was not lost: its invocation ships, and the next one is waited for.
func TestEndInSamePOSTAsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fakeEnvironment{T: t, Extension: newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")}
		defer e.dispatcher.Close(false)
		time.AfterFunc(10*time.Millisecond, func() {
			post(e.Extension, "["+eventNow("platform.start", "1")+","+eventNow("platform.runtimeDone", "1")+","+eventNow("platform.logsDropped", "")+"]")
		})
		e.number = 1
		held := elapsed(func() { e.invoke(t.Context(), lambdaapi.Event{RequestID: "1", Deadline: time.Now().Add(time.Minute)}) })
		if held != 10*time.Millisecond || e.dispatcher.Stats().Buffered > 0 {
			t.Errorf("held back %s, %+v", held, e.dispatcher.Stats())
		}
		if held := e.run(20 * time.Millisecond); held == 0 {
			t.Error("the next invocation is not waited for")
		}
	})
}

// The end of invocation A that arrives after the INVOKE of B is not B's: B ships for as long as it runs, ten minutes here.
func TestEndOfPreviousInvocation(t *testing.T) {
	for _, mode := range []string{"deferred", "adaptive"} {
		synctest.Test(t, func(t *testing.T) {
			x := newExtension(t, acceptAfter(20*time.Millisecond), "KINESIS_TELEMETRY_DELIVERY="+mode, "KINESIS_TELEMETRY_BUFFER_BYTES=1048576")
			defer x.dispatcher.Close(false)
			e := fakeEnvironment{T: t, Extension: x}
			for range 5 {
				e.run(20 * time.Millisecond)
				time.Sleep(80 * time.Millisecond)
			}
			x.invoke(t.Context(), lambdaapi.Event{RequestID: "B", Deadline: time.Now().Add(15 * time.Minute)})
			post(x, "["+strings.Join(append(e.unposted, eventNow("platform.start", "B")), ",")+"]")
			for range 6000 {
				time.Sleep(100 * time.Millisecond)
				post(x, `[{"time":"`+time.Now().UTC().Format(time.RFC3339)+`","type":"function","record":"`+strings.Repeat("x", 1000)+`"}]`)
			}
			if stats := x.dispatcher.Stats(); stats.Dropped > 0 || stats.Buffered > 110 {
				t.Errorf("%s: %+v", mode, stats)
			}
		})
	}
}

// Where the end of an invocation is seen too late to ship anything, the next ones are not held back for theirs.
func TestLateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")
		defer x.dispatcher.Close(false)
		waited, clock := "", time.Now().Add(-time.Minute) // the platform's, of what it tells of late
		for _, id := range []string{"a", "b", "c", "d"} {
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				x.invoke(t.Context(), lambdaapi.Event{RequestID: id, Deadline: time.Now().Add(time.Minute)})
			}()
			tell := func(kind string) {
				clock = clock.Add(time.Millisecond)
				post(x, fmt.Sprintf(`[{"time":%q,"type":%q,"record":{"requestId":%q}}]`, clock.UTC().Format("2006-01-02T15:04:05.000Z"), kind, id))
				synctest.Wait()
			}
			tell("platform.start")
			select {
			case <-returned:
			default:
				waited += id
			}
			tell("platform.runtimeDone")
			<-returned
		}
		if waited != "ac" {
			t.Errorf("waited for the ends of %q", waited)
		}
	})
}

// An INVOKE without a usable deadline is waited for as long as FLUSH_TIMEOUT, one with a deadline until 100 ms before it. No function
// runs for longer than a quarter of an hour.
func TestDeadlineOfInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")
		defer x.dispatcher.Close(false)
		for id, test := range []struct {
			left, want time.Duration
		}{
			{20 * time.Second, 19900 * time.Millisecond},
			{15 * time.Minute, 15*time.Minute - 100*time.Millisecond},
			{150 * time.Millisecond, 50 * time.Millisecond},
			{50 * time.Millisecond, 0},
			{0, 0},
			{maxInvocation, maxInvocation - 100*time.Millisecond},
			{-50 * time.Millisecond, time.Second},
			{-50 * 365 * 24 * time.Hour, time.Second}, // as in Lambda's documentation
			{17 * time.Minute, time.Second},
			{24 * time.Hour, time.Second},
			{math.MinInt64, time.Second},
		} {
			post(x, "["+eventNow("platform.start", fmt.Sprint(id))+"]")
			event := lambdaapi.Event{RequestID: fmt.Sprint(id), Deadline: time.Now().Add(test.left)}
			if test.left == math.MinInt64 {
				event.Deadline = time.Time{}
			}
			if took := elapsed(func() { x.invoke(t.Context(), event) }); took != test.want {
				t.Errorf("a deadline in %s: waited %s, not %s", test.left, took, test.want)
			}
			post(x, "["+eventNow("platform.runtimeDone", fmt.Sprint(id))+"]") // ends are seen again
		}
	})
}

// Where the end is ahead of its INVOKE nothing is begun in the background that the freeze would catch.
func TestEndBeforeItsInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		puts := 0
		x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			puts++
			return acceptAll(ctx, records)
		}, "KINESIS_TELEMETRY_DELIVERY=deferred")
		defer x.dispatcher.Close(false)
		post(x, `[{"time":"2000-01-01T00:00:00.000Z","type":"platform.start","record":{"requestId":"a"}},`+
			`{"time":"2000-01-01T00:00:00.010Z","type":"platform.runtimeDone","record":{"requestId":"a"}}]`)
		x.dispatcher.Ship(t.Context(), flush.AtShutdown)
		puts = 0
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(time.Minute)})
		post(x, `[{"time":"2000-01-01T00:00:00.005Z","type":"function","record":"late"}]`)
		time.Sleep(time.Hour)
		if puts > 0 {
			t.Errorf("%d requests in the freeze", puts)
		}
	})
}
