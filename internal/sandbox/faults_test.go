//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each fault of APIFaults, TelemetryFaults and Extension has its effect, and no other.
func TestFaults(t *testing.T) {
	t.Parallel()
	t.Run("register and next answer 5xx, runtimeDone is duplicated", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll}, plan{})
		cfg.API = APIFaults{Extension: "x0", Register: StatusFault{503, 2}, Next: StatusFault{500, 3}}
		cfg.Telemetry.DuplicateRuntimeDone = true
		e := start(t, cfg)
		if r := invoke(t, e, task{}); r.Status != "success" {
			t.Errorf("%+v", r)
		}
		shutdown(t, e)
		statuses := map[int]int{}
		for _, m := range slices.Concat(c.ofKind("register"), c.ofKind("event")) {
			if m.Name == "x0" {
				statuses[m.Status]++
			} else if m.Status != 200 {
				t.Errorf("%s: %s got %d", m.Name, m.Kind, m.Status)
			}
		}
		if statuses[503] != 2 || statuses[500] != 3 {
			t.Errorf("%v", statuses)
		}
		if n := len(ofType(c.checkDelivered("x0"), "platform.runtimeDone")); n != 2 {
			t.Errorf("%d runtimeDone", n)
		}
	})
	for _, status := range []int{202, 403, 404, 500} {
		t.Run(fmt.Sprint("subscription answered ", status), func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
			cfg.API.Subscribe = StatusFault{status, -1}
			e := start(t, cfg)
			invoke(t, e, task{Lines: 3})
			shutdown(t, e)
			if m := c.ofKind("subscribe"); m[0].Status != status || len(c.ofKind("post")) != 0 || len(c.emitted) != 0 {
				t.Errorf("%d %s, %d posts, %d emitted", m[0].Status, m[0].Body, len(c.ofKind("post")), len(c.emitted))
			}
		})
	}
	t.Run("one runtimeDone is lost, with platform.logsDropped", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
		var calls []string
		cfg.Telemetry.EmitLogsDropped = true
		cfg.Telemetry.Lose = func(typ string, invocation int) bool {
			calls = append(calls, fmt.Sprint(typ, " ", invocation))
			return typ == "platform.runtimeDone" && invocation == 2
		}
		e := start(t, cfg)
		for n, o := range []task{{}, {Exit: 3}, {}, {}} { // the second ends a generation; the third starts one with a suppressed init
			invoke(t, e, o, WithRequestID(fmt.Sprint(n)))
		}
		shutdown(t, e)
		got := c.checkDelivered("x0")
		var ends []any
		for _, done := range ofType(got, "platform.runtimeDone") {
			ends = append(ends, done.field(t, "requestId"))
		}
		if dropped := ofType(got, "platform.logsDropped"); len(dropped) != 1 || !slices.Equal(ends, []any{"0", "1", "3"}) {
			t.Errorf("ends of %q, %q", ends, dropped)
		}
		for _, call := range []string{
			"platform.initStart -1", "platform.start 0", "platform.report 1", "platform.initStart 2", "platform.report 3",
		} {
			if !slices.Contains(calls, call) {
				t.Errorf("Lose was not called for %s: %q", call, calls)
			}
		}
	})
	t.Run("all events are lost", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "printed"})
		cfg.Telemetry.Lose = func(string, int) bool { return true }
		e := start(t, cfg)
		invoke(t, e, task{Lines: 3})
		shutdown(t, e)
		subscribed := c.await("subscription", func(m message) bool { return m.Kind == "subscribe" })
		c.readers.Wait()
		if subscribed.Status != 200 || len(c.ofKind("post")) != 0 || len(c.emitted) != 0 {
			t.Errorf("subscribed with %d, %d posts, %d emitted", subscribed.Status, len(c.ofKind("post")), len(c.emitted))
		}
	})
	t.Run("output is blocked", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "reader"}, plan{}, plan{Print: "blocked"})
		cfg.Extensions[1].BlockOutput, cfg.Extensions[2].BlockOutput = true, true
		cfg.ShutdownTimeout = 5 * time.Second
		e := start(t, cfg)
		e.cfg.Function.Timeout = 5 * time.Second
		if r := invoke(t, e, task{}); r.Status != "timeout" || !strings.Contains(r.Error, "x2 did not ask") {
			t.Errorf("%+v", r)
		}
		shutdown(t, e)
		for _, p := range e.Processes() { // an extension that prints nothing goes on; a blocked one can be killed
			if p.Kind == ExtensionProcess && p.Killed != (p.Name == "x2") {
				t.Errorf("%+v", p)
			}
		}
		lines := ofType(c.checkDelivered("x0"), "extension")
		if len(lines) != 1 || lines[0].field(t) != "reader" {
			t.Errorf("%q", lines)
		}
	})
	t.Run("runtimeDone is late", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		// Without INVOKE the report does not wait for the extension: it comes before runtimeDone even if the extension is slow.
		cfg := testConfig(t, c, "", plan{Events: []string{eventShutdown}, Subscribe: subscribeAll})
		cfg.Telemetry.RuntimeDoneDelay, cfg.NoFreeze = 3*time.Second, true
		e := start(t, cfg)
		invoke(t, e, task{})
		c.await("runtimeDone", func(m message) bool { return strings.Contains(string(m.Body), `"platform.runtimeDone"`) })
		shutdown(t, e)
		if types := typesOf(c.checkDelivered("x0")); slices.Index(types, "platform.report") > slices.Index(types, "platform.runtimeDone") {
			t.Errorf("%q", types)
		}
	})
	t.Run("runtimeDone is lost, bodies are injected, batches are refused", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Answers: []int{500, 404, 200}})
		cfg.Telemetry.Lose = func(typ string, _ int) bool { return typ == "platform.runtimeDone" }
		e := start(t, cfg)
		invoke(t, e, task{})
		e.Thaw()
		c.await("POST answered with 200", func(m message) bool { return m.Kind == "post" && m.Status == 200 })
		posts := c.ofKind("post")
		if string(posts[0].Body) != string(posts[1].Body) || string(posts[0].Body) != string(posts[2].Body) {
			t.Error("a refused batch must be sent again unchanged")
		}
		status, took, err := e.Inject("x0", []byte("not JSON"))
		if status != 200 || took <= 0 || err != nil {
			t.Errorf("Inject: %d %v %v", status, took, err)
		}
		c.await("injected body", func(m message) bool { return string(m.Body) == "not JSON" })
		if _, _, err := e.Inject("nobody", nil); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("%v", err)
		}
		shutdown(t, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ev := range c.emitted["x0"] {
			if ev.Type == "platform.runtimeDone" {
				t.Error("runtimeDone was not lost")
			}
		}
	})
}
