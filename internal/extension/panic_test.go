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

// A panic of ours, wherever it is, leaves the function unharmed: Lambda is asked for the next event after each, it is said once,
// and the extension ends in order at SHUTDOWN. What is not broken is delivered even so.
func TestPanic(t *testing.T) {
	t.Parallel()
	const never, first, each, atShutdown = "", "the first Put", "each Put", "a Put at SHUTDOWN"
	for _, test := range []struct {
		name, mode, panics string
		logPanics          bool
		delivered          bool
	}{
		{"in the background", "deferred", first, false, true},
		{"in the background and at SHUTDOWN", "deferred", each, false, false},
		{"at the end of an invocation", "sync", first, false, true},
		{"at the end of an invocation and at SHUTDOWN", "sync", each, false, false},
		{"at SHUTDOWN alone", "deferred", atShutdown, false, false},
		{"in the listener", "deferred", never, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newFakeLambda(t, nil)
			var s recorder
			var puts, ending atomic.Int32
			if test.logPanics {
				l.panicPrefix = "Lambda posted telemetry that is not an event"
			}
			x := newExtensionWithLog(slog.New(logFunc(l.handleLog)), func(ctx context.Context, records []kinesis.Record) kinesis.Result {
				if n := puts.Add(1); test.panics == first && n == 1 || test.panics == each || test.panics == atShutdown && ending.Load() > 0 {
					panic("a mistake of ours")
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
			ending.Add(1)
			f.spindown()
			bugs := slices.DeleteFunc(f.logLines(), func(text string) bool { return !isBug(text) })
			if delivered := slices.Contains(s.types(), "kinesis-telemetry.stats"); len(bugs) != 1 || delivered != test.delivered {
				t.Errorf("said %q; delivered %q", f.logLines(), s.types())
			}
		})
	}
}

// startServing is a life of an extension that has begun.
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

// The same in a whole life, in which our own parts are made as they are in Lambda.
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
			f.waitFor("it is said", func() bool { return slices.ContainsFunc(f.logLines(), isBug) })
			f.invoke("b")
			f.awaitNext()
			f.spindown()
		})
	}
}

func isBug(text string) bool { return strings.Contains(text, "this is a bug in the extension") }

// An invocation that is being waited for is let go when the extension breaks.
func TestPanicWhileWaitingForEnd(t *testing.T) {
	t.Parallel()
	x := newExtensionWithLog(slog.New(slog.DiscardHandler), func(context.Context, []kinesis.Record) kinesis.Result { panic("a mistake of ours") },
		"KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_RECORD_BYTES=1024")
	defer x.dispatcher.Close(false)
	f := x.startServing(newFakeLambda(t, nil))
	f.awaitNext()
	f.post(eventNow("platform.start", "a"))
	f.invoke("a")
	f.post(`{"time":"t","type":"function","record":"` + strings.Repeat("x", 2000) + `"}`)
	f.awaitNext() // a minute before its deadline
	f.spindown()
}

// A panic while our parts are made costs the telemetry alone.
func TestPanicInStart(t *testing.T) {
	l := newFakeLambda(t, nil)
	cfg, mistakes := config.Load(lambdaEnviron)
	x := &Extension{config: cfg, log: slog.New(logFunc(l.handleLog)), invocations: newInvocations(), abandon: func() {}}
	x.start(t.Context(), lambdaapi.Registration{}) // there is no client of the APIs
	defer x.dispatcher.Close(false)
	defer x.listener.Shutdown(t.Context())
	x.handleShutdown(t.Context(), lambdaapi.Event{Type: lambdaapi.Shutdown})
	if said := l.logLines(); len(mistakes) > 0 || x.subscribed || len(said) != 1 || !isBug(said[0]) {
		t.Errorf("%v; said %q", mistakes, said)
	}
}
