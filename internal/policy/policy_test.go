package policy

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func settings(mode Mode) Settings {
	return Settings{Mode: mode, MaxDelay: 10 * time.Second, FlushTimeout: time.Second, RecordBytes: 100_000, BufferBytes: 8 << 20}
}

// drive lets INVOKEs come with the given gaps before them and returns the last plan and its moment. Something small and
// fresh is always held.
func drive(p *Policy, gaps ...time.Duration) (plan Plan, now time.Time) {
	now = p.traffic.last
	if now.IsZero() {
		now = start
	}
	for _, gap := range gaps {
		now = now.Add(gap)
		plan = p.Invoke(now, Held{Bytes: 1000, Oldest: now})
	}
	return plan, now
}

func every(gap time.Duration, n int) []time.Duration {
	gaps := make([]time.Duration, n)
	for i := range gaps {
		gaps[i] = gap
	}
	return gaps
}

func TestModes(t *testing.T) {
	const second = time.Second
	ask, wait := Plan{}, Plan{Wait: true, Hold: second}
	for _, test := range []struct {
		name string
		mode Mode
		gaps []time.Duration
		held Held
		want Plan
	}{
		{"sync waits whatever the traffic", Sync, every(100*time.Millisecond, 50), Held{Bytes: 1}, wait},
		{"sync ships a full record beside the handler", Sync, every(second, 5), Held{Bytes: 100_000}, Plan{Ship: true, Wait: true, Hold: second}},
		{"deferred ships what was left", Deferred, every(time.Minute, 5), Held{Bytes: 1}, Plan{Ship: true, Hold: second}},
		{"deferred with nothing left", Deferred, every(time.Minute, 5), Held{}, ask},
		{"adaptive waits at a cold start", Adaptive, every(0, 1), Held{Bytes: 1}, wait},
		{"adaptive waits for two near gaps", Adaptive, every(100*time.Millisecond, 2), Held{Bytes: 1}, wait},
		{"adaptive then asks at once", Adaptive, every(100*time.Millisecond, 3), Held{Bytes: 1}, ask},
		{"adaptive ships a full record beside the handler", Adaptive, every(100*time.Millisecond, 3), Held{Bytes: 100_000}, Plan{Ship: true, Hold: second}},
		{"adaptive waits where traffic is sparse", Adaptive, every(20*second, 40), Held{Bytes: 1}, wait},
		{"the horizon is a third of MaxDelay", Adaptive, every(3300*time.Millisecond, 40), Held{Bytes: 1}, ask},
		{"and no more", Adaptive, every(3400*time.Millisecond, 40), Held{Bytes: 1}, wait},
		{"one far gap in steady traffic changes nothing", Adaptive, append(every(second, 60), 20*second), Held{Bytes: 1}, ask},
		{"a night is forgotten, and what was before it", Adaptive, append(every(second, 60), 8*time.Hour), Held{Bytes: 1}, wait},
		{"short bursts wait", Adaptive, bursts(5, 10), Held{Bytes: 1}, wait},
		{"long bursts do not", Adaptive, bursts(100, 5), Held{Bytes: 1}, ask},
		{"a clock that was set back", Adaptive, append(every(second, 10), -time.Hour), Held{Bytes: 1}, ask},
	} {
		p := New(settings(test.mode))
		gaps := test.gaps
		_, now := drive(p, gaps[:len(gaps)-1]...)
		now = now.Add(gaps[len(gaps)-1])
		test.held.Oldest = now
		if got := p.Invoke(now, test.held); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// bursts gives n bursts of the given size, a minute apart, 100 ms between their invocations.
func bursts(size, n int) (gaps []time.Duration) {
	for range n {
		gaps = append(gaps, time.Minute)
		gaps = append(gaps, every(100*time.Millisecond, size-1)...)
	}
	return gaps
}

// In steady traffic what is held is shipped before it would be late, by an INVOKE, and not oftener.
func TestAdaptiveShipsBeforeItIsLate(t *testing.T) {
	p := New(settings(Adaptive))
	_, now := drive(p, every(time.Second, 20)...)
	oldest := now
	for range 20 {
		now = now.Add(time.Second)
		if p.Invoke(now, Held{Bytes: 100, Oldest: oldest}).Ship {
			break
		}
	}
	if age := now.Sub(oldest); age < 6*time.Second || age > 7500*time.Millisecond {
		t.Errorf("shipped after %s", age)
	}
}

func TestLongHandlersAreWaitedFor(t *testing.T) {
	p := New(settings(Adaptive))
	drive(p, every(time.Second, 10)...)
	p.End(2 * time.Second)
	if plan, _ := drive(p, time.Second); plan.Wait {
		t.Error("waits 30 ms for 2 s of work")
	}
	p.End(3 * time.Second)
	if plan, _ := drive(p, time.Second); !plan.Wait {
		t.Error("30 ms for 3 s of work are too much, though the environment would freeze in the middle of a send")
	}
	p.End(0)
	if plan, _ := drive(p, time.Second); !plan.Wait {
		t.Error("an unknown duration is taken for none")
	}
}

// In a freeze the monotonic clock may stand still: gaps and rests are of wall time. Nothing that is kept has a reading of it.
func TestTimeGoesOnInAFreeze(t *testing.T) {
	p := New(settings(Adaptive))
	now := time.Now()
	p.Invoke(now, Held{})
	p.Flown(now, Flight{Failed: true}, 0)
	p.Flown(now, Flight{Failed: true}, 0)
	for _, kept := range []time.Time{p.traffic.last, p.breaker.retryAt} {
		if kept.IsZero() || kept != kept.Round(0) {
			t.Errorf("kept as %s", kept)
		}
	}
}

func TestMissedEnd(t *testing.T) {
	p := New(settings(Sync))
	p.Missed()
	for range 3 {
		if plan, _ := drive(p, time.Second); plan.Wait {
			t.Fatal("waits again though no end is to be seen")
		}
	}
	p.End(0)
	if plan, _ := drive(p, time.Second); !plan.Wait {
		t.Error("does not wait though ends are seen again")
	}
}

// README.md: below some 50 ms of FLUSH_TIMEOUT there is no use in waiting for a function's end, and nothing does.
func TestNoUseInWaiting(t *testing.T) {
	for flushTimeout, want := range map[time.Duration]bool{40 * time.Millisecond: false, 51 * time.Millisecond: true} {
		s := settings(Sync)
		s.FlushTimeout = flushTimeout
		p := New(s)
		drive(p, time.Second)
		p.Flown(start, Flight{Took: 20 * time.Millisecond, Progress: true}, 0)
		if plan, _ := drive(p, time.Second); plan.Wait != want {
			t.Errorf("%s: %+v", flushTimeout, plan)
		}
	}
}

// Ends that come too late to ship anything are waited for ever more seldom, until one comes in time.
func TestLaggingTelemetry(t *testing.T) {
	p := New(settings(Sync))
	waits := func(n int) (waited int) {
		for range n {
			if plan, _ := drive(p, time.Second); plan.Wait {
				waited++
				p.Awaited(false)
			}
			p.End(time.Millisecond)
		}
		return waited
	}
	if first, then := waits(128), waits(640); first != 7 || then != 10 {
		t.Errorf("%d and %d waits", first, then)
	}
	for plan := (Plan{}); !plan.Wait; {
		plan, _ = drive(p, time.Second)
	}
	p.Awaited(true)
	if plan, _ := drive(p, time.Second); !plan.Wait {
		t.Error("does not wait though an end came in time")
	}
}

// A record that is as large as the buffer would never be full: what is there goes before the buffer overflows.
func TestRecordAsLargeAsTheBuffer(t *testing.T) {
	s := settings(Adaptive)
	s.RecordBytes, s.BufferBytes = 10<<20, 4<<20
	p := New(s)
	held := Held{Bytes: 2 << 20, Oldest: start}
	if wait, _ := p.Due(start, held, Safe); wait > 0 {
		t.Errorf("due in %s", wait)
	}
	drive(p, every(time.Second, 10)...)
	if plan := p.Invoke(p.traffic.last.Add(time.Second), Held{Bytes: 2 << 20, Oldest: p.traffic.last}); !plan.Ship {
		t.Errorf("%+v", plan)
	}
}

func TestDue(t *testing.T) {
	p := New(settings(Adaptive))
	now := start
	for _, test := range []struct {
		name     string
		exposure Exposure
		held     Held
		wait     time.Duration
		ever     bool
	}{
		{"nothing held", Safe, Held{}, 0, false},
		{"the function has ended", Ending, Held{Bytes: 9 << 20, Oldest: now.Add(-time.Hour)}, 0, false},
		{"fresh and small", Safe, Held{Bytes: 1, Oldest: now}, 7500 * time.Millisecond, true},
		{"nearly late", Safe, Held{Bytes: 1, Oldest: now.Add(-7 * time.Second)}, 500 * time.Millisecond, true},
		{"late", Exposed, Held{Bytes: 1, Oldest: now.Add(-time.Minute)}, 0, true},
		{"a full record", Safe, Held{Bytes: 100_000, Oldest: now}, 0, true},
		{"a full record before a freeze", Exposed, Held{Bytes: 100_000, Oldest: now}, 7500 * time.Millisecond, true},
		{"a buffer half full", Exposed, Held{Bytes: 4 << 20, Oldest: now}, 0, true},
	} {
		if wait, ever := p.Due(now, test.held, test.exposure); wait != test.wait || ever != test.ever {
			t.Errorf("%s: %s, %t", test.name, wait, ever)
		}
	}
}

// What is old when an invocation begins goes with what is shipped at its end, unless that is far.
func TestWhatIsOldCanWaitForTheEnd(t *testing.T) {
	p := New(settings(Sync))
	_, now := drive(p, time.Minute, time.Minute)
	old := Held{Bytes: 1, Oldest: now.Add(-time.Minute)}
	if wait, ever := p.Due(now, old, Safe); wait != 2500*time.Millisecond || !ever {
		t.Errorf("due in %s", wait)
	}
	p.Missed()
	if wait, _ := p.Due(now, old, Exposed); wait != 0 {
		t.Errorf("nothing is shipped at the end, and it waits for %s", wait)
	}
}

// Environments that began at the same moment do not ship at the same moment.
func TestSpread(t *testing.T) {
	p := New(settings(Deferred))
	for _, test := range []struct {
		random float64
		wait   time.Duration
	}{{0, 7500 * time.Millisecond}, {0.5, 5 * time.Second}, {1, 2500 * time.Millisecond}} {
		p.Flown(start, Flight{Progress: true}, test.random)
		if wait, _ := p.Due(start, Held{Bytes: 1, Oldest: start}, Safe); wait != test.wait {
			t.Errorf("%g: %s", test.random, wait)
		}
	}
}

// A stream that never answers costs FlushTimeout in sum. The breaker rests longer each time, with jitter, up to a bound,
// and what is taken in full closes it.
func TestBreaker(t *testing.T) {
	p := New(settings(Sync))
	dead := Flight{Took: 700 * time.Millisecond, Failed: true}
	plan, now := drive(p, time.Second)
	if plan.Hold != time.Second {
		t.Fatalf("%+v", plan)
	}
	p.Flown(now, dead, 0)
	p.Held(700 * time.Millisecond)
	if plan, _ = drive(p, time.Second); plan.Hold != 0 || plan.Wait || !plan.Ship {
		t.Fatalf("held for a stream that answers later than is left: %+v", plan)
	}
	var rests []time.Duration
	for range 9 {
		p.Flown(now, dead, 0)
		wait, ever := p.Due(now, Held{Bytes: 1, Oldest: now}, Exposed)
		if plan, _ := drive(p, time.Second); plan != (Plan{}) || !ever || !p.Probing() {
			t.Fatalf("%+v", plan)
		}
		if p.Ready(now.Add(wait-1)) || !p.Ready(now.Add(wait)) {
			t.Errorf("it is not tried after its rest of %s", wait)
		}
		rests = append(rests, wait)
	}
	if rests[0] != time.Second || rests[1] != 2*time.Second || rests[8] != 5*time.Second {
		t.Errorf("rests at the lower end of the jitter: %s", rests)
	}
	if p.Flown(now, dead, 0.999); p.breaker.retryAt.Sub(now) < 9*time.Second {
		t.Errorf("no jitter: %s", p.breaker.retryAt.Sub(now))
	}
	p.Flown(now, Flight{Took: time.Millisecond, Progress: true}, 0)
	if plan, _ = drive(p, time.Second); !plan.Ship {
		t.Errorf("a stream that works again: %+v", plan)
	}
	for range 20 {
		p.Flown(now, Flight{Took: time.Millisecond, Progress: true}, 0)
	}
	if plan, _ = drive(p, time.Second); plan.Hold != time.Second || !plan.Wait {
		t.Errorf("a stream that has worked for a while: %+v", plan)
	}
}

func TestThrottledStreamIsNotWaitedForLong(t *testing.T) {
	p := New(settings(Sync))
	total := time.Duration(0)
	for range 50 {
		plan, now := drive(p, time.Second)
		if plan.Hold > 0 {
			total += plan.Hold / 4
			p.Flown(now, Flight{Took: plan.Hold / 4, Progress: true, Failed: true}, 0)
			p.Held(plan.Hold / 4)
		} else {
			p.Flown(now, Flight{Took: time.Second, Progress: true, Failed: true}, 0)
		}
	}
	if total > time.Second {
		t.Errorf("held back %s in sum for a stream that takes a part each time", total)
	}
}

// A stream that takes everything, but every other time only after a few tries, is not waited for each time.
func TestUnreliableStream(t *testing.T) {
	p := New(settings(Sync))
	total := time.Duration(0)
	for n := range 50 {
		plan, now := drive(p, time.Second)
		took := min(plan.Hold, 300*time.Millisecond)
		total += took
		p.Flown(now, Flight{Took: took, Progress: true, Faltered: n%2 == 0}, 0)
		p.Held(took)
	}
	if total > 3*time.Second {
		t.Errorf("held back %s in sum", total)
	}
}

// What a freeze did to an attempt is not the stream's fault.
func TestFreezeIsNoFailure(t *testing.T) {
	p := New(settings(Sync))
	_, now := drive(p, time.Second)
	for range 5 {
		p.Flown(now, Flight{Took: time.Hour, Failed: true, Frozen: true}, 0)
		p.Held(time.Hour)
	}
	p.Flown(now, Flight{Took: time.Hour, Progress: true, Frozen: true}, 0)
	if plan, _ := drive(p, time.Second); plan != (Plan{Wait: true, Hold: time.Second}) {
		t.Errorf("%+v", plan)
	}
}

// However long an invocation was held back in vain, the allowance is earned back in as many flights.
func TestAllowanceIsEarnedBack(t *testing.T) {
	p := New(settings(Sync))
	_, now := drive(p, time.Second)
	p.Flown(now, Flight{Failed: true}, 0)
	p.Held(time.Minute)
	for range 20 {
		p.Flown(now, Flight{Took: time.Millisecond, Progress: true}, 0)
	}
	if plan, _ := drive(p, time.Second); plan != (Plan{Wait: true, Hold: time.Second}) {
		t.Errorf("%+v", plan)
	}
}

// A stream whose answers take longer than an invocation may be held back is not waited for.
func TestSlowStream(t *testing.T) {
	p := New(settings(Sync))
	for range 8 {
		p.Flown(start, Flight{Took: 2 * time.Second, Progress: true}, 0)
	}
	if plan, _ := drive(p, time.Second); plan != (Plan{Ship: true}) {
		t.Errorf("%+v", plan)
	}
	for range 8 {
		p.Flown(start, Flight{Took: 5 * time.Millisecond, Progress: true}, 0)
	}
	if plan, _ := drive(p, time.Second); !plan.Wait {
		t.Errorf("faster again: %+v", plan)
	}
}

// FuzzPolicy: whatever happens, an invocation is never held for longer than FlushTimeout, and in vain never for longer
// than that in sum until the stream takes something in full.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 100, 7, 9, 255, 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		for _, mode := range []Mode{Sync, Deferred, Adaptive} {
			p, now, vain := New(settings(mode)), start, time.Duration(0)
			for _, b := range script {
				now = now.Add(time.Duration(b) * time.Duration(b) * time.Millisecond)
				plan := p.Invoke(now, Held{Bytes: int(b) * 1000, Oldest: now.Add(-time.Duration(b) * 100 * time.Millisecond)})
				if plan.Hold < 0 || plan.Hold > time.Second || plan.Wait && plan.Hold == 0 {
					t.Fatalf("%s: %+v", mode, plan)
				}
				flight := Flight{Took: time.Duration(b) * 10 * time.Millisecond, Progress: b&1 == 0, Failed: b&2 == 0, Frozen: b&12 == 0}
				p.Flown(now, flight, float64(b)/256)
				held := min(plan.Hold, flight.Took)
				p.Held(held)
				switch {
				case !flight.Failed && (flight.Progress || !flight.Frozen):
					vain = 0
				case flight.Failed && !flight.Frozen:
					vain += held
				}
				if vain > time.Second {
					t.Fatalf("%s: held back in vain for %s", mode, vain)
				}
				if b&16 == 0 {
					p.Missed()
				} else {
					p.End(time.Duration(b) * 20 * time.Millisecond)
				}
				if wait, _ := p.Due(now, Held{Bytes: 1, Oldest: now}, Exposure(b%3)); wait < 0 || wait > time.Minute {
					t.Fatalf("%s: due in %s", mode, wait)
				}
			}
		}
	})
}
