package simulate

import (
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/config"
)

// Step is one step of a Trace.
type Step struct {
	At   time.Duration
	What string // one of the constants, or from Sends or Reads
	// Number is that of an INVOKE, from 1 on, Deadline that of an INVOKE or SHUTDOWN, Posted what a POST brings.
	Number   int
	Deadline time.Duration
	Posted   []Event
}

// The steps of Lambda, and two of the extension's.
const (
	Invoke   = "INVOKE"
	Post     = "POST"
	Shutdown = "SHUTDOWN"
	Frozen   = "frozen" // until the next INVOKE or SHUTDOWN

	Asks = "asks for the next event"
	Cuts = "waits no longer for the answer"
)

// Sends is the step of a request.
func Sends(probe bool, events, records, bytes int) string {
	return fmt.Sprintf("sends %d events in %d records, %d bytes, probe: %t", events, records, bytes, probe)
}

// Reads is the step of an answer.
func Reads(refused bool, stored int) string {
	return fmt.Sprintf("reads that %d records are stored, all refused: %t", stored, refused)
}

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
