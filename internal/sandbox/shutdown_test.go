//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Shutdown stops the function and its extensions by the deadline and reports each extension that failed.
func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("extensions that hang, fail, or are not registered for SHUTDOWN", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "",
			plan{Shutdown: "hang"},
			plan{Shutdown: "fail"},
			plan{Events: []string{eventInvoke}, Subscribe: subscribeAll},
			plan{Subscribe: subscribeAll, ExitAfter: []string{`"platform.report"`, `"name":"x1","state":"ShutdownFailed"`}},
		)
		cfg.ShutdownTimeout, cfg.ReportDelay = 6*time.Second, 3*time.Second
		e := start(t, cfg)
		invoke(t, e, task{})
		begin := time.Now()
		err := e.Shutdown(t.Context())
		if took := time.Since(begin); took < 5900*time.Millisecond || took > 20*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		text := fmt.Sprint(err)
		if !strings.Contains(text, "x0 was killed") || !strings.Contains(text, "x1 ended with exit status 4") || strings.Contains(text, "x2") {
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
		var late []string // POSTs after SHUTDOWN
		var at time.Time
		for _, m := range c.ofKind("event") {
			if ev := parseEvent(m.Body); ev.EventType == eventShutdown && m.Name == "x3" {
				at = m.At
				if d := time.UnixMilli(ev.DeadlineMs).Sub(begin); d < 5900*time.Millisecond || d > 20*time.Second {
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
			t.Error("no platform.extension reports the failed shutdown of x1")
		}
	})
	t.Run("a function with a handler of SIGTERM", func(t *testing.T) {
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
			t.Errorf("no platform.extension of the internal extension: %q", got)
		}
	})
	t.Run("the caller's context ends first", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "ignore SIGTERM", plan{Shutdown: "hang"})
		cfg.ShutdownTimeout = time.Minute
		e := start(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := e.Shutdown(ctx)
		if p := e.Processes(); err == nil || !p[0].Killed || !p[1].Killed {
			t.Errorf("%v, %+v", err, p)
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
