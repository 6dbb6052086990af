package extension

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// stream is a Kinesis Client.
type stream func(ctx context.Context, records []kinesis.Record) kinesis.Result

func (s stream) Put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

func (s stream) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

// stored takes everything.
func stored(_ context.Context, records []kinesis.Record) kinesis.Result {
	return kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{kinesis.Sent}, len(records)), Requests: 1}
}

// hung never answers.
func hung(ctx context.Context, records []kinesis.Record) kinesis.Result {
	<-ctx.Done()
	return kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1, Err: ctx.Err()}
}

// begun is an extension whose environment has begun, with variables such as KINESIS_TELEMETRY_DELIVERY=sync. It has no
// listener, so that it can live on fake time.
func begun(t *testing.T, s stream, variables ...string) *Extension {
	t.Helper()
	cfg, _ := config.Load(append([]string{"KINESIS_TELEMETRY_SPILL_DIR="}, variables...))
	x := &Extension{config: cfg, log: slog.New(slog.NewTextHandler(t.Output(), nil)), invocations: newInvocations(), subscribed: true}
	x.dispatcher = dispatcher.New(dispatcher.Options{
		Source: record.SourceFields{Function: "f"}, Format: cfg.Format, PartitionKey: cfg.PartitionKey,
		RecordBytes: cfg.RecordBytes, MaxRecordBytes: cfg.MaxRecordBytes, RequestBytes: cfg.RequestBytes(), BufferBytes: cfg.BufferBytes,
		Mode: cfg.Delivery, MaxDelay: cfg.MaxDelay, FlushTimeout: cfg.FlushTimeout, SpillDir: cfg.SpillDir, Log: x.log,
	}, s)
	return x
}

// listening is begun with a listener.
func listening(t *testing.T, s stream, variables ...string) *Extension {
	t.Helper()
	x := begun(t, s, variables...)
	t.Cleanup(x.dispatcher.Close)
	var err error
	if x.listener, err = listener.Listen(x.receive); err != nil {
		t.Fatal(err)
	}
	return x
}

// post lets the extension receive a POST.
func post(x *Extension, body string) {
	events, malformed := listener.Split(nil, []byte(body))
	x.receive(listener.Batch{Events: events, Malformed: malformed, Bytes: len(body)})
}

const spindown = "spindown"

// Telemetry is cut off and a request of the background hangs: invocations do not wait for it one after the other.
func TestHangingBackgroundFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begun(t, hung, "KINESIS_TELEMETRY_DELIVERY=deferred", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=500ms")
		defer x.dispatcher.Close()
		var held time.Duration
		for n := range 12 {
			began := time.Now()
			x.invoke(t.Context(), lambdaapi.Event{RequestID: fmt.Sprint(n), Deadline: began.Add(30 * time.Second)})
			held += time.Since(began)
			post(x, `[{"time":"1999-01-01T00:00:00.000Z","type":"function","record":"late already"}]`)
			synctest.Wait() // the background's request hangs
		}
		if held > time.Second {
			t.Errorf("held back %s in sum", held)
		}
	})
}

// Nothing is on its way when the environment freezes, also where the report of the invocation before, which is late already,
// comes while what was held is shipped beside the handler.
func TestNothingIsOnItsWayAtTheFreeze(t *testing.T) {
	for mode, gap := range map[string]time.Duration{"deferred": time.Minute, "adaptive": 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var flying atomic.Int32
			x := begun(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				flying.Add(1)
				defer flying.Add(-1)
				time.Sleep(30 * time.Millisecond)
				return stored(ctx, records)
			}, "KINESIS_TELEMETRY_DELIVERY="+mode)
			defer x.dispatcher.Close()
			tell := func(kind, id string) string {
				return fmt.Sprintf(`{"time":%q,"type":%q,"record":{"requestId":%q}}`, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), kind, id)
			}
			caught, behind := 0, "" // what Lambda posts after the thaw
			for n := range 20 {
				id, returned := fmt.Sprint(n), make(chan struct{})
				go func() {
					defer close(returned)
					x.invoke(t.Context(), lambdaapi.Event{RequestID: id, Deadline: time.Now().Add(30 * time.Second)})
				}()
				time.Sleep(5 * time.Millisecond)
				post(x, "["+behind+tell("platform.start", id)+","+tell("function", "")+"]")
				time.Sleep(40 * time.Millisecond) // the handler ends
				done := tell("platform.runtimeDone", id)
				behind = tell("platform.report", id) + ","
				select {
				case <-returned: // the freeze is now, and the end comes at the thaw
					behind = done + "," + behind
				default:
					time.Sleep(25 * time.Millisecond)
					post(x, "["+done+"]")
					<-returned
				}
				caught += int(flying.Load())
				x.dispatcher.Suspend() // frozen, the background does nothing
				time.Sleep(gap)
			}
			if caught > 0 {
				t.Errorf("%s: %d of 20 freezes caught a request", mode, caught)
			}
		})
	}
}

// Where the end of an invocation is seen too late to ship anything, the next ones are not held back for theirs.
func TestLateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begun(t, stored, "KINESIS_TELEMETRY_DELIVERY=sync")
		defer x.dispatcher.Close()
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

// An INVOKE that names no usable deadline is held for FLUSH_TIMEOUT at most.
func TestInvokeWithoutADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := begun(t, stored, "KINESIS_TELEMETRY_DELIVERY=sync")
		defer x.dispatcher.Close()
		post(x, `[{"time":"2000-01-01T00:00:00.000Z","type":"platform.start","record":{"requestId":"a"}}]`)
		began := time.Now()
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a"})
		if took := time.Since(began); took != time.Second {
			t.Errorf("held for %s", took)
		}
	})
}

// Where the end is ahead of its INVOKE nothing is begun in the background that the freeze would catch.
func TestEndAheadOfItsInvoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		puts := 0
		x := begun(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			puts++
			return stored(ctx, records)
		}, "KINESIS_TELEMETRY_DELIVERY=deferred")
		defer x.dispatcher.Close()
		post(x, `[{"time":"2000-01-01T00:00:00.000Z","type":"platform.start","record":{"requestId":"a"}},`+
			`{"time":"2000-01-01T00:00:00.010Z","type":"platform.runtimeDone","record":{"requestId":"a"}}]`)
		x.dispatcher.Flush(t.Context())
		puts = 0
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(time.Minute)})
		post(x, `[{"time":"2000-01-01T00:00:00.005Z","type":"function","record":"late"}]`)
		time.Sleep(time.Hour)
		if puts > 0 {
			t.Errorf("%d requests in the freeze", puts)
		}
	})
}

// SnapStart: what came before the restore belongs to the instance before it, what comes behind it to a new one, and the first
// INVOKE begins no third.
func TestRestoreBeginsAnInstance(t *testing.T) {
	var instances []string
	x := begun(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for _, r := range records {
			for line := range record.Unpack(r.Data) {
				instances = append(instances, line.Source.Instance)
			}
		}
		return stored(ctx, records)
	}, "AWS_LAMBDA_INITIALIZATION_TYPE=snap-start")
	defer x.dispatcher.Close()
	const line = `{"time":"2026-11-24T00:00:00.000Z","type":"function","record":"x"}`
	post(x, `[`+line+`,{"time":"2026-11-24T00:00:00.000Z","type":"platform.restoreStart","record":{}},`+line+`]`)
	x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(200 * time.Millisecond)})
	post(x, `[`+line+`]`)
	x.dispatcher.Drain(t.Context())
	if len(instances) != 4 || len(slices.Compact(instances)) != 2 || instances[0] == instances[1] {
		t.Errorf("%q", instances)
	}
}

// What is held keeps no more memory than the buffer's bound, also where it is little of what was posted.
func TestLittleOfALargeBody(t *testing.T) {
	x := begun(t, stored)
	defer x.dispatcher.Close()
	const small = `{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"a line before the large one"}`
	for range 100 {
		post(x, `[`+small+`,{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"`+strings.Repeat("x", 1<<20)+`}]`)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if held := x.dispatcher.Stats().Held; held != 100 || memory.HeapAlloc > 20<<20 {
		t.Errorf("%d events of %d bytes are held, and %d bytes of heap", held, len(small), memory.HeapAlloc)
	}
}

// A connection on which nothing comes does not take the time of the last flush.
func TestSilentConnectionAtShutdown(t *testing.T) {
	x := listening(t, stored)
	post(x, `[{"time":"t","type":"function","record":"x"}]`)
	conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", x.listener.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	x.shutdown(t.Context(), lambdaapi.Event{ShutdownReason: spindown, Deadline: time.Now().Add(1500 * time.Millisecond)})
	if s := x.dispatcher.Stats(); s.Sent != 2 || s.Held > 0 { // the line and the figures
		t.Errorf("%+v", s)
	}
}

// What is held is saved before the last flush, since the process may be killed from then on; at spindown, which has no next
// life, no file is made.
func TestSavedBeforeTheLastFlush(t *testing.T) {
	for reason, want := range map[string]int{"timeout": 1, "failure": 1, spindown: 0} {
		dir, seen := t.TempDir(), -1
		x := listening(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			files, _ := os.ReadDir(dir)
			seen = len(files)
			return stored(ctx, records)
		}, "KINESIS_TELEMETRY_SPILL_DIR="+dir)
		post(x, `[{"time":"t","type":"function","record":"x"}]`)
		x.shutdown(t.Context(), lambdaapi.Event{ShutdownReason: reason, Deadline: time.Now().Add(time.Second)})
		if left, _ := os.ReadDir(dir); seen != want || len(left) > 0 {
			t.Errorf("%s: %d files during the last flush, want %d; %d are left", reason, seen, want, len(left))
		}
	}
}

// What a signal ends delivers all the same, though its context is done.
func TestShutdownBySignal(t *testing.T) {
	x := listening(t, stored)
	post(x, `[{"time":"t","type":"function","record":"x"}]`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.shutdown(ctx, lambdaapi.Event{ShutdownReason: "signal"})
	if s := x.dispatcher.Stats(); s.Sent != 2 || s.Held > 0 {
		t.Errorf("%+v", s)
	}
}

// A life in which nothing was lost writes no line; one that lost something says how much, at the default LOG_LEVEL.
func TestSummary(t *testing.T) {
	for line, want := range map[string]string{
		"small":                    "",
		strings.Repeat("x", 1<<20): `level=ERROR msg="summary: received 3, sent 2, dropped 1,`,
	} {
		var said bytes.Buffer
		x := listening(t, stored)
		x.log = NewLog(&said, slog.LevelWarn)
		post(x, fmt.Sprintf(`[{"time":"t","type":"function","record":%q}]`, line))
		x.shutdown(t.Context(), lambdaapi.Event{ShutdownReason: spindown, Deadline: time.Now().Add(time.Second)})
		if got := said.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("said %q, want %q", got, want)
		}
	}
}
