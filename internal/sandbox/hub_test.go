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

// fakeDestination takes batches in fake time.
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

// inBubble runs f on a hub with one subscriber in fake time; emitted counts what OnEvent was told.
func withHub(t *testing.T, cfg Config, sub *subscription, f func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, gone func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		emitted := 0
		cfg.Function.Command = []string{"true"}
		cfg.OnEvent = func(string, Event) {
			mu.Lock()
			defer mu.Unlock()
			emitted++
		}
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		d := &fakeDestination{}
		h := newHub(&cfg)
		h.dial = func(*subscription, *TelemetryFaults) destination { return d }
		ctx, gone := context.WithCancel(t.Context())
		if err := h.subscribe("x", sub, ctx); err != nil {
			t.Fatal(err)
		}
		f(t, h, d, func() int {
			mu.Lock()
			defer mu.Unlock()
			return emitted
		}, gone)
		h.close()
	})
}

func fullSubscription() *subscription {
	return &subscription{
		schema: schema20250129, types: []category{categoryPlatform, categoryFunction, categoryExtension},
		items: 1000, bytes: 256 << 10, timeout: time.Second,
	}
}

func line(s string) [][]byte { return [][]byte{[]byte(s + "\n")} }

func TestBufferingByTimeItemsAndBytes(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
		begin := time.Now()
		h.lines(categoryFunction, line("one"))
		time.Sleep(900 * time.Millisecond)
		h.lines(categoryFunction, line("two")) // does not move the time of the batch's first event
		time.Sleep(time.Second)
		synctest.Wait()
		if posts := d.posts(); len(posts) != 1 || !strings.Contains(posts[0], `"one"`) || !strings.Contains(posts[0], `"two"`) {
			t.Fatalf("by time: %q", posts)
		}
		if took := d.at[0].Sub(begin); took != time.Second {
			t.Errorf("by time: sent after %v", took)
		}
		if emitted() != 2 {
			t.Errorf("OnEvent was told of %d events", emitted())
		}
		lines := slices.Repeat(line("x"), 1001)
		h.lines(categoryFunction, lines)
		synctest.Wait()
		if posts := d.posts(); len(posts) != 2 || strings.Count(posts[1], `"type"`) != 1000 {
			t.Fatalf("by items: %d posts", len(posts))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if posts := d.posts(); len(posts) != 3 || strings.Count(posts[2], `"type"`) != 1 {
			t.Fatalf("rest by time: %d posts", len(posts))
		}
		h.lines(categoryFunction, line(strings.Repeat("x", 256<<10-200)))
		h.lines(categoryFunction, line(strings.Repeat("y", 1000)))
		h.lines(categoryFunction, line("z"))
		synctest.Wait()
		if posts := d.posts(); len(posts) != 4 || strings.Count(posts[3], `"type"`) != 2 {
			t.Fatalf("by bytes: %d posts", len(posts))
		}
	})
}

func TestFrozenTimersStandStill(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
		h.lines(categoryFunction, line("one"))
		time.Sleep(400 * time.Millisecond)
		h.freeze()
		h.platform("platform.report", nil) // late, while frozen
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(d.posts()) != 0 || emitted() != 0 {
			t.Fatal("delivered while frozen")
		}
		thawed := time.Now()
		h.thaw()
		time.Sleep(time.Minute)
		if posts := d.posts(); len(posts) != 1 || strings.Count(posts[0], `"type"`) != 2 {
			t.Fatalf("after the thaw: %q", posts)
		}
		if took := d.at[0].Sub(thawed); took != 600*time.Millisecond {
			t.Errorf("sent %v after the thaw, the rest of the second is 600 ms", took)
		}
	})
}

func TestRetryKeepsOrderAndCountsOnce(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
		d.errs = []error{errors.New("refused"), errors.New("status 500"), nil}
		h.lines(categoryFunction, line("one"))
		time.Sleep(time.Second)
		synctest.Wait() // the first try is over
		h.lines(categoryFunction, line("two"))
		time.Sleep(time.Minute)
		posts := d.posts()
		if len(posts) != 4 || posts[0] != posts[1] || posts[1] != posts[2] || !strings.Contains(posts[3], `"two"`) {
			t.Fatalf("posts: %q", posts)
		}
		if first, second := d.at[1].Sub(d.at[0]), d.at[2].Sub(d.at[1]); first != firstBackoff || second != 2*firstBackoff {
			t.Errorf("backoff %v, %v", first, second)
		}
		if emitted() != 2 {
			t.Errorf("OnEvent was told of %d events", emitted())
		}
	})
}

func TestSlowSubscriberLosesEvents(t *testing.T) {
	withHub(t, Config{Telemetry: TelemetryFaults{QueueBytes: 1000}}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
		d.hold = make(chan struct{})
		h.lines(categoryFunction, line("one"))
		time.Sleep(time.Second)
		synctest.Wait() // its POST is in flight
		h.lines(categoryFunction, slices.Repeat(line(strings.Repeat("y", 100)), 50))
		close(d.hold)
		time.Sleep(time.Minute)
		var dropped logsDroppedRecord
		arrived := 0
		for _, p := range d.posts() {
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
		if arrived+dropped.DroppedRecords != 51 || dropped.DroppedRecords < 40 || dropped.DroppedBytes != 102*dropped.DroppedRecords || dropped.Reason != telemetryDroppedReason {
			t.Errorf("%d arrived, dropped %+v", arrived, dropped)
		}
		if emitted() != 52 {
			t.Errorf("OnEvent was told of %d events, a perfect subscriber would have got 51 lines and logsDropped", emitted())
		}
	})
}

// What the fault takes is not emitted at all, or platform.logsDropped in its place; it is asked once about each other event.
func TestLostEvents(t *testing.T) {
	for name, tell := range map[string]bool{"silently": false, "told": true} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			lose := func(typ string, invocation int) bool {
				asked = append(asked, fmt.Sprint(typ, " ", invocation))
				return typ == "function" && invocation == 0 || typ == "platform.runtimeDone"
			}
			faults := TelemetryFaults{Lose: lose, EmitLogsDropped: tell}
			withHub(t, Config{Telemetry: faults}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
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
				told := fmt.Sprintf(`"type":"platform.logsDropped","record":{"reason":"%s","droppedRecords":1,"droppedBytes":`, telemetryDroppedReason)
				want := []string{`"type":"function","record":"one"`, told + "3}", told + "6}", `"type":"platform.extension","record":null`}
				if !tell {
					want = []string{want[0], want[3]}
				}
				for _, posts := range [][]string{d.posts(), late.posts()} {
					events := strings.Split(strings.Join(posts, ""), `{"time":`)[1:]
					ok := len(posts) == 1 && len(events) == len(want)
					for i := range min(len(events), len(want)) {
						ok = ok && strings.Contains(events[i], want[i])
					}
					if !ok {
						t.Errorf("got %q, want %q", posts, want)
					}
				}
				if emitted() != 2*len(want) {
					t.Errorf("OnEvent was told of %d events", emitted())
				}
			})
			if want := []string{"function -1", "function 0", "platform.runtimeDone 0", "platform.extension 1"}; !slices.Equal(asked, want) {
				t.Errorf("asked about %q, want %q", asked, want)
			}
		})
	}
}

// What OnEvent is told about the end of an extension, and that a flush sends at once.
func TestEndOfSubscriber(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, gone func()) {
		h.lines(categoryFunction, line("one"))
		h.flush(t.Context())
		if len(d.posts()) != 1 || emitted() != 1 {
			t.Fatalf("flush: %d posts", len(d.posts()))
		}
		d.hold = make(chan struct{})
		h.lines(categoryFunction, line("flushed in vain"))
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		h.flush(short)
		cancel()
		if emitted() != 1 {
			t.Fatal("told too early")
		}
		h.subscribersOf("x")[0].markShutdownSent()
		if emitted() != 2 {
			t.Errorf("what the subscriber did not take in time before SHUTDOWN counts: %d", emitted())
		}
		h.lines(categoryFunction, line("after SHUTDOWN, never accepted"))
		time.Sleep(time.Hour)
		gone()
		synctest.Wait()
		h.lines(categoryFunction, line("after the end"))
		time.Sleep(time.Hour)
		if emitted() != 2 {
			t.Errorf("told %d", emitted())
		}
	})
}

// Formats of lines by schema and log format, also for a subscriber that comes late.
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
		withHub(t, Config{Function: Function{LogFormat: c.format}}, sub, func(t *testing.T, h *hub, d *fakeDestination, _ func() int, _ func()) {
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
			for _, posts := range [][]string{d.posts(), other.posts()} {
				if len(posts) != 1 || !strings.HasSuffix(posts[0], `","type":"function","record":`+c.record+"}]") {
					t.Errorf("%s %s %q: %s", c.schema, c.format, c.line, posts)
				}
			}
		})
	}
}

// An event bigger than maxBytes comes cut over several POSTs, followed by its neighbours.
func TestCutEvents(t *testing.T) {
	withHub(t, Config{}, fullSubscription(), func(t *testing.T, h *hub, d *fakeDestination, emitted func() int, _ func()) {
		long := strings.Repeat("0123456789", 60_000)
		h.lines(categoryFunction, [][]byte{[]byte("before\n"), []byte(long + "\n"), []byte("after\n")})
		h.flush(t.Context())
		posts := d.posts()
		if len(posts) != 3 || emitted() != 3 {
			t.Fatalf("%d posts, %d events told", len(posts), emitted())
		}
		cutAt := strings.LastIndex(posts[0], `{"time":`)
		envelope := posts[0][cutAt : strings.Index(posts[0][cutAt:], `"record":`)+cutAt+len(`"record":`)]
		for i, p := range posts {
			if json.Valid([]byte(p)) || (i > 0 && !strings.HasPrefix(p, "["+envelope)) || len(p) > 2*(256<<10) {
				t.Errorf("POST %d of %d bytes: %.100s", i, len(p), p)
			}
		}
		joined := strings.TrimSuffix(posts[0], "}]") + strings.TrimSuffix(strings.TrimPrefix(posts[1], "["+envelope), "}]") + strings.TrimPrefix(posts[2], "["+envelope)
		var events []struct{ Record string }
		if err := json.Unmarshal([]byte(joined), &events); err != nil || len(events) != 3 || events[0].Record != "before" || events[1].Record != long || events[2].Record != "after" {
			t.Fatalf("joined: %v, %d events", err, len(events))
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
