//go:build unix

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A failed invocation has its status and error type in the result and in telemetry. The extensions get the reason in
// SHUTDOWN if it resets the environment, and the next invocation then succeeds after a suppressed init.
func TestFailedInvocations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		task          task
		id            string        // default "id"; x-… makes the second extension fail
		timeout       time.Duration // of the failing invocation
		status        string
		errType       string
		payload       string // a part of it
		functionError string
		reason        string // of SHUTDOWN, "" for no reset
	}{
		{
			name:          "function error",
			task:          task{Fail: "wrong"},
			status:        "error",
			errType:       "Function.Unknown",
			payload:       `"errorMessage":"wrong"`,
			functionError: "Unhandled",
		},
		{
			name:          "panic",
			task:          task{Panic: true},
			status:        "error",
			errType:       "Function.Unknown",
			payload:       `"errorMessage":"requested"`,
			functionError: "Unhandled",
			reason:        "failure",
		},
		{
			name:          "exit",
			task:          task{Exit: 3},
			status:        "error",
			errType:       "Runtime.ExitError",
			payload:       "exit status 3",
			functionError: "Unhandled",
			reason:        "failure",
		},
		{
			name:          "timeout",
			task:          task{Sleep: 60_000, Text: "working\n"},
			timeout:       time.Second,
			status:        "timeout",
			errType:       "Sandbox.Timedout",
			payload:       "Task timed out after 1.00 seconds",
			functionError: "Unhandled",
			reason:        "timeout",
		},
		{
			name:    "extension exits 0",
			id:      "x-exit",
			status:  "error",
			errType: "Extension.Crash",
			reason:  "failure",
		},
		{
			name:    "extension reports an error",
			id:      "x-error",
			status:  "error",
			errType: "Extension.Broken",
			reason:  "failure",
		},
		{
			name:    "extension hangs",
			id:      "x-hang",
			timeout: 5 * time.Second, // the function must respond in time
			status:  "timeout",
			errType: "Sandbox.Timedout",
			reason:  "timeout",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.id == "" {
				tc.id = "id"
			}
			c := newCollector(t)
			subscriber := plan{Subscribe: subscribeAll}
			cfg := testConfig(t, c, "", subscriber, subscriber)
			cfg.ShutdownTimeout = 5 * time.Second // x-hang takes all of it

			if strings.HasPrefix(tc.id, "x-") { // only the second extension gets INVOKE and fails
				cfg.Extensions[0].Args[1] = strings.Replace(cfg.Extensions[0].Args[1], `["INVOKE","SHUTDOWN"]`, `["SHUTDOWN"]`, 1)
			}
			e := start(t, cfg)
			if tc.timeout != 0 {
				e.cfg.Function.Timeout = tc.timeout
			}
			r := invoke(t, e, tc.task, WithRequestID(tc.id))
			if r.Status != tc.status || r.ErrorType != tc.errType || !strings.Contains(string(r.Payload), tc.payload) || r.Error == "" {
				t.Errorf("result %+v %s", r, r.Payload)
			}
			if tc.functionError != "" && r.FunctionError != tc.functionError {
				t.Errorf("function error %q", r.FunctionError)
			}
			if tc.timeout != 0 && r.Duration != tc.timeout {
				t.Errorf("duration %v, want the timeout", r.Duration)
			}
			e.cfg.Function.Timeout = cfg.Function.Timeout // a suppressed init may take seconds on a loaded machine
			next := invoke(t, e, task{}, WithRequestID("next"))
			if next.Status != "success" {
				t.Errorf("next invocation: %+v", next)
			}
			shutdown(t, e)
			got := c.checkDelivered("x0")
			done := ofType(got, "platform.runtimeDone")
			if len(done) != 2 || done[0].field(t, "requestId") != tc.id {
				t.Fatalf("runtimeDone: %q", done)
			}
			status, errType := done[0].field(t, "status"), done[0].field(t, "errorType")
			switch {
			case tc.id == "x-hang":
				if status != "success" {
					t.Errorf("runtimeDone: %s", done[0].Raw)
				}
			case strings.HasPrefix(tc.id, "x-"): // the extension may fail before the function responds
			case status != tc.status || errType != tc.errType:
				t.Errorf("runtimeDone: %s", done[0].Raw)
			}
			if rep := ofType(got, "platform.report"); rep[0].field(t, "status") != tc.status || rep[0].field(t, "errorType") != tc.errType {
				t.Errorf("report: %s", rep[0].Raw)
			}
			var reasons []string
			for _, m := range c.ofKind("event") {
				if ev := parseEvent(m.Body); m.Name == "x0" && ev.EventType == eventShutdown {
					reasons = append(reasons, ev.ShutdownReason)
				}
			}
			starts := ofType(got, "platform.initStart")
			if tc.reason == "" {
				if !slices.Equal(reasons, []string{"spindown"}) || len(starts) != 1 {
					t.Errorf("SHUTDOWN reasons %q, %d inits", reasons, len(starts))
				}
				return
			}
			if !slices.Equal(reasons, []string{tc.reason, "spindown"}) || len(starts) != 2 || starts[1].field(t, "phase") != "invoke" {
				t.Errorf("SHUTDOWN reasons %q, inits %d", reasons, len(starts))
			}
			suppressed := ofType(got, "platform.initReport")[1]
			took := time.Duration(suppressed.field(t, "metrics", "durationMs").(float64) * 1e6)
			if next.Duration < took-time.Microsecond || next.Init != 0 {
				t.Errorf("the suppressed init %s is not in the duration %v", suppressed.Raw, next.Duration)
			}
			if p := e.Processes(); len(p) != 6 || p[0].Generation != 1 || p[5].Generation != 2 {
				t.Errorf("processes: %+v", p)
			}
		})
	}
}

// An invocation that is late, but within the grace, succeeds. INVOKE has the deadline without the grace.
func TestGraceAfterTheDeadline(t *testing.T) {
	c := newCollector(t)
	e := start(t, testConfig(t, c, "", plan{}))
	e.cfg.Function.Timeout, e.cfg.Function.Grace = 10*time.Millisecond, time.Minute
	before := time.Now()
	if r := invoke(t, e, task{Sleep: 50}); r.Status != statusSuccess {
		t.Errorf("%+v", r)
	}
	event := parseEvent(c.await("INVOKE", func(m message) bool { return parseEvent(m.Body).EventType == eventInvoke }).Body)
	if limit := time.Now().Add(-30 * time.Millisecond); event.DeadlineMs < before.UnixMilli() || event.DeadlineMs > limit.UnixMilli() {
		t.Errorf("INVOKE has the deadline %d, the invocation ran from %d to %d", event.DeadlineMs, before.UnixMilli(), limit.UnixMilli())
	}
}

// An invocation waits for the extensions that get INVOKE and for no others. Hold is how long.
func TestHoldDuration(t *testing.T) {
	c := newCollector(t)
	e := start(t, testConfig(t, c, "", plan{}, plan{Events: []string{eventShutdown}}))
	g, done := e.currentGeneration(), filepath.Join(t.TempDir(), "done")
	go func() { // the function goes on when the extension has called next again
		c.await("first INVOKE", func(m message) bool { return parseEvent(m.Body).RequestID == "first" })
		_ = g.await(t.Context(), func() bool { return g.registrations[0].waiting })
		_ = os.WriteFile(done, nil, 0o600)
	}()
	if r := invoke(t, e, task{Await: done}, WithRequestID("first")); r.Hold != 0 {
		t.Errorf("held for %v by extensions that were ready before the runtime", r.Hold)
	}
	go func() {
		c.await("second INVOKE", func(m message) bool { return parseEvent(m.Body).RequestID == "x-wait" })
		_ = g.await(t.Context(), func() bool { return g.current == nil }) // the function is done: the hold begins
		time.Sleep(150 * time.Millisecond)
		c.releaseExtensions()
	}()
	r := invoke(t, e, task{}, WithRequestID("x-wait"))
	if r.Hold < 150*time.Millisecond || r.Duration < r.Hold || r.Response > r.Duration-r.Hold {
		t.Errorf("%+v", r)
	}
	for _, m := range c.ofKind("event") {
		ev := parseEvent(m.Body)
		if ev.EventType != eventInvoke {
			continue
		}
		if m.Name != "x0" || ev.InvokedFunctionArn == "" || ev.Tracing == nil || ev.Tracing.Type != "X-Amzn-Trace-Id" ||
			ev.DeadlineMs < time.Now().UnixMilli() || m.Header.Get("Lambda-Extension-Event-Identifier") == "" {
			t.Errorf("INVOKE of %s: %s", m.Name, m.Body)
		}
	}
	shutdown(t, e)
}
