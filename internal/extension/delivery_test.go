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

// In deferred, and in adaptive with steady traffic, the extension calls next immediately, however slow the stream is. No invocation
// is held.
func TestNextIsCalledImmediately(t *testing.T) {
	for name, s := range map[string]fakeClient{
		"50ms": acceptAfter(50 * time.Millisecond), "150ms": acceptAfter(150 * time.Millisecond), "no answer": neverAnswer,
	} {
		for _, mode := range []string{"deferred", "adaptive"} {
			synctest.Test(t, func(t *testing.T) {
				e := fakeEnvironment{T: t, Extension: newExtension(t, s, "KINESIS_TELEMETRY_DELIVERY="+mode)}
				defer e.dispatcher.Close(false)
				for n := range 120 {
					hold := e.run(20 * time.Millisecond)
					if hold > 0 && (mode == "deferred" || n > 2) {
						t.Errorf("%s, stream %s: invocation %d was held for %s", mode, name, n, hold)
					}
					time.Sleep(80 * time.Millisecond)
				}
				if stats := e.dispatcher.Stats(); name != "no answer" && stats.Sent < 100 {
					t.Errorf("%s, stream %s: %+v", mode, name, stats)
				}
			})
		}
	}
}

// In sync, and in adaptive if it waits for the end, every event is on the stream and nothing is in flight when the environment
// freezes. In deferred, and in adaptive if it does not wait, a request may be in flight at the freeze.
func TestNothingInFlightAtFreeze(t *testing.T) {
	for mode, gap := range map[string]time.Duration{"sync": 50 * time.Millisecond, "adaptive": 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var inFlight atomic.Int32
			x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				inFlight.Add(1)
				defer inFlight.Add(-1)
				return acceptAfter(30*time.Millisecond)(ctx, records)
			}, "KINESIS_TELEMETRY_DELIVERY="+mode)
			defer x.dispatcher.Close(false)
			e := fakeEnvironment{T: t, Extension: x}
			for n := range 20 {
				e.run(40 * time.Millisecond)
				if buffered := x.dispatcher.Stats().Buffered; inFlight.Load() > 0 || buffered > 0 {
					t.Errorf("%s: at the freeze after invocation %d, %d requests are in flight and %d events are buffered",
						mode, n, inFlight.Load(), buffered)
				}
				time.Sleep(gap)
			}
		})
	}
}

// sync ships at the end of each invocation if FLUSH_TIMEOUT is long enough, as 60 ms are.
func TestShortFlushTimeoutShipsAtEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(5*time.Millisecond), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=60ms")
		e := fakeEnvironment{T: t, Extension: x}
		defer e.dispatcher.Close(false)
		for n := range 20 {
			hold := e.run(20 * time.Millisecond)
			if stats := e.dispatcher.Stats(); stats.Buffered > 0 || hold > 60*time.Millisecond {
				t.Errorf("invocation %d was held for %s, and %d events are buffered", n, hold, stats.Buffered)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// A backlog that one hold cannot ship costs FLUSH_TIMEOUT in total. The rest of it is shipped during handlers. After that,
// invocations are held as before.
func TestBacklogCostsFlushTimeoutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(400*time.Millisecond), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_BUFFER_BYTES=16777216")
		e := fakeEnvironment{T: t, Extension: x}
		defer e.dispatcher.Close(false)
		for range 100 {
			post(e.Extension, `[{"time":"`+time.Now().UTC().Format(time.RFC3339)+`","type":"function","record":"`+strings.Repeat("x", 100_000)+`"}]`)
		}
		var hold time.Duration
		for e.dispatcher.Stats().Sent < 100 {
			hold += e.run(5 * time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			if e.number > 1000 {
				t.Fatalf("the backlog is not shipped: %+v", e.dispatcher.Stats())
			}
		}
		if hold > time.Second || e.dispatcher.Stats().Dropped > 0 {
			t.Errorf("held for %s in total, %+v", hold, e.dispatcher.Stats())
		}
		for e.dispatcher.Stats().Buffered > 0 && e.number < 1100 {
			e.run(20 * time.Millisecond)
			time.Sleep(50 * time.Millisecond)
		}
		if hold := e.run(20 * time.Millisecond); hold == 0 || e.dispatcher.Stats().Buffered > 0 {
			t.Errorf("after the backlog an invocation is held for %s, and %d events stay buffered", hold, e.dispatcher.Stats().Buffered)
		}
	})
}

// If Lambda reports that telemetry was lost, or a POST is malformed, the end of the invocation may be lost as well. The current wait
// ends after FLUSH_TIMEOUT, and no later invocation is waited for until an end is seen again.
func TestLostTelemetryStopsTheWaits(t *testing.T) {
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
			if took := invoke("1"); took != 3700*time.Millisecond {
				t.Errorf("%s: the invocation whose end is lost took %s", name, took)
			}
			for _, id := range []string{"2", "3"} {
				if wait := invoke(id); wait > 0 {
					t.Errorf("%s: the extension waited for the end of invocation %s for %s", name, id, wait)
				}
				post(x, "["+eventNow("platform.start", id)+"]")
			}
			e := fakeEnvironment{T: t, Extension: x, number: 3, unposted: []string{eventNow("platform.runtimeDone", "3")}}
			e.run(20 * time.Millisecond)
			if hold := e.run(20 * time.Millisecond); hold == 0 || x.dispatcher.Stats().Buffered > 0 {
				t.Errorf("%s: after an end was seen again, the next invocation was held for %s", name, hold)
			}
		})
	}
}

// After a wait has timed out, the extension has called next, and the environment may freeze at any moment. The background shipper
// only ships events that are close to MAX_DELAY, and no full records.
func TestOnlyLateEventsShipAfterWaitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_RECORD_BYTES=1024")
		defer x.dispatcher.Close(false)
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(15 * time.Minute)})
		post(x, `[`+eventNow("function", strings.Repeat("x", 2000))+`]`)
		synctest.Wait()
		if stats := x.dispatcher.Stats(); stats.Sent > 0 {
			t.Error("a request was started that the freeze may interrupt")
		}
		time.Sleep(10 * time.Second)
		if stats := x.dispatcher.Stats(); stats.Sent != 1 {
			t.Errorf("nothing was shipped while the handler kept running: %+v", stats)
		}
	})
}

// An end in the same POST as a logsDropped event counts as seen: its invocation ships, and the next one is waited for.
func TestEndInSamePOSTAsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := fakeEnvironment{T: t, Extension: newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")}
		defer e.dispatcher.Close(false)
		time.AfterFunc(10*time.Millisecond, func() {
			events := []string{eventNow("platform.start", "1"), eventNow("platform.runtimeDone", "1"), eventNow("platform.logsDropped", "")}
			post(e.Extension, "["+strings.Join(events, ",")+"]")
		})
		e.number = 1
		hold := elapsed(func() { e.invoke(t.Context(), lambdaapi.Event{RequestID: "1", Deadline: time.Now().Add(time.Minute)}) })
		if hold != 10*time.Millisecond || e.dispatcher.Stats().Buffered > 0 {
			t.Errorf("held for %s, %+v", hold, e.dispatcher.Stats())
		}
		if hold := e.run(20 * time.Millisecond); hold == 0 {
			t.Error("the next invocation is not waited for")
		}
	})
}

// If the end of invocation A arrives after the INVOKE of B, it does not count as B's end: the background shipper keeps shipping
// while B runs, for ten minutes here.
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

// If the end of an invocation is seen too late to ship anything, the extension does not wait for the ends of the next ones.
func TestLateEndsStopTheWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")
		defer x.dispatcher.Close(false)
		waited, clock := "", time.Now().Add(-time.Minute) // the platform's clock, for events that arrive late
		for _, id := range []string{"a", "b", "c", "d"} {
			returned := make(chan struct{})
			go func() {
				defer close(returned)
				x.invoke(t.Context(), lambdaapi.Event{RequestID: id, Deadline: time.Now().Add(time.Minute)})
			}()
			postEvent := func(kind string) {
				clock = clock.Add(time.Millisecond)
				at := clock.UTC().Format(timeLayout)
				post(x, fmt.Sprintf(`[{"time":%q,"type":%q,"record":{"requestId":%q}}]`, at, kind, id))
				synctest.Wait()
			}
			postEvent("platform.start")
			select {
			case <-returned:
			default:
				waited += id
			}
			postEvent("platform.runtimeDone")
			<-returned
		}
		if waited != "ac" {
			t.Errorf("waited for the ends of %q", waited)
		}
	})
}

// The wait for an invocation's end stops 100 ms before its deadline. If INVOKE has no usable deadline, the wait stops after
// FLUSH_TIMEOUT. No function runs for longer than 15 minutes.
func TestWaitStopsBeforeDeadline(t *testing.T) {
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
				t.Errorf("a deadline in %s: waited for %s, want %s", test.left, took, test.want)
			}
			post(x, "["+eventNow("platform.runtimeDone", fmt.Sprint(id))+"]") // so that ends count as seen again
		}
	})
}

// If an end arrives before its INVOKE, the background shipper starts no request that the freeze would interrupt.
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
			t.Errorf("%d requests were started during the freeze", puts)
		}
	})
}
