//go:build unix

package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The ordinary way: init, two invocations with a freeze after each, shutdown; every event arrives in order and byte for byte.
func TestLifecycle(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "extension line"})
	e := start(t, cfg)
	first := invoke(t, e, task{Lines: 3, Text: `a "quoted" line`, Err: "to stderr"}, WithRequestID("first"), WithTrace("Root=1-2;Parent=00ff;Sampled=1"))
	if string(first.Payload) != `"first arn:aws:lambda:us-east-1:123456789012:function:fn"` || first.Status != "success" || first.FunctionError != "" {
		t.Errorf("first result: %+v %s", first, first.Payload)
	}
	if first.Init <= 0 || first.Billed < first.Duration+first.Init || first.Billed > first.Duration+first.Init+time.Millisecond || first.Response <= 0 || first.Duration < first.Response {
		t.Errorf("first times: %+v", first)
	}
	second := invoke(t, e, task{}, WithRequestID("second"))
	if second.Init != 0 || second.Billed < second.Duration || second.Billed >= second.Duration+time.Millisecond {
		t.Errorf("second times: %+v", second)
	}
	shutdown(t, e)
	events := c.checkDelivered("x0")
	if report := ofType(events, "platform.report")[0]; report.field(t, "metrics", "initDurationMs") != milliseconds(first.Init) ||
		report.field(t, "metrics", "billedDurationMs") != milliseconds(first.Billed) || report.field(t, "metrics", "memorySizeMB") != 256.0 {
		t.Errorf("report: %s", report.Raw)
	}
	var got []string
	for _, ev := range events {
		if ev.Type != "extension" { // printed by another process at its own pace
			got = append(got, ev.Type)
		}
	}
	want := []string{
		"platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension", "platform.initReport",
		"platform.start", "function", "function", "function", "platform.runtimeDone", "platform.report",
		"function", // without newline: the freeze ends the line
		"platform.start", "platform.runtimeDone", "platform.report",
	}
	if len(got) > 2 && got[2] == want[1] { // the runtime and the extension are started side by side
		got[1], got[2] = got[2], got[1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%q, want\n%q", got, want)
	}
}

// As OpenTelemetry's collector: one process subscribes to platform events on one port and to everything on another, and needs
// both. A third request, for the first port, is no third subscription.
func TestSubscribeTwice(t *testing.T) {
	c := newCollector(t)
	platform := strings.Replace(subscribeAll, `"platform","function","extension"`, `"platform"`, 1)
	duplicate := strings.Replace(subscribeAll, "PORT", "FIRST", 1)
	e := start(t, testConfig(t, c, "", plan{Subscribe: platform, MoreSubscriptions: []string{subscribeAll, duplicate}}))
	invoke(t, e, task{Lines: 2, Text: "line"})
	shutdown(t, e)
	c.readers.Wait()
	var answers []string
	for _, m := range c.ofKind("subscribe") {
		answers = append(answers, fmt.Sprint(m.Status, string(m.Body)))
	}
	if want := []string{`200"OK"`, `200"OK"`, `200"AlreadySubcribed"`}; !slices.Equal(answers, want) {
		t.Errorf("%q, want %q", answers, want)
	}
	first, second := c.deliveredTo("x0", 0), c.deliveredTo("x0", 1)
	for _, events := range [][]wireEvent{first, second} {
		if len(ofType(events, "platform.runtimeDone")) != 1 || len(ofType(events, "platform.initStart")) != 1 ||
			len(ofType(events, "platform.telemetrySubscription")) != 2 {
			t.Errorf("%q", typesOf(events))
		}
	}
	if len(ofType(first, "function")) != 0 || len(ofType(second, "function")) != 2 || len(c.deliveredTo("x0", 2)) != 0 {
		t.Errorf("first %q, second %q", typesOf(first), typesOf(second))
	}
	if told := len(c.emitted["x0"]); told != len(first)+len(second) {
		t.Errorf("OnEvent told of %d events, %d and %d arrived", told, len(first), len(second))
	}
}

// A subscriber that never took a POST is named at the end, with the reason; one that took one is not.
func TestSubscriberThatNeverAccepts(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, NoListener: true}, plan{Subscribe: subscribeAll},
		plan{Subscribe: subscribeAll, Answers: slices.Repeat([]int{503}, 1000)})
	var output syncBuffer
	cfg.Output, cfg.NoFreeze = &output, true
	e := start(t, cfg)
	c.await("refusal by x2", func(m message) bool { return m.Kind == "post" && m.Status == 503 })
	invoke(t, e, task{})
	shutdown(t, e)
	text := output.String()
	for _, want := range []string{
		"[sandbox] extension x0 subscribed with http://sandbox.localdomain:", "/telemetry and never accepted a POST; attempts: ",
		"connection refused (nothing listens there:", "[sandbox] extension x2 subscribed", "the subscriber answered with status 503",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, "extension x1") {
		t.Errorf("%q blames x1", text)
	}
}

// syncBuffer is a buffer for one writer and one reader at a time.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(data)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
