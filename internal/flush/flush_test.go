package flush

import (
	"testing"
	"time"
)

const (
	ms       = time.Millisecond
	megabyte = 1 << 20
	// deadline is how long after INVOKE the invocations of these tests time out, where a test does not say.
	deadline = 15 * time.Minute
)

var start = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func settings(mode Mode) Settings {
	return Settings{Mode: mode, MaxDelay: 10 * time.Second, FlushTimeout: time.Second, RecordBytes: 100_000, BufferBytes: 8 * megabyte}
}

// env is an environment with a clock of its own. It hands its policy the facts in the order in which the extension does.
type env struct {
	*Policy
	now    time.Time
	number int // of the last INVOKE
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

// buffer puts so many bytes into the buffer; the oldest are of this age.
func (e *env) buffer(bytes int, age time.Duration) {
	e.b = Buffered{Bytes: bytes, Oldest: e.now.Add(-age)}
}

// invoke lets an INVOKE and its platform.start come, so long after now.
func (e *env) invoke(gap time.Duration) {
	e.wait(gap)
	e.number++
	e.note(Invoked{Number: e.number, Deadline: e.now.Add(deadline)}, Started{Number: e.number})
}

// waits tells whether the end of the current invocation is waited for.
func (e *env) waits() bool {
	until, _ := e.AwaitEnd(e.now)
	return !until.IsZero()
}

// end lets the function end now, and its end be seen.
func (e *env) end() { e.note(EndSeen{Number: e.number, At: e.now}) }

// serve is an invocation of no length with nothing to ship. It tells whether its end was waited for.
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

// shipsNow tells whether the background has something to ship now.
func (e *env) shipsNow() bool {
	wait, ever := e.NextFlight(e.now, e.b)
	return ever && wait == 0
}

// endFlights lets flights begin, whatever stands against it, and end as f says. No time passes.
func (e *env) endFlights(flights ...Flight) {
	for _, f := range flights {
		e.StartFlight(e.now, Buffered{Bytes: 1, Oldest: e.now}, AtShutdown)
		e.note(f)
	}
}

// heldFor is how long after the function's end the current invocation may be held.
func (e *env) heldFor() time.Duration {
	until, _ := e.Bounds(e.now, AtEnd)
	return until.Sub(e.endedAt)
}

// nextHold serves an invocation and returns for how long it might have been held; 0 where it was not waited for.
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

// ships tells whether something is shipped now.
func (e *env) ships(why Occasion) bool {
	p := *e.Policy
	_, ok := p.StartFlight(e.now, e.b, why)
	return ok
}

func repeat(gap time.Duration, n int) []time.Duration {
	gaps := make([]time.Duration, n)
	for i := range gaps {
		gaps[i] = gap
	}
	return gaps
}

// bursts gives n bursts of the given size, a minute apart, 100 ms between their invocations.
func bursts(size, n int) (gaps []time.Duration) {
	for range n {
		gaps = append(gaps, time.Minute)
		gaps = append(gaps, repeat(100*ms, size-1)...)
	}
	return gaps
}

// The mode and the traffic decide whether an invocation's end is waited for and whether the buffer is shipped beside its handler.
func TestModes(t *testing.T) {
	const second = time.Second
	horizon := settings(Adaptive).MaxDelay / 3
	for _, test := range []struct {
		name  string
		mode  Mode
		gaps  []time.Duration // before each INVOKE
		bytes int             // buffered at the last one, fresh
		waits bool
		ships bool
	}{
		{"sync waits whatever the traffic", Sync, repeat(100*ms, 50), 1, true, false},
		{"sync ships a full record beside the handler", Sync, repeat(second, 5), 100_000, true, true},
		{"deferred ships what was left", Deferred, repeat(time.Minute, 5), 1, false, true},
		{"deferred with nothing left", Deferred, repeat(time.Minute, 5), 0, false, false},
		{"adaptive waits at a cold start", Adaptive, repeat(0, 1), 1, true, false},
		{"adaptive waits after one near gap", Adaptive, repeat(100*ms, 2), 1, true, false},
		{"adaptive asks at once after two near gaps", Adaptive, repeat(100*ms, 3), 1, false, false},
		{"invocations at the same moment are near", Adaptive, repeat(0, 3), 1, false, false},
		{"adaptive ships a full record beside the handler", Adaptive, repeat(100*ms, 3), 100_000, false, true},
		{"adaptive leaves what fills no record", Adaptive, repeat(100*ms, 3), 99_999, false, false},
		{"adaptive waits where traffic is sparse", Adaptive, repeat(20*second, 40), 1, true, false},
		{"the horizon is a third of MaxDelay", Adaptive, repeat(horizon, 40), 1, false, false},
		{"and no more", Adaptive, repeat(horizon+1, 40), 1, true, false},
		{"one far gap in steady traffic changes nothing", Adaptive, append(repeat(second, 60), 20*second), 1, false, false},
		{"one of five minutes neither", Adaptive, append(repeat(second, 60), 5*time.Minute), 1, false, false},
		{"a longer one is a night, and forgets the traffic before it", Adaptive, append(repeat(second, 60), 5*time.Minute+1), 1, true, false},
		{"two near gaps after it suffice again", Adaptive, append(repeat(20*second, 60), 8*time.Hour, second, second), 1, false, false},
		{"sparse traffic that becomes steady waits at first", Adaptive, append(repeat(20*second, 40), repeat(second, 60)...), 1, true, false},
		{"and no longer once the far gaps are long ago", Adaptive, append(repeat(20*second, 40), repeat(second, 160)...), 1, false, false},
		{"one far gap is outweighed by 19 near ones", Adaptive, append([]time.Duration{0, 20 * second}, repeat(second, 19)...), 1, false, false},
		{"and not by 18", Adaptive, append([]time.Duration{0, 20 * second}, repeat(second, 18)...), 1, true, false},
		{"two far gaps are by 31", Adaptive, append([]time.Duration{0, 20 * second, 20 * second}, repeat(second, 31)...), 1, false, false},
		{"and not by 30", Adaptive, append([]time.Duration{0, 20 * second, 20 * second}, repeat(second, 30)...), 1, true, false},
		{"short bursts wait", Adaptive, bursts(5, 10), 1, true, false},
		{"long bursts do not", Adaptive, bursts(100, 5), 1, false, false},
		{"a clock that was set back leaves the estimate alone", Adaptive, append(repeat(second, 10), -time.Hour), 1, false, false},
		{"and is no near gap", Adaptive, []time.Duration{0, second, -time.Hour}, 1, true, false},
	} {
		e := newEnv(test.mode)
		last := len(test.gaps) - 1
		e.serveAll(test.gaps[:last])
		e.wait(test.gaps[last])
		e.buffer(test.bytes, 0)
		e.invoke(0)
		if waits, ships := e.waits(), e.shipsNow(); waits != test.waits || ships != test.ships {
			t.Errorf("%s: waits %t, ships beside the handler %t", test.name, waits, ships)
		}
	}
}

// In steady traffic adaptive ships what would be late at the next INVOKE, and not more often.
func TestAdaptiveShipsBeforeItIsLate(t *testing.T) {
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

// The estimate of the next gap grows at once and shrinks slowly: late telemetry is worse than a request too many.
func TestNextGap(t *testing.T) {
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
		{"a far gap says nothing of the next", append(repeat(fast, 60), 20*time.Second), 5 * time.Second, false},
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

// Where the handler takes a hundred times as long as the wait, adaptive waits, whatever the traffic.
func TestLongHandlersAreWaitedFor(t *testing.T) {
	for _, test := range []struct {
		name  string
		took  []time.Duration // 0: not known
		waits bool
	}{
		{"2 s of work are not worth 30 ms", []time.Duration{2 * time.Second}, false},
		{"3 s are", []time.Duration{3 * time.Second}, true},
		{"the last handler counts", []time.Duration{3 * time.Second, 2 * time.Second}, false},
		{"a time that is not known changes nothing", []time.Duration{3 * time.Second, 0}, true},
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

// A wait is worth it only where FLUSH_TIMEOUT has room for the telemetry's way (30 ms) and the stream's answer.
func TestWaitIsWorthIt(t *testing.T) {
	for _, test := range []struct {
		flushTimeout, answer time.Duration
		waits                bool
	}{
		{60 * ms, 5 * ms, true},
		{37 * ms, 5 * ms, true},
		{36_842_106, 5 * ms, true}, // 1 ns more than 35 ms and the twentieth for the way back
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
			t.Errorf("FLUSH_TIMEOUT %s, a stream of %s: waits %t", test.flushTimeout, test.answer, e.waits())
		}
		if e.waits() {
			ended := e.now
			e.wait(telemetryWait)
			if e.note(EndSeen{Number: e.number, At: ended}); !e.ships(AtEnd) {
				t.Errorf("FLUSH_TIMEOUT %s, a stream of %s: waits, and then there is no time to ship", test.flushTimeout, test.answer)
			}
			continue
		}
		if e.shipsNow() == test.waits {
			t.Errorf("FLUSH_TIMEOUT %s, a stream of %s: what is not shipped at the end leaves beside the handler", test.flushTimeout, test.answer)
		}
	}
}

// In a freeze the monotonic clock may stand still, so no time that the policy keeps has a reading of it.
func TestTimeGoesOnInAFreeze(t *testing.T) {
	e := newEnv(Sync)
	e.now = time.Now()
	e.invoke(0)
	e.AwaitEnd(e.now.Add(deadline)) // given up
	e.note(EndSeen{Number: e.number, At: e.now}, Flight{Failed: true}, Flight{Failed: true})
	for name, kept := range map[string]time.Time{
		"INVOKE": e.traffic.last, "the stream's rest": e.breaker.retryAt, "the wait for platform.start": e.startBy,
		"the wait for the end": e.waitUntil, "the end": e.endedAt, "the hold": e.holdUntil, "the end of the wait": e.ends.gaveUpAt,
	} {
		if kept.IsZero() || kept != kept.Round(0) {
			t.Errorf("%s is kept as %s", name, kept)
		}
	}
}
