package flush

import (
	"testing"
	"time"
)

// wasteHold holds an invocation for a time. At its end the flights end with the given results.
func (e *env) wasteHold(held time.Duration, flights ...Flight) {
	e.invoke(time.Second)
	e.end()
	e.wait(held)
	e.endFlights(flights...)
	e.note(NextCalled{})
}

// A wasted hold shortens the next holds. After four fifths of FLUSH_TIMEOUT no invocation is held any more.
func TestWastedHoldShortensTheNext(t *testing.T) {
	for _, test := range []struct {
		name    string
		held    time.Duration
		flights []Flight
		want    time.Duration // the rest of FLUSH_TIMEOUT
		open    bool
	}{
		{"nothing is accepted", 500 * ms, []Flight{refused}, 500 * ms, false},
		{"no answer", 500 * ms, []Flight{unanswered}, 500 * ms, false},
		{"a part is accepted", 500 * ms, []Flight{partlyAccepted}, 500 * ms, false},
		{"everything is accepted after retries", 500 * ms, []Flight{retried}, 500 * ms, false},
		{"everything is accepted at once", 500 * ms, []Flight{accepted}, time.Second, false},
		{"a failure, then everything is accepted", 500 * ms, []Flight{refused, accepted}, 500 * ms, false},
		{"a freeze, no answer", 500 * ms, []Flight{unanswered.frozen()}, time.Second, false},
		{"a freeze, then everything is accepted after retries", 500 * ms, []Flight{retried.frozen()}, time.Second, false},
		{"a failure, then a freeze", 500 * ms, []Flight{refused, unanswered.frozen()}, 500 * ms, false},
		{"nearly four fifths", 799 * ms, []Flight{retried}, 201 * ms, false},
		{"four fifths", 800 * ms, []Flight{retried}, 0, true},
	} {
		e := newEnv(Sync)
		e.wasteHold(test.held, test.flights...)
		open := e.isOpen()
		if hold := e.nextHold(); hold != test.want*19/20 || open != test.open {
			t.Errorf("%s: the next invocation may be held for %s, open: %t", test.name, hold, open)
		}
		if hold := e.nextHold(); hold != test.want*19/20 {
			t.Errorf("%s: nothing fails, and the invocation after it may be held for %s", test.name, hold)
		}
	}
}

// Each flight that is accepted at once restores a twentieth of FLUSH_TIMEOUT, however long the wasted holds were.
func TestSuccessRestoresTheHold(t *testing.T) {
	for _, test := range []struct {
		name    string
		held    time.Duration
		flights int
		flight  Flight
		want    time.Duration
	}{
		{"one", 500 * ms, 1, accepted, 550 * ms},
		{"nine", 500 * ms, 9, accepted, 950 * ms},
		{"ten", 500 * ms, 10, accepted, time.Second},
		{"more than needed", 500 * ms, 100, accepted, time.Second},
		{"a flight accepted after retries restores nothing", 500 * ms, 10, retried, 500 * ms},
		{"held for a minute, one", time.Minute, 1, accepted, 50 * ms},
		{"held for a minute, twenty", time.Minute, 20, accepted, time.Second},
	} {
		e := newEnv(Sync)
		e.wasteHold(test.held, retried)
		for range test.flights {
			e.endFlights(test.flight)
		}
		if hold := e.nextHold(); hold != test.want*19/20 {
			t.Errorf("%s: may be held for %s", test.name, hold)
		}
	}
}

// A hold that is wasted and for a backlog counts once: only the larger of the two sums shortens the next hold.
func TestWastedHoldForABacklogCountsOnce(t *testing.T) {
	e := newEnv(Sync)
	e.invoke(time.Second)
	e.end()
	e.wait(700 * ms)
	e.endFlights(retried.lasting(250 * ms))
	e.buffer(megabyte, 0)
	e.note(NextCalled{})
	if hold := e.nextHold(); hold != 300*ms*19/20 {
		t.Errorf("held 700 ms of a second, wasted and for a backlog; the next invocation may be held for %s", hold)
	}
}
