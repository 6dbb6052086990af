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

// Lambda starts the function's runtime when the extension has registered: it is tried until it succeeds, and said once.
func TestRegisterRetries(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {"500 oops", "500 oops"}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerBoth, registerBoth)
	f.expect("said", f.logLines(), "ERROR cannot register with Lambda, retrying: register returned status 500: oops")
	f.spindown()
}

// Where even SHUTDOWN is refused as an event, the extension goes on asking for it: without it nothing would be delivered.
func TestRegisterRefusedForShutdown(t *testing.T) {
	t.Parallel()
	f := newFakeLambda(t, map[string][]string{"register": {refused, refused}}).start(t.Context())
	f.awaitNext()
	f.expect("called", f.apiCalls()[:3], registerBoth, registerShutdown, registerShutdown)
	f.spindown()
}

// An extension that is ended while it cannot register says why.
func TestCanceledBeforeRegistration(t *testing.T) {
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
func TestUnansweredCalls(t *testing.T) {
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
