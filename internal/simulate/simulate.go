// Package simulate runs the extension's flush policy against Lambda environments and a stream on fake time: without
// goroutines, clocks or sleeping, from fixed seeds, so that each run gives the same figures.
package simulate

import (
	"math/rand/v2"
	"time"

	"kinesis-telemetry-extension/internal/policy"
)

// Settings of the extension: its defaults in a function of 128 MB.
const (
	maxDelay     = 10 * time.Second
	flushTimeout = time.Second
	recordBytes  = 100_000
	requestBytes = 2 << 20
	bufferBytes  = 8 << 20
)

const (
	// idleLeast and idleMost are how long Lambda keeps an idle environment.
	idleLeast, idleMost = 6 * time.Minute, 10 * time.Minute
	// seed is of all that is random.
	seed = 20260101
)

// epoch is the simulation's beginning as the policy sees it: the zero Time means something to it.
var epoch = time.Unix(1_700_000_000, 0)

// Modes are the policy's modes in the order of the tables.
var Modes = []policy.Mode{policy.Sync, policy.Deferred, policy.Adaptive}

// world is one run.
type world struct {
	Scenario
	mode         policy.Mode
	now          time.Duration
	agenda       agenda
	stream       stream
	environments []environment
	random       *rand.Rand // of the stream, Lambda and the policy; each environment's traffic has its own
	figures      Figures
	onStored     func(telemetry) // for tests
}

// Run simulates a scenario until the last environment has been shut down.
func Run(s Scenario, mode policy.Mode) *Figures {
	w := newWorld(s, mode)
	w.run()
	return &w.figures
}

func newWorld(s Scenario, mode policy.Mode) *world {
	w := &world{
		Scenario: s, mode: mode,
		stream:       newStream(s.Shards, s.Outage),
		environments: make([]environment, s.Environments),
		random:       rand.New(rand.NewPCG(seed, 0)),
	}
	w.figures.length = s.Length
	for i := range w.environments {
		e := &w.environments[i]
		*e = environment{world: w, id: int32(i), traffic: s.traffic(), random: rand.New(rand.NewPCG(seed, uint64(i)+1))}
		if s.Spread > 0 {
			e.arrival = time.Duration(e.random.Int64N(int64(s.Spread)))
		}
		e.step = gone
		e.schedule(invoke, e.arrival)
	}
	return w
}

func (w *world) run() {
	for {
		a, ok := w.agenda.next()
		if !ok {
			return
		}
		e := &w.environments[a.environment]
		if a.turn != e.turns[a.kind] {
			continue
		}
		w.now = a.at
		e.happen(a.kind)
	}
}

// clock is the time as the policy sees it.
func (w *world) clock() time.Time { return epoch.Add(w.now) }

// stored takes note that an event is on the stream.
func (w *world) stored(t telemetry, at time.Duration) {
	f := &w.figures
	f.Stored++
	if w.onStored != nil {
		w.onStored(t)
	}
	if t.index == reportIndex || !f.counts(t.invocation) {
		return
	}
	delay := at - t.at
	f.Delay.add(delay)
	if delay > maxDelay {
		f.late(t.invocation)
	}
}

// abandoned takes note of an event that an environment took with it.
func (w *world) abandoned(t telemetry) {
	f := &w.figures
	f.Undelivered++
	if t.index != reportIndex && f.counts(t.invocation) {
		f.abandoned++
		f.late(t.invocation)
	}
}
