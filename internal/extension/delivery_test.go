package extension

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// fakeClient is a Kinesis Client.
type fakeClient func(ctx context.Context, records []kinesis.Record) kinesis.Result

func (s fakeClient) Put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

func (s fakeClient) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

// acceptAll takes everything.
func acceptAll(_ context.Context, records []kinesis.Record) kinesis.Result {
	return kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{kinesis.Sent}, len(records)), Requests: 1}
}

// acceptAfter takes everything after a round trip.
func acceptAfter(roundTrip time.Duration) fakeClient {
	return func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		select {
		case <-time.After(roundTrip):
			return acceptAll(ctx, records)
		case <-ctx.Done():
			return neverAnswer(ctx, records)
		}
	}
}

// neverAnswer never answers.
func neverAnswer(ctx context.Context, records []kinesis.Record) kinesis.Result {
	<-ctx.Done()
	return kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1, Err: ctx.Err()}
}

// recorder remembers the lines that a stream took.
type recorder struct{ lines []record.Line }

func (s *recorder) put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	for _, r := range records {
		for line := range record.Unpack(bytes.Join(r.Data, nil)) {
			s.lines = append(s.lines, line)
		}
	}
	return acceptAll(ctx, records)
}

// types are the types of the lines, in order.
func (s *recorder) types() (types []string) {
	for _, line := range s.lines {
		types = append(types, line.Type)
	}
	return types
}

// newExtension is an extension whose environment has newExtension, with variables such as KINESIS_TELEMETRY_DELIVERY=sync. It has no
// listener, so that it can live on fake time.
func newExtension(t *testing.T, s fakeClient, variables ...string) *Extension {
	t.Helper()
	return newExtensionWithLog(slog.New(slog.NewTextHandler(t.Output(), nil)), s, variables...)
}

// newExtensionWithLog is begun with a log.
func newExtensionWithLog(log *slog.Logger, s fakeClient, variables ...string) *Extension {
	cfg, _ := config.Load(append([]string{"KINESIS_TELEMETRY_SPILL_DIR="}, variables...))
	x := &Extension{config: cfg, log: log, invocations: newInvocations(), subscribed: true, abandon: func() {}}
	x.dispatcher = dispatcher.New(dispatcher.Options{
		Source: record.SourceFields{Function: "f"}, Format: cfg.Format, PartitionKey: cfg.PartitionKey, Flush: cfg.Flush(),
		MaxRecordBytes: cfg.MaxRecordBytes, Oversize: cfg.Oversize, RequestBytes: cfg.RequestBytes(), SpillDir: cfg.SpillDir, Log: x.log, Guard: x.guard,
	}, s)
	x.dispatcher.StartJournal()
	return x
}

// idleListener makes a listener to be shut down on fake time: it is made outside, and nothing is sent to it.
func idleListener(t *testing.T) *listener.Listener {
	t.Helper()
	l, err := listener.Listen(0, func(listener.Batch) {}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// logFunc is a log that calls a function for each line.
type logFunc func(slog.Record)

func (logFunc) Enabled(context.Context, slog.Level) bool        { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f logFunc) WithGroup(string) slog.Handler                 { return f }
func (f logFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }

// post lets the extension receive a POST.
func post(x *Extension, body string) {
	p := listener.Splitter{Limit: x.config.MaxRecordBytes}
	x.receive(listener.Batch{Events: p.Finish(p.Split(nil, []byte(body), true))})
}

// eventNow is an event that is emitted now. A log line has no request id.
func eventNow(kind, id string) string {
	return fmt.Sprintf(`{"time":%q,"type":%q,"record":{"requestId":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), kind, id)
}

const lateLine = `{"time":"1999-01-01T00:00:00.000Z","type":"function","record":"late already"}`

// elapsed is how long a call takes.
func elapsed(call func()) time.Duration {
	began := time.Now()
	call()
	return time.Since(began)
}

// fakeEnvironment drives an extension as Lambda does, on fake time. It freezes when the function has ended and the extension has
// asked for the next event; what was not posted by then is posted after the thaw.
type fakeEnvironment struct {
	*testing.T
	*Extension
	number   int
	unposted []string // not posted yet
}

// buffering25ms is how long Lambda collects telemetry before it posts.
const buffering25ms = 25 * time.Millisecond

// run runs an invocation whose handler takes so long, at least 5 ms, and logs one line. It returns how long after the
// handler's end the extension asked for the next event.
func (e *fakeEnvironment) run(handler time.Duration) (held time.Duration) {
	e.Helper()
	e.number++
	id, returned := fmt.Sprint(e.number), make(chan struct{})
	deadline := time.Now().Add(handler + 30*time.Second)
	start := eventNow("platform.start", id)
	go func() {
		defer close(returned)
		e.invoke(e.Context(), lambdaapi.Event{RequestID: id, Deadline: deadline})
	}()
	time.Sleep(5 * time.Millisecond)
	post(e.Extension, "["+strings.Join(append(e.unposted, start, eventNow("function", "")), ",")+"]")
	time.Sleep(handler - 5*time.Millisecond)
	ended, end := time.Now(), eventNow("platform.runtimeDone", id)
	e.unposted = []string{eventNow("platform.report", id)}
	synctest.Wait()
	select {
	case <-returned:
		e.unposted = slices.Insert(e.unposted, 0, end)
		return 0
	default:
	}
	time.Sleep(buffering25ms)
	post(e.Extension, "["+end+"]")
	<-returned
	return time.Since(ended)
}

// In deferred, and in adaptive where traffic is steady, Lambda is asked for the next event at once, whatever the stream takes:
// nothing is waited for beside a handler.
func TestAskedForTheNextEventAtOnce(t *testing.T) {
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
func TestNothingIsOnItsWayAtTheFreeze(t *testing.T) {
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
func TestAfterAWaitThatWasGivenUp(t *testing.T) {
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
func TestEndBesideALoss(t *testing.T) {
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
func TestEndOfTheInvocationBefore(t *testing.T) {
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
func TestEndAheadOfItsInvoke(t *testing.T) {
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

// SnapStart: what came before the restore belongs to the instance before it, what comes behind it to a new one. The restore shows
// by its event or by the first INVOKE, and the one that comes second begins no third instance.
func TestRestoreBeginsAnInstance(t *testing.T) {
	restore := func(_ *testing.T, x *Extension) {
		post(x, `[`+lateLine+`,{"time":"2026-11-24T00:00:00.000Z","type":"platform.restoreStart","record":{}},`+lateLine+`]`)
	}
	invoke := func(t *testing.T, x *Extension) {
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(200 * time.Millisecond)})
	}
	for name, test := range map[string]struct {
		kind  string
		steps []func(*testing.T, *Extension)
		want  string
	}{
		"restoreStart first": {"snap-start", []func(*testing.T, *Extension){restore, invoke}, "0 0 1 1 1"},
		"INVOKE first":       {"snap-start", []func(*testing.T, *Extension){invoke, restore}, "0 1 1 1 1"},
		"no SnapStart":       {"on-demand", []func(*testing.T, *Extension){restore, invoke}, "0 0 0 0 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s recorder
			x := newExtension(t, s.put, "AWS_LAMBDA_INITIALIZATION_TYPE="+test.kind)
			defer x.dispatcher.Close(false)
			post(x, `[`+lateLine+`]`)
			for _, step := range test.steps {
				step(t, x)
			}
			post(x, `[`+lateLine+`]`)
			x.dispatcher.Ship(t.Context(), flush.AtShutdown)
			var instances []string
			got := ""
			for _, l := range s.lines {
				i := slices.Index(instances, l.Source.Instance)
				if i < 0 {
					i, instances = len(instances), append(instances, l.Source.Instance)
				}
				got += fmt.Sprint(" ", i)
			}
			if strings.TrimSpace(got) != test.want {
				t.Errorf("%s: instances%s, want %s", name, got, test.want)
			}
		})
	}
}

const spindown = "spindown"

// What was emitted up to the SHUTDOWN is delivered: Lambda posts it 25 ms later. A platform.report that is still to come is
// awaited for 200 ms, one that has come is not.
func TestLastWords(t *testing.T) {
	for name, test := range map[string]struct {
		told, then string // before the SHUTDOWN, and after
		after      time.Duration
		took       time.Duration
	}{
		"a last line":       {"", "function", 20 * time.Millisecond, 50 * time.Millisecond},
		"the last report":   {"platform.runtimeDone", "platform.report", 150 * time.Millisecond, 150 * time.Millisecond},
		"no report":         {"platform.runtimeDone", "function", 190 * time.Millisecond, 200 * time.Millisecond},
		"it still runs":     {"platform.start", "platform.report", 120 * time.Millisecond, 120 * time.Millisecond},
		"an early report":   {"platform.runtimeDone", "platform.report", 20 * time.Millisecond, 50 * time.Millisecond},
		"another's report":  {"platform.start", "platform.fault", 20 * time.Millisecond, 200 * time.Millisecond},
		"reported already":  {"platform.report", "function", 49 * time.Millisecond, 50 * time.Millisecond},
		"nothing ever runs": {"function", "function", 49 * time.Millisecond, 50 * time.Millisecond},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			var s recorder
			x := newExtension(t, s.put)
			x.listener = l
			if test.told != "" {
				post(x, "["+eventNow(test.told, "a")+"]")
			}
			time.AfterFunc(test.after, func() { post(x, "["+eventNow(test.then, "a")+"]") })
			took := elapsed(func() { x.shutdown(t.Context(), spindown) })
			types := s.types()
			if took != test.took || len(types) < 2 || types[len(types)-2] != test.then || types[len(types)-1] != "kinesis-telemetry.stats" {
				t.Errorf("%s: SHUTDOWN took %s, not %s; delivered %q", name, took, test.took, types)
			}
		})
	}
}

// From SHUTDOWN on the background starts no request: it would be in the way of the one that ships everything.
func TestOneRequestAtShutdown(t *testing.T) {
	l := idleListener(t)
	synctest.Test(t, func(t *testing.T) {
		var s recorder
		puts := 0
		x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			puts++
			return s.put(ctx, records)
		})
		x.listener = l
		x.dispatcher.Note(flush.NeverFrozen{})
		time.AfterFunc(20*time.Millisecond, func() { post(x, "["+lateLine+"]") })
		x.shutdown(t.Context(), spindown)
		if puts != 1 || len(s.lines) != 2 {
			t.Errorf("%d requests for %q", puts, s.types())
		}
	})
}

// The journal stays where the environment lives on; at spindown, which has no next life, it is removed.
func TestJournalAtTheEnd(t *testing.T) {
	for reason, want := range map[string]int{"timeout": 1, "failure": 1, spindown: 0, "SPINDOWN": 0} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			dir, seen := t.TempDir(), -1
			x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				files, _ := os.ReadDir(dir)
				seen = len(files)
				return acceptAll(ctx, records)
			}, "KINESIS_TELEMETRY_SPILL_DIR="+dir)
			x.listener = l
			post(x, "["+lateLine+"]")
			x.shutdown(t.Context(), reason)
			if left, _ := os.ReadDir(dir); seen != 1 || len(left) != want {
				t.Errorf("%s: %d files during the last flush; %d are left, want %d", reason, seen, len(left), want)
			}
		})
	}
}

// A life in which nothing was lost logs nothing at the default LOG_LEVEL; one that lost something says how much; what is saved
// for the next life is not lost; that it could not be saved is said once.
func TestSummary(t *testing.T) {
	const buffered, unsaved = "WARN telemetry is buffered", "WARN what is undelivered cannot be kept"
	const nothing = "summary: received 2, sent 0, dropped 0, undelivered 2 events, "
	const tooLarge = "ERROR summary: received 3, sent 2, dropped 1, undelivered 0 events, 0 of them saved for the extension's next start; 1 records, "
	for name, test := range map[string]struct {
		line, reason, dir string
		s                 fakeClient
		want              []string
	}{
		"all sent":    {"small", spindown, "", acceptAll, nil},
		"too large":   {strings.Repeat("x", 1<<20), spindown, "", acceptAll, []string{tooLarge}},
		"undelivered": {"small", spindown, "", neverAnswer, []string{buffered, "ERROR " + nothing + "0 of them saved"}},
		"saved":       {"small", "timeout", t.TempDir(), neverAnswer, []string{buffered, "WARN " + nothing + "2 of them saved"}},
		"not saved":   {"small", "timeout", "/proc/nowhere", neverAnswer, []string{unsaved, buffered, "ERROR " + nothing + "0 of them saved"}},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			var said []string
			log := slog.New(logFunc(func(r slog.Record) {
				if r.Level >= slog.LevelWarn {
					said = append(said, r.Level.String()+" "+r.Message)
				}
			}))
			x := newExtensionWithLog(log, test.s, "KINESIS_TELEMETRY_SPILL_DIR="+test.dir, "KINESIS_TELEMETRY_OVERSIZE=drop")
			x.listener = l
			post(x, fmt.Sprintf(`[{"time":"t","type":"function","record":%q}]`, test.line))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			x.shutdown(ctx, test.reason)
			if !slices.EqualFunc(said, test.want, strings.HasPrefix) {
				t.Errorf("%s: said %q, want %q", name, said, test.want)
			}
		})
	}
}
