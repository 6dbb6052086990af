package extension

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
)

const spindown = "spindown"

// SHUTDOWN waits for telemetry that was emitted just before it, because Lambda posts that 25 ms later. It waits up to 200 ms for the
// last platform.report, unless that has arrived.
func TestLateTelemetryAtShutdown(t *testing.T) {
	for name, test := range map[string]struct {
		before, late string        // types of the events before and after SHUTDOWN
		after        time.Duration // when the late event arrives
		took         time.Duration
	}{
		"a last line":      {"", "function", 20 * time.Millisecond, 50 * time.Millisecond},
		"the last report":  {"platform.runtimeDone", "platform.report", 150 * time.Millisecond, 150 * time.Millisecond},
		"no report":        {"platform.runtimeDone", "function", 190 * time.Millisecond, 200 * time.Millisecond},
		"still running":    {"platform.start", "platform.report", 120 * time.Millisecond, 120 * time.Millisecond},
		"an early report":  {"platform.runtimeDone", "platform.report", 20 * time.Millisecond, 50 * time.Millisecond},
		"another's report": {"platform.start", "platform.fault", 20 * time.Millisecond, 200 * time.Millisecond},
		"reported already": {"platform.report", "function", 49 * time.Millisecond, 50 * time.Millisecond},
		"no invocation":    {"function", "function", 49 * time.Millisecond, 50 * time.Millisecond},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			var s recorder
			x := newExtension(t, s.put)
			x.listener = l
			if test.before != "" {
				post(x, "["+eventNow(test.before, "a")+"]")
			}
			time.AfterFunc(test.after, func() { post(x, "["+eventNow(test.late, "a")+"]") })
			took := elapsed(func() { x.shutdown(t.Context(), spindown) })
			types := s.types()
			if took != test.took || len(types) < 2 || !slices.Equal(types[len(types)-2:], []string{test.late, "kinesis-telemetry.stats"}) {
				t.Errorf("%s: SHUTDOWN took %s, want %s; delivered %q", name, took, test.took, types)
			}
		})
	}
}

// After SHUTDOWN, the background shipper starts no request, because it would delay the flush that ships everything.
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

// The journal is kept if the environment may continue. Spindown ends the environment, so the journal is removed.
func TestJournalAfterShutdown(t *testing.T) {
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

// If nothing was lost, the extension logs nothing at the default LOG_LEVEL. Otherwise, the summary reports how much was lost. Events
// that are saved for the next start are not lost. If they cannot be saved, the extension logs that once.
func TestSummaryReportsLosses(t *testing.T) {
	const buffered, unsaved = "WARN telemetry is buffered", "WARN cannot keep a journal"
	const nothingSent = "summary: received 2, sent 0, dropped 0, undelivered 2 events, "
	const tooLarge = "ERROR summary: received 3, sent 2, dropped 1, undelivered 0 events, " +
		"0 of them saved for the extension's next start; 1 records, "
	for name, test := range map[string]struct {
		line, reason, dir string
		s                 fakeClient
		want              []string
	}{
		"all sent":    {"small", spindown, "", acceptAll, nil},
		"too large":   {strings.Repeat("x", 1<<20), spindown, "", acceptAll, []string{tooLarge}},
		"undelivered": {"small", spindown, "", neverAnswer, []string{buffered, "ERROR " + nothingSent + "0 of them saved"}},
		"saved":       {"small", "timeout", t.TempDir(), neverAnswer, []string{buffered, "WARN " + nothingSent + "2 of them saved"}},
		"not saved": {
			"small", "timeout", "/proc/nowhere", neverAnswer,
			[]string{unsaved, buffered, "ERROR " + nothingSent + "0 of them saved"},
		},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			var logged []string
			log := slog.New(logFunc(func(r slog.Record) {
				if r.Level >= slog.LevelWarn {
					logged = append(logged, r.Level.String()+" "+r.Message)
				}
			}))
			x := newExtensionWithLog(log, test.s, "KINESIS_TELEMETRY_SPILL_DIR="+test.dir, "KINESIS_TELEMETRY_OVERSIZE=drop")
			x.listener = l
			post(x, fmt.Sprintf(`[{"time":"t","type":"function","record":%q}]`, test.line))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			x.shutdown(ctx, test.reason)
			if !slices.EqualFunc(logged, test.want, strings.HasPrefix) {
				t.Errorf("%s: logged %q, want %q", name, logged, test.want)
			}
		})
	}
}

// If SIGTERM or the context stops the extension, it delivers its buffer and ends without an error.
func TestShutdownBySignal(t *testing.T) { // not parallel: the signal reaches every extension in this process
	for name, end := range map[string]func(cancel func()) error{
		"SIGTERM": func(func()) error { return syscall.Kill(os.Getpid(), syscall.SIGTERM) },
		"context": func(cancel func()) error { cancel(); return nil },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeLambda(t, nil).start(ctx)
		f.awaitNext()
		f.post(eventNow("function", ""))
		if err := end(cancel); err != nil {
			t.Fatal(err)
		}
		if err := f.wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.expect(name+": delivered", f.deliveredTypes(), "function", "kinesis-telemetry.stats")
		if logged := f.logLines(); len(logged) != 1 || !strings.HasSuffix(logged[0], "shutdown: signal") {
			t.Errorf("%s: logged %q", name, logged)
		}
		cancel()
	}
}

// The context of the shutdown ends 100 ms before Lambda's deadline, or a quarter of the remaining time before it if that is less. The
// extension also ends before the deadline if a call ignores its context. It uses no deadline that is later than Lambda's two seconds.
// If SHUTDOWN has no usable deadline, the shutdown may take 1.5 seconds.
func TestShutdownWithinDeadline(t *testing.T) {
	useLambdasShutdown(t)
	const ms, day = time.Millisecond, 24 * time.Hour
	ignoreContext := func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		time.Sleep(time.Minute)
		return acceptAll(ctx, records)
	}
	for name, test := range map[string]struct {
		left           time.Duration // time until the deadline; 0: no deadline
		obeys, ignores time.Duration // how long the shutdown takes if Put obeys or ignores its context
	}{
		"in 2 s":         {2 * time.Second, 1900 * ms, 1950 * ms},
		"in 1.4 s":       {1400 * ms, 1300 * ms, 1350 * ms},
		"in 400 ms":      {400 * ms, 300 * ms, 350 * ms},
		"in 90 ms":       {90 * ms, 67500 * time.Microsecond, 78750 * time.Microsecond},
		"just past":      {-time.Second, 37500 * time.Microsecond, 43750 * time.Microsecond},
		"in 2.1 s":       {2100 * ms, 1900 * ms, 1950 * ms},
		"in a day":       {day, 1900 * ms, 1950 * ms},
		"in 292 years":   {math.MaxInt64, 1900 * ms, 1950 * ms},
		"none":           {0, 1500 * ms, 1550 * ms},
		"long past":      {-1001 * ms, 1500 * ms, 1550 * ms},
		"in other units": {-50 * 365 * day, 1500 * ms, 1550 * ms},
	} {
		for want, s := range map[time.Duration]fakeClient{test.obeys: neverAnswer, test.ignores: ignoreContext} {
			l, took := idleListener(t), time.Duration(0)
			synctest.Test(t, func(t *testing.T) {
				x := newExtension(t, s)
				x.listener = l
				event := lambdaapi.Event{ShutdownReason: spindown}
				if test.left != 0 {
					event.Deadline = time.Now().Add(test.left)
				}
				took = elapsed(func() { x.handleShutdown(t.Context(), event) })
				time.Sleep(time.Hour)
			})
			if took != want {
				t.Errorf("deadline %s: ended after %s, want %s", name, took, want)
			}
		}
	}
}

// 90 ms are enough to ship the buffer: the waits for late telemetry and for a silent connection leave most of the time.
func TestShutdownWithLittleTime(t *testing.T) {
	l := idleListener(t)
	connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", l.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(20*time.Millisecond))
		x.listener = l
		post(x, "["+eventNow("platform.start", "a")+"]") // its report never arrives
		took := elapsed(func() {
			x.handleShutdown(t.Context(), lambdaapi.Event{Deadline: time.Now().Add(90 * time.Millisecond), ShutdownReason: spindown})
		})
		if stats := x.dispatcher.Stats(); took > 90*time.Millisecond || stats.Buffered > 0 || stats.Sent != 2 {
			t.Errorf("ended after %s, %+v", took, stats)
		}
	})
}

// A silent connection does not use up the time of the last flush.
func TestSilentConnectionDoesNotDelayShutdown(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context())
	f.awaitNext()
	f.post(eventNow("function", ""))
	connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", f.port))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := f.shutdown("spindown", 4*time.Second); err != nil { // the HTTP server would wait 5 s for the connection
		t.Error(err)
	}
	if got := f.deliveredTypes(); len(got) != 2 {
		t.Errorf("delivered %q", got)
	}
}
