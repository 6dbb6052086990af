package extension

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

// A whole run: register, subscribe, invocations, SHUTDOWN. The stream has every event that Lambda posted, in order.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_DELIVERY=sync", "KINESIS_TELEMETRY_TAGS=team=shop",
		"KINESIS_TELEMETRY_ON_ERROR=fail", "KINESIS_TELEMETRY_STREEM=x")
	f.awaitNext()
	f.waitFor("the connection to the stream is opened in init", func() bool { return f.stream.Stats().Operations[""].Requests == 1 })
	f.post(eventNow("platform.initStart", ""))
	want := []string{"platform.initStart"}
	for _, id := range []string{"a", "b"} {
		f.post(eventNow("platform.start", id), eventNow("function", "")) // before INVOKE: if the start is late, there is no wait
		f.invoke(id)
		f.post(eventNow("platform.runtimeDone", id), eventNow("platform.fault", id))
		f.awaitNext()
		want = append(want, "platform.start "+id, "function "+id, "platform.runtimeDone "+id, "platform.fault "+id)
		f.expect("delivered at the end of invocation "+id, f.deliveredTypes(), want...)
		f.post(eventNow("platform.report", id))
		want = append(want, "platform.report "+id)
	}
	f.spindown()
	f.expect("delivered in total", f.deliveredTypes(), append(want, "kinesis-telemetry.stats")...)
	for i, l := range f.delivered() {
		source := strings.Join([]string{l.Source.Function, l.Source.Version, l.Source.Account, l.Source.Region, l.Source.Tags["team"]}, " ")
		if l.Seq != uint64(i) || source != "f 7 123456789012 eu-west-1 shop" {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if connection, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", f.port)); err == nil {
		connection.Close()
		t.Error("the listener accepts connections after the shutdown")
	}
	f.mu.Lock()
	subscribe := fmt.Sprintf(`telemetry {"schemaVersion":"2025-01-29","types":["platform","function"],`+
		`"buffering":{"maxItems":10000,"maxBytes":1048576,"timeoutMs":25},`+
		`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d"}}`, f.port)
	f.mu.Unlock()
	f.expect("called", f.apiCalls(), registerBoth, subscribe, "next", "next", "next")
	logged := []string{
		"WARN KINESIS_TELEMETRY_STREEM has no effect: there is no such setting",
		"INFO summary: received 12, sent 12, dropped 0",
	}
	if got := f.logLines(); !slices.EqualFunc(got, logged, strings.HasPrefix) {
		t.Errorf("logged %q, want prefixes %q", got, logged)
	}
}

// The extension always subscribes to platform events, because they report the end of an invocation. It only delivers the types that
// the user selected, and unknown types, which AWS may add.
func TestEventSelection(t *testing.T) {
	t.Parallel()
	for events, test := range map[string]struct {
		types string
		want  []string
	}{
		"function":           {`["platform","function"]`, []string{"function a", "new.type a"}},
		"platform":           {`["platform"]`, []string{"platform.start a", "platform.runtimeDone a", "new.type a"}},
		"extension,function": {`["platform","extension","function"]`, []string{"function a", "extension a", "new.type a"}},
		"function,platform": {
			`["function","platform"]`,
			[]string{"platform.start a", "function a", "platform.runtimeDone a", "new.type a"},
		},
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

// The extension retries next after a pause, and logs each series of failures once. It logs an event of an unknown type and ignores
// it.
func TestNextRetries(t *testing.T) {
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
	logged := f.logLines()
	retrying := "ERROR cannot get the next event from Lambda, retrying: next returned status 500: no"
	want := []string{retrying, "WARN Lambda sent an event of an unknown type", retrying}
	if len(logged) != 4 || !slices.Equal(logged[:3], want) {
		t.Errorf("logged %q", logged)
	}
	f.expect("delivered", f.deliveredTypes(), "platform.start a", "kinesis-telemetry.stats")
}

// The pauses between attempts double from 20 ms up to a second. A pause ends with the context.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		var pauses []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if !b.first() {
			t.Error("the first failure does not count as the first")
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

// With mistakes in the settings, or with ENABLED=false, the extension only registers for SHUTDOWN: no invocation waits for it.
func TestInactiveRegistersForShutdownOnly(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string][]string{
		"KINESIS_TELEMETRY_DELIVERY=never": {unaffected + neverMode},
		"KINESIS_TELEMETRY_ENABLED=false":  nil,
	} {
		f := newFakeLambda(t, nil).start(t.Context(), variable)
		f.awaitNext()
		f.invoke("a") // in case an environment sends it nevertheless
		f.awaitNext()
		f.spindown()
		f.expect(variable+": called", f.apiCalls(), registerShutdown, "next", "next")
		f.expect(variable+": logged", f.logLines(), want...)
	}
}

// With ON_ERROR=fail, a mistake in the settings fails the environment's init with the mistake's text, so that a deployment with a
// mistake is noticed immediately.
func TestOnErrorFail(t *testing.T) {
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

// Outside Lambda, the program ends immediately and logs that it is a Lambda extension.
func TestOutsideLambda(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newFakeLambda(t, nil).start(ctx, "AWS_LAMBDA_RUNTIME_API=")
	if err := f.wait(); err == nil || !strings.Contains(err.Error(), "AWS_LAMBDA_RUNTIME_API is not set") || len(f.apiCalls()) > 0 {
		t.Errorf("%v; called %q", err, f.apiCalls())
	}
}

// The extension ships to a stream in an unknown partition, and logs a warning.
func TestUnknownPartition(t *testing.T) {
	t.Parallel()
	const stream = "arn:aws-new:kinesis:eu-west-1:123456789012:stream/telemetry-kinesis-stream"
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_STREAM="+stream)
	f.awaitNext()
	f.spindown()
	if logged := f.logLines(); len(logged) < 1 || !strings.HasPrefix(logged[0], "WARN ") || !strings.Contains(logged[0], `"aws-new"`) {
		t.Errorf("logged %q", logged)
	}
}

// A CA bundle that cannot be read only costs telemetry.
func TestUnreadableCABundleCostsOnlyTelemetry(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "AWS_CA_BUNDLE=/nowhere/ca.pem")
	f.awaitNext()
	f.invoke("a")
	f.awaitNext()
	f.spindown()
	f.expect("logged", f.logLines(),
		unaffected+"AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates (no such file or directory)")
	f.expect("called", f.apiCalls(), registerShutdown, "next", "next")
}

// In init, the extension ships events that would overflow the buffer. With SnapStart it ships nothing in init, because every
// environment that is restored from the snapshot would start with that request.
func TestShipsInInit(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]int{"on-demand": 1, "snap-start": 0} {
		f := newFakeLambda(t, nil).start(t.Context(), "AWS_LAMBDA_INITIALIZATION_TYPE="+kind, "KINESIS_TELEMETRY_BUFFER_BYTES=1048576")
		f.awaitNext()
		f.post(`{"time":"t","type":"function","record":"` + strings.Repeat("x", 600_000) + `"}`)
		f.waitFor("the event is shipped", func() bool { return len(f.delivered()) >= want })
		time.Sleep(50 * time.Millisecond) // time for a request that must not happen
		if got := len(f.delivered()); got != want {
			t.Errorf("%s: %d lines are delivered in init", kind, got)
		}
		f.spindown()
		if got := f.deliveredTypes(); len(got) != 2 {
			t.Errorf("%s: delivered %q", kind, got)
		}
	}
}

// The extension delivers the events of the previous run first.
func TestRecoveryBeforeFirstInvocation(t *testing.T) {
	t.Parallel()
	dir := "KINESIS_TELEMETRY_SPILL_DIR=" + t.TempDir()
	l := newFakeLambda(t, nil)
	l.stream.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{{ErrorType: "AccessDeniedException"}}})
	f := l.start(t.Context(), dir)
	f.awaitNext()
	f.post(eventNow("platform.fault", "a"))
	if err := f.shutdown("timeout", testShutdown); err != nil {
		t.Error(err)
	}
	l.stream.SetFaults(nil)
	f = l.start(t.Context(), dir)
	f.awaitNext()
	f.post(eventNow("platform.fault", "b"))
	f.spindown()
	f.expect("delivered", f.deliveredTypes(), "platform.fault a", "kinesis-telemetry.stats", "platform.fault b", "kinesis-telemetry.stats")
}

// The extension sets its own garbage collection percentage and memory limit, because GOGC and GOMEMLIMIT are the function's.
func TestRuntimeSettings(t *testing.T) { // not parallel: the settings belong to the process
	limit, percent := debug.SetMemoryLimit(1<<40), debug.SetGCPercent(37)
	defer func() { debug.SetMemoryLimit(limit); debug.SetGCPercent(percent) }()
	f := newFakeLambda(t, nil).start(t.Context())
	f.awaitNext()
	cfg, _ := config.Load(lambdaEnviron)
	if got := debug.SetMemoryLimit(-1); got != cfg.MemoryLimit() {
		t.Errorf("memory limit %d, want %d", got, cfg.MemoryLimit())
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GC percentage %d", got)
	}
	f.spindown()
}
