package flush

import (
	"slices"
	"testing"
	"time"
)

const (
	ms       = time.Millisecond
	megabyte = 1 << 20
	// deadline is the timeout of an invocation, counted from INVOKE, if a test has no other.
	deadline = 15 * time.Minute
)

var start = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func settings(mode Mode) Settings {
	return Settings{Mode: mode, MaxDelay: 10 * time.Second, FlushTimeout: time.Second, RecordBytes: 100_000, BufferBytes: 8 * megabyte}
}

// env is an environment with its own clock. It notes facts in the order in which the extension notes them.
type env struct {
	*Policy
	now    time.Time
	number int // of the last invocation
	b      Buffered
}

func newEnv(mode Mode) *env { return envOf(settings(mode)) }

func envOf(s Settings) *env { return &env{Policy: New(s), now: start} }

func (e *env) note(facts ...Fact) {
	for _, f := range facts {
		e.Note(e.now, e.b, f)
	}
}

func (e *env) wait(d time.Duration) { e.now = e.now.Add(d) }

// buffer sets the bytes in the buffer and the age of the oldest event.
func (e *env) buffer(bytes int, age time.Duration) {
	e.b = Buffered{Bytes: bytes, Oldest: e.now.Add(-age)}
}

// invoke notes an INVOKE and its platform.start after a gap.
func (e *env) invoke(gap time.Duration) {
	e.wait(gap)
	e.number++
	e.note(Invoked{Number: e.number, Deadline: e.now.Add(deadline)}, Started{Number: e.number})
}

// waits reports whether the current invocation waits for its end.
func (e *env) waits() bool {
	until, _ := e.AwaitEnd(e.now)
	return !until.IsZero()
}

// end notes the end of the current invocation: it ends now.
func (e *env) end() { e.note(EndSeen{Number: e.number, At: e.now}) }

// serve runs an invocation that takes no time and ships nothing. It reports whether the invocation waited for its end.
func (e *env) serve(gap time.Duration) (waited bool) {
	e.invoke(gap)
	waited = e.waits()
	e.end()
	e.note(NextCalled{})
	return waited
}

func (e *env) serveAll(gaps []time.Duration) {
	for _, gap := range gaps {
		e.serve(gap)
	}
}

// shipsNow reports whether the background ships now.
func (e *env) shipsNow() bool {
	wait, ever := e.NextFlight(e.now, e.b)
	return ever && wait == 0
}

// endFlights starts flights, even during a backoff, and ends them with the given results. No time passes.
func (e *env) endFlights(flights ...Flight) {
	for _, f := range flights {
		e.StartFlight(e.now, Buffered{Bytes: 1, Oldest: e.now}, AtShutdown)
		e.note(f)
	}
}

// heldFor returns how long the current invocation may be held after the function's end.
func (e *env) heldFor() time.Duration {
	until, _ := e.Bounds(e.now, AtEnd)
	return until.Sub(e.endedAt)
}

// nextHold runs an invocation and returns the longest hold that it could have had; 0 if it did not wait for its end.
func (e *env) nextHold() (hold time.Duration) {
	e.invoke(time.Second)
	waits := e.waits()
	e.end()
	if waits {
		hold = e.heldFor()
	}
	e.note(NextCalled{})
	return hold
}

// ships reports whether a flight starts now.
func (e *env) ships(why Occasion) bool {
	p := *e.Policy
	_, ok := p.StartFlight(e.now, e.b, why)
	return ok
}

// repeat returns n equal gaps.
func repeat(gap time.Duration, n int) []time.Duration {
	return slices.Repeat([]time.Duration{gap}, n)
}

// bursts returns the gaps of n bursts, a minute apart, with 100 ms between the invocations of a burst.
func bursts(size, n int) (gaps []time.Duration) {
	for range n {
		gaps = append(gaps, time.Minute)
		gaps = append(gaps, repeat(100*ms, size-1)...)
	}
	return gaps
}

// The mode and the traffic decide whether an invocation waits for its end, and whether the buffer is shipped while its
// handler runs.
func TestModeAndTrafficDecideTheWait(t *testing.T) {
	const second = time.Second
	horizon := settings(Adaptive).MaxDelay / 3
	oneFar, twoFar := []time.Duration{0, 20 * second}, []time.Duration{0, 20 * second, 20 * second}
	for _, test := range []struct {
		name  string
		mode  Mode
		gaps  []time.Duration // before each INVOKE
		bytes int             // buffered at the last INVOKE, fresh
		waits bool            // for its end
		ships bool            // while the handler runs
	}{
		{"sync waits in any traffic", Sync, repeat(100*ms, 50), 1, true, false},
		{"sync ships a full record while the handler runs", Sync, repeat(second, 5), 100_000, true, true},
		{"deferred ships the rest of the last invocation", Deferred, repeat(time.Minute, 5), 1, false, true},
		{"deferred with an empty buffer", Deferred, repeat(time.Minute, 5), 0, false, false},
		{"adaptive waits at a cold start", Adaptive, repeat(0, 1), 1, true, false},
		{"adaptive waits after one near gap", Adaptive, repeat(100*ms, 2), 1, true, false},
		{"adaptive calls next at once after two near gaps", Adaptive, repeat(100*ms, 3), 1, false, false},
		{"invocations at the same moment are near", Adaptive, repeat(0, 3), 1, false, false},
		{"adaptive ships a full record while the handler runs", Adaptive, repeat(100*ms, 3), 100_000, false, true},
		{"adaptive keeps less than a record", Adaptive, repeat(100*ms, 3), 99_999, false, false},
		{"adaptive waits in sparse traffic", Adaptive, repeat(20*second, 40), 1, true, false},
		{"the horizon is a third of MaxDelay", Adaptive, repeat(horizon, 40), 1, false, false},
		{"a gap above the horizon is far", Adaptive, repeat(horizon+1, 40), 1, true, false},
		{"one far gap in steady traffic changes nothing", Adaptive, append(repeat(second, 60), 20*second), 1, false, false},
		{"a far gap of five minutes changes nothing either", Adaptive, append(repeat(second, 60), 5*time.Minute), 1, false, false},
		{"a longer gap makes the policy forget the traffic before it", Adaptive, append(repeat(second, 60), 5*time.Minute+1), 1, true, false},
		{"after that, two near gaps are enough again", Adaptive, append(repeat(20*second, 60), 8*time.Hour, second, second), 1, false, false},
		{"sparse traffic that becomes steady waits at first", Adaptive, append(repeat(20*second, 40), repeat(second, 60)...), 1, true, false},
		{"and stops once the far gaps are long ago", Adaptive, append(repeat(20*second, 40), repeat(second, 160)...), 1, false, false},
		{"19 near gaps outweigh one far gap", Adaptive, slices.Concat(oneFar, repeat(second, 19)), 1, false, false},
		{"18 do not", Adaptive, slices.Concat(oneFar, repeat(second, 18)), 1, true, false},
		{"31 near gaps outweigh two far gaps", Adaptive, slices.Concat(twoFar, repeat(second, 31)), 1, false, false},
		{"30 do not", Adaptive, slices.Concat(twoFar, repeat(second, 30)), 1, true, false},
		{"short bursts wait", Adaptive, bursts(5, 10), 1, true, false},
		{"long bursts do not", Adaptive, bursts(100, 5), 1, false, false},
		{"a clock that was set back does not change the estimate", Adaptive, append(repeat(second, 10), -time.Hour), 1, false, false},
		{"a clock that was set back is no near gap", Adaptive, []time.Duration{0, second, -time.Hour}, 1, true, false},
	} {
		e := newEnv(test.mode)
		last := len(test.gaps) - 1
		e.serveAll(test.gaps[:last])
		e.wait(test.gaps[last])
		e.buffer(test.bytes, 0)
		e.invoke(0)
		if waits, ships := e.waits(), e.shipsNow(); waits != test.waits || ships != test.ships {
			t.Errorf("%s: waits %t, ships while the handler runs %t", test.name, waits, ships)
		}
	}
}

// In steady traffic adaptive ships events that would be late at the next INVOKE, and not more often.
func TestAdaptiveShipsBeforeEventsAreLate(t *testing.T) {
	e := newEnv(Adaptive)
	e.serveAll(repeat(time.Second, 20))
	emitted := e.now
	for range 20 {
		e.wait(time.Second)
		e.buffer(100, e.now.Sub(emitted))
		e.invoke(0)
		if e.shipsNow() {
			break
		}
		e.end()
		e.note(NextCalled{})
	}
	if age := e.now.Sub(emitted); age < 6*time.Second || age > 7500*ms {
		t.Errorf("shipped after %s", age)
	}
}

// The estimate of the next gap grows at once and shrinks slowly: late telemetry is worse than one more request.
func TestGapEstimateGrowsAtOnce(t *testing.T) {
	const fast, slow = 100 * ms, 3 * time.Second
	for _, test := range []struct {
		name  string
		gaps  []time.Duration
		age   time.Duration // of the oldest event at the last INVOKE
		ships bool
	}{
		{"slow traffic: late at the next INVOKE", repeat(slow, 10), 4500 * ms, true},
		{"slow traffic: not late then", repeat(slow, 10), 4499 * ms, false},
		{"fast traffic: late at the next INVOKE", repeat(fast, 10), 7400 * ms, true},
		{"fast traffic: not late then", repeat(fast, 10), 7399 * ms, false},
		{"traffic that slows down", append(repeat(fast, 10), slow), 4500 * ms, true},
		{"traffic that has sped up just now", append(repeat(slow, 10), fast), 5 * time.Second, true},
		{"traffic that has sped up a while ago", append(repeat(slow, 10), repeat(fast, 20)...), 5 * time.Second, false},
		{"a far gap does not change the estimate", append(repeat(fast, 60), 20*time.Second), 5 * time.Second, false},
	} {
		e := newEnv(Adaptive)
		last := len(test.gaps) - 1
		e.serveAll(test.gaps[:last])
		e.wait(test.gaps[last])
		e.buffer(1, test.age)
		e.invoke(0)
		if ships := e.shipsNow(); ships != test.ships || e.waits() {
			t.Errorf("%s: ships %t", test.name, ships)
		}
	}
}

// If the handler takes a hundred times as long as the wait, adaptive waits in any traffic.
func TestAdaptiveWaitsForLongHandlers(t *testing.T) {
	for _, test := range []struct {
		name  string
		took  []time.Duration // 0: unknown
		waits bool
	}{
		{"after 2 s of work it does not wait 30 ms", []time.Duration{2 * time.Second}, false},
		{"after 3 s it does", []time.Duration{3 * time.Second}, true},
		{"the last handler counts", []time.Duration{3 * time.Second, 2 * time.Second}, false},
		{"an unknown duration changes nothing", []time.Duration{3 * time.Second, 0}, true},
	} {
		e := newEnv(Adaptive)
		e.serveAll(repeat(time.Second, 10))
		for _, took := range test.took {
			e.invoke(time.Second)
			e.note(EndSeen{Number: e.number, At: e.now, Took: took}, NextCalled{})
		}
		if e.invoke(time.Second); e.waits() != test.waits {
			t.Errorf("%s: waits %t", test.name, e.waits())
		}
	}
}

// An invocation waits only if FLUSH_TIMEOUT has room for the telemetry's arrival (30 ms) and the stream's answer.
func TestWaitNeedsTimeToShip(t *testing.T) {
	for _, test := range []struct {
		flushTimeout, answer time.Duration
		waits                bool
	}{
		{60 * ms, 5 * ms, true},
		{37 * ms, 5 * ms, true},
		{36_842_106, 5 * ms, true}, // 1 ns more than 35 ms plus the twentieth for the way back
		{36_842_105, 5 * ms, false},
		{20 * ms, 5 * ms, false},
		{40 * ms, 20 * ms, false},
		{32 * ms, 0, true}, // no answer was seen yet
		{30 * ms, 0, false},
		{60 * ms, 30 * ms, false},
		{time.Second, 900 * ms, true},
		{time.Second, 930 * ms, false},
		{time.Second, 2 * time.Second, false},
	} {
		s := settings(Sync)
		s.FlushTimeout = test.flushTimeout
		e := envOf(s)
		if test.answer > 0 {
			e.endFlights(Flight{Took: test.answer, Progress: true})
		}
		e.buffer(1, 0)
		if e.invoke(time.Second); e.waits() != test.waits {
			t.Errorf("FLUSH_TIMEOUT %s, the stream answers after %s: waits %t", test.flushTimeout, test.answer, e.waits())
		}
		if e.waits() {
			ended := e.now
			e.wait(telemetryWait)
			if e.note(EndSeen{Number: e.number, At: ended}); !e.ships(AtEnd) {
				t.Errorf("FLUSH_TIMEOUT %s, the stream answers after %s: waits, but has no time to ship then", test.flushTimeout, test.answer)
			}
			continue
		}
		if e.shipsNow() == test.waits {
			t.Errorf("FLUSH_TIMEOUT %s, the stream answers after %s: ships neither at the end nor while the handler runs",
				test.flushTimeout, test.answer)
		}
	}
}

// In a freeze the monotonic clock may stand still, so no time that the policy keeps has a monotonic reading.
func TestPolicyKeepsWallTime(t *testing.T) {
	e := newEnv(Sync)
	e.now = time.Now()
	e.invoke(0)
	e.AwaitEnd(e.now.Add(deadline)) // given up
	e.note(EndSeen{Number: e.number, At: e.now}, Flight{Failed: true}, Flight{Failed: true})
	for name, kept := range map[string]time.Time{
		"INVOKE": e.traffic.last, "the backoff": e.breaker.retryAt, "the wait for platform.start": e.startBy,
		"the wait for the end": e.waitUntil, "the end": e.endedAt, "the hold": e.holdUntil, "the end of the wait": e.ends.gaveUpAt,
	} {
		if kept.IsZero() || kept != kept.Round(0) {
			t.Errorf("%s is kept as %s", name, kept)
		}
	}
}
