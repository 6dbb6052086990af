package flush

import (
	"slices"
	"testing"
	"time"
)

// How flights end.
var (
	taken       = Flight{Took: 5 * ms, Progress: true}                 // everything was taken
	retried     = Flight{Took: 5 * ms, Progress: true, Partial: true}  // everything, in the end
	partlyTaken = Flight{Took: 5 * ms, Progress: true, Failed: true}   // something
	refused     = Flight{Took: 5 * ms, Failed: true}                   // nothing: an answer says so, or the flight used its whole time
	unanswered  = Flight{Took: 5 * ms, Failed: true, Unanswered: true} // nothing, and no answer says why
)

func (f Flight) lasting(took time.Duration) Flight { f.Took = took; return f }
func (f Flight) frozen() Flight                    { f.Frozen = true; return f }
func (f Flight) canceled() Flight                  { f.Canceled = true; return f }
func (f Flight) random(random float64) Flight      { f.Random = random; return f }

// backoff is how long the stream is left alone from now on, however much is buffered.
func (e *env) backoff() time.Duration {
	p := *e.Policy
	p.Note(e.now, Buffered{}, NeverFrozen{})
	rest, _ := p.NextFlight(e.now, Buffered{Bytes: 8 * megabyte, Oldest: e.now})
	return rest
}

// isOpen tells whether behind its rest only one request is sent to find out whether the stream works.
func (e *env) isOpen() bool {
	p := *e.Policy
	p.Note(e.now, Buffered{}, NeverFrozen{})
	load, _ := p.StartFlight(e.now.Add(e.backoff()), Buffered{Bytes: 8 * megabyte, Oldest: e.now}, Background)
	return load.Probe
}

// A flight that got no answer, because of a freeze or because it was called off, says nothing about the stream; an answer counts
// whenever it comes; and only a flight that no freeze can lie in shows how long the stream takes.
func TestWhatAFlightSays(t *testing.T) {
	const (
		awaited = iota // it begins and ends while the function's end is waited for
		beside         // it begins and ends beside a handler that nothing waits for
		asked          // next is asked for meanwhile
		caught         // the next INVOKE comes meanwhile
	)
	for _, test := range []struct {
		name   string
		flight Flight
		when   int
		fails  bool // it counts as a failure
		timed  bool // and as a round trip
	}{
		{"no answer", unanswered, awaited, true, true},
		{"no answer, beside a handler", unanswered, beside, true, false},
		{"no answer, and next was asked for", unanswered, asked, true, false},
		{"no answer, and INVOKE came", unanswered, caught, false, false},
		{"no answer, and the clocks show a freeze", unanswered.frozen(), beside, false, false},
		{"no answer, and it was called off", unanswered.canceled(), awaited, false, false},
		{"refused", refused, awaited, true, true},
		{"refused beside a handler", refused, beside, true, false},
		{"refused, and INVOKE came", refused, caught, true, false},
		{"refused, and the clocks show a freeze", refused.frozen(), beside, true, false},
		{"refused before it was called off", refused.canceled(), awaited, true, false},
		{"something is taken, then there is no answer", Flight{Progress: true, Failed: true, Unanswered: true}, awaited, false, false},
		{"something is taken, and INVOKE came", Flight{Progress: true, Failed: true, Unanswered: true}, caught, false, false},
		{"something is refused", partlyTaken, awaited, false, false},
		{"taken", taken, awaited, false, true},
		{"taken after retries", retried, awaited, false, true},
		{"taken beside a handler", taken, beside, false, false},
		{"taken, and next was asked for", taken, asked, false, false},
		{"taken, and INVOKE came", taken, caught, false, false},
		{"taken, and the clocks show a freeze", taken.frozen(), awaited, false, false},
		{"taken before it was called off", taken.canceled(), awaited, false, false},
	} {
		e := newEnv(Sync)
		e.endFlights(taken)
		fly := func() {
			e.invoke(time.Second)
			if test.when == beside {
				e.note(NextCalled{})
			}
			e.StartFlight(e.now, Buffered{Bytes: 1}, AtShutdown)
			if test.when >= asked {
				e.note(NextCalled{})
			}
			if test.when == caught {
				e.invoke(time.Second)
			}
			e.note(test.flight.lasting(time.Minute), NextCalled{})
		}
		fly()
		if timed := e.nextHold() == 0; timed != test.timed {
			t.Errorf("%s: counts as a round trip: %t", test.name, timed)
		}
		if fly(); e.isOpen() != test.fails {
			t.Errorf("%s: counts as a failure: %t", test.name, e.isOpen())
		}
	}
}

// Two flights in a row that get nothing through open the breaker. One that gets something through makes the stream slow, not dead.
func TestWhatOpensTheBreaker(t *testing.T) {
	lost := unanswered.frozen()
	for _, test := range []struct {
		name    string
		flights []Flight
		open    bool
	}{
		{"a stream of which nothing is known", nil, false},
		{"one failure", []Flight{refused}, false},
		{"two in a row", []Flight{refused, unanswered}, true},
		{"a success between", []Flight{refused, taken, refused}, false},
		{"progress between", []Flight{refused, partlyTaken, refused}, false},
		{"an answer that was lost between", []Flight{refused, lost, refused}, true},
		{"open, then progress", []Flight{refused, refused, partlyTaken}, true},
		{"open, then a lost answer", []Flight{refused, refused, lost}, true},
		{"open, then everything is taken", []Flight{refused, refused, taken}, false},
		{"open, then everything is taken after retries", []Flight{refused, refused, retried}, false},
		{"open, then everything is taken before a freeze", []Flight{refused, refused, taken.frozen()}, false},
		{"open, then nothing is to be tried again", []Flight{refused, refused, {Invalid: true}}, false},
	} {
		e := newEnv(Sync)
		e.endFlights(test.flights...)
		if e.isOpen() != test.open {
			t.Errorf("%s: open: %t", test.name, e.isOpen())
		}
	}
}

// The rests of a stream that fails double from about a second up to MaxDelay, and are at most a minute.
func TestRests(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		maxDelay time.Duration
		want     []time.Duration // the lower ends of the jitter, from the failure that opens the breaker on
	}{
		{100 * ms, []time.Duration{500 * ms, 500 * ms, 500 * ms}},
		{10 * second, []time.Duration{second, 2 * second, 4 * second, 5 * second, 5 * second}},
		{15 * time.Minute, []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second}},
	} {
		s := settings(Sync)
		s.MaxDelay = test.maxDelay
		e := envOf(s)
		e.endFlights(refused)
		var rests []time.Duration
		for range test.want {
			e.endFlights(refused)
			rests = append(rests, e.backoff())
		}
		if !slices.Equal(rests, test.want) {
			t.Errorf("MaxDelay %s: rests %s", test.maxDelay, rests)
		}
		for range 100 {
			e.endFlights(refused)
		}
		if rest := e.backoff(); rest != test.want[len(test.want)-1] {
			t.Errorf("MaxDelay %s: rests %s in the end", test.maxDelay, rest)
		}
	}
}

// Environments whose stream failed at the same moment spread over the upper half of the rest.
func TestRestsHaveJitter(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: time.Second, 0.25: 1250 * ms, 0.5: 1500 * ms} {
		e := newEnv(Sync)
		if e.endFlights(refused, refused.random(random)); e.backoff() != want {
			t.Errorf("random %g: rests %s", random, e.backoff())
		}
	}
}

// While the breaker is open the stream rests after each flight, whatever became of it; what is taken in full ends that.
func TestEachFlightIsFollowedByARest(t *testing.T) {
	for _, test := range []struct {
		name   string
		flight Flight
		want   time.Duration
	}{
		{"nothing is taken", refused, 2 * time.Second},
		{"the answer is lost in a freeze", unanswered.frozen(), 500 * ms},
		{"the flight is called off", unanswered.canceled(), 500 * ms},
		{"something is taken", partlyTaken, 500 * ms},
		{"everything is taken", taken, 0},
		{"everything is taken after retries", retried, 0},
	} {
		e := newEnv(Sync)
		e.endFlights(refused, refused)
		e.wait(time.Minute)
		if e.endFlights(test.flight); e.backoff() != test.want {
			t.Errorf("%s: rests %s", test.name, e.backoff())
		}
	}
	e := newEnv(Sync)
	e.endFlights(refused, refused, partlyTaken, refused)
	if rest := e.backoff(); rest != 500*ms {
		t.Errorf("a failure after progress: rests %s, not as behind the first", rest)
	}
}

// A stream that never answers costs FLUSH_TIMEOUT in sum; then invocations are not held until it works again.
func TestDeadStream(t *testing.T) {
	for _, spend := range []time.Duration{100 * ms, 700 * ms, time.Second} { // until the stream's failure is known
		e := newEnv(Sync)
		for range 50 {
			e.invoke(time.Second)
			waits := e.waits()
			e.buffer(1, 0)
			if e.shipsNow() && waits {
				t.Error("what is shipped at the end is shipped beside the handler, too")
			}
			if e.end(); waits {
				until, _ := e.Bounds(e.now, AtEnd)
				e.wait(min(spend, until.Sub(e.now)))
				e.endFlights(unanswered)
			}
			e.note(NextCalled{})
		}
		if held := e.TotalHold(); held > time.Second || held < min(2*spend, 800*ms) {
			t.Errorf("failures that take %s: held %s in sum", spend, held)
		}
		if !e.isOpen() || e.nextHold() > 0 {
			t.Errorf("failures that take %s: an invocation is held for a stream that does not work", spend)
		}
		e.endFlights(taken)
		if hold := e.nextHold(); e.isOpen() || spend == 100*ms && hold == 0 {
			t.Errorf("failures that take %s: the stream works again, and an invocation may be held %s", spend, hold)
		}
	}
}

// A stream that takes but a part each time is not waited for longer than FLUSH_TIMEOUT in sum.
func TestThrottledStream(t *testing.T) {
	e := newEnv(Sync)
	for range 50 {
		e.invoke(time.Second)
		waits := e.waits()
		if e.end(); waits {
			e.wait(e.heldFor() / 4)
		}
		e.endFlights(partlyTaken)
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); held > time.Second || held < 800*ms {
		t.Errorf("held %s in sum", held)
	}
}

// A stream that takes everything, but every other time only after retries, is not waited for each time.
func TestUnreliableStream(t *testing.T) {
	e := newEnv(Sync)
	for n := range 50 {
		e.invoke(time.Second)
		waits := e.waits()
		if e.end(); waits {
			e.wait(min(e.heldFor(), 300*ms))
		}
		e.endFlights([]Flight{retried, taken}[n%2])
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); held > 3*time.Second {
		t.Errorf("held %s in sum", held)
	}
}

// What a freeze did to flights changes nothing, however many they are.
func TestFreezeIsNoFailure(t *testing.T) {
	e := newEnv(Sync)
	for range 5 {
		e.holdInVain(900*ms, unanswered.frozen().lasting(time.Hour))
	}
	e.endFlights(taken.frozen().lasting(time.Hour))
	if hold := e.nextHold(); hold != 950*ms || e.isOpen() {
		t.Errorf("may be held %s, open: %t", hold, e.isOpen())
	}
}

// A stream that answers later than an invocation may be held is not waited for. One slow answer does not make a slow stream, nor one
// fast answer a fast one.
func TestRoundTrip(t *testing.T) {
	const fast, slow = 40 * ms, 400 * ms
	for _, test := range []struct {
		name    string
		flights []Flight
		waits   bool
	}{
		{"nothing is known", nil, true},
		{"the first answer counts in full", []Flight{taken.lasting(200 * ms)}, false},
		{"fast", []Flight{taken.lasting(fast)}, true},
		{"one slow answer", []Flight{taken.lasting(fast), taken.lasting(slow)}, true},
		{"two", []Flight{taken.lasting(fast), taken.lasting(slow), taken.lasting(slow)}, false},
		{"three fast answers of a slow stream", append([]Flight{taken.lasting(slow)}, slices.Repeat([]Flight{taken.lasting(fast)}, 3)...), false},
		{"four", append([]Flight{taken.lasting(slow)}, slices.Repeat([]Flight{taken.lasting(fast)}, 4)...), true},
		{"a failure that took long", []Flight{taken.lasting(fast), refused.lasting(slow)}, false},
		{"a failure that took no time", []Flight{taken.lasting(slow), refused}, false},
	} {
		s := settings(Sync)
		s.FlushTimeout = 200 * ms
		e := envOf(s)
		e.endFlights(test.flights...)
		if e.invoke(time.Second); e.waits() != test.waits {
			t.Errorf("%s: waits %t", test.name, e.waits())
		}
	}
}

// A stream that was too slow to wait for is waited for again after a while, though every flight since is caught by a freeze.
func TestSlowStreamGetsAnotherChance(t *testing.T) {
	for _, flushTimeout := range []time.Duration{100 * ms, time.Second, 10 * time.Second} {
		s := settings(Sync)
		s.FlushTimeout = flushTimeout
		e := envOf(s)
		e.endFlights(taken.lasting(2 * flushTimeout))
		n := 0
		for ; n < 100 && !e.serve(time.Second); n++ {
			e.endFlights(taken.frozen())
		}
		if n < 40 || n > 80 {
			t.Errorf("FLUSH_TIMEOUT %s: waits again after %d invocations", flushTimeout, n)
		}
	}
}

// A round trip that there is time for is remembered for as long as nothing contradicts it.
func TestRoundTripIsRemembered(t *testing.T) {
	e := newEnv(Sync)
	e.endFlights(taken.lasting(500 * ms))
	e.serveAll(repeat(time.Second, 100))
	e.invoke(time.Second)
	e.end()
	e.buffer(1, 0)
	for behind, want := range map[time.Duration]bool{449 * ms: true, 450 * ms: false} {
		if _, ok := e.StartFlight(e.now.Add(behind), e.b, AtEnd); ok != want {
			t.Errorf("%s behind the end a request that takes half a second is begun: %t", behind, ok)
		}
	}
}
