//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDestination accepts batches on fake time.
type fakeDestination struct {
	httpDestination
	mu     sync.Mutex
	bodies []string
	at     []time.Time
	errs   []error       // of the first sends
	hold   chan struct{} // if set, send waits for it
}

func (d *fakeDestination) send(ctx context.Context, body []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies, d.at = append(d.bodies, string(body)), append(d.at, time.Now())
	if d.hold != nil {
		d.mu.Unlock()
		select {
		case <-d.hold:
		case <-ctx.Done():
		}
		d.mu.Lock()
	}
	if len(d.errs) > 0 {
		err := d.errs[0]
		d.errs = d.errs[1:]
		return err
	}
	return nil
}

func (d *fakeDestination) inject(context.Context, []byte) (int, error) { return 200, nil }

func (d *fakeDestination) close() {}

func (d *fakeDestination) posts() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.bodies)
}

// hubTest is a hub with one subscriber, named x, on fake time.
type hubTest struct {
	*hub
	dest *fakeDestination // of x
	exit func()           // ends x's process

	countMu sync.Mutex
	onEvent int
}

// emitted returns the number of calls of OnEvent.
func (h *hubTest) emitted() int {
	h.countMu.Lock()
	defer h.countMu.Unlock()
	return h.onEvent
}

// withHub runs test on fake time.
func withHub(t *testing.T, cfg Config, sub *subscription, test func(*testing.T, *hubTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &hubTest{dest: &fakeDestination{}}
		cfg.Function.Command = []string{"true"}
		cfg.OnEvent = func(string, Event) {
			h.countMu.Lock()
			defer h.countMu.Unlock()
			h.onEvent++
		}
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		h.hub = newHub(&cfg)
		h.dial = func(*subscription, *TelemetryFaults) destination { return h.dest }
		ctx, exit := context.WithCancel(t.Context())
		h.exit = exit
		if err := h.subscribe("x", sub, ctx); err != nil {
			t.Fatal(err)
		}
		test(t, h)
		h.close()
	})
}

// fullSubscription returns a subscription to all types of telemetry.
func fullSubscription() *subscription {
	return &subscription{
		schema: schema20250129, types: []category{categoryPlatform, categoryFunction, categoryExtension},
		items: 1000, bytes: 256 << 10, timeout: time.Second,
	}
}

// line returns one line of output.
func line(s string) [][]byte { return [][]byte{[]byte(s + "\n")} }

// A batch is sent when its first event is timeoutMs old, or when it has maxItems events or maxBytes bytes.
func TestBufferingByTimeItemsAndBytes(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hubTest) {
		begin := time.Now()
		h.lines(categoryFunction, line("one"))
		time.Sleep(900 * time.Millisecond)
		h.lines(categoryFunction, line("two")) // does not restart the timer
		time.Sleep(time.Second)
		synctest.Wait()
		if posts := h.dest.posts(); len(posts) != 1 || !strings.Contains(posts[0], `"one"`) || !strings.Contains(posts[0], `"two"`) {
			t.Fatalf("by time: %q", posts)
		}
		if took := h.dest.at[0].Sub(begin); took != time.Second {
			t.Errorf("by time: sent after %v", took)
		}
		if h.emitted() != 2 {
			t.Errorf("%d calls of OnEvent", h.emitted())
		}
		lines := slices.Repeat(line("x"), 1001)
		h.lines(categoryFunction, lines)
		synctest.Wait()
		if posts := h.dest.posts(); len(posts) != 2 || strings.Count(posts[1], `"type"`) != 1000 {
			t.Fatalf("by items: %d posts", len(posts))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if posts := h.dest.posts(); len(posts) != 3 || strings.Count(posts[2], `"type"`) != 1 {
			t.Fatalf("rest by time: %d posts", len(posts))
		}
		h.lines(categoryFunction, line(strings.Repeat("x", 256<<10-200)))
		h.lines(categoryFunction, line(strings.Repeat("y", 1000)))
		h.lines(categoryFunction, line("z"))
		synctest.Wait()
		if posts := h.dest.posts(); len(posts) != 4 || strings.Count(posts[3], `"type"`) != 2 {
			t.Fatalf("by bytes: %d posts", len(posts))
		}
	})
}

// Timers do not run while the environment is frozen, and nothing is sent.
func TestTimersStopWhileFrozen(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hubTest) {
		h.lines(categoryFunction, line("one"))
		time.Sleep(400 * time.Millisecond)
		h.freeze()
		h.platform("platform.report", nil) // late, while frozen
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(h.dest.posts()) != 0 || h.emitted() != 0 {
			t.Fatal("delivered while frozen")
		}
		thawed := time.Now()
		h.thaw()
		time.Sleep(time.Minute)
		if posts := h.dest.posts(); len(posts) != 1 || strings.Count(posts[0], `"type"`) != 2 {
			t.Fatalf("after the thaw: %q", posts)
		}
		if took := h.dest.at[0].Sub(thawed); took != 600*time.Millisecond {
			t.Errorf("sent %v after the thaw, want the remaining 600 ms", took)
		}
	})
}

// A refused batch is retried unchanged with backoff, later events wait, and OnEvent is called once for each event.
func TestRetryKeepsOrderAndReportsOnce(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hubTest) {
		h.dest.errs = []error{errors.New("refused"), errors.New("status 500"), nil}
		h.lines(categoryFunction, line("one"))
		time.Sleep(time.Second)
		synctest.Wait() // the first attempt has failed
		h.lines(categoryFunction, line("two"))
		time.Sleep(time.Minute)
		posts := h.dest.posts()
		if len(posts) != 4 || posts[0] != posts[1] || posts[1] != posts[2] || !strings.Contains(posts[3], `"two"`) {
			t.Fatalf("posts: %q", posts)
		}
		if first, second := h.dest.at[1].Sub(h.dest.at[0]), h.dest.at[2].Sub(h.dest.at[1]); first != firstBackoff || second != 2*firstBackoff {
			t.Errorf("backoff %v, %v", first, second)
		}
		if h.emitted() != 2 {
			t.Errorf("%d calls of OnEvent", h.emitted())
		}
	})
}

// A subscriber that is too slow loses events above the bound of its queue, and platform.logsDropped has their number.
func TestSlowSubscriberLosesEvents(t *testing.T) {
	withHub(t, Config{Telemetry: TelemetryFaults{QueueBytes: 1000}}, fullSubscription(), func(t *testing.T, h *hubTest) {
		h.dest.hold = make(chan struct{})
		h.lines(categoryFunction, line("one"))
		time.Sleep(time.Second)
		synctest.Wait() // its POST is in flight
		h.lines(categoryFunction, slices.Repeat(line(strings.Repeat("y", 100)), 50))
		close(h.dest.hold)
		time.Sleep(time.Minute)
		var dropped logsDroppedRecord
		arrived := 0
		for _, p := range h.dest.posts() {
			var events []struct {
				Type   string
				Record json.RawMessage
			}
			if err := json.Unmarshal([]byte(p), &events); err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Type == "function" {
					arrived++
				} else if err := json.Unmarshal(e.Record, &dropped); e.Type != "platform.logsDropped" || err != nil {
					t.Errorf("%s %s %v", e.Type, e.Record, err)
				}
			}
		}
		if arrived+dropped.DroppedRecords != 51 || dropped.DroppedRecords < 40 ||
			dropped.DroppedBytes != 102*dropped.DroppedRecords || dropped.Reason != telemetryDroppedReason {
			t.Errorf("%d arrived, dropped %+v", arrived, dropped)
		}
		if h.emitted() != 52 {
			t.Errorf("%d calls of OnEvent, want 51 lines and logsDropped", h.emitted())
		}
	})
}

// A lost event is not emitted, or platform.logsDropped is emitted in its place. Lose is called once for each other event.
func TestLostEvents(t *testing.T) {
	for name, emitDropped := range map[string]bool{"silently": false, "with platform.logsDropped": true} {
		t.Run(name, func(t *testing.T) {
			var calls []string
			lose := func(typ string, invocation int) bool {
				calls = append(calls, fmt.Sprint(typ, " ", invocation))
				return typ == "function" && invocation == 0 || typ == "platform.runtimeDone"
			}
			faults := TelemetryFaults{Lose: lose, EmitLogsDropped: emitDropped}
			withHub(t, Config{Telemetry: faults}, fullSubscription(), func(t *testing.T, h *hubTest) {
				h.lines(categoryFunction, line("one"))
				h.beginInvocation(0)
				h.lines(categoryFunction, line("two"))
				late := &fakeDestination{}
				h.dial = func(*subscription, *TelemetryFaults) destination { return late }
				if h.subscribe("late", fullSubscription(), t.Context()) != nil {
					t.Fatal("not subscribed")
				}
				h.beginInvocation(1)
				h.platformFor(0, "platform.runtimeDone", "late")
				h.platform("platform.extension", nil)
				h.flush(t.Context())
				dropped := fmt.Sprintf(`"type":"platform.logsDropped","record":{"reason":"%s","droppedRecords":1,"droppedBytes":`,
					telemetryDroppedReason)
				want := []string{
					`"type":"function","record":"one"`,
					dropped + "3}",
					dropped + "6}",
					`"type":"platform.extension","record":null`,
				}
				if !emitDropped {
					want = []string{want[0], want[3]}
				}
				for _, posts := range [][]string{h.dest.posts(), late.posts()} {
					events := strings.Split(strings.Join(posts, ""), `{"time":`)[1:]
					ok := len(posts) == 1 && len(events) == len(want)
					for i := range min(len(events), len(want)) {
						ok = ok && strings.Contains(events[i], want[i])
					}
					if !ok {
						t.Errorf("got %q, want %q", posts, want)
					}
				}
				if h.emitted() != 2*len(want) {
					t.Errorf("%d calls of OnEvent", h.emitted())
				}
			})
			if want := []string{"function -1", "function 0", "platform.runtimeDone 0", "platform.extension 1"}; !slices.Equal(calls, want) {
				t.Errorf("calls of Lose %q, want %q", calls, want)
			}
		})
	}
}

// A flush sends at once. OnEvent is called for the events that a timed-out flush did not deliver before SHUTDOWN, and
// not for events that the extension never accepted after SHUTDOWN or that came after its exit.
func TestOnEventAroundShutdown(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hubTest) {
		h.lines(categoryFunction, line("one"))
		h.flush(t.Context())
		if len(h.dest.posts()) != 1 || h.emitted() != 1 {
			t.Fatalf("flush: %d posts", len(h.dest.posts()))
		}
		h.dest.hold = make(chan struct{})
		h.lines(categoryFunction, line("not accepted in time"))
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		h.flush(short)
		cancel()
		if h.emitted() != 1 {
			t.Fatal("OnEvent was called too early")
		}
		h.subscribersOf("x")[0].markShutdownSent()
		if h.emitted() != 2 {
			t.Errorf("%d calls of OnEvent: an event counts if the flush before SHUTDOWN did not deliver it in time", h.emitted())
		}
		h.lines(categoryFunction, line("after SHUTDOWN, never accepted"))
		time.Sleep(time.Hour)
		h.exit()
		synctest.Wait()
		h.lines(categoryFunction, line("after the exit"))
		time.Sleep(time.Hour)
		if h.emitted() != 2 {
			t.Errorf("%d calls of OnEvent", h.emitted())
		}
	})
}

// A line's format depends on the schema and the log format. A later subscriber gets the same format. After init,
// subscriptions are refused.
func TestLineFormats(t *testing.T) {
	const object = ` {"message": "a", "n":1e3}`
	for _, c := range []struct {
		schema string
		format LogFormat
		line   string
		record string
	}{
		{schema20250129, Text, "plain", `"plain"`},
		{schema20250129, Text, object, `" {\"message\": \"a\", \"n\":1e3}"`},
		{schema20220701, JSON, object, `" {\"message\": \"a\", \"n\":1e3}"`},
		{schema20221213, JSON, object, object},
		{schema20250129, JSON, object, object},
		{schema20250129, JSON, "plain", `"plain"`},
		{schema20250129, JSON, `[1]`, `"[1]"`},
		{schema20250129, JSON, `{"a":1} x`, `"{\"a\":1} x"`},
		{schema20250129, JSON, `{"a":1` + "\r", `"{\"a\":1\r"`},
		{schema20250129, JSON, `{"a":1}` + "\r", `{"a":1}` + "\r"},
		{schema20250129, JSON, "{\"a\":\"\xff\"}", "{\"a\":\"\uFFFD\"}"},
		{schema20250129, Text, "", `""`},
		{schema20250129, Text, "\x00\x1f\t\"\\/<é\xff\u2028", `"\u0000\u001f\t\"\\/<é` + "\uFFFD\u2028" + `"`},
	} {
		sub := fullSubscription()
		sub.schema = c.schema
		withHub(t, Config{Function: Function{LogFormat: c.format}}, sub, func(t *testing.T, h *hubTest) {
			h.lines(categoryFunction, line(c.line))
			late := *sub
			late.types = []category{categoryFunction}
			other := &fakeDestination{}
			h.dial = func(*subscription, *TelemetryFaults) destination { return other }
			if h.subscribe("late", &late, t.Context()) != nil {
				t.Fatal("not subscribed")
			}
			h.closeSubscriptions()
			if h.subscribe("too late", &late, t.Context()) == nil {
				t.Error("subscribed after the end of init")
			}
			h.flush(t.Context())
			for _, posts := range [][]string{h.dest.posts(), other.posts()} {
				if len(posts) != 1 || !strings.HasSuffix(posts[0], `","type":"function","record":`+c.record+"}]") {
					t.Errorf("%s %s %q: %s", c.schema, c.format, c.line, posts)
				}
			}
		})
	}
}

// An event larger than maxBytes is cut over several POSTs. The events before and after it are whole.
func TestCutEvents(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hubTest) {
		long := strings.Repeat("0123456789", 60_000)
		h.lines(categoryFunction, [][]byte{[]byte("before\n"), []byte(long + "\n"), []byte("after\n")})
		h.flush(t.Context())
		posts := h.dest.posts()
		if len(posts) != 3 || h.emitted() != 3 {
			t.Fatalf("%d posts, %d calls of OnEvent", len(posts), h.emitted())
		}
		cutAt := strings.LastIndex(posts[0], `{"time":`)
		envelope := posts[0][cutAt : strings.Index(posts[0][cutAt:], `"record":`)+cutAt+len(`"record":`)]
		for i, p := range posts {
			if json.Valid([]byte(p)) || (i > 0 && !strings.HasPrefix(p, "["+envelope)) || len(p) > 2*(256<<10) {
				t.Errorf("POST %d of %d bytes: %.100s", i, len(p), p)
			}
		}
		joined := strings.TrimSuffix(posts[0], "}]") +
			strings.TrimSuffix(strings.TrimPrefix(posts[1], "["+envelope), "}]") +
			strings.TrimPrefix(posts[2], "["+envelope)
		var events []struct{ Record string }
		if err := json.Unmarshal([]byte(joined), &events); err != nil || len(events) != 3 {
			t.Fatalf("joined: %v, %d events", err, len(events))
		}
		if events[0].Record != "before" || events[1].Record != long || events[2].Record != "after" {
			t.Fatalf("joined: %.100q", events)
		}
	})
}

func BenchmarkEmitLines(b *testing.B) {
	cfg, err := Config{Function: Function{Command: []string{"true"}}}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	h := newHub(&cfg)
	h.dial = func(*subscription, *TelemetryFaults) destination { return discard{} }
	sub := fullSubscription()
	sub.items, sub.bytes, sub.timeout = 10_000, 1<<20, 25*time.Millisecond
	if err := h.subscribe("x", sub, b.Context()); err != nil {
		b.Fatal(err)
	}
	h.closeSubscriptions()
	lines := slices.Repeat(line(strings.Repeat("a line of three hundred bytes ", 10)), 200)
	b.SetBytes(int64(200 * len(lines[0])))
	b.ReportAllocs()
	for b.Loop() {
		h.lines(categoryFunction, lines)
	}
	h.close()
}

type discard struct{}

func (discard) append(body, event []byte) []byte {
	return (&httpDestination{}).append(body, event)
}

func (discard) finish(body []byte) []byte { return body }

func (discard) send(context.Context, []byte) error { return nil }

func (discard) inject(context.Context, []byte) (int, error) { return 200, nil }

func (discard) close() {}
