package flush

import (
	"cmp"
	"testing"
	"time"
)

// giveUp waits for the end of the current invocation until the policy gives up. It returns the time since INVOKE.
func (e *env) giveUp() time.Duration {
	for range 10 {
		until, _ := e.AwaitEnd(e.now)
		if until.IsZero() {
			return e.now.Sub(e.traffic.last)
		}
		e.now = until
	}
	return -1 // the policy never gives up
}

// An invocation whose end never arrives waits until its deadline, or for as long as an end can be expected.
func TestWaitForTheEndIsBounded(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		name     string
		mode     Mode
		handlers []time.Duration // of the invocations before, a minute apart; 0: unknown duration
		deadline time.Duration   // after INVOKE; 0: 15 minutes
		silent   bool            // platform.start does not arrive
		lost     []time.Duration // when Lambda reports lost telemetry, after INVOKE
		want     time.Duration
	}{
		{name: "sync waits until the deadline", mode: Sync, deadline: 30 * second, want: 30 * second},
		{name: "sync waits until a deadline that is minutes away", mode: Sync, handlers: []time.Duration{second}, want: deadline},
		{name: "sync, no platform.start", mode: Sync, silent: true, want: 2 * second},
		{name: "sync, no platform.start, nearer deadline", mode: Sync, deadline: second, silent: true, want: second},
		{name: "deferred never waits", mode: Deferred, want: 0},
		{name: "adaptive without an end yet waits until the deadline", mode: Adaptive, want: deadline},
		{name: "adaptive, no platform.start", mode: Adaptive, silent: true, want: 2 * second},
		{name: "adaptive after an end", mode: Adaptive, handlers: []time.Duration{second}, want: 10 * second},
		{name: "adaptive after an end of unknown duration", mode: Adaptive, handlers: []time.Duration{0}, want: 10 * second},
		{
			name: "adaptive, nearer deadline", mode: Adaptive, handlers: []time.Duration{second}, deadline: 3 * second,
			want: 3 * second,
		},
		{name: "adaptive waits four times the longest handler", mode: Adaptive, handlers: []time.Duration{5 * second}, want: 20 * second},
		{name: "the longest handler is not the last one", mode: Adaptive, handlers: []time.Duration{5 * second, second}, want: 20 * second},
		{name: "lost telemetry: another FLUSH_TIMEOUT", mode: Sync, lost: []time.Duration{4 * second}, want: 5 * second},
		{name: "lost telemetry twice: FLUSH_TIMEOUT once", mode: Sync, lost: []time.Duration{4 * second, 4500 * ms}, want: 5 * second},
		{name: "lost telemetry, adaptive", mode: Adaptive, lost: []time.Duration{4 * second}, want: 5 * second},
		{
			name: "lost telemetry near the deadline", mode: Sync, deadline: 4500 * ms, lost: []time.Duration{4 * second},
			want: 4500 * ms,
		},
		{name: "lost telemetry, no platform.start", mode: Sync, silent: true, lost: []time.Duration{second / 2}, want: 1500 * ms},
	} {
		e := newEnv(test.mode)
		for _, took := range test.handlers {
			e.invoke(time.Minute)
			e.note(EndSeen{Number: e.number, At: e.now, Took: took}, NextCalled{})
		}
		e.wait(time.Minute)
		e.number++
		e.note(Invoked{Number: e.number, Deadline: e.now.Add(cmp.Or(test.deadline, deadline))})
		if !test.silent {
			e.note(Started{Number: e.number})
		}
		for _, lost := range test.lost {
			e.now = e.traffic.last.Add(lost)
			if !e.waits() {
				t.Errorf("%s: does not wait before the loss", test.name)
			}
			e.note(TelemetryLost{})
		}
		if got := e.giveUp(); got != test.want {
			t.Errorf("%s: waited %s, want %s", test.name, got, test.want)
		}
	}
}

// A platform.start of another invocation does not extend the wait.
func TestStartOfAnotherInvocationDoesNotExtendTheWait(t *testing.T) {
	for name, number := range map[string]int{"the one before": 1, "an unknown one": 0} {
		e := newEnv(Sync)
		e.serve(time.Second)
		e.wait(time.Second)
		e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)}, Started{Number: number})
		if got := e.giveUp(); got != 2*time.Second {
			t.Errorf("%s: waited %s", name, got)
		}
	}
}

// After a wasted wait or lost telemetry no invocation waits until an end is seen again.
func TestLostEndStopsTheWaits(t *testing.T) {
	for name, lose := range map[string]func(e *env){
		"wasted wait": func(e *env) {
			e.invoke(time.Second)
			e.giveUp()
			e.note(NextCalled{})
		},
		"wasted wait, no start": func(e *env) {
			e.number++
			e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)})
			e.giveUp()
		},
		"telemetry lost during a wait": func(e *env) {
			e.invoke(time.Second)
			e.note(TelemetryLost{})
			e.giveUp()
			e.note(NextCalled{})
		},
		"telemetry lost between invocations": func(e *env) { e.note(TelemetryLost{}) },
	} {
		e := newEnv(Sync)
		e.serve(time.Second)
		lose(e)
		for range 5 {
			if e.invoke(time.Second); e.waits() {
				t.Errorf("%s: waits before an end is seen", name)
			}
			e.note(NextCalled{})
		}
		e.end()
		if e.invoke(time.Second); !e.waits() {
			t.Errorf("%s: does not wait after an end was seen", name)
		}
	}
}

// An end that is seen after a loss shows that ends arrive again.
func TestEndAfterALossRestoresTheWaits(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.note(TelemetryLost{}, EndSeen{Number: 1, At: e.now})
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("the current invocation's end is not seen")
	}
	e.note(NextCalled{})
	if e.invoke(time.Second); !e.waits() {
		t.Error("the next invocation does not wait")
	}
}

// serveLate runs n invocations, a second apart. Each end is seen when the hold is over. It returns which invocations
// wait.
func (e *env) serveLate(n int) (waited []int) {
	for i := range n {
		e.invoke(time.Second)
		if e.waits() {
			waited = append(waited, i)
		}
		e.note(EndSeen{Number: e.number, At: e.now.Add(-e.settings.FlushTimeout)}, NextCalled{})
	}
	return waited
}

// While ends come too late to ship anything, ever fewer invocations wait, down to one of 64, until an end comes in time.
func TestLateEndsMakeWaitsRare(t *testing.T) {
	e := newEnv(Sync)
	if waited := e.serveLate(4); len(waited) != 2 || waited[0] != 0 || waited[1] != 2 {
		t.Errorf("of 4 invocations %v wait, want 0 and 2", waited)
	}
	e = newEnv(Sync)
	if first, then := e.serveLate(128), e.serveLate(640); len(first) != 7 || len(then) != 10 {
		t.Errorf("%d waits of 128, then %d of 640", len(first), len(then))
	}
	for range 64 {
		e.serve(time.Second) // if it waits, its end comes in time
	}
	if waited := e.serveLate(4); len(waited) != 2 || waited[0] != 0 || waited[1] != 2 {
		t.Errorf("after an end in time, invocations %v of 4 wait, want 0 and 2", waited)
	}
}

// An end is late if it is seen when the hold is already over.
func TestEndIsLateWhenTheHoldIsOver(t *testing.T) {
	for _, test := range []struct {
		delay time.Duration // from the function's end until it is seen
		late  bool
	}{{0, false}, {949 * ms, false}, {950 * ms, true}, {time.Minute, true}} {
		e := newEnv(Sync)
		e.invoke(time.Second)
		e.note(EndSeen{Number: 1, At: e.now.Add(-test.delay)}, NextCalled{})
		if waited := e.serve(time.Second); waited == test.late {
			t.Errorf("an end that is seen after %s: the next invocation waits: %t", test.delay, waited)
		}
	}
}

// The late end of an invocation that did not wait changes nothing.
func TestLateEndWithoutAWaitChangesNothing(t *testing.T) {
	e := newEnv(Adaptive)
	e.serveAll(repeat(time.Second, 10))
	if waited := e.serveLate(10); len(waited) > 0 {
		t.Fatalf("invocations %v wait in steady traffic", waited)
	}
	if waited := e.serve(10 * time.Minute); !waited { // the policy forgets the traffic
		t.Error("does not wait at the first invocation after a pause")
	}
}

// An end that arrives after its wait was given up is late if the function had ended before that. Else the handler just
// took long.
func TestEndAfterItsWaitWasGivenUp(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(gaveUp time.Time) EndSeen
		late bool
	}{
		{"telemetry that lags", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(-time.Second)} }, true},
		{"telemetry that lags by 1 ns", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(-1)} }, true},
		{"a handler that ended at that moment", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at} }, false},
		{"a long handler", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(time.Second)} }, false},
		{"at an unknown time", func(time.Time) EndSeen { return EndSeen{Number: 1} }, false},
	} {
		e := newEnv(Sync)
		e.invoke(0)
		e.giveUp()
		end := test.end(e.now)
		e.note(NextCalled{})
		e.wait(10 * time.Second)
		e.note(end, end) // the duplicate changes nothing
		for i, want := range []bool{!test.late, true} {
			if waited := e.serve(time.Second); waited != want {
				t.Errorf("%s: invocation %d after it waits: %t", test.name, i, waited)
			}
		}
	}
}

// Lost telemetry does not count as late telemetry, unless an end arrived after its wait was given up.
func TestLossIsNotALateEnd(t *testing.T) {
	e := newEnv(Sync)
	e.serve(time.Second)
	e.note(TelemetryLost{}, EndSeen{Number: 0, At: e.now.Add(-time.Hour)})
	if waited := e.serve(time.Second); !waited {
		t.Error("after an old end that no invocation waited for, the next invocation does not wait")
	}
}

// During a backoff no invocation waits, and that does not count as a missed end.
func TestNoWaitDuringABackoff(t *testing.T) {
	dead := Flight{Took: 10 * ms, Failed: true}
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.endFlights(dead, dead)
	if until, seen := e.AwaitEnd(e.now); !until.IsZero() || seen {
		t.Errorf("waits until %s, though nothing can be shipped then; seen: %t", until, seen)
	}
	e.endFlights(Flight{Took: 10 * ms, Progress: true})
	if e.waits() {
		t.Error("the same invocation waits again")
	}
	e.note(NextCalled{})
	if e.invoke(time.Second); !e.waits() {
		t.Error("the next invocation does not wait, though the stream works again and no end was missed")
	}
}

// If ends arrive after their deadlines, the end of any invocation shows that telemetry lags. So ever fewer invocations
// wait until their deadline, not every second one.
func TestTelemetryLagsByMoreThanTheDeadline(t *testing.T) {
	e := newEnv(Sync)
	waits := 0
	for range 128 {
		before := e.now
		if e.invoke(100 * ms); e.waits() {
			waits++
			e.giveUp()
		}
		e.note(NextCalled{}, EndSeen{Number: max(e.number-50, 0), At: before})
	}
	if waits != 7 {
		t.Errorf("%d waits of 128", waits)
	}
}
