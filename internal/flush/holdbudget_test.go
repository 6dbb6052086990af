package flush

import (
	"testing"
	"time"
)

// holdInVain holds an invocation in holdInVain for so long, which the flights end in.
func (e *env) holdInVain(held time.Duration, flights ...Flight) {
	e.invoke(time.Second)
	e.end()
	e.wait(held)
	e.endFlights(flights...)
	e.note(NextCalled{})
}

// What invocations were held in vain is taken off what the next may be held. At four fifths of FLUSH_TIMEOUT none is held any more.
func TestAllowance(t *testing.T) {
	for _, test := range []struct {
		name    string
		held    time.Duration
		flights []Flight
		want    time.Duration // what is left
		open    bool
	}{
		{"in vain", 500 * ms, []Flight{refused}, 500 * ms, false},
		{"for an answer that did not come", 500 * ms, []Flight{unanswered}, 500 * ms, false},
		{"for a part", 500 * ms, []Flight{partlyTaken}, 500 * ms, false},
		{"for what is taken after retries", 500 * ms, []Flight{retried}, 500 * ms, false},
		{"for what is taken at once", 500 * ms, []Flight{taken}, time.Second, false},
		{"a failure, then everything is taken", 500 * ms, []Flight{refused, taken}, 500 * ms, false},
		{"a freeze is not the stream's fault", 500 * ms, []Flight{unanswered.frozen()}, time.Second, false},
		{"nor is what is taken after retries then", 500 * ms, []Flight{retried.frozen()}, time.Second, false},
		{"a failure, then a freeze", 500 * ms, []Flight{refused, unanswered.frozen()}, 500 * ms, false},
		{"nearly four fifths", 799 * ms, []Flight{retried}, 201 * ms, false},
		{"four fifths", 800 * ms, []Flight{retried}, 0, true},
	} {
		e := newEnv(Sync)
		e.holdInVain(test.held, test.flights...)
		open := e.isOpen()
		if hold := e.nextHold(); hold != test.want*19/20 || open != test.open {
			t.Errorf("%s: the next invocation may be held %s, open: %t", test.name, hold, open)
		}
		if hold := e.nextHold(); hold != test.want*19/20 {
			t.Errorf("%s: and the one after it, where nothing fails, %s", test.name, hold)
		}
	}
}

// The allowance is earned back a twentieth with each flight that is taken at once, however much was held in vain.
func TestAllowanceIsEarnedBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		held    time.Duration
		flights int
		flight  Flight
		want    time.Duration
	}{
		{"one", 500 * ms, 1, taken, 550 * ms},
		{"nine", 500 * ms, 9, taken, 950 * ms},
		{"ten", 500 * ms, 10, taken, time.Second},
		{"more than it takes", 500 * ms, 100, taken, time.Second},
		{"what is taken after retries earns nothing", 500 * ms, 10, retried, 500 * ms},
		{"held for a minute, one", time.Minute, 1, taken, 50 * ms},
		{"held for a minute, twenty", time.Minute, 20, taken, time.Second},
	} {
		e := newEnv(Sync)
		e.holdInVain(test.held, retried)
		for range test.flights {
			e.endFlights(test.flight)
		}
		if hold := e.nextHold(); hold != test.want*19/20 {
			t.Errorf("%s: may be held %s", test.name, hold)
		}
	}
}

// Time held in vain and time held for a backlog are not counted twice: the larger one is taken off.
func TestAllowanceAndBacklog(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.end()
	e.wait(700 * ms)
	e.endFlights(retried.lasting(250 * ms))
	e.buffer(megabyte, 0)
	e.note(NextCalled{})
	if hold := e.nextHold(); hold != 300*ms*19/20 {
		t.Errorf("of a second 700 ms were held, for a backlog and in vain, and the next may be held %s", hold)
	}
}
