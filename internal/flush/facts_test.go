package flush

import (
	"testing"
	"time"
)

// Without a freeze ahead the background ships a full record. Before a possible freeze it ships half a buffer. After the
// function's end it ships nothing.
func TestExposureDecidesWhatTheBackgroundShips(t *testing.T) {
	type shipment string
	const (
		nothing    shipment = "nothing"
		halfBuffer shipment = "half a buffer"
		fullRecord shipment = "a full record"
	)
	invoked, started := Invoked{Number: 1, Deadline: start.Add(deadline)}, Started{Number: 1}
	ended := EndSeen{Number: 1, At: start}
	for _, test := range []struct {
		name  string
		mode  Mode
		facts []Fact
		want  shipment
	}{
		{"init before a snapshot", Sync, nil, nothing},
		{"init before a freeze", Sync, []Fact{Initialising{}}, halfBuffer},
		{"an environment that is never frozen", Sync, []Fact{NeverFrozen{}}, fullRecord},
		{"the shutdown of one that is never frozen", Sync, []Fact{NeverFrozen{}, ShuttingDown{}}, nothing},
		{"an invocation that waits for its end", Sync, []Fact{Initialising{}, invoked, started}, fullRecord},
		{"the end that it waits for", Sync, []Fact{invoked, started, ended}, nothing},
		{"after its end and the call of next", Sync, []Fact{invoked, started, ended, NextCalled{}}, nothing},
		{"an invocation that does not wait", Deferred, []Fact{invoked, started}, halfBuffer},
		{"next was called while its handler runs", Deferred, []Fact{invoked, started, NextCalled{}}, halfBuffer},
		{"its end, after the call of next", Deferred, []Fact{invoked, started, NextCalled{}, ended}, nothing},
		{"next was called after the wait was given up", Sync, []Fact{invoked, started, NextCalled{}}, halfBuffer},
		{"the end after its wait was given up", Sync, []Fact{invoked, started, NextCalled{}, ended}, nothing},
		{"the next invocation", Sync, []Fact{invoked, ended, NextCalled{}, Invoked{Number: 2, Deadline: start.Add(deadline)}}, fullRecord},
		{"an end before its INVOKE", Sync, []Fact{Initialising{}, ended, invoked}, nothing},
		{"SHUTDOWN while the function runs", Deferred, []Fact{invoked, started, NextCalled{}, ShuttingDown{}}, nothing},
		{"SHUTDOWN while an invocation waits", Sync, []Fact{invoked, started, ShuttingDown{}}, nothing},
	} {
		e := newEnv(test.mode)
		e.note(test.facts...)
		got := nothing
		for _, b := range []struct {
			shipment
			bytes int
		}{{halfBuffer, 4 * megabyte}, {fullRecord, 100_000}} {
			e.buffer(b.bytes, 0)
			if e.shipsNow() {
				got = b.shipment
			}
			if _, ok := e.StartFlight(e.now, e.b, Background); ok != e.shipsNow() {
				t.Errorf("%s: %s ships now: %t, and a flight starts: %t", test.name, b.shipment, e.shipsNow(), ok)
			}
			e.Note(e.now, e.b, Flight{Progress: true})
		}
		if got != test.want {
			t.Errorf("%s: %s ships, want %s", test.name, got, test.want)
		}
	}
}

// SHUTDOWN ends the wait for an end.
func TestShutdownEndsTheWait(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(0)
	e.note(ShuttingDown{})
	if until, seen := e.AwaitEnd(e.now); !until.IsZero() || seen {
		t.Errorf("waits until %s, seen: %t", until, seen)
	}
}

// An end that is seen while the next invocation runs does not end the wait of that invocation. The background goes on
// shipping.
func TestEndOfThePreviousInvocationDoesNotEndTheWait(t *testing.T) {
	for _, number := range []int{1, 0} { // 0: the number of the invocation is no longer known
		e := newEnv(Sync)
		e.invoke(time.Second)
		e.giveUp()
		e.note(NextCalled{}, TelemetryLost{}, EndSeen{Number: 1}) // so the next invocation waits
		e.number = 2
		e.note(Invoked{Number: 3, Deadline: e.now.Add(deadline)})
		e.note(EndSeen{Number: number, At: e.now}, EndSeen{Number: 2, At: e.now})
		if until, seen := e.AwaitEnd(e.now); until.IsZero() || seen {
			t.Errorf("the end of %d ends the wait of another invocation", number)
		}
		if e.buffer(100_000, 0); !e.shipsNow() {
			t.Errorf("after the end of %d a full record is not shipped while another handler runs", number)
		}
		e.note(EndSeen{Number: 3, At: e.now})
		if _, seen := e.AwaitEnd(e.now); !seen || e.shipsNow() {
			t.Error("the invocation's own end does not end its wait")
		}
	}
}

// Telemetry may arrive before the Extensions API answers: an end that is noted before its INVOKE counts.
func TestEndBeforeItsInvokeCounts(t *testing.T) {
	e := newEnv(Sync)
	e.serve(time.Second)
	e.wait(time.Second)
	ended := e.now
	e.note(EndSeen{Number: 2, At: ended})
	e.wait(200 * ms)
	e.note(Invoked{Number: 2, Deadline: e.now.Add(deadline)})
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("waits for an end that was already seen")
	}
	if until, _ := e.Bounds(e.now, AtEnd); !until.Equal(ended.Add(950 * ms)) {
		t.Errorf("held until %s after the end", until.Sub(ended))
	}
}

// A duplicate of an end changes nothing.
func TestDuplicateEndChangesNothing(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	ended := e.now
	e.note(EndSeen{Number: 1, At: ended})
	e.wait(500 * ms)
	e.note(EndSeen{Number: 1, At: e.now}, EndSeen{Number: 1})
	if until, _ := e.Bounds(e.now, AtEnd); !until.Equal(ended.Add(950 * ms)) {
		t.Errorf("held until %s after the end", until.Sub(ended))
	}
	if _, seen := e.AwaitEnd(e.now); !seen {
		t.Error("a duplicate stops shipping at the end")
	}
	e.note(NextCalled{})
	e.invoke(time.Second)
	e.note(EndSeen{Number: 1, At: ended})
	e.wait(time.Minute)
	e.note(EndSeen{Number: 1, At: ended})
	if !e.waits() {
		t.Error("a duplicate ends the wait of the next invocation")
	}
	if e.end(); e.TotalHold() != 500*ms {
		t.Errorf("held %s in sum", e.TotalHold())
	}
	e.note(NextCalled{})
	if waited := e.serve(time.Second); !waited {
		t.Error("a duplicate counts as an end that came too late")
	}
}

// The hold counts from the function's end, however late it is seen. If that time is unknown or in the future, it counts
// from now.
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
		{"unknown", time.Time{}, seen.Add(950 * ms)},
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

// Only the time between an end that the invocation waited for and the call of next counts as a hold.
func TestTotalHold(t *testing.T) {
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
	e.note(NextCalled{}) // while the handler runs
	e.wait(time.Second)
	e.end()
	if e.TotalHold() != 150*ms {
		t.Errorf("the handler's own time counts as a hold: %s", e.TotalHold())
	}
	e.invoke(time.Second)
	e.end()
	e.wait(-time.Hour)
	if e.note(NextCalled{}); e.TotalHold() != 150*ms {
		t.Errorf("a clock that is set back counts as a hold: %s", e.TotalHold())
	}

	e = newEnv(Deferred)
	e.invoke(time.Second)
	e.end()
	e.wait(time.Second)
	if e.note(NextCalled{}); e.TotalHold() != 0 {
		t.Errorf("an invocation that did not wait was held %s", e.TotalHold())
	}
}

// A backlog is a full record or more that is left at the end. All holds for one backlog are at most FLUSH_TIMEOUT in
// sum. Once the backlog is gone, the next invocation may be held for all of FLUSH_TIMEOUT again.
func TestBacklogBoundsTheHolds(t *testing.T) {
	e := newEnv(Sync)
	e.endFlights(Flight{Took: 5 * ms, Progress: true})
	e.buffer(megabyte, time.Second)
	waits := 0
	for range 20 {
		e.invoke(time.Second)
		if e.waits() {
			waits++
		} else if !e.shipsNow() {
			t.Error("ships neither at the end nor while the handler runs")
		}
		e.end()
		if until, _ := e.Bounds(e.now, AtEnd); e.now.Before(until) {
			e.now = until
		}
		e.endFlights(Flight{Took: 5 * ms, Bytes: 100_000, Progress: true})
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); waits == 0 || held < 900*ms || held > time.Second {
		t.Errorf("%d invocations waited, held %s in sum for one backlog", waits, held)
	}
	for _, left := range []struct {
		bytes int
		hold  time.Duration
	}{{100_000, 0}, {99_999, 950 * ms}} {
		e.buffer(left.bytes, 0)
		e.endFlights(Flight{Took: 5 * ms, Bytes: megabyte, Progress: true})
		if hold := e.nextHold(); hold != left.hold {
			t.Errorf("%d bytes are left, and the next invocation may be held for %s", left.bytes, hold)
		}
	}
}

// Less than a record is no backlog. Neither is a record that there was time to ship.
func TestLessThanARecordIsNoBacklog(t *testing.T) {
	for _, test := range []struct {
		name   string
		bytes  int           // left at the end
		answer time.Duration // round trip of the stream
		held   time.Duration
		next   time.Duration // the longest hold of the next invocation
	}{
		{"a full record, and time for a request", 100_000, 100 * ms, 849 * ms, 950 * ms},
		{"a full record, and no time for one", 100_000, 100 * ms, 850 * ms, 150 * ms * 19 / 20},
		{"a full record, and the next hold would be wasted", 100_000, 100 * ms, 870 * ms, 0},
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
			t.Errorf("%s: the next invocation may be held for %s, want %s", test.name, hold, test.next)
		}
	}
}
