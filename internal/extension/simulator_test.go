package extension

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/internal/simulate"
	"kinesis-telemetry-extension/record"
)

// The simulator behind docs/simulation.md has its own main loop and its own background shipper around the flush policy. This test
// gives the simulator and the extension the same traffic and the same stream. Both must do the same at the same nanosecond, so
// neither can change alone.
//
// The times are uneven numbers, so that unrelated events never happen at the same instant.
func TestSimulatorMatchesExtension(t *testing.T) {
	for _, s := range tracedTraffic() {
		for _, mode := range simulate.Modes {
			if mode == flush.Deferred && s.Outage > flush.FlightTimeout && s.Handler < flush.FlightTimeout {
				continue // flights would outlast FlightTimeout during a freeze: see traceRun.wait
			}
			t.Run(strings.ReplaceAll(s.Name, " ", "_")+"/"+string(mode), func(t *testing.T) {
				cfg, _ := config.Load(append([]string{
					"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", "KINESIS_TELEMETRY_SPILL_DIR=", "KINESIS_TELEMETRY_DELIVERY=" + string(mode),
				}, s.variables...))
				want := simulate.Trace(s.Scenario, cfg, traceNumbers())
				l := idleListener(t)
				var got []simulate.Step
				synctest.Test(t, func(t *testing.T) { got = traceExtension(t, &s, cfg, want, l) })
				compareTraces(t, want, got)
			})
		}
	}
}

// tracedScenario is a scenario with its settings.
type tracedScenario struct {
	simulate.Scenario
	variables []string // the settings that differ from the defaults
	exposed   bool     // see traceRun.freeze
}

// tracedTraffic returns scenarios that together run every path of both sides. Most of them exist because without them the test missed
// a change of one side.
func tracedTraffic() (all []tracedScenario) {
	const µs, ms = time.Microsecond, time.Millisecond
	short := simulate.Scenario{Handler: 20_007 * µs, Lines: 5, LineBytes: 400}
	slow := simulate.Scenario{Handler: 60_019 * µs, Lines: 5, LineBytes: 400}
	dense := simulate.Scenario{Handler: 3_100_017 * µs, Lines: 20, LineBytes: 400}
	long := simulate.Scenario{Handler: 8_001_700 * µs, Lines: 100, LineBytes: 400}
	longer := simulate.Scenario{Handler: 28_901_700 * µs, Lines: 200, LineBytes: 400}
	longest := simulate.Scenario{Handler: 29_950_017 * µs, Lines: 20, LineBytes: 400}
	loud := simulate.Scenario{Handler: 300_031 * µs, Lines: 60, LineBytes: 4_000}
	heavy := simulate.Scenario{Handler: 250_031 * µs, Lines: 60, LineBytes: 9_000}
	flood := simulate.Scenario{Handler: 3_000_031 * µs, Lines: 400, LineBytes: 4_000}
	burst := simulate.Scenario{Handler: 45_013 * µs, Lines: 120, LineBytes: 9_000}
	swell := simulate.Scenario{Handler: 250_031 * µs, Lines: 120, LineBytes: 9_000}
	every := func(gap, length time.Duration) (times []time.Duration) {
		for next := gap; next < length; next += gap {
			times = append(times, next)
		}
		return times
	}
	// add adds a scenario whose first INVOKE is at 0.
	add := func(name string, s simulate.Scenario, times []time.Duration, variables ...string) *tracedScenario {
		s.Name, s.Environments, s.Shards, s.Length = name, 1, 1, time.Hour
		times = append(times, time.Hour)
		s.Traffic = func(_ *rand.Rand, _ time.Duration, n *int) time.Duration { *n++; return times[*n-1] }
		all = append(all, tracedScenario{Scenario: s, variables: variables})
		return &all[len(all)-1]
	}
	bursts := every(50_037*µs, 600*ms)
	for _, start := range []time.Duration{20_013_007 * µs, 41_000_113 * µs, 43_100_019 * µs, 45_190_003 * µs} {
		for n := range 15 {
			bursts = append(bursts, start+time.Duration(n)*50_037*µs)
		}
	}
	add("steady", short, every(100_013*µs, 10*time.Second))
	add("slow steady", slow, every(2_000_317*µs, 40*time.Second))
	add("sparse", slow, every(47_300_011*µs, 4*time.Minute))
	add("bursts", short, bursts)
	add("dense long handlers", dense, every(3_300_013*µs, 40*time.Second))
	add("long handlers", long, every(20_011_003*µs, 100*time.Second))
	add("handlers up to the timeout", longest, every(31_011_003*µs, 100*time.Second))
	add("full records", flood, every(5_011_003*µs, 18*time.Second))
	add("throttled", loud, every(400_013*µs, 8*time.Second))
	add("overload", heavy, append(every(330_013*µs, 4*time.Second), 5_000_071*µs, 6_000_093*µs, 9_000_091*µs, 12_000_033*µs))
	add("overload, long hold", burst, every(330_013*µs, 1_500*ms), "KINESIS_TELEMETRY_MAX_DELAY=1s", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=3s").
		Idle = 800_007 * µs // the last flight is still running then
	small := []string{"KINESIS_TELEMETRY_BUFFER_BYTES=2097152", "KINESIS_TELEMETRY_MAX_RECORD_BYTES=100000"} // requests of 512 KiB
	add("several requests", burst, every(1_500_013*µs, 2*time.Second), small...)
	add("part of a POST", swell, every(1_500_013*µs, 4*time.Second), append(small, "KINESIS_TELEMETRY_MAX_DELAY=2s")...).
		Idle = 1_600_007 * µs

	add("outage", slow, every(500_013*µs, 20*time.Second)).Outage = 8 * time.Second
	add("long outage", slow, every(500_013*µs, time.Minute)).Outage = 20 * time.Second
	add("rare outage", slow, every(17_000_013*µs, 3*time.Minute)).Outage = 90 * time.Second
	add("outage, long handlers", longer, every(29_311_003*µs, 120*time.Second)).Outage = 70 * time.Second
	add("outage, backlog", loud, every(500_013*µs, 30*time.Second)).Outage = 9 * time.Second
	add("outage without an end", slow, every(1_000_013*µs, 10*time.Second)).Outage = time.Hour
	add("stall", slow, every(500_013*µs, 20*time.Second)).Stall = 3 * time.Second
	add("stall, long handlers", long, every(8_311_003*µs, time.Minute)).Stall = 19 * time.Second
	add("stall at the end", slow, every(100_013*µs, ms)).Stall = time.Hour
	add("ends too late", slow, every(3_500_013*µs, time.Minute)).Lag = 1_100 * ms
	add("starts too late", slow, every(7_000_013*µs, 127*time.Second)).Lag = 2_300 * ms
	late := add("ships at the end", slow, every(100_013*µs, ms))
	late.Idle, late.exposed = 7_420_007*µs, true
	return all
}

// traceNumbers returns a source of random numbers, the same numbers each time.
func traceNumbers() func() float64 { return rand.New(rand.NewPCG(1, 2)).Float64 }

// traceRun is an extension that is traced, and the stream that it ships to: the simulator's stream, with the retries of
// internal/kinesis.
type traceRun struct {
	*testing.T
	x       *Extension
	start   time.Time
	stream  *simulate.Stream
	random  func() float64
	warming bool // the trace has not started yet

	mu     sync.Mutex // guards the fields below
	steps  []simulate.Step
	frozen bool
	thawed chan struct{} // closed when the environment thaws and responses may be read again
}

// traceExtension gives an extension the inputs of a trace and returns the extension's steps.
func traceExtension(t *testing.T, s *tracedScenario, cfg config.Config, trace []simulate.Step, l *listener.Listener) []simulate.Step {
	t.Helper()
	r := &traceRun{T: t, stream: simulate.NewStream(s.Scenario)}
	r.x = &Extension{
		config: cfg, log: slog.New(slog.NewTextHandler(t.Output(), nil)), invocations: newInvocations(), listener: l, subscribed: true,
		abandon: func() { t.Error("the extension is broken") },
	}
	r.x.dispatcher = dispatcher.New(dispatcher.Options{
		Source: record.SourceFields{Function: tracedFunction()}, Format: cfg.Format, PartitionKey: cfg.PartitionKey,
		Flush: cfg.Flush(), MaxRecordBytes: cfg.MaxRecordBytes, RequestBytes: cfg.RequestBytes(), Log: r.x.log, Guard: r.x.guard,
		Random: func() float64 { return r.random() },
	}, r)
	r.useUpNumbers()
	r.random, r.start = traceNumbers(), time.Now()
	var all sync.WaitGroup
	for _, step := range trace {
		if !isTraceInput(step) {
			continue
		}
		time.Sleep(time.Until(r.start.Add(step.At)))
		synctest.Wait() // Lambda reacts to the extension's steps of the same instant
		switch step.What {
		case simulate.Invoke:
			r.note(step.What)
			all.Go(func() {
				r.x.invoke(t.Context(), lambdaapi.Event{RequestID: tracedID(step.Number), Deadline: r.start.Add(step.Deadline)})
				r.note(simulate.Asks)
			})
			r.thaw()
		case simulate.Post:
			r.note(step.What)
			body := tracedBody(r.start, s, step.Posted)
			events := new(listener.Splitter).Split(nil, body, true)
			r.x.receive(listener.Batch{Events: events})
		case simulate.Frozen:
			r.freeze(s.exposed)
		case simulate.Shutdown:
			r.note(step.What)
			all.Go(func() {
				r.x.handleShutdown(t.Context(), lambdaapi.Event{ShutdownReason: "spindown", Deadline: r.start.Add(step.Deadline)})
			})
			r.thaw()
		}
	}
	all.Wait()
	return r.steps
}

// useUpNumbers uses up the sequence numbers with fewer than five digits, because sequence numbers take no bytes in the simulator.
// These flights take no time and leave the policy unchanged.
func (r *traceRun) useUpNumbers() {
	r.random, r.warming = func() float64 { return 0 }, true
	for range 10 {
		r.x.dispatcher.Receive(slices.Repeat([]dispatcher.Event{{Raw: []byte("{}")}}, 1000), time.Time{}, false)
		r.x.dispatcher.Ship(r.Context(), flush.AtShutdown)
	}
	r.warming = false
}

// freeze delays responses until the next INVOKE or SHUTDOWN. synctest cannot stop the clock of a process. So freeze notes a shutdown,
// which keeps the background shipper from starting anything; INVOKE undoes that. If exposed is set, freeze does not note a shutdown,
// and the traffic must not cause any shipping during the freeze.
func (r *traceRun) freeze(exposed bool) {
	r.note(simulate.Frozen)
	r.mu.Lock()
	r.frozen, r.thawed = true, make(chan struct{})
	r.mu.Unlock()
	if !exposed {
		r.x.dispatcher.Note(flush.ShuttingDown{})
	}
}

// thaw lets responses be read again, after the event that ends the freeze.
func (r *traceRun) thaw() {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.thawed != nil {
		close(r.thawed)
		r.thawed = nil
	}
}

func (r *traceRun) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen = r.frozen && what != simulate.Invoke && what != simulate.Shutdown; r.frozen {
		r.Errorf("at %s, while the environment is frozen, the extension %s", time.Since(r.start), what)
	}
	r.steps = append(r.steps, simulate.Step{At: time.Since(r.start), What: what})
}

func (r *traceRun) Put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return r.put(ctx, records, false)
}

func (r *traceRun) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return r.put(ctx, records, true)
}

// put sends records, with pauses, until all are stored or ctx is done. It stores the extension's own events without counting them,
// because the simulator has none.
func (r *traceRun) put(ctx context.Context, records []kinesis.Record, probe bool) kinesis.Result {
	result := kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records))}
	events, sizes, pending := make([]int, len(records)), make([]int, len(records)), []int{}
	for i, k := range records {
		events[i], sizes[i] = tracedSize(k)
		if events[i] == 0 || r.warming {
			result.Outcomes[i] = kinesis.Sent
		} else {
			pending = append(pending, i)
		}
	}
	var failure *kinesis.Error
	for fruitless := 0; len(pending) > 0; {
		carried, bytes, offered := 0, 0, []int{}
		for _, i := range pending {
			carried += events[i]
			bytes += sizes[i]
			offered = append(offered, sizes[i])
		}
		r.note(fmt.Sprintf(simulate.Sends, carried, len(pending), bytes, probe))
		result.Requests++
		answer, stored := r.stream.Put(time.Since(r.start), 0, offered)
		refused := stored == nil
		stored = slices.Clone(stored)
		if !r.wait(ctx, time.Until(r.start.Add(answer))) {
			r.note(simulate.GivesUp)
			failure = cmp.Or(failure, &kinesis.Error{Kind: kinesis.KindNetwork, Err: ctx.Err()})
			break
		}
		left := slices.Clone(pending)
		if !refused {
			left = left[:0]
			for n, i := range pending {
				if stored[n] {
					result.Outcomes[i] = kinesis.Sent
				} else {
					left = append(left, i)
				}
			}
		}
		r.note(fmt.Sprintf(simulate.Reads, len(pending)-len(left), refused))
		if len(left) == 0 {
			break
		}
		if fruitless++; len(left) < len(pending) {
			fruitless = 0
		}
		pending, failure = left, &kinesis.Error{Kind: kinesis.KindService}
		if probe && fruitless > 0 {
			break
		}
		pause := time.Duration(r.random() * float64(kinesis.BackoffBound(!refused, fruitless)))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause || !r.wait(ctx, pause) {
			break
		}
	}
	result.AttemptFailed = failure != nil
	if slices.Contains(result.Outcomes, kinesis.Unsent) {
		result.Err = failure
	}
	return result
}

// wait waits, also through a freeze. It reports whether the pause passed before ctx was done. In a frozen process the time of a
// flight stands still. In this test it goes on, so no flight may time out during a freeze.
func (r *traceRun) wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	passed := true
	select {
	case <-timer.C:
	case <-ctx.Done():
		passed = false
	}
	r.mu.Lock()
	if !passed && r.frozen {
		r.Errorf("at %s a flight times out while the environment is frozen: choose other traffic", time.Since(r.start))
	}
	thawed := r.thawed
	r.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
	return passed
}

// tracedSize returns the number of events in a record and their size, without the extension's own events.
func tracedSize(k kinesis.Record) (events, size int) {
	size = len(k.PartitionKey)
	for line := range bytes.Lines(bytes.Join(k.Data, nil)) {
		if !bytes.Contains(line, []byte(`"type":"kinesis-telemetry.`)) {
			events++
			size += len(line)
		}
	}
	return events, size
}

// tracedOverhead is the size that an event has in the buffer in addition to its raw bytes.
const tracedOverhead = 128

// tracedFunction returns a function name with which an event has the same size in a record as in the buffer.
func tracedFunction() string {
	raw := []byte(`{"time":0}`)
	for name := "f"; ; name += "f" {
		e := record.Event{
			Raw: raw, RequestID: tracedID(1), Seq: 10_000,
			Source: record.NewSource(record.SourceFields{Function: name, Instance: strings.Repeat("0", 32)}),
		}
		if record.EventSize(&e)+len("\n") == len(raw)+tracedOverhead {
			return name
		}
	}
}

func tracedID(number int) string { return fmt.Sprintf("request-%05d", number) }

// tracedBody returns the body of a POST.
func tracedBody(start time.Time, s *tracedScenario, posted []simulate.Event) []byte {
	var raws []string
	for _, e := range posted {
		kind, member := "platform.start", `"requestId":"`+tracedID(int(e.Number))+`",`
		switch e.Index {
		case 0:
		case s.End():
			kind = "platform.runtimeDone"
		case simulate.Report:
			kind = "platform.report"
		default:
			kind, member = "function", ""
		}
		at := start.Add(e.At).UTC().Format(timeLayout)
		raw := fmt.Sprintf(`{"time":%q,"type":%q,"record":{%s"line":""}}`, at, kind, member)
		padding := strings.Repeat("x", int(e.Bytes)-tracedOverhead-len(raw))
		raws = append(raws, strings.Replace(raw, `"line":"`, `"line":"`+padding, 1))
	}
	return []byte("[" + strings.Join(raws, ",") + "]")
}

func isTraceInput(s simulate.Step) bool {
	return slices.Contains([]string{simulate.Invoke, simulate.Post, simulate.Frozen, simulate.Shutdown}, s.What)
}

// compareTraces reports the first difference, with the steps before it. Steps of one instant have no order.
func compareTraces(t *testing.T, simulated, extension []simulate.Step) {
	t.Helper()
	lines := func(steps []simulate.Step) (lines []string) {
		steps = slices.Clone(steps)
		slices.SortStableFunc(steps, func(a, b simulate.Step) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.What, b.What)) })
		for _, s := range steps {
			lines = append(lines, fmt.Sprintf("%-14s %s", s.At, s.What))
		}
		return append(lines, "the end")
	}
	want, got := lines(simulated), lines(extension)
	for i := range want {
		if i < len(got) && got[i] == want[i] {
			continue
		}
		part := func(lines []string, from, to int) string {
			return strings.Join(lines[min(max(from, 0), len(lines)):min(to, len(lines))], "\n")
		}
		t.Fatalf("step %d of %d\n%s\nthen the simulator\n%s\nand the extension\n%s",
			i+1, len(want), part(want, i-12, i), part(want, i, i+5), part(got, i, i+5))
	}
}
