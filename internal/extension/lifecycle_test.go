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
)

// A whole life: register, subscribe, invocations, SHUTDOWN. What Lambda posts is on the stream, complete and in order.
func TestLifecycle(t *testing.T) {
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
func TestEventSelection(t *testing.T) {
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

// A next that fails is asked again after a pause, and each series of failures is said once. An event of an unknown type is said
// and costs nothing else.
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
func TestInactive(t *testing.T) {
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
func TestUnknownPartition(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "KINESIS_TELEMETRY_STREAM=arn:aws-new:kinesis:eu-west-1:123456789012:stream/telemetry-kinesis-stream")
	f.awaitNext()
	f.spindown()
	if said := f.logLines(); len(said) < 1 || !strings.HasPrefix(said[0], "WARN ") || !strings.Contains(said[0], `"aws-new"`) {
		t.Errorf("said %q", said)
	}
}

// A CA bundle that cannot be read costs the telemetry alone.
func TestUnreadableCABundle(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, nil).start(t.Context(), "AWS_CA_BUNDLE=/nowhere/ca.pem")
	f.awaitNext()
	f.invoke("a")
	f.awaitNext()
	f.spindown()
	f.expect("said", f.logLines(), unaffected+"AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates (no such file or directory)")
	f.expect("called", f.apiCalls(), registerShutdown, "next", "next")
}

// Init ships before the first invocation what would not fit in the buffer; with SnapStart it ships nothing, since every
// environment of the snapshot would begin with that request.
func TestShipsInInit(t *testing.T) {
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
func TestRecoveryBeforeFirstInvocation(t *testing.T) {
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
