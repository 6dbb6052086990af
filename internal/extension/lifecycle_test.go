package extension

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
)

const (
	registerBoth     = `register {"events":["INVOKE","SHUTDOWN"]}`
	registerShutdown = `register {"events":["SHUTDOWN"]}`
	refused          = `403 {"errorType":"Extension.InvalidEventType"}`
)

// A whole life: register, subscribe, invocations, SHUTDOWN. What Lambda posts is on the stream, complete and in order.
func TestLife(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_TAGS=team=shop",
		"KINESIS_TELEMETRY_ON_ERROR=fail", "KINESIS_TELEMETRY_STREEM=x")
	f.awaitNext()
	f.waitFor("the connection is made in init", func() bool { return f.stream.Stats().Operations[""].Requests == 1 })
	f.post(eventNow("platform.initStart", ""))
	want := []string{"platform.initStart"}
	for _, id := range []string{"a", "b"} {
		f.post(eventNow("platform.start", id), eventNow("function", "")) // ahead of INVOKE: where it is late, nothing is waited for
		f.invoke(id)
		f.post(eventNow("platform.runtimeDone", id), eventNow("platform.fault", id))
		f.awaitNext()
		want = append(want, "platform.start "+id, "function "+id, "platform.runtimeDone "+id, "platform.fault "+id)
		f.expect("delivered at the end of invocation "+id, f.deliveredTypes(), want...)
		f.post(eventNow("platform.report", id))
		want = append(want, "platform.report "+id)
	}
	f.spindown()
	f.expect("delivered in all", f.deliveredTypes(), append(want, "kinesis-telemetry.stats")...)
	for i, l := range f.delivered() {
		source := strings.Join([]string{l.Source.Function, l.Source.Version, l.Source.Account, l.Source.Region, l.Source.Tags["team"]}, " ")
		if l.Seq != uint64(i) || source != "f 7 123456789012 eu-west-1 shop" {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", f.port)); err == nil {
		connection.Close()
		t.Error("the listener takes telemetry that nobody will deliver")
	}
	f.mu.Lock()
	subscribe := fmt.Sprintf(`telemetry {"schemaVersion":"2025-01-29","types":["platform","function"],`+
		`"buffering":{"maxItems":10000,"maxBytes":1048576,"timeoutMs":25},`+
		`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d"}}`, f.port)
	f.mu.Unlock()
	f.expect("called", f.apiCalls(), registerBoth, subscribe, "next", "next", "next")
	said := []string{"WARN KINESIS_TELEMETRY_STREEM has no effect: there is no such setting", "INFO summary: received 12, sent 12, dropped 0"}
	if got := f.logLines(); !slices.EqualFunc(got, said, strings.HasPrefix) {
		t.Errorf("said %q", got)
	}
}

// The platform's events are subscribed to in any case, since they tell where an invocation ends. Only what the user has
// selected is delivered, and types that AWS will add.
func TestSelection(t *testing.T) {
	t.Parallel()
	for events, test := range map[string]struct {
		types string
		want  []string
	}{
		"function":           {`["platform","function"]`, []string{"function a", "new.type a"}},
		"platform":           {`["platform"]`, []string{"platform.start a", "platform.runtimeDone a", "new.type a"}},
		"extension,function": {`["platform","extension","function"]`, []string{"function a", "extension a", "new.type a"}},
		"function,platform":  {`["function","platform"]`, []string{"platform.start a", "function a", "platform.runtimeDone a", "new.type a"}},
	} {
		f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_EVENTS="+events, "KINESIS_TELEMETRY_DELIVERY=sync")
		f.awaitNext()
		f.post(eventNow("platform.start", "a"), eventNow("function", ""))
		f.invoke("a")
		f.post(eventNow("extension", ""), eventNow("platform.runtimeDone", "a"), eventNow("new.type", "a"))
		f.awaitNext()
		if got := f.deliveredTypes(); !slices.Equal(got, test.want) || !strings.Contains(f.apiCalls()[1], `"types":`+test.types) {
			t.Errorf("%s: delivered %q, want %q; %s", events, got, test.want, f.apiCalls()[1])
		}
		f.spindown()
	}
}

// Lambda starts the function's runtime when the extension has registered: it is tried until it succeeds, and said once.
func TestRegisterIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {"500 oops", "500 oops"}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerBoth, registerBoth)
	f.expect("said", f.logLines(), "ERROR cannot register with Lambda, retrying: register returned status 500: oops")
	f.spindown()
}

// Where even SHUTDOWN is refused as an event, the extension goes on asking for it: without it nothing would be delivered.
func TestRegisterForShutdownAtLeast(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {refused, refused}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerShutdown, registerShutdown)
	f.spindown()
}

// An extension that is ended while it cannot register says why.
func TestEndedBeforeItRegisters(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := newFakeLambda(t, map[string][]string{"register": slices.Repeat([]string{"500 oops"}, 1000)}).start(ctx)
	f.waitFor("a failure is said", func() bool { return len(f.logLines()) > 0 })
	cancel()
	if err := f.wait(); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "register") {
		t.Error(err)
	}
}

// An environment that refuses INVOKE runs Managed Instances: the extension registers for SHUTDOWN alone, ships while functions
// run, and guesses of no event which request it belongs to.
func TestManagedInstances(t *testing.T) {
	t.Parallel()
	const early = "8476a536-e9f4-11e8-9739-2dfe598c3fcd" // a line ahead of its platform.start
	for name, test := range map[string]struct {
		answers   map[string][]string
		variables []string
		want      []string
	}{
		"refused": {map[string][]string{"register": {refused}}, nil, []string{registerBoth, registerShutdown}},
		"named":   {nil, []string{"AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances"}, []string{registerShutdown}},
	} {
		f := newFakeLambda(t, test.answers).start(t.Context(), append(test.variables, "KINESIS_TELEMETRY_RECORD_BYTES=1024")...)
		f.awaitNext()
		long := strings.Replace(eventNow("function", ""), `"requestId":`, `"text":"`+strings.Repeat("x", 2000)+`","requestId":`, 1)
		f.post(eventNow("platform.start", "a"), long, eventNow("function", early), eventNow("function", "b"), eventNow("platform.start", early))
		f.waitFor("a full record is delivered", func() bool { return len(f.delivered()) == 5 })
		f.expect(name+": delivered", f.deliveredTypes(), "platform.start a", "function", "function "+early, "function", "platform.start "+early)
		if got := f.apiCalls(); !slices.Equal(got[:len(test.want)], test.want) || !strings.HasPrefix(got[len(test.want)], "telemetry") {
			t.Errorf("%s: called %q", name, got)
		}
		f.spindown()
	}
}

// A subscription that is refused is explained, and the extension lives on without telemetry; one that fails is tried four times.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answers []string
		calls   int
		said    string // the last line
	}{
		{
			[]string{`202 {"errorType":"Telemetry.NotSupported"}`},
			1,
			"202: Telemetry.NotSupported (this environment is an emulation without telemetry; `ktel run` has it)",
		},
		{[]string{"403 no"}, 1, "403: no (the environment's init phase is over, or another extension with this name is registered)"},
		{[]string{"404 no"}, 1, "404: no (this environment has no Telemetry API)"},
		{[]string{"400 no"}, 1, "400: no"},
		{[]string{"499 no"}, 1, "499: no"},
		{[]string{"500 no", "502 no", "503 no"}, 4, ""},
		{[]string{"500 no", "500 no", "500 no", "500 no", "500 no"}, 4, "500: no"},
		{[]string{"500 no", "403 no"}, 2, "403: no (the environment's init phase is over, or another extension with this name is registered)"},
	} {
		f := newFakeLambda(t, map[string][]string{"telemetry": test.answers}).start(t.Context())
		f.awaitNext()
		f.invoke("a")
		f.post(eventNow("platform.start", "a"), eventNow("platform.runtimeDone", "a"))
		f.awaitNext()
		f.spindown()
		calls := 0
		for _, call := range f.apiCalls() {
			if strings.HasPrefix(call, "telemetry") {
				calls++
			}
		}
		prefix, said := unaffected+"subscribe to telemetry: subscribe returned status ", f.logLines()
		if test.said == "" {
			prefix = "INFO summary: received 3, sent 3"
		}
		if calls != test.calls || len(said) != 1 || !strings.HasPrefix(said[0], prefix) || !strings.HasSuffix(said[0], test.said) {
			t.Errorf("%q: %d calls, said %q", test.answers, calls, said)
		}
	}
}

// silentAPI answers what is not in the list of its errors never, and heeds the context.
type silentAPI struct {
	lambdaAPI
	errors []error
}

func (a *silentAPI) call(ctx context.Context) error {
	if len(a.errors) > 0 {
		err := a.errors[0]
		a.errors = a.errors[1:]
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (a *silentAPI) Subscribe(ctx context.Context, _ int, _ lambdaapi.Buffering, _ ...lambdaapi.TelemetryType) error {
	return a.call(ctx)
}

func (a *silentAPI) InitError(ctx context.Context, _, _ string) error { return a.call(ctx) }

// A subscription that is never answered does not keep the extension from asking for the first event, and says why there is no
// telemetry; nor does the report of a mistake keep it from ending.
func TestCallsThatAreNeverAnswered(t *testing.T) {
	subscribe := func(ctx context.Context, x *Extension) error { return x.subscribe(ctx) }
	refuse := func(ctx context.Context, x *Extension) error {
		return x.failInit(ctx, []config.Mistake{{Variable: "X", Problem: "is not set", Expected: "y"}})
	}
	passing := &lambdaapi.StatusError{Call: "subscribe", Status: 503}
	const noAnswer = "subscribe to telemetry: no response within 5s"
	for name, test := range map[string]struct {
		errors []error
		call   func(context.Context, *Extension) error
		says   string
	}{
		"subscribe":             {nil, subscribe, noAnswer},
		"subscribe, behind 503": {[]error{passing, passing}, subscribe, noAnswer},
		"init/error":            {nil, refuse, "mistakes in the settings: X is not set: y\ninit/error: no response within 5s"},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			x := &Extension{api: &silentAPI{errors: test.errors}, listener: l}
			var err error
			took := elapsed(func() { err = test.call(t.Context(), x) })
			if took.Round(time.Second) != 5*time.Second || err == nil || err.Error() != test.says {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := test.call(ctx, x); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, ended by a signal: %v", name, err)
			}
		})
	}
}

// A next that fails is asked again after a pause, and each series of failures is said once. An event of an unknown type is said
// and costs nothing else.
func TestNext(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_DELIVERY=deferred")
	for _, answer := range []string{"500 no", "200 not JSON", "500 no", `200 {"eventType":"NEWS"}`, "500 no", "500 no"} {
		f.awaitNext()
		f.answer(answer)
	}
	f.awaitNext()
	f.invoke("a")
	f.awaitNext()
	f.post(eventNow("platform.start", "a"))
	f.spindown()
	said := f.logLines()
	again := "ERROR cannot get the next event from Lambda, retrying: next returned status 500: no"
	if want := []string{again, "WARN Lambda sent an event of an unknown type", again}; len(said) != 4 || !slices.Equal(said[:3], want) {
		t.Errorf("said %q", said)
	}
	f.expect("delivered", f.deliveredTypes(), "platform.start a", "kinesis-telemetry.stats")
}

// The pauses between tries double from 20 ms to a second, and end with the context.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		var pauses []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if !b.first() {
			t.Error("the first failure is not said")
		}
		for ctx.Err() == nil {
			pauses = append(pauses, elapsed(func() {
				if err := b.sleep(ctx); !errors.Is(err, ctx.Err()) {
					t.Error(err)
				}
			}).Round(time.Millisecond))
		}
		const ms = time.Millisecond
		want := []time.Duration{20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, time.Second, 740 * ms}
		if !slices.Equal(pauses, want) || b.first() {
			t.Errorf("%s, want %s", pauses, want)
		}
	})
}

const (
	unaffected = "ERROR no telemetry is delivered, the function is not affected: "
	neverMode  = `KINESIS_TELEMETRY_DELIVERY is "never": expected one of adaptive, sync, deferred`
)

// Mistakes in the settings, and ENABLED=false, leave an extension that waits for SHUTDOWN alone: no invocation waits for it.
func TestIdle(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string][]string{
		"KINESIS_TELEMETRY_DELIVERY=never": {unaffected + neverMode},
		"KINESIS_TELEMETRY_ENABLED=false":  nil,
	} {
		f := newFakeLambda(t, nil).start(t.Context(), variable)
		f.awaitNext()
		f.invoke("a") // of an environment that sends it all the same
		f.awaitNext()
		f.spindown()
		f.expect(variable+": called", f.apiCalls(), registerShutdown, "next", "next")
		f.expect(variable+": said", f.logLines(), want...)
	}
}

// ON_ERROR=fail makes the environment's init fail with the mistake's text, so that a deployment with it is seen at once.
func TestFail(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{"202 {}": "", "500 no": "\ninit/error returned status 500: no"} {
		l := newFakeLambda(t, map[string][]string{"error": {answer}})
		err := l.start(t.Context(), "KINESIS_TELEMETRY_DELIVERY=never", "KINESIS_TELEMETRY_ON_ERROR=fail").wait()
		const text = "mistakes in the settings: " + neverMode
		if err == nil || err.Error() != text+want {
			t.Errorf("%s: %v", answer, err)
		}
		l.expect("called", l.apiCalls(), registerShutdown, fmt.Sprintf(`error {"errorMessage":%q,"errorType":"Extension.InvalidSettings"}`, text))
	}
}

// Outside Lambda the program ends at once and says what it is.
func TestOutsideLambda(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newFakeLambda(t, nil).start(ctx, "AWS_LAMBDA_RUNTIME_API=")
	if err := f.wait(); err == nil || !strings.Contains(err.Error(), "AWS_LAMBDA_RUNTIME_API is not set") || len(f.apiCalls()) > 0 {
		t.Errorf("%v; called %q", err, f.apiCalls())
	}
}

// A stream in a partition that is not known is written to, and a line says so.
func TestStreamOfAnUnknownPartition(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_STREAM=arn:aws-new:kinesis:eu-west-1:123456789012:stream/telemetry-kinesis-stream")
	f.awaitNext()
	f.spindown()
	if said := f.logLines(); len(said) < 1 || !strings.HasPrefix(said[0], "WARN ") || !strings.Contains(said[0], `"aws-new"`) {
		t.Errorf("said %q", said)
	}
}

// A CA bundle that cannot be read costs the telemetry alone.
func TestNoStream(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "AWS_CA_BUNDLE=/nowhere/ca.pem")
	f.awaitNext()
	f.invoke("a")
	f.awaitNext()
	f.spindown()
	f.expect("said", f.logLines(), unaffected+"AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates (no such file or directory)")
	f.expect("called", f.apiCalls(), registerShutdown, "next", "next")
}

// An extension that is told to end by SIGTERM, or by its context, delivers what it has, and ends without an error.
func TestEndedBySignal(t *testing.T) { // not parallel: the signal reaches every life in this process
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
		if said := f.logLines(); len(said) != 1 || !strings.HasSuffix(said[0], "shutdown: signal") {
			t.Errorf("%s: said %q", name, said)
		}
		cancel()
	}
}

// Init ships before the first invocation what would not fit in the buffer; with SnapStart it ships nothing, since every
// environment of the snapshot would begin with that request.
func TestInitShips(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{"on-demand": 1, "snap-start": 0} {
		f := newFakeLambda(t, nil).start(t.Context(), "AWS_LAMBDA_INITIALIZATION_TYPE="+kind, "KINESIS_TELEMETRY_BUFFER_BYTES=1048576")
		f.awaitNext()
		f.post(`{"time":"t","type":"function","record":"` + strings.Repeat("x", 600_000) + `"}`)
		f.waitFor("it ships", func() bool { return len(f.delivered()) >= want })
		time.Sleep(50 * time.Millisecond) // where it must not ship: it would have by now, or this test notices nothing
		if got := len(f.delivered()); got != want {
			t.Errorf("%s: %d lines are delivered in init", kind, got)
		}
		f.spindown()
		if got := f.deliveredTypes(); len(got) != 2 {
			t.Errorf("%s: delivered %q", kind, got)
		}
	}
}

// What an earlier life has saved is delivered first.
func TestRecoversBeforeTheFirstInvocation(t *testing.T) {
	t.Parallel()
	dir := "KINESIS_TELEMETRY_SPILL_DIR=" + t.TempDir()
	l := newFakeLambda(t, nil)
	f := l.start(t.Context(), dir, "KINESIS_TELEMETRY_ENDPOINT_URL=http://127.0.0.1:1")
	f.awaitNext()
	f.post(eventNow("platform.fault", "a"))
	if err := f.shutdown("timeout", time.Second); err != nil {
		t.Error(err)
	}
	f = l.start(t.Context(), dir)
	f.awaitNext()
	f.post(eventNow("platform.fault", "b"))
	f.spindown()
	f.expect("delivered", f.deliveredTypes(), "platform.fault a", "kinesis-telemetry.stats", "platform.fault b", "kinesis-telemetry.stats")
}

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
func TestPanicInALife(t *testing.T) {
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
func TestPanicWhileTheEndIsAwaited(t *testing.T) {
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
func TestPanicAtTheStart(t *testing.T) {
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

// Where something hangs and heeds no context, the extension ends within Lambda's deadline all the same, and what heeds it ends a
// little earlier: 100 ms, or a quarter of the time that is left where that is less. No deadline is believed that is further than
// Lambda's two seconds. Where SHUTDOWN names no usable one it has a second and a half.
func TestEndWithinTheDeadline(t *testing.T) {
	const ms, day = time.Millisecond, 24 * time.Hour
	heedless := func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		time.Sleep(time.Minute)
		return acceptAll(ctx, records)
	}
	for name, test := range map[string]struct {
		left            time.Duration // 0: no deadline
		heeds, heedless time.Duration
	}{
		"in 2 s":         {2 * time.Second, 1900 * ms, 1950 * ms},
		"in 1.4 s":       {1400 * ms, 1300 * ms, 1350 * ms},
		"in 400 ms":      {400 * ms, 300 * ms, 350 * ms},
		"in 90 ms":       {90 * ms, 67500 * time.Microsecond, 78750 * time.Microsecond},
		"just over":      {-time.Second, 37500 * time.Microsecond, 43750 * time.Microsecond},
		"in 2.1 s":       {2100 * ms, 1900 * ms, 1950 * ms},
		"in a day":       {day, 1900 * ms, 1950 * ms},
		"in an age":      {math.MaxInt64, 1900 * ms, 1950 * ms},
		"none":           {0, 1500 * ms, 1550 * ms},
		"long over":      {-1001 * ms, 1500 * ms, 1550 * ms},
		"in other units": {-50 * 365 * day, 1500 * ms, 1550 * ms},
	} {
		for want, s := range map[time.Duration]fakeClient{test.heeds: neverAnswer, test.heedless: heedless} {
			l, took := idleListener(t), time.Duration(0)
			synctest.Test(t, func(t *testing.T) {
				x := newExtension(t, s)
				x.listener = l
				event := lambdaapi.Event{ShutdownReason: "spindown"}
				if test.left != 0 {
					event.Deadline = time.Now().Add(test.left)
				}
				took = elapsed(func() { x.handleShutdown(t.Context(), event) })
				time.Sleep(time.Hour)
			})
			if took != want {
				t.Errorf("a deadline %s: ended after %s, not %s", name, took, want)
			}
		}
	}
}

// In 90 ms there is time to ship what is buffered: the waits for late telemetry and for a silent connection leave most of it.
func TestLittleTimeForShutdown(t *testing.T) {
	l := idleListener(t)
	connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", l.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	synctest.Test(t, func(t *testing.T) {
		x := newExtension(t, acceptAfter(20*time.Millisecond))
		x.listener = l
		post(x, "["+eventNow("platform.start", "a")+"]") // its report never comes
		took := elapsed(func() {
			x.handleShutdown(t.Context(), lambdaapi.Event{Deadline: time.Now().Add(90 * time.Millisecond), ShutdownReason: "spindown"})
		})
		if stats := x.dispatcher.Stats(); took > 90*time.Millisecond || stats.Buffered > 0 || stats.Sent != 2 {
			t.Errorf("ended after %s, %+v", took, stats)
		}
	})
}

// A connection on which nothing comes does not take the time of the last flush.
func TestSilentConnectionAtShutdown(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context())
	f.awaitNext()
	f.post(eventNow("function", ""))
	connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", f.port))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := f.shutdown("spindown", 4*time.Second); err != nil { // the HTTP server would wait for it 5 s
		t.Error(err)
	}
	if got := f.deliveredTypes(); len(got) != 2 {
		t.Errorf("delivered %q", got)
	}
}

// GOGC and GOMEMLIMIT are the function's: the extension sets its own.
func TestRuntimeSettings(t *testing.T) { // not parallel: they are the process's
	limit, percent := debug.SetMemoryLimit(1<<40), debug.SetGCPercent(37)
	defer func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) }()
	f := newFakeLambda(t, nil).start(t.Context())
	f.awaitNext()
	cfg, _ := config.Load(lambdaEnviron)
	if got := debug.SetMemoryLimit(-1); got != cfg.MemoryLimit() {
		t.Errorf("a memory limit of %d, not %d", got, cfg.MemoryLimit())
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("a GC percentage of %d", got)
	}
	f.spindown()
}
