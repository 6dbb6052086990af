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

// Like OpenTelemetry's collector, one process subscribes to platform events on one port and to all events on another. Both
// subscriptions deliver. A third request, for the first port, adds no subscription.
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
	if n := len(c.emitted["x0"]); n != len(first)+len(second) {
		t.Errorf("%d calls of OnEvent, %d and %d events arrived", n, len(first), len(second))
	}
}

// At the end, Output names each subscriber that never accepted a POST, with the reason, and no other.
func TestSubscriberThatNeverAccepts(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, NoListener: true}, plan{Subscribe: subscribeAll},
		plan{Subscribe: subscribeAll, Answers: slices.Repeat([]int{503}, 1000)})
	var output syncBuffer
	cfg.Output, cfg.NoFreeze = &output, true
	cfg.ShutdownTimeout = 4 * time.Second // the flush waits for a quarter of it: two subscribers never accept a POST
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
			t.Errorf("%q does not contain %q", text, want)
		}
	}
	if strings.Contains(text, "extension x1") {
		t.Errorf("%q names x1", text)
	}
}

// syncBuffer is a buffer for concurrent use.
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
