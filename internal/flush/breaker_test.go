package flush

import (
	"slices"
	"testing"
	"time"
)

// The results of flights.
var (
	accepted       = Flight{Took: 5 * ms, Progress: true}                 // everything was accepted at once
	retried        = Flight{Took: 5 * ms, Progress: true, Partial: true}  // everything was accepted after retries
	partlyAccepted = Flight{Took: 5 * ms, Progress: true, Failed: true}   // something was accepted
	refused        = Flight{Took: 5 * ms, Failed: true}                   // nothing was accepted, by an answer or within the whole timeout
	unanswered     = Flight{Took: 5 * ms, Failed: true, Unanswered: true} // nothing was accepted, without an answer
)

func (f Flight) lasting(took time.Duration) Flight { f.Took = took; return f }
func (f Flight) frozen() Flight                    { f.Frozen = true; return f }
func (f Flight) canceled() Flight                  { f.Canceled = true; return f }
func (f Flight) random(random float64) Flight      { f.Random = random; return f }

// backoff returns the time until the next flight with a full buffer.
func (e *env) backoff() time.Duration {
	p := *e.Policy
	p.Note(e.now, Buffered{}, NeverFrozen{})
	rest, _ := p.NextFlight(e.now, Buffered{Bytes: 8 * megabyte, Oldest: e.now})
	return rest
}

// isOpen reports whether the next flight, after the backoff, is a probe.
func (e *env) isOpen() bool {
	p := *e.Policy
	p.Note(e.now, Buffered{}, NeverFrozen{})
	load, _ := p.StartFlight(e.now.Add(e.backoff()), Buffered{Bytes: 8 * megabyte, Oldest: e.now}, Background)
	return load.Probe
}

// A flight without an answer because of a freeze or a cancel does not count as a failure. An answer counts whenever it
// comes. Only a flight that no freeze can interrupt counts as a round trip.
func TestFlightCountsAsFailureOrRoundTrip(t *testing.T) {
	const (
		waiting      = iota // it starts and ends while the invocation waits for its end
		afterNext           // it starts and ends while the handler runs, after the call of next
		nextDuring          // the extension calls next during it
		invokeDuring        // the next INVOKE comes during it
	)
	partlyUnanswered := Flight{Progress: true, Failed: true, Unanswered: true}
	for _, test := range []struct {
		name   string
		flight Flight
		when   int
		fails  bool // the flight counts as a failure
		timed  bool // its duration counts as a round trip
	}{
		{"no answer", unanswered, waiting, true, true},
		{"no answer, after the call of next", unanswered, afterNext, true, false},
		{"no answer, next is called during it", unanswered, nextDuring, true, false},
		{"no answer, INVOKE comes during it", unanswered, invokeDuring, false, false},
		{"no answer, the clocks show a freeze", unanswered.frozen(), afterNext, false, false},
		{"no answer, canceled", unanswered.canceled(), waiting, false, false},
		{"refused", refused, waiting, true, true},
		{"refused, after the call of next", refused, afterNext, true, false},
		{"refused, INVOKE comes during it", refused, invokeDuring, true, false},
		{"refused, the clocks show a freeze", refused.frozen(), afterNext, true, false},
		{"refused, then canceled", refused.canceled(), waiting, true, false},
		{"something is accepted, then no answer", partlyUnanswered, waiting, false, false},
		{"something is accepted, then no answer, INVOKE comes during it", partlyUnanswered, invokeDuring, false, false},
		{"something is refused", partlyAccepted, waiting, false, false},
		{"accepted", accepted, waiting, false, true},
		{"accepted after retries", retried, waiting, false, true},
		{"accepted, after the call of next", accepted, afterNext, false, false},
		{"accepted, next is called during it", accepted, nextDuring, false, false},
		{"accepted, INVOKE comes during it", accepted, invokeDuring, false, false},
		{"accepted, the clocks show a freeze", accepted.frozen(), waiting, false, false},
		{"accepted, then canceled", accepted.canceled(), waiting, false, false},
	} {
		e := newEnv(Sync)
		e.endFlights(accepted)
		fly := func() {
			e.invoke(time.Second)
			if test.when == afterNext {
				e.note(NextCalled{})
			}
			e.StartFlight(e.now, Buffered{Bytes: 1}, AtShutdown)
			if test.when >= nextDuring {
				e.note(NextCalled{})
			}
			if test.when == invokeDuring {
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

// Two flights in a row that deliver nothing open the breaker. After a flight that delivers something the stream counts
// as slow, not as dead.
func TestTwoFailuresInARowOpenTheBreaker(t *testing.T) {
	lost := unanswered.frozen()
	for _, test := range []struct {
		name    string
		flights []Flight
		open    bool
	}{
		{"no flight yet", nil, false},
		{"one failure", []Flight{refused}, false},
		{"two in a row", []Flight{refused, unanswered}, true},
		{"a success between", []Flight{refused, accepted, refused}, false},
		{"progress between", []Flight{refused, partlyAccepted, refused}, false},
		{"a lost answer between", []Flight{refused, lost, refused}, true},
		{"open, then progress", []Flight{refused, refused, partlyAccepted}, true},
		{"open, then a lost answer", []Flight{refused, refused, lost}, true},
		{"open, then everything is accepted", []Flight{refused, refused, accepted}, false},
		{"open, then everything is accepted after retries", []Flight{refused, refused, retried}, false},
		{"open, then everything is accepted before a freeze", []Flight{refused, refused, accepted.frozen()}, false},
		{"open, then everything is rejected", []Flight{refused, refused, {Invalid: true}}, false},
	} {
		e := newEnv(Sync)
		e.endFlights(test.flights...)
		if e.isOpen() != test.open {
			t.Errorf("%s: open: %t", test.name, e.isOpen())
		}
	}
}

// The backoff of a stream that fails doubles from about a second up to MaxDelay, and is at most a minute.
func TestBackoffDoublesUpToMaxDelay(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		maxDelay time.Duration
		want     []time.Duration // the shortest backoffs of the jitter, from the failure that opens the breaker on
	}{
		{100 * ms, []time.Duration{500 * ms, 500 * ms, 500 * ms}},
		{10 * second, []time.Duration{second, 2 * second, 4 * second, 5 * second, 5 * second}},
		{15 * time.Minute, []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second}},
	} {
		s := settings(Sync)
		s.MaxDelay = test.maxDelay
		e := envOf(s)
		e.endFlights(refused)
		var backoffs []time.Duration
		for range test.want {
			e.endFlights(refused)
			backoffs = append(backoffs, e.backoff())
		}
		if !slices.Equal(backoffs, test.want) {
			t.Errorf("MaxDelay %s: backoffs %s", test.maxDelay, backoffs)
		}
		for range 100 {
			e.endFlights(refused)
		}
		if rest := e.backoff(); rest != test.want[len(test.want)-1] {
			t.Errorf("MaxDelay %s: the last backoff is %s", test.maxDelay, rest)
		}
	}
}

// Jitter spreads environments whose stream failed at the same moment over the upper half of the backoff.
func TestBackoffHasJitter(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: time.Second, 0.25: 1250 * ms, 0.5: 1500 * ms} {
		e := newEnv(Sync)
		if e.endFlights(refused, refused.random(random)); e.backoff() != want {
			t.Errorf("random %g: backoff %s", random, e.backoff())
		}
	}
}

// While the breaker is open a backoff follows each flight, whatever its result. A flight that is accepted in full ends
// that.
func TestBackoffFollowsEachFlight(t *testing.T) {
	for _, test := range []struct {
		name   string
		flight Flight
		want   time.Duration
	}{
		{"nothing is accepted", refused, 2 * time.Second},
		{"a freeze loses the answer", unanswered.frozen(), 500 * ms},
		{"the flight is canceled", unanswered.canceled(), 500 * ms},
		{"something is accepted", partlyAccepted, 500 * ms},
		{"everything is accepted", accepted, 0},
		{"everything is accepted after retries", retried, 0},
	} {
		e := newEnv(Sync)
		e.endFlights(refused, refused)
		e.wait(time.Minute)
		if e.endFlights(test.flight); e.backoff() != test.want {
			t.Errorf("%s: backoff %s", test.name, e.backoff())
		}
	}
	e := newEnv(Sync)
	e.endFlights(refused, refused, partlyAccepted, refused)
	if rest := e.backoff(); rest != 500*ms {
		t.Errorf("a failure after progress: backoff %s, not that of the first failure", rest)
	}
}

// A stream that never answers costs FLUSH_TIMEOUT in sum. Then no invocation is held until the stream works again.
func TestDeadStreamCostsFlushTimeoutInSum(t *testing.T) {
	for _, spend := range []time.Duration{100 * ms, 700 * ms, time.Second} { // until the failure is known
		e := newEnv(Sync)
		for range 50 {
			e.invoke(time.Second)
			waits := e.waits()
			e.buffer(1, 0)
			if e.shipsNow() && waits {
				t.Error("ships at the end and while the handler runs")
			}
			if e.end(); waits {
				until, _ := e.Bounds(e.now, AtEnd)
				e.wait(min(spend, until.Sub(e.now)))
				e.endFlights(unanswered)
			}
			e.note(NextCalled{})
		}
		if held := e.TotalHold(); held > time.Second || held < min(2*spend, 800*ms) {
			t.Errorf("failures after %s: held %s in sum", spend, held)
		}
		if !e.isOpen() || e.nextHold() > 0 {
			t.Errorf("failures after %s: an invocation is held for a stream that fails", spend)
		}
		e.endFlights(accepted)
		if hold := e.nextHold(); e.isOpen() || spend == 100*ms && hold == 0 {
			t.Errorf("failures after %s: the stream works again, and an invocation may be held for %s", spend, hold)
		}
	}
}

// A stream that accepts only a part each time costs at most FLUSH_TIMEOUT in sum.
func TestThrottledStreamCostsFlushTimeoutInSum(t *testing.T) {
	e := newEnv(Sync)
	for range 50 {
		e.invoke(time.Second)
		waits := e.waits()
		if e.end(); waits {
			e.wait(e.heldFor() / 4)
		}
		e.endFlights(partlyAccepted)
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); held > time.Second || held < 800*ms {
		t.Errorf("held %s in sum", held)
	}
}

// If a stream accepts everything, but every other time only after retries, the sum of the holds stays small.
func TestUnreliableStreamCostsLittle(t *testing.T) {
	e := newEnv(Sync)
	for n := range 50 {
		e.invoke(time.Second)
		waits := e.waits()
		if e.end(); waits {
			e.wait(min(e.heldFor(), 300*ms))
		}
		e.endFlights([]Flight{retried, accepted}[n%2])
		e.note(NextCalled{})
	}
	if held := e.TotalHold(); held > 3*time.Second {
		t.Errorf("held %s in sum", held)
	}
}

// Flights that a freeze interrupts change nothing, however many there are.
func TestFreezeIsNoFailure(t *testing.T) {
	e := newEnv(Sync)
	for range 5 {
		e.wasteHold(900*ms, unanswered.frozen().lasting(time.Hour))
	}
	e.endFlights(accepted.frozen().lasting(time.Hour))
	if hold := e.nextHold(); hold != 950*ms || e.isOpen() {
		t.Errorf("may be held for %s, open: %t", hold, e.isOpen())
	}
}

// No invocation waits for a stream whose answer takes longer than the hold. One slow answer does not make a stream
// slow, and one fast answer does not make it fast.
func TestNoWaitForASlowStream(t *testing.T) {
	const fast, slow = 40 * ms, 400 * ms
	for _, test := range []struct {
		name    string
		flights []Flight
		waits   bool
	}{
		{"no answer yet", nil, true},
		{"the first answer counts in full", []Flight{accepted.lasting(200 * ms)}, false},
		{"fast", []Flight{accepted.lasting(fast)}, true},
		{"one slow answer", []Flight{accepted.lasting(fast), accepted.lasting(slow)}, true},
		{"two slow answers", []Flight{accepted.lasting(fast), accepted.lasting(slow), accepted.lasting(slow)}, false},
		{
			"three fast answers after a slow one",
			slices.Insert(slices.Repeat([]Flight{accepted.lasting(fast)}, 3), 0, accepted.lasting(slow)), false,
		},
		{
			"four fast answers after a slow one",
			slices.Insert(slices.Repeat([]Flight{accepted.lasting(fast)}, 4), 0, accepted.lasting(slow)), true,
		},
		{"a slow failure", []Flight{accepted.lasting(fast), refused.lasting(slow)}, false},
		{"a fast failure", []Flight{accepted.lasting(slow), refused}, false},
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

// After a while invocations wait again for a stream that was too slow, though a freeze interrupts every flight.
func TestInvocationsWaitAgainForASlowStream(t *testing.T) {
	for _, flushTimeout := range []time.Duration{100 * ms, time.Second, 10 * time.Second} {
		s := settings(Sync)
		s.FlushTimeout = flushTimeout
		e := envOf(s)
		e.endFlights(accepted.lasting(2 * flushTimeout))
		n := 0
		for ; n < 100 && !e.serve(time.Second); n++ {
			e.endFlights(accepted.frozen())
		}
		if n < 40 || n > 80 {
			t.Errorf("FLUSH_TIMEOUT %s: waits again after %d invocations", flushTimeout, n)
		}
	}
}

// The policy remembers a round trip that fits into the hold until another flight changes it.
func TestRoundTripIsRemembered(t *testing.T) {
	e := newEnv(Sync)
	e.endFlights(accepted.lasting(500 * ms))
	e.serveAll(repeat(time.Second, 100))
	e.invoke(time.Second)
	e.end()
	e.buffer(1, 0)
	for after, want := range map[time.Duration]bool{449 * ms: true, 450 * ms: false} {
		if _, ok := e.StartFlight(e.now.Add(after), e.b, AtEnd); ok != want {
			t.Errorf("%s after the end a request that takes half a second starts: %t", after, ok)
		}
	}
}
