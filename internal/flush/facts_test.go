package flush

import (
	"testing"
	"time"
)

// The background ships a full record where no freeze can come, half a buffer where one can, and nothing once the function has ended.
func TestExposure(t *testing.T) {
	type leaves string
	const (
		nothing    leaves = "nothing"
		halfBuffer leaves = "half a buffer"
		fullRecord leaves = "a full record"
	)
	invoked, started := Invoked{Number: 1, Deadline: start.Add(deadline)}, Started{Number: 1}
	ended := EndSeen{Number: 1, At: start}
	for _, test := range []struct {
		name  string
		mode  Mode
		facts []Fact
		want  leaves
	}{
		{"init that may end in a snapshot", Sync, nil, nothing},
		{"init that may end in a freeze", Sync, []Fact{Initialising{}}, halfBuffer},
		{"an environment that is never frozen", Sync, []Fact{NeverFrozen{}}, fullRecord},
		{"its shutdown", Sync, []Fact{NeverFrozen{}, ShuttingDown{}}, nothing},
		{"an invocation that is waited for", Sync, []Fact{Initialising{}, invoked, started}, fullRecord},
		{"its end", Sync, []Fact{invoked, started, ended}, nothing},
		{"behind its end", Sync, []Fact{invoked, started, ended, NextCalled{}}, nothing},
		{"an invocation that is not waited for", Deferred, []Fact{invoked, started}, halfBuffer},
		{"next was asked for beside its handler", Deferred, []Fact{invoked, started, NextCalled{}}, halfBuffer},
		{"its end, seen behind that", Deferred, []Fact{invoked, started, NextCalled{}, ended}, nothing},
		{"next was asked for, since the wait was given up", Sync, []Fact{invoked, started, NextCalled{}}, halfBuffer},
		{"the end of the wait that was given up", Sync, []Fact{invoked, started, NextCalled{}, ended}, nothing},
		{"the next invocation", Sync, []Fact{invoked, ended, NextCalled{}, Invoked{Number: 2, Deadline: start.Add(deadline)}}, fullRecord},
		{"an end that was seen before its INVOKE", Sync, []Fact{Initialising{}, ended, invoked}, nothing},
		{"SHUTDOWN while the function runs", Deferred, []Fact{invoked, started, NextCalled{}, ShuttingDown{}}, nothing},
		{"SHUTDOWN while an end is waited for", Sync, []Fact{invoked, started, ShuttingDown{}}, nothing},
	} {
		e := newEnv(test.mode)
		e.note(test.facts...)
		got := nothing
		for _, b := range []struct {
			leaves
			bytes int
		}{{halfBuffer, 4 * megabyte}, {fullRecord, 100_000}} {
			e.buffer(b.bytes, 0)
			if e.shipsNow() {
				got = b.leaves
			}
			if _, ok := e.StartFlight(e.now, e.b, Background); ok != e.shipsNow() {
				t.Errorf("%s: %s is due: %t, and leaves: %t", test.name, b.leaves, e.shipsNow(), ok)
			}
			e.Note(e.now, e.b, Flight{Progress: true})
		}
		if got != test.want {
			t.Errorf("%s: %s leaves, want %s", test.name, got, test.want)
		}
	}
}

// At SHUTDOWN no end is waited for any more.
func TestShutdownEndsTheWait(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(0)
	e.note(ShuttingDown{})
	if until, seen := e.AwaitEnd(e.now); !until.IsZero() || seen {
		t.Errorf("waits until %s, %t", until, seen)
	}
}

// The end of an invocation that is seen while the next one runs neither ends that one's wait nor keeps the background from shipping.
func TestEndOfThePreviousInvocation(t *testing.T) {
	for _, number := range []int{1, 0} { // 0: it is not known any more which one ended
		e := newEnv(Sync)
		e.invoke(time.Second)
		e.giveUp()
		e.note(NextCalled{}, TelemetryLost{}, EndSeen{Number: 1}) // ends are seen
		e.number = 2
		e.note(Invoked{Number: 3, Deadline: e.now.Add(deadline)})
		e.note(EndSeen{Number: number, At: e.now}, EndSeen{Number: 2, At: e.now})
		if until, seen := e.AwaitEnd(e.now); until.IsZero() || seen {
			t.Errorf("the end of %d ends the wait for another", number)
		}
		if e.buffer(100_000, 0); !e.shipsNow() {
			t.Errorf("behind the end of %d nothing is shipped beside another handler", number)
		}
		e.note(EndSeen{Number: 3, At: e.now})
		if _, seen := e.AwaitEnd(e.now); !seen || e.shipsNow() {
			t.Error("the invocation's own end is not taken for it")
		}
	}
}

// Telemetry may be faster than the Extensions API: an end that is noted before its INVOKE counts.
func TestEndBeforeItsInvoke(t *testing.T) {
	e := newEnv(Sync)
	e.serve(time.Second)
	e.wait(time.Second)
	ended := e.now
	e.note(EndSeen{Number: 2, At: ended})
	e.wait(200 * ms)
	e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)})
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("the end is waited for though it was seen")
	}
	if until, _ := e.Bounds(e.now, AtEnd); !until.Equal(ended.Add(950 * ms)) {
		t.Errorf("held until %s behind the end", until.Sub(ended))
	}
}

// An end that is noted twice changes nothing the second time.
func TestDuplicateEnd(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	ended := e.now
	e.note(EndSeen{Number: 1, At: ended})
	e.wait(500 * ms)
	e.note(EndSeen{Number: 1, At: e.now}, EndSeen{Number: 1})
	if until, _ := e.Bounds(e.now, AtEnd); !until.Equal(ended.Add(950 * ms)) {
		t.Errorf("held until %s behind the end", until.Sub(ended))
	}
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("what is left is not shipped")
	}
	e.note(NextCalled{})
	e.invoke(time.Second)
	e.note(EndSeen{Number: 1, At: ended})
	e.wait(time.Minute)
	e.note(EndSeen{Number: 1, At: ended})
	if !e.waits() {
		t.Error("a duplicate ends the next invocation's wait")
	}
	if e.end(); e.TotalHold() != 500*ms {
		t.Errorf("held %s in sum", e.TotalHold())
	}
	e.note(NextCalled{})
	if waited := e.serve(time.Second); !waited {
		t.Error("a duplicate is taken for an end that came too late")
	}
}

// The hold counts from the function's end, however late it is seen. Where that is not known or lies in the future, it counts from now.
func TestHoldCountsFromTheEnd(t *testing.T) {
	seen := start.Add(time.Minute)
	for _, test := range []struct {
		name string
		at   time.Time
		want time.Time
	}{
		{"seen at once", seen, seen.Add(950 * ms)},
		{"seen a little later", seen.Add(-25 * ms), seen.Add(925 * ms)},
		{"seen too late", seen.Add(-time.Minute), start.Add(950 * ms)},
		{"not known", time.Time{}, seen.Add(950 * ms)},
		{"in the future", seen.Add(time.Hour), seen.Add(950 * ms)},
	} {
		e := newEnv(Sync)
		e.invoke(0)
		e.now = seen
		e.note(EndSeen{Number: 1, At: test.at})
		if until, _ := e.Bounds(e.now, AtEnd); !until.Equal(test.want) {
			t.Errorf("%s: held until %s", test.name, until)
		}
	}
}

// Only the time between an end that was waited for and the call of next counts as held.
func TestHeldBack(t *testing.T) {
	e := newEnv(Sync)
	for _, held := range []time.Duration{100 * ms, 50 * ms} {
		e.invoke(time.Second)
		e.end()
		e.wait(held)
		e.note(NextCalled{})
	}
	if e.TotalHold() != 150*ms {
		t.Errorf("held %s in sum", e.TotalHold())
	}
	e.note(NextCalled{})
	e.invoke(time.Second)
	e.wait(3 * time.Second)
	e.note(NextCalled{}) // beside the handler
	e.wait(time.Second)
	e.end()
	if e.TotalHold() != 150*ms {
		t.Errorf("the handler's own time counts as held: %s", e.TotalHold())
	}
	e.invoke(time.Second)
	e.end()
	e.wait(-time.Hour)
	if e.note(NextCalled{}); e.TotalHold() != 150*ms {
		t.Errorf("a clock that is set back: %s", e.TotalHold())
	}

	e = newEnv(Deferred)
	e.invoke(time.Second)
	e.end()
	e.wait(time.Second)
	if e.note(NextCalled{}); e.TotalHold() != 0 {
		t.Errorf("an invocation that was not waited for was held %s", e.TotalHold())
	}
}

// For one backlog, a full record or more that is left at the end, all holds together are at most FLUSH_TIMEOUT; once it is gone the
// next invocation has all of it again.
func TestBacklog(t *testing.T) {
	e := newEnv(Sync)
	e.endFlights(Flight{Took: 5 * ms, Progress: true})
	e.buffer(megabyte, time.Second)
	waits := 0
	for range 20 {
		e.invoke(time.Second)
		if e.waits() {
			waits++
		} else if !e.shipsNow() {
			t.Error("what is not shipped at the end is not shipped beside the handler either")
		}
		e.end()
		if until, _ := e.Bounds(e.now, AtEnd); e.now.Before(until) {
			e.now = until
		}
		e.endFlights(Flight{Took: 5 * ms, Bytes: 100_000, Progress: true})
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); waits == 0 || held < 900*ms || held > time.Second {
		t.Errorf("%d invocations held %s in sum for one backlog", waits, held)
	}
	for _, left := range []struct {
		bytes int
		hold  time.Duration
	}{{100_000, 0}, {99_999, 950 * ms}} {
		e.buffer(left.bytes, 0)
		e.endFlights(Flight{Took: 5 * ms, Bytes: megabyte, Progress: true})
		if hold := e.nextHold(); hold != left.hold {
			t.Errorf("%d bytes are left, and the next invocation may be held %s", left.bytes, hold)
		}
	}
}

// What was left though there was time for it, or was less than a record, is no backlog.
func TestNoBacklog(t *testing.T) {
	for _, test := range []struct {
		name   string
		bytes  int
		answer time.Duration // of the stream
		held   time.Duration
		next   time.Duration // how long the next invocation may be held
	}{
		{"a full record, and time for a request", 100_000, 100 * ms, 849 * ms, 950 * ms},
		{"a full record, and no time for one", 100_000, 100 * ms, 850 * ms, 150 * ms * 19 / 20},
		{"a full record, and the next hold would be in vain", 100_000, 100 * ms, 870 * ms, 0},
		{"a full record, and the stream is slow", 100_000, 500 * ms, 480 * ms, 0},
		{"less than a record", 99_999, 100 * ms, 870 * ms, 950 * ms},
	} {
		e := newEnv(Sync)
		e.endFlights(Flight{Took: test.answer, Progress: true})
		e.invoke(time.Second)
		e.end()
		e.wait(test.held)
		e.buffer(test.bytes, 0)
		e.note(NextCalled{})
		if hold := e.nextHold(); hold != test.next {
			t.Errorf("%s: the next invocation may be held %s, want %s", test.name, hold, test.next)
		}
	}
}
