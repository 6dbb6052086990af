package extension

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/lambdaapi"
)

const (
	registerBoth     = `register {"events":["INVOKE","SHUTDOWN"]}`
	registerShutdown = `register {"events":["SHUTDOWN"]}`
	refused          = `403 {"errorType":"Extension.InvalidEventType"}`
)

// The extension retries register until it succeeds, because Lambda starts the runtime only after that. It logs the failure once.
func TestRegisterRetries(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {"500 oops", "500 oops"}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerBoth, registerBoth)
	f.expect("logged", f.logLines(), "ERROR cannot register with Lambda, retrying: register returned status 500: oops")
	f.spindown()
}

// If Lambda refuses SHUTDOWN as well, the extension keeps registering for it: without SHUTDOWN it would deliver nothing.
func TestRegisterRefusedForShutdown(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {refused, refused}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerShutdown, registerShutdown)
	f.spindown()
}

// An extension that is stopped while it cannot register returns an error that names the call.
func TestCanceledBeforeRegistration(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := newFakeLambda(t, map[string][]string{"register": slices.Repeat([]string{"500 oops"}, 1000)}).start(ctx)
	f.waitFor("the failure is logged", func() bool { return len(f.logLines()) > 0 })
	cancel()
	if err := f.wait(); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "register") {
		t.Error(err)
	}
}

// An environment that refuses INVOKE runs Managed Instances: the extension registers for SHUTDOWN only, ships while functions run,
// and does not guess the request of an event.
func TestManagedInstances(t *testing.T) {
	t.Parallel()
	const early = "8476a536-e9f4-11e8-9739-2dfe598c3fcd" // of a line that arrives before its platform.start
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

// If Lambda refuses the subscription, the extension logs the cause and runs on without telemetry. It tries a subscription that fails
// four times.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answers []string
		calls   int
		logged  string // the end of the only line; empty: the subscription succeeded
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
		prefix, logged := unaffected+"subscribe to telemetry: subscribe returned status ", f.logLines()
		if test.logged == "" {
			prefix = "INFO summary: received 3, sent 3"
		}
		if calls != test.calls || len(logged) != 1 || !strings.HasPrefix(logged[0], prefix) || !strings.HasSuffix(logged[0], test.logged) {
			t.Errorf("%q: %d calls, logged %q", test.answers, calls, logged)
		}
	}
}

// silentAPI returns its errors to the first calls, and blocks all later calls until their context is done.
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

// If Lambda never answers the subscription, the extension goes on without telemetry, with an error that names the cause. If Lambda
// never answers the report of a mistake, the extension still ends.
func TestUnansweredCallsTimeOut(t *testing.T) {
	subscribe := func(ctx context.Context, x *Extension) error { return x.subscribe(ctx) }
	failInit := func(ctx context.Context, x *Extension) error {
		return x.failInit(ctx, []config.Mistake{{Variable: "X", Problem: "is not set", Expected: "y"}})
	}
	transient := &lambdaapi.StatusError{Call: "subscribe", Status: 503}
	const noResponse = "subscribe to telemetry: no response within 5s"
	for name, test := range map[string]struct {
		errors []error
		call   func(context.Context, *Extension) error
		want   string
	}{
		"subscribe":            {nil, subscribe, noResponse},
		"subscribe, after 503": {[]error{transient, transient}, subscribe, noResponse},
		"init/error":           {nil, failInit, "mistakes in the settings: X is not set: y\ninit/error: no response within 5s"},
	} {
		l := idleListener(t)
		synctest.Test(t, func(t *testing.T) {
			x := &Extension{api: &silentAPI{errors: test.errors}, listener: l}
			var err error
			took := elapsed(func() { err = test.call(t.Context(), x) })
			if took.Round(time.Second) != 5*time.Second || err == nil || err.Error() != test.want {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := test.call(ctx, x); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, stopped by a signal: %v", name, err)
			}
		})
	}
}
