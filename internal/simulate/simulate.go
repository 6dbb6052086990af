// Package simulate runs the extension's flush policy with simulated Lambda environments and a simulated stream on fake time. It
// has no goroutines, clocks or sleeps and uses fixed seeds, so that each run gives the same figures.
package simulate

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/flush"
)

const (
	// functionMB is the memory of the function, functionTimeout its timeout.
	functionMB      = 128
	functionTimeout = 30 * time.Second
	// shutdownTime is the time that Lambda gives extensions to shut down:
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
	shutdownTime = 2 * time.Second
	// idleMin and idleMax bound the time for which Lambda keeps an idle environment.
	idleMin, idleMax = 6 * time.Minute, 10 * time.Minute
	// seed is the seed of all random numbers.
	seed = 20260101
)

// epoch is the policy's time at the simulation's beginning. It is not the zero Time, which has a meaning for the policy.
var epoch = time.Unix(1_700_000_000, 0)

// Modes are the policy's modes in the order of the tables.
var Modes = []flush.Mode{flush.Sync, flush.Deferred, flush.Adaptive}

// defaults returns the extension's default settings in the function, in a mode. config.Load reports a missing region, which does
// not matter here.
func defaults(mode flush.Mode) config.Config {
	cfg, _ := config.Load([]string{fmt.Sprint("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=", functionMB)})
	cfg.Delivery = mode
	return cfg
}

// world is one run.
type world struct {
	Scenario
	settings     flush.Settings
	requestBytes int
	now          time.Duration
	agenda       agenda
	stream       *Stream
	random       *rand.Rand     // Lambda's; each environment has its own for its traffic
	draw         func() float64 // the extension's random numbers
	figures      Figures
	facts        []flush.Fact // reused, like sizes
	sizes        []int
	onStored     func(Event) // for tests
	onStep       func(Step)  // see Trace
}

// Run simulates a scenario until the last environment has terminated.
func Run(s Scenario, mode flush.Mode) *Figures {
	w := newWorld(s, defaults(mode))
	w.run()
	return &w.figures
}

func newWorld(s Scenario, cfg config.Config) *world {
	w := &world{
		Scenario:     s,
		settings:     cfg.Flush(),
		requestBytes: cfg.RequestBytes(),
		stream:       NewStream(s),
		random:       rand.New(rand.NewPCG(seed, 0)),
	}
	w.draw = w.random.Float64
	w.figures.length = s.Length
	for i := range s.Environments {
		w.agenda = append(w.agenda, newEnvironment(w, i))
	}
	return w
}

func (w *world) run() {
	heap.Init(w.agenda)
	for w.agenda[0].next < never {
		w.now = w.agenda[0].next
		w.agenda[0].advance()
		heap.Fix(w.agenda, 0)
	}
}

// agenda is a heap of environments. The environment with the earliest next event is first.
type agenda []*environment

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].next < a[j].next || a[i].next == a[j].next && a[i].id < a[j].id
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a agenda) Push(any)      {}
func (a agenda) Pop() any      { return nil }

// clock returns the policy's time.
func (w *world) clock() time.Time { return epoch.Add(w.now) }

// stored counts an event that the stream has stored.
func (w *world) stored(t Event, at time.Duration) {
	w.figures.Stored++
	if w.onStored != nil {
		w.onStored(t)
	}
	if w.figures.includes(t) {
		w.figures.Delay.add(at - t.At)
		if at-t.At > w.settings.MaxDelay {
			w.figures.markLate(t)
		}
	}
}

// undelivered counts an event of a terminated environment that the stream has not stored.
func (w *world) undelivered(t Event) {
	w.figures.Undelivered++
	if w.figures.includes(t) {
		w.figures.markLate(t)
	}
}
