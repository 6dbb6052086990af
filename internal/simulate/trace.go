package simulate

import (
	"time"

	"kinesis-telemetry-extension/internal/config"
)

// Step is one step of a Trace.
type Step struct {
	At   time.Duration
	What string // one of the constants
	// Number is that of an INVOKE, from 1 on, Deadline that of an INVOKE or SHUTDOWN, Posted what a POST brings.
	Number   int
	Deadline time.Duration
	Posted   []Event
}

// The steps of Lambda, and those of the extension.
const (
	Invoke   = "INVOKE"
	Post     = "POST"
	Shutdown = "SHUTDOWN"
	Frozen   = "frozen" // until the next INVOKE or SHUTDOWN

	Asks  = "asks for the next event"
	Sends = "sends %d events in %d records, %d bytes, probe: %t" // a format
	Reads = "reads that %d records are stored, all refused: %t"  // a format
	Cuts  = "waits no longer for the answer"
)

// Trace runs a scenario of one environment with these settings, and returns what Lambda and the extension do: a test puts the
// extension itself through the same. random gives the extension's random numbers, one for each pause and each flight.
func Trace(s Scenario, cfg config.Config, random func() float64) (steps []Step) {
	w := newWorld(s, cfg)
	w.draw = random
	w.onStep = func(step Step) { steps = append(steps, step) }
	w.run()
	return steps
}

// trace notes a step.
func (w *world) trace(step func() Step) {
	if w.onStep != nil { // a step costs memory
		s := step()
		s.At = w.now
		w.onStep(s)
	}
}
