package flush

import (
	"testing"
	"time"
)

// The background ships a full record at once, or half a buffer before a possible freeze, and other events before they
// are late.
func TestBackgroundShipsBeforeEventsAreLate(t *testing.T) {
	const never = -1
	for _, test := range []struct {
		name  string
		facts []Fact
		bytes int
		age   time.Duration
		want  time.Duration
	}{
		{"nothing buffered", []Fact{NeverFrozen{}}, 0, time.Hour, never},
		{"the function has ended", nil, 9 * megabyte, time.Hour, never},
		{"fresh and small", []Fact{NeverFrozen{}}, 1, 0, 7500 * ms},
		{"nearly late", []Fact{NeverFrozen{}}, 1, 7 * time.Second, 500 * ms},
		{"late", []Fact{Initialising{}}, 1, time.Minute, 0},
		{"nearly a full record", []Fact{NeverFrozen{}}, 99_999, 0, 7500 * ms},
		{"a full record", []Fact{NeverFrozen{}}, 100_000, 0, 0},
		{"a full record before a freeze", []Fact{Initialising{}}, 100_000, 0, 7500 * ms},
		{"nearly half a buffer before a freeze", []Fact{Initialising{}}, 4*megabyte - 1, 0, 7500 * ms},
		{"half a buffer before a freeze", []Fact{Initialising{}}, 4 * megabyte, 0, 0},
	} {
		e := newEnv(Adaptive)
		e.note(test.facts...)
		e.buffer(test.bytes, test.age)
		wait, ever := e.NextFlight(e.now, e.b)
		if !ever {
			wait = never
		}
		if wait != test.want {
			t.Errorf("%s: %s", test.name, wait)
		}
	}
}

// A record as large as the buffer would never be full, so half a buffer ships like a full record.
func TestHalfABufferShipsLikeAFullRecord(t *testing.T) {
	s := settings(Adaptive)
	s.RecordBytes, s.BufferBytes = 10*megabyte, 4*megabyte
	for bytes, want := range map[int]bool{2 * megabyte: true, 2*megabyte - 1: false} {
		e := envOf(s)
		e.note(NeverFrozen{})
		if e.buffer(bytes, 0); e.shipsNow() != want {
			t.Errorf("%d bytes ship now: %t", bytes, e.shipsNow())
		}
		e = envOf(s)
		e.serveAll(repeat(time.Second, 10))
		e.wait(time.Second)
		e.buffer(bytes, 0)
		if e.invoke(0); e.shipsNow() != want {
			t.Errorf("%d bytes ship while the handler runs: %t", bytes, e.shipsNow())
		}
	}
}

// The last platform.report arrives late, with the first POST after INVOKE. It ships with everything else at the end,
// unless the end is far.
func TestLateEventsWaitForTheEnd(t *testing.T) {
	e := newEnv(Sync)
	e.serve(time.Minute)
	e.invoke(time.Minute)
	e.buffer(1, time.Minute)
	if wait, ever := e.NextFlight(e.now, e.b); wait != 2500*ms || !ever {
		t.Errorf("ships in %s", wait)
	}
	e.wait(time.Second)
	if wait, _ := e.NextFlight(e.now, e.b); wait != 1500*ms {
		t.Errorf("a second later, ships in %s", wait)
	}
	e.note(TelemetryLost{})
	if waited := e.giveUp(); waited != 2*time.Second || !e.shipsNow() {
		t.Errorf("waited %s, then ships now: %t", waited, e.shipsNow())
	}
}

// A fresh event waits for its own time, even if the invocation waits for its end.
func TestFreshEventsWaitForTheirTime(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(0)
	e.buffer(1, 0)
	if wait, _ := e.NextFlight(e.now, e.b); wait != 7500*ms {
		t.Errorf("ships in %s", wait)
	}
}

// Environments that started at the same moment do not ship at the same moment.
func TestShipTimesHaveJitter(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 7500 * ms, 0.5: 5 * time.Second, 1: 2500 * ms} {
		e := newEnv(Deferred)
		e.note(NeverFrozen{})
		e.endFlights(accepted.random(random))
		e.buffer(1, 0)
		if wait, _ := e.NextFlight(e.now, e.b); wait != want {
			t.Errorf("random %g: ships in %s", random, wait)
		}
	}
}

// Deferred ships everything that was buffered at INVOKE while the handler runs, in as many requests as necessary. Later
// events wait for their time.
func TestBytesBufferedAtInvokeAreUrgent(t *testing.T) {
	e := newEnv(Deferred)
	e.buffer(1000, 0)
	e.invoke(0)
	for _, step := range []struct {
		flight Flight
		due    bool
	}{{Flight{Progress: true, Bytes: 600}, true}, {Flight{Progress: true, Bytes: 399}, true}, {Flight{Progress: true, Bytes: 1}, false}} {
		if _, ok := e.StartFlight(e.now, e.b, Background); !ok {
			t.Fatal("no flight starts")
		}
		if e.note(step.flight); e.shipsNow() != step.due {
			t.Errorf("after a flight of %d bytes more ships at once: %t", step.flight.Bytes, e.shipsNow())
		}
	}
	e.note(NextCalled{})
	if e.invoke(time.Second); !e.shipsNow() {
		t.Error("the rest does not ship while the next handler runs")
	}
}

// A flight that failed is not repeated at once while the same handler runs.
func TestFailedFlightIsNotRepeatedAtOnce(t *testing.T) {
	for _, failed := range []Flight{refused, unanswered, partlyAccepted} {
		e := newEnv(Deferred)
		e.buffer(1000, 0)
		e.invoke(0)
		e.StartFlight(e.now, e.b, Background)
		if e.note(failed); e.shipsNow() {
			t.Errorf("%+v: retried at once", failed)
		}
	}
}

// During a backoff no bytes are urgent, not even at INVOKE.
func TestBackoffOverridesUrgency(t *testing.T) {
	e := newEnv(Deferred)
	e.endFlights(refused, refused)
	e.buffer(megabyte, 0)
	e.invoke(0)
	if wait, _ := e.NextFlight(e.now, e.b); wait != time.Second {
		t.Errorf("ships in %s", wait)
	}
	e.endFlights(accepted)
	if e.shipsNow() {
		t.Error("events that arrived during the backoff are urgent, though the buffer has room")
	}
}

// The background ships full records and late events. At the function's end everything ships, unless a backoff runs or
// the time left is too short. At SHUTDOWN everything ships.
func TestOccasionDecidesWhetherAFlightStarts(t *testing.T) {
	type want struct{ background, end, shutdown bool }
	ended := func(e *env) { e.invoke(0); e.end() }
	for _, test := range []struct {
		name  string
		facts func(e *env)
		bytes int
		want  want
	}{
		{"nothing buffered", func(e *env) { e.note(NeverFrozen{}) }, 0, want{}},
		{"a full record while the handler runs", func(e *env) { e.invoke(0) }, 100_000, want{background: true, shutdown: true}},
		{"less while the handler runs", func(e *env) { e.invoke(0) }, 1, want{shutdown: true}},
		{"the function's end", ended, 1, want{end: true, shutdown: true}},
		{"nothing buffered at the end", ended, 0, want{}},
		{"the hold is over", func(e *env) { ended(e); e.wait(9500 * ms) }, 1, want{shutdown: true}},
		{"the hold is nearly over", func(e *env) { ended(e); e.wait(9499 * ms) }, 1, want{end: true, shutdown: true}},
		{"the answer would arrive after the hold", func(e *env) { e.endFlights(accepted); ended(e); e.wait(9495 * ms) }, 1, want{shutdown: true}},
		{"during a backoff", func(e *env) { ended(e); e.endFlights(refused, refused); e.wait(999 * ms) }, 1, want{shutdown: true}},
		{
			name:  "after a backoff",
			facts: func(e *env) { ended(e); e.endFlights(refused, refused); e.wait(time.Second) },
			bytes: 1,
			want:  want{end: true, shutdown: true},
		},
		{"SHUTDOWN", func(e *env) { e.note(ShuttingDown{}) }, megabyte, want{shutdown: true}},
	} {
		take := func(why Occasion) bool {
			s := settings(Sync)
			s.FlushTimeout = 10 * time.Second
			e := envOf(s)
			test.facts(e)
			e.buffer(test.bytes, 0)
			_, ok := e.StartFlight(e.now, e.b, why)
			return ok
		}
		if got := (want{take(Background), take(AtEnd), take(AtShutdown)}); got != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// A probe of one record goes to a stream that failed, unless a record may be invalid, or at SHUTDOWN.
func TestProbeAfterFailures(t *testing.T) {
	probe := Load{Bytes: 100_000, Probe: true}
	wrong := refused
	wrong.Invalid = true
	for _, test := range []struct {
		name    string
		flights []Flight
		why     Occasion
		want    Load
	}{
		{"a stream that works", []Flight{accepted}, Background, Load{}},
		{"one failure", []Flight{refused}, Background, Load{}},
		{"a stream that failed", []Flight{refused, refused}, Background, probe},
		{"the record may be invalid", []Flight{refused, wrong}, Background, Load{}},
		{"the last failure had another cause", []Flight{wrong, refused}, Background, probe},
		{"SHUTDOWN", []Flight{refused, refused}, AtShutdown, Load{}},
	} {
		e := newEnv(Sync)
		e.note(NeverFrozen{})
		e.endFlights(test.flights...)
		e.wait(time.Minute)
		e.buffer(megabyte, 0)
		if load, ok := e.StartFlight(e.now, e.b, test.why); load != test.want || !ok {
			t.Errorf("%s: %+v, %t", test.name, load, ok)
		}
	}
}

// Shipping at the end stops a twentieth of FLUSH_TIMEOUT early, for the way back to Lambda. It waits for a flight in
// progress during half of the time that is left, always with a bound.
func TestBoundsLeaveTimeForTheWayBack(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(0)
	e.end()
	end := e.now
	for _, test := range []struct {
		name     string
		after    time.Duration // the end
		why      Occasion
		until    time.Time
		patience time.Duration
	}{
		{"the end", 0, AtEnd, end.Add(950 * ms), 475 * ms},
		{"seen a little later", 50 * ms, AtEnd, end.Add(950 * ms), 450 * ms},
		{"the hold is over", 950 * ms, AtEnd, end.Add(950 * ms), 1},
		{"long ago", time.Minute, AtEnd, end.Add(950 * ms), 1},
		{"SHUTDOWN", 0, AtShutdown, time.Time{}, 200 * ms},
		{"the background", 0, Background, time.Time{}, 0},
	} {
		if until, patience := e.Bounds(end.Add(test.after), test.why); !until.Equal(test.until) || patience != test.patience {
			t.Errorf("%s: until %s, patience %s", test.name, until, patience)
		}
	}
}

// A flight of the previous invocation that ends while this handler runs does not change the urgent bytes of this
// invocation.
func TestInterruptedFlightKeepsUrgentBytes(t *testing.T) {
	for _, flight := range []Flight{accepted, unanswered} {
		e := newEnv(Deferred)
		e.buffer(1000, 0)
		e.invoke(0)
		e.StartFlight(e.now, e.b, Background)
		e.note(NextCalled{})
		e.end()
		e.buffer(800, 0)
		e.invoke(time.Second)
		flight.Bytes = 1000
		if e.note(flight); !e.shipsNow() {
			t.Errorf("%+v: the rest does not ship while this handler runs", flight)
		}
	}
}

// The bytes that surely leave at SHUTDOWN are a first request. If a large flight was seen, they are the stream's
// throughput of a second. If the stream throttles, they are one record. With more in the buffer logs leave last.
func TestLogsLast(t *testing.T) {
	const record, mib = 100_000, 1 << 20
	for name, test := range map[string]struct {
		flights   []Flight
		sureBytes int
	}{
		"no flight":      {nil, mib},
		"a small flight": {[]Flight{{Bytes: 1000, Took: time.Second, Progress: true}}, mib},
		"a slow path":    {[]Flight{{Bytes: mib, Took: 2 * time.Second, Progress: true}}, mib / 2},
		"a fast path":    {[]Flight{{Bytes: mib / 4, Took: 10 * time.Millisecond, Progress: true}}, 25 * mib},
		"a large flight, then a small one": {[]Flight{
			{Bytes: 4 * mib, Took: time.Second, Progress: true}, {Bytes: 1000, Took: time.Second, Progress: true},
		}, 4 * mib},
		"throttled":              {[]Flight{{Bytes: 4 * mib, Took: time.Second, Progress: true, Failed: true}}, record},
		"accepted after retries": {[]Flight{{Bytes: 4 * mib, Took: time.Second, Progress: true, Partial: true}}, 4 * mib},
		"dead": {[]Flight{
			{Bytes: 4 * mib, Took: time.Second, Progress: true}, {Bytes: 4 * mib, Took: time.Second, Failed: true},
		}, mib},
		"throttled, then accepted": {[]Flight{
			{Bytes: 4 * mib, Took: time.Second, Progress: true, Failed: true}, {Bytes: 1000, Took: time.Second, Progress: true},
		}, mib},
	} {
		p := New(Settings{Mode: Sync, MaxDelay: 10 * time.Second, FlushTimeout: time.Second, RecordBytes: record, BufferBytes: 64 * mib})
		for _, f := range test.flights {
			p.Note(time.Now(), Buffered{}, f)
		}
		if p.LogsLast(Buffered{Bytes: test.sureBytes}) || !p.LogsLast(Buffered{Bytes: test.sureBytes + 1}) {
			t.Errorf("%s: not %d bytes", name, test.sureBytes)
		}
	}
}
