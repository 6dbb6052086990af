package flush

import (
	"cmp"
	"testing"
	"time"
)

// giveUp waits for the end of the current invocation until the policy wants no more, and tells how long after INVOKE that is.
func (e *env) giveUp() time.Duration {
	for range 10 {
		until, _ := e.AwaitEnd(e.now)
		if until.IsZero() {
			return e.now.Sub(e.traffic.last)
		}
		e.now = until
	}
	return -1 // until is not when to ask again
}

// An end that never comes is waited for until the deadline, or for as long as there is reason to expect it.
func TestWaitForTheEnd(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		name     string
		mode     Mode
		handlers []time.Duration // before, a minute apart; 0: how long it took is not known
		deadline time.Duration   // after INVOKE; 0: 15 minutes
		silent   bool            // platform.start does not come
		lost     []time.Duration // when Lambda tells of lost telemetry
		want     time.Duration
	}{
		{name: "sync waits until the deadline", mode: Sync, deadline: 30 * second, want: 30 * second},
		{name: "also if that is minutes away", mode: Sync, handlers: []time.Duration{second}, want: deadline},
		{name: "sync, no platform.start", mode: Sync, silent: true, want: 2 * second},
		{name: "sync, no platform.start, and the deadline is nearer", mode: Sync, deadline: second, silent: true, want: second},
		{name: "deferred never waits", mode: Deferred, want: 0},
		{name: "adaptive that has seen no end yet waits until the deadline", mode: Adaptive, want: deadline},
		{name: "adaptive, no platform.start", mode: Adaptive, silent: true, want: 2 * second},
		{name: "adaptive that has seen an end", mode: Adaptive, handlers: []time.Duration{second}, want: 10 * second},
		{name: "though it does not know how long the handler took", mode: Adaptive, handlers: []time.Duration{0}, want: 10 * second},
		{name: "adaptive, and the deadline is nearer", mode: Adaptive, handlers: []time.Duration{second}, deadline: 3 * second, want: 3 * second},
		{name: "four times the longest handler", mode: Adaptive, handlers: []time.Duration{5 * second}, want: 20 * second},
		{name: "which is not the last one", mode: Adaptive, handlers: []time.Duration{5 * second, second}, want: 20 * second},
		{name: "lost telemetry: FLUSH_TIMEOUT more", mode: Sync, lost: []time.Duration{4 * second}, want: 5 * second},
		{name: "once", mode: Sync, lost: []time.Duration{4 * second, 4500 * ms}, want: 5 * second},
		{name: "lost telemetry, adaptive", mode: Adaptive, lost: []time.Duration{4 * second}, want: 5 * second},
		{name: "lost telemetry near the deadline", mode: Sync, deadline: 4500 * ms, lost: []time.Duration{4 * second}, want: 4500 * ms},
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
				t.Errorf("%s: does not wait at first", test.name)
			}
			e.note(TelemetryLost{})
		}
		if got := e.giveUp(); got != test.want {
			t.Errorf("%s: waited %s, want %s", test.name, got, test.want)
		}
	}
}

// A platform.start of another invocation is no reason to expect the end of this one.
func TestStartOfAnother(t *testing.T) {
	for name, number := range map[string]int{"the one before": 1, "one that is not known": 0} {
		e := newEnv(Sync)
		e.serve(time.Second)
		e.wait(time.Second)
		e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)}, Started{Number: number})
		if got := e.giveUp(); got != 2*time.Second {
			t.Errorf("%s: waited %s", name, got)
		}
	}
}

// Where an end was waited for in vain, or telemetry was lost, no invocation is waited for until an end is seen again.
func TestLostEnds(t *testing.T) {
	for name, lose := range map[string]func(e *env){
		"waited for in vain":             func(e *env) { e.invoke(time.Second); e.giveUp(); e.note(NextCalled{}) },
		"waited for in vain, no start":   func(e *env) { e.number++; e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)}); e.giveUp() },
		"telemetry lost, waited for":     func(e *env) { e.invoke(time.Second); e.note(TelemetryLost{}); e.giveUp(); e.note(NextCalled{}) },
		"telemetry lost, at other times": func(e *env) { e.note(TelemetryLost{}) },
	} {
		e := newEnv(Sync)
		e.serve(time.Second)
		lose(e)
		for range 5 {
			if e.invoke(time.Second); e.waits() {
				t.Errorf("%s: waits again though no end is seen", name)
			}
			e.note(NextCalled{})
		}
		e.end()
		if e.invoke(time.Second); !e.waits() {
			t.Errorf("%s: does not wait though ends are seen again", name)
		}
	}
}

// An end that is seen behind the loss shows that ends come, though others were lost.
func TestEndBehindALoss(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.note(TelemetryLost{}, EndSeen{Number: 1, At: e.now})
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("the end that was waited for is not seen")
	}
	e.note(NextCalled{})
	if e.invoke(time.Second); !e.waits() {
		t.Error("the next invocation is not waited for")
	}
}

// serveLate serves n invocations a second apart. Where one is waited for its end comes a hold too serveLate. It returns which ones are waited for.
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

// Ends that come too late to ship anything are waited for ever more seldom, down to one invocation of 64, until one comes in time.
func TestLateEnds(t *testing.T) {
	e := newEnv(Sync)
	if waited := e.serveLate(4); len(waited) != 2 || waited[0] != 0 || waited[1] != 2 {
		t.Errorf("of a, b, c and d it waits for %v, not for a and c", waited)
	}
	e = newEnv(Sync)
	if first, then := e.serveLate(128), e.serveLate(640); len(first) != 7 || len(then) != 10 {
		t.Errorf("%d waits of 128, then %d of 640", len(first), len(then))
	}
	for range 64 {
		e.serve(time.Second) // where it is waited for, its end comes in time
	}
	if waited := e.serveLate(4); len(waited) != 2 || waited[0] != 0 || waited[1] != 2 {
		t.Errorf("behind an end in time it waits for %v, not for the first and the third", waited)
	}
}

// An end is late where nothing of the hold is left when it is seen.
func TestWhatIsLate(t *testing.T) {
	for _, test := range []struct {
		behind time.Duration // the end, it is seen
		late   bool
	}{{0, false}, {949 * ms, false}, {950 * ms, true}, {time.Minute, true}} {
		e := newEnv(Sync)
		e.invoke(time.Second)
		e.note(EndSeen{Number: 1, At: e.now.Add(-test.behind)}, NextCalled{})
		if waited := e.serve(time.Second); waited == test.late {
			t.Errorf("an end that is seen %s behind it: the next is waited for: %t", test.behind, waited)
		}
	}
}

// The late end of an invocation that nothing waited for is no reason to wait less.
func TestLateEndsThatNothingWaitedFor(t *testing.T) {
	e := newEnv(Adaptive)
	e.serveAll(repeat(time.Second, 10))
	if waited := e.serveLate(10); len(waited) > 0 {
		t.Fatalf("waits for %v in steady traffic", waited)
	}
	if waited := e.serve(10 * time.Minute); !waited { // traffic is forgotten
		t.Error("does not wait at the first invocation after a pause")
	}
}

// An end that comes when its wait was given up is late where it lay before that, not where the handler just took long.
func TestEndBehindTheWait(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(gaveUp time.Time) EndSeen
		late bool
	}{
		{"telemetry that lags", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(-time.Second)} }, true},
		{"by very little", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(-1)} }, true},
		{"a handler that ended just then", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at} }, false},
		{"a long handler", func(at time.Time) EndSeen { return EndSeen{Number: 1, At: at.Add(time.Second)} }, false},
		{"at an unknown time", func(time.Time) EndSeen { return EndSeen{Number: 1} }, false},
	} {
		e := newEnv(Sync)
		e.invoke(0)
		e.giveUp()
		end := test.end(e.now)
		e.note(NextCalled{})
		e.wait(10 * time.Second)
		e.note(end, end) // the second one changes nothing
		for i, want := range []bool{!test.late, true} {
			if waited := e.serve(time.Second); waited != want {
				t.Errorf("%s: invocation %d behind it is waited for: %t", test.name, i, waited)
			}
		}
	}
}

// Telemetry of which some was lost counts as late only where an end came behind its wait.
func TestLossIsNotLateness(t *testing.T) {
	e := newEnv(Sync)
	e.serve(time.Second)
	e.note(TelemetryLost{}, EndSeen{Number: 0, At: e.now.Add(-time.Hour)})
	if waited := e.serve(time.Second); !waited {
		t.Error("an end of long ago that was never waited for makes the next invocation go without a wait")
	}
}

// While the stream rests nothing is waited for, and that says nothing about how ends come.
func TestNoWaitForAStreamThatRests(t *testing.T) {
	dead := Flight{Took: 10 * ms, Failed: true}
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.endFlights(dead, dead)
	if until, seen := e.AwaitEnd(e.now); !until.IsZero() || seen {
		t.Errorf("waits until %s for an end that nothing can be shipped at", until)
	}
	e.endFlights(Flight{Took: 10 * ms, Progress: true})
	if e.waits() {
		t.Error("begins again to wait for the same invocation")
	}
	e.note(NextCalled{})
	if e.invoke(time.Second); !e.waits() {
		t.Error("does not wait though the stream takes everything again, and no end was missed")
	}
}

// Where ends come behind their deadlines, the end of any invocation shows it: not every second one is held until its deadline.
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
