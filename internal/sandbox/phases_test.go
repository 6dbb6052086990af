//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func parseEvent(raw []byte) (e struct {
	EventType, RequestID, ShutdownReason string
	DeadlineMs                           int64
	InvokedFunctionArn                   string
	Tracing                              *struct{ Type, Value string }
},
) {
	_ = json.Unmarshal(raw, &e)
	return e
}

// What ends an invocation badly: status and error type in the result and in telemetry, the reason that extensions get, and
// whether the environment is started anew by a suppressed init.
func TestFailedInvocations(t *testing.T) {
	for _, tc := range []struct {
		name      string
		order     task
		id        string
		timeout   time.Duration
		status    string
		errType   string
		payload   string
		functionE string
		reason    string // of SHUTDOWN, "" for no reset
	}{
		{"function error", task{Fail: "wrong"}, "id", 0, "error", "Function.Unknown", `"errorMessage":"wrong"`, "Unhandled", ""},
		{"panic", task{Panic: true}, "id", 0, "error", "Function.Unknown", `"errorMessage":"ordered"`, "Unhandled", "failure"},
		{"exit", task{Exit: 3}, "id", 0, "error", "Runtime.ExitError", "exit status 3", "Unhandled", "failure"},
		{"timeout", task{Sleep: 60_000, Text: "working\n"}, "id", 3 * time.Second, "timeout", "Sandbox.Timedout", "Task timed out after 3.00 seconds", "Unhandled", "timeout"},
		{"extension exits 0", task{}, "x-exit", 0, "error", "Extension.Crash", "", "", "failure"},
		{"extension reports an error", task{}, "x-error", 0, "error", "Extension.Broken", "", "", "failure"},
		{"extension hangs", task{}, "x-hang", 3 * time.Second, "timeout", "Sandbox.Timedout", "", "", "timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			watcher := plan{Subscribe: subscribeAll}
			cfg := testConfig(t, c, "", watcher, watcher)
			cfg.ShutdownTimeout = 2 * time.Second
			if tc.timeout != 0 {
				cfg.Function.Timeout = tc.timeout
			}
			if strings.HasPrefix(tc.id, "x-") { // only the second extension misbehaves
				cfg.Extensions[0].Args[1] = strings.Replace(cfg.Extensions[0].Args[1], `["INVOKE","SHUTDOWN"]`, `["SHUTDOWN"]`, 1)
			}
			e := start(t, cfg)
			r := invoke(t, e, tc.order, WithRequestID(tc.id))
			if r.Status != tc.status || r.ErrorType != tc.errType || !strings.Contains(string(r.Payload), tc.payload) || r.Error == "" {
				t.Errorf("result %+v %s", r, r.Payload)
			}
			if tc.functionE != "" && r.FunctionError != tc.functionE {
				t.Errorf("function error %q", r.FunctionError)
			}
			if tc.timeout != 0 && r.Duration != tc.timeout {
				t.Errorf("duration %v, want the timeout", r.Duration)
			}
			next := invoke(t, e, task{}, WithRequestID("next"))
			if next.Status != "success" {
				t.Errorf("next invocation: %+v", next)
			}
			shutdown(t, e)
			got := c.checkDelivered("x0")
			if done := ofType(got, "platform.runtimeDone"); len(done) != 2 || done[0].field(t, "requestId") != tc.id ||
				(tc.id == "x-hang" && done[0].field(t, "status") != "success") || // those that end may be faster than the function
				(!strings.HasPrefix(tc.id, "x-") && (done[0].field(t, "status") != tc.status || done[0].field(t, "errorType") != tc.errType)) {
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
			if inits := ofType(got, "platform.initReport"); next.Duration < time.Duration(inits[1].field(t, "metrics", "durationMs").(float64)*1e6)-time.Microsecond || next.Init != 0 {
				t.Errorf("the suppressed init %s is not in the duration %v", inits[1].Raw, next.Duration)
			}
			if p := e.Processes(); len(p) != 6 || p[0].Generation != 1 || p[5].Generation != 2 {
				t.Errorf("processes: %+v", p)
			}
		})
	}
}

func TestFailedInit(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "ext")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		mode   string
		plan   plan
		change func(*Config)
		typ    string
		texts  []string
	}{
		{name: "extension not executable", change: func(c *Config) { c.Extensions[0].Path = notExecutable }, typ: "Extension.LaunchError", texts: []string{"ext", "permission denied", "chmod"}},
		{name: "extension not there", change: func(c *Config) { c.Extensions[0].Path = "/nowhere/ext" }, typ: "Extension.LaunchError", texts: []string{"/nowhere/ext", "no such file"}},
		{name: "function not there", change: func(c *Config) { c.Function.Command[0] = "./bootstrap" }, typ: "Runtime.InvalidEntrypoint", texts: []string{"bootstrap"}},
		{name: "function exits", mode: "exit", typ: "Runtime.ExitError", texts: []string{"exit status 7", "cannot find my settings"}},
		{name: "extension exits", plan: plan{Exit: 3}, typ: "Extension.Crash", texts: []string{"x0", "exit status 3"}},
		{name: "extension reports an error", plan: plan{InitError: "Extension.ConfigInvalid"}, typ: "Extension.ConfigInvalid", texts: []string{"no stream"}},
		{name: "odd error type", plan: plan{InitError: "bad config!"}, typ: "Extension.InitError"},
		{name: "wrong name", plan: plan{Name: "other", Events: []string{}}, typ: "Sandbox.Timedout", change: func(c *Config) { c.InitTimeout = time.Second }, texts: []string{"x0 never registered", `"other"`, "file name"}},
		{name: "wrong name and exit", plan: plan{Name: "other", ExitIfRefused: 2}, typ: "Extension.Crash", texts: []string{
			"exit status 2", `"other"`, "file name", "it printed:\n\tno luck",
		}},
		{name: "many words", plan: plan{Exit: 3, PrintLines: 20}, typ: "Extension.Crash", texts: []string{
			"first and last lines:\n\tword 0\n\tword 1\n\tword 2\n\tword 3\n\t… 8 more lines\n\tword 12\n", "\n\tword 19",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			cfg := testConfig(t, c, tc.mode, tc.plan)
			cfg.ShutdownTimeout = 300 * time.Millisecond
			if tc.change != nil {
				tc.change(&cfg)
			}
			e, err := Start(t.Context(), cfg)
			var initErr *InitError
			if !errors.As(err, &initErr) || initErr.Type != tc.typ || e != nil {
				t.Fatalf("got %v, %v", e, err)
			}
			for _, text := range tc.texts {
				if !strings.Contains(initErr.Message, text) {
					t.Errorf("%q does not say %q", initErr.Message, text)
				}
			}
		})
	}
	t.Run("mistakes in Config", func(t *testing.T) {
		_, err := Start(t.Context(), Config{InitType: "x", Extensions: slices.Repeat([]Extension{{Path: "a"}}, 11)})
		for _, text := range []string{"Command", "InitType", `named "a"`, "11 extensions"} {
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), text) {
				t.Errorf("%v does not say %q", err, text)
			}
		}
	})
}

// Lambda tries a failed init again in the first invocation.
func TestRetryInit(t *testing.T) {
	c := newCollector(t)
	subscribed := filepath.Join(t.TempDir(), "subscribed")
	cfg := testConfig(t, c, "once", plan{Subscribe: subscribeAll, MarkerFile: subscribed})
	cfg.RetryInit = true
	cfg.Function.Env["MARKER"], cfg.Function.Env["SUBSCRIBED"] = filepath.Join(t.TempDir(), "marker"), subscribed
	e := start(t, cfg)
	if r := invoke(t, e, task{}); r.Status != "success" || r.Init != 0 {
		t.Errorf("%+v", r)
	}
	shutdown(t, e)
	reports := ofType(c.checkDelivered("x0"), "platform.initReport")
	if len(reports) != 2 || reports[0].field(t, "status") != "error" || reports[0].field(t, "errorType") != "Runtime.ExitError" ||
		reports[1].field(t, "status") != "success" || reports[1].field(t, "phase") != "invoke" {
		t.Errorf("%q", reports)
	}
}

func TestShutdown(t *testing.T) {
	t.Run("hanging, failing and uninterested extensions", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Shutdown: "hang"}, plan{Shutdown: "fail"}, plan{Events: []string{eventInvoke}, Subscribe: subscribeAll}, plan{Subscribe: subscribeAll, Shutdown: "report"})
		cfg.ShutdownTimeout, cfg.ReportDelay = time.Second, 200*time.Millisecond
		e := start(t, cfg)
		invoke(t, e, task{})
		begin := time.Now()
		err := e.Shutdown(t.Context())
		if took := time.Since(begin); took < 900*time.Millisecond || took > 10*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if err == nil || !strings.Contains(err.Error(), "x0 was killed") || !strings.Contains(err.Error(), "x1 ended with exit status 4") || strings.Contains(err.Error(), "x2") {
			t.Errorf("got %v", err)
		}
		for _, p := range e.Processes() {
			if killed := p.Name == "x0" || p.Name == "x2"; p.Killed != killed || !p.Exited || (killed && p.Signal != "killed") {
				t.Errorf("%+v", p)
			}
			if p.Kind == ExtensionProcess && (p.Register <= 0 || p.FirstNext < p.Register) || (onLinux && p.MaxRSS < 1<<20) {
				t.Errorf("%+v", p)
			}
		}
		var late []string // after SHUTDOWN was there
		var at time.Time
		for _, m := range c.ofKind("event") {
			if ev := parseEvent(m.Body); ev.EventType == eventShutdown && m.Name == "x3" {
				at = m.At
				if d := time.UnixMilli(ev.DeadlineMs).Sub(begin); d < 900*time.Millisecond || d > 10*time.Second {
					t.Errorf("deadline %v after the start", d)
				}
			}
		}
		for _, m := range c.ofKind("post") {
			if m.Name == "x3" && m.At.After(at) {
				late = append(late, string(m.Body))
			}
		}
		if all := strings.Join(late, " "); !strings.Contains(all, "platform.report") {
			t.Errorf("the late report did not arrive after SHUTDOWN: %q", late)
		}
		c.checkDelivered("x3")
		failed := slices.ContainsFunc(c.delivered("x3"), func(e wireEvent) bool {
			return e.Type == "platform.extension" && e.field(t, "name") == "x1" && e.field(t, "state") == "ShutdownFailed"
		})
		if !failed {
			t.Error("no platform.extension tells of the failed shutdown of x1")
		}
	})
	t.Run("SIGTERM for the function", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		e := start(t, testConfig(t, c, "sigterm", plan{Subscribe: subscribeAll}))
		invoke(t, e, task{})
		shutdown(t, e)
		got := c.checkDelivered("x0")
		if lines := ofType(got, "function"); len(lines) != 1 || lines[0].field(t) != "function got SIGTERM" {
			t.Errorf("%q", lines)
		}
		if i := slices.IndexFunc(got, func(e wireEvent) bool {
			return e.Type == "platform.extension" && e.field(t, "name") == "GoLangEnableSIGTERM" && e.field(t, "state") == "Ready"
		}); i < 0 {
			t.Errorf("internal extension unknown: %q", got)
		}
	})
	t.Run("with the caller's patience over", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Shutdown: "hang"})
		cfg.ShutdownTimeout = time.Minute
		e := start(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := e.Shutdown(ctx); err == nil || !e.Processes()[0].Killed {
			t.Errorf("%v, %+v", err, e.Processes())
		}
		if err := e.Shutdown(t.Context()); err != nil {
			t.Errorf("second shutdown: %v", err)
		}
		if _, err := e.Invoke(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("invoke after shutdown: %v", err)
		}
	})
	t.Run("during an invocation", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		e := start(t, testConfig(t, c, "", plan{Subscribe: subscribeAll}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			c.await("INVOKE", func(m message) bool { return parseEvent(m.Body).EventType == eventInvoke })
			cancel()
		}()
		r, err := e.Invoke(ctx, []byte(`{"Sleep":60000}`))
		if !errors.Is(err, context.Canceled) || r.Status != "failure" {
			t.Errorf("%v %+v", err, r)
		}
		shutdown(t, e)
		c.checkDelivered("x0")
	})
}

// Extensions that INVOKE is not for are not waited for; those it is for are, and Held says how long.
func TestHoldDuration(t *testing.T) {
	c := newCollector(t)
	e := start(t, testConfig(t, c, "", plan{}, plan{Events: []string{eventShutdown}}))
	if r := invoke(t, e, task{Sleep: 50}); r.Hold != 0 {
		t.Errorf("held by extensions that were earlier: %v", r.Hold)
	}
	go func() {
		c.await("second INVOKE", func(m message) bool { return parseEvent(m.Body).RequestID == "x-wait" })
		time.Sleep(150 * time.Millisecond) // the time that the extension holds the invocation
		c.releaseExtensions()
	}()
	r := invoke(t, e, task{}, WithRequestID("x-wait"))
	if r.Hold < 100*time.Millisecond || r.Duration < r.Hold || r.Response > r.Duration-r.Hold {
		t.Errorf("%+v", r)
	}
	for _, m := range c.ofKind("event") {
		if ev := parseEvent(m.Body); ev.EventType == eventInvoke && (m.Name != "x0" || ev.InvokedFunctionArn == "" || ev.Tracing == nil || ev.Tracing.Type != "X-Amzn-Trace-Id" ||
			ev.DeadlineMs < time.Now().UnixMilli() || m.Header.Get("Lambda-Extension-Event-Identifier") == "") {
			t.Errorf("INVOKE of %s: %s", m.Name, m.Body)
		}
	}
	shutdown(t, e)
}

func TestFreeze(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Answers: []int{0}})
	e := start(t, cfg) // frozen: the init events wait
	if onLinux {
		for _, p := range e.Processes() {
			if s := procState(t, p.PID); s != "T" {
				t.Errorf("%s is in state %s", p.Name, s)
			}
		}
	}
	e.Thaw()
	held := c.await("first POST", func(m message) bool { return m.Kind == "post" })
	e.Freeze() // while that POST is in flight
	c.releaseExtensions()
	r := invoke(t, e, task{Lines: 1, Text: "line"})
	if r.Status != "success" {
		t.Errorf("%+v", r)
	}
	shutdown(t, e)
	if posts := c.ofKind("post"); string(posts[0].Body) != string(held.Body) || strings.Contains(string(held.Body), "platform.start") {
		t.Errorf("first POST: %s", held.Body)
	}
	c.checkDelivered("x0")
}

func procState(t *testing.T, pid int) string {
	t.Helper()
	// The signal is sent; the kernel stops the threads within moments.
	for limit := time.Now().Add(5 * time.Second); ; {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		if rest[:1] == "T" || time.Now().After(limit) {
			return rest[:1]
		}
		time.Sleep(time.Millisecond)
	}
}
