package extension

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
)

// A panic anywhere in the extension does not affect the function: the extension keeps calling next, logs the first panic, and shuts
// down in order. The parts that did not panic still deliver.
func TestPanicDoesNotAffectTheFunction(t *testing.T) {
	t.Parallel()
	const never, first, each, atShutdown = "", "the first Put", "each Put", "a Put at SHUTDOWN"
	for _, test := range []struct {
		name, mode, panics string // which calls of Put panic
		logPanics          bool   // the log panics in the listener
		delivered          bool
	}{
		{"in the background", "deferred", first, false, true},
		{"in the background and at SHUTDOWN", "deferred", each, false, false},
		{"at the end of an invocation", "sync", first, false, true},
		{"at the end of an invocation and at SHUTDOWN", "sync", each, false, false},
		{"only at SHUTDOWN", "deferred", atShutdown, false, false},
		{"in the listener", "deferred", never, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newFakeLambda(t, nil)
			var s recorder
			var puts atomic.Int32
			var inShutdown atomic.Bool
			if test.logPanics {
				l.panicPrefix = "Lambda posted telemetry that is not an event"
			}
			x := newExtensionWithLog(slog.New(logFunc(l.handleLog)), func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				n := puts.Add(1)
				if test.panics == first && n == 1 || test.panics == each || test.panics == atShutdown && inShutdown.Load() {
					panic("a bug")
				}
				return s.put(ctx, records)
			}, "KINESIS_TELEMETRY_DELIVERY="+test.mode)
			defer x.dispatcher.Close(false)
			f := x.startServing(l)
			f.awaitNext()
			for _, id := range []string{"a", "b", "c"} {
				f.post(eventNow("platform.start", id))
				f.invoke(id)
				if test.mode == "deferred" {
					f.awaitNext()
				}
				f.post(lateLine, "broken")
				if test.mode == "deferred" && test.panics != atShutdown {
					f.waitFor("there was a panic", x.panicked.Load)
				}
				f.post(eventNow("platform.runtimeDone", id))
				if test.mode == "sync" {
					f.awaitNext()
				}
			}
			inShutdown.Store(true)
			f.spindown()
			bugs := slices.DeleteFunc(f.logLines(), func(text string) bool { return !isBug(text) })
			if delivered := slices.Contains(s.types(), "kinesis-telemetry.stats"); len(bugs) != 1 || delivered != test.delivered {
				t.Errorf("logged %q; delivered %q", f.logLines(), s.types())
			}
		})
	}
}

// startServing runs the main loop of an extension that has started already.
func (x *Extension) startServing(l *fakeLambda) *process {
	x.api = lambdaapi.New(strings.TrimPrefix(l.api.URL, "http://"))
	ctx, cancel := context.WithCancel(l.Context())
	x.abandon = cancel
	var err error
	if x.listener, err = listener.Listen(x.config.MaxRecordBytes, x.receive, x.guard); err != nil {
		l.Fatal(err)
	}
	l.port = x.listener.Port()
	f := &process{fakeLambda: l, exit: make(chan error, 1)}
	go func() {
		_, err := x.api.Register(l.Context(), "x", lambdaapi.Invoke)
		x.serve(l.Context(), ctx)
		f.exit <- err
	}()
	return f
}

// A panic is also harmless if Run builds the extension, as in Lambda.
func TestPanicInRun(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"in the listener":   "Lambda posted telemetry that is not an event",
		"in the background": "telemetry is buffered",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newFakeLambda(t, nil)
			l.stream.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{{ErrorType: "AccessDeniedException"}}})
			l.panicPrefix = text
			f := l.start(t.Context(), "KINESIS_TELEMETRY_DELIVERY=deferred")
			f.awaitNext()
			f.invoke("a")
			f.awaitNext()
			f.post(lateLine, "broken")
			f.waitFor("the panic is logged", func() bool { return slices.ContainsFunc(f.logLines(), isBug) })
			f.invoke("b")
			f.awaitNext()
			f.spindown()
		})
	}
}

func isBug(text string) bool { return strings.Contains(text, "this is a bug in the extension") }

// A panic during the wait for the function's end releases the invocation.
func TestPanicWhileWaitingForEnd(t *testing.T) {
	t.Parallel()
	panics := func(context.Context, []kinesis.Record) kinesis.Result { panic("a bug") }
	x := newExtensionWithLog(slog.New(slog.DiscardHandler), panics,
		"KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_RECORD_BYTES=1024")
	defer x.dispatcher.Close(false)
	f := x.startServing(newFakeLambda(t, nil))
	f.awaitNext()
	f.post(eventNow("platform.start", "a"))
	f.invoke("a")
	f.post(`{"time":"t","type":"function","record":"` + strings.Repeat("x", 2000) + `"}`)
	f.awaitNext() // a minute before the invocation's deadline
	f.spindown()
}

// A panic in start only costs telemetry.
func TestPanicInStartCostsOnlyTelemetry(t *testing.T) {
	l := newFakeLambda(t, nil)
	cfg, mistakes := config.Load(lambdaEnviron)
	x := &Extension{config: cfg, log: slog.New(logFunc(l.handleLog)), invocations: newInvocations(), abandon: func() {}}
	x.start(t.Context(), lambdaapi.Registration{}) // panics, because there is no client of the APIs
	defer x.dispatcher.Close(false)
	defer x.listener.Shutdown(t.Context())
	x.handleShutdown(t.Context(), lambdaapi.Event{Type: lambdaapi.Shutdown})
	if logged := l.logLines(); len(mistakes) > 0 || x.subscribed || len(logged) != 1 || !isBug(logged[0]) {
		t.Errorf("%v; logged %q", mistakes, logged)
	}
}
