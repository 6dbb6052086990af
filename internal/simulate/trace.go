package simulate

import (
	"time"

	"kinesis-telemetry-extension/internal/config"
)

// Step is one step of a Trace.
type Step struct {
	At   time.Duration
	What string // one of the constants
	// Number is of an INVOKE, from 1 on. Deadline is of an INVOKE or SHUTDOWN. Posted are the events of a POST.
	Number   int
	Deadline time.Duration
	Posted   []Event
}

// The steps of Lambda, then those of the extension.
const (
	Invoke   = "INVOKE"
	Post     = "POST"
	Shutdown = "SHUTDOWN"
	Frozen   = "frozen" // until the next INVOKE or SHUTDOWN

	Asks    = "asks for the next event"
	Sends   = "sends %d events in %d records, %d bytes, probe: %t" // a format
	Reads   = "reads that %d records are stored, all rejected: %t" // a format
	GivesUp = "gives up waiting for the reply"
)

// Trace runs a scenario of one environment with these settings, and returns the steps of Lambda and of the extension. A test runs
// the real extension with the same steps of Lambda. random returns the extension's random numbers, one for each pause and each
// flight.
func Trace(s Scenario, cfg config.Config, random func() float64) (steps []Step) {
	w := newWorld(s, cfg)
	w.draw = random
	w.onStep = func(step Step) { steps = append(steps, step) }
	w.run()
	return steps
}

// trace passes a step to onStep.
func (w *world) trace(step func() Step) {
	if w.onStep != nil { // steps cost memory
		s := step()
		s.At = w.now
		w.onStep(s)
	}
}
