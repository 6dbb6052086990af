// Package simulate runs the extension's flush policy against Lambda environments and a stream on fake time: without
// goroutines, clocks or sleeping, from fixed seeds, so that each run gives the same figures.
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
	// shutdownTime is what Lambda gives extensions to shut down.
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
	shutdownTime = 2 * time.Second
	// idleLeast and idleMost are how long Lambda keeps an idle environment.
	idleLeast, idleMost = 6 * time.Minute, 10 * time.Minute
	// seed is of all that is random.
	seed = 20260101
)

// epoch is the simulation's beginning as the policy sees it: the zero Time means something to it.
var epoch = time.Unix(1_700_000_000, 0)

// Modes are the policy's modes in the order of the tables.
var Modes = []flush.Mode{flush.Sync, flush.Deferred, flush.Adaptive}

// defaults are the extension's settings in the function, in a mode. That config.Load misses a region does no harm here.
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
	random       *rand.Rand     // of Lambda; each environment's traffic has its own
	draw         func() float64 // of the extension
	figures      Figures
	facts        []flush.Fact // used again and again, as is sizes
	sizes        []int
	onStored     func(Event) // for tests
	onStep       func(Step)  // see Trace
}

// Run simulates a scenario until the last environment has been shut down.
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
		w.agenda[0].happen()
		heap.Fix(w.agenda, 0)
	}
}

// agenda is a heap of environments. In front is the one to which something happens first.
type agenda []*environment

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].next < a[j].next || a[i].next == a[j].next && a[i].id < a[j].id
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a agenda) Push(any)      {}
func (a agenda) Pop() any      { return nil }

// clock is the time as the policy sees it.
func (w *world) clock() time.Time { return epoch.Add(w.now) }

// stored notes that an event is on the stream.
func (w *world) stored(t Event, at time.Duration) {
	w.figures.Stored++
	if w.onStored != nil {
		w.onStored(t)
	}
	if w.figures.counts(t) {
		w.figures.Delay.add(at - t.At)
		if at-t.At > w.settings.MaxDelay {
			w.figures.isLate(t)
		}
	}
}

// abandoned notes an event that an environment took with it.
func (w *world) abandoned(t Event) {
	w.figures.Undelivered++
	if w.figures.counts(t) {
		w.figures.isLate(t)
	}
}
