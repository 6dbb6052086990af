package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// The extension costs little more than a plain shipper (testdata/plain), which ships as many bytes without parsing them. They run
// in turn, so that other load on the machine affects both.
//
// The extension ships at the end of each invocation. Otherwise the small buffer of this function would overflow, and dropped events
// cost nothing. The environment does not freeze: the plain shipper does not wait, and would get most telemetry at the end, in
// larger bodies.
func TestBudgetCost(t *testing.T) {
	budgets(t)
	const (
		cpuBudget     = 1.25 // of the plain shipper's; 1.13 to 1.23 was seen
		memoryBudget  = 1.5
		journalBudget = .3 // µs an event
	)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := build(plain, "./testdata/plain"); err != nil {
		t.Fatal(err)
	}
	kept := setup{settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync"}}
	unkept := setup{settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_SPILL_DIR": " "}}
	const rounds, attempts = 5, 3
	for attempt := 1; ; attempt++ { // a retry helps on a noisy machine
		var ours, light, bare cost
		for range rounds {
			ours.add(measureCost(t, binaries.extension, texts, kept))
			light.add(measureCost(t, binaries.extension, texts, unkept))
			padding := strconv.FormatFloat(float64(ours.stored)/float64(ours.emitted)-1, 'f', 6, 64)
			bare.add(measureCost(t, plain, texts, setup{settings: map[string]string{"PLAIN_PADDING": padding}}))
		}
		t.Logf("ours: %v", &ours)
		t.Logf("without a journal: %v", &light)
		t.Logf("plain: %v", &bare)
		cpu, memory := ours.cpu/bare.cpu, float64(ours.memory)/float64(bare.memory)
		journal := ours.cpu - light.cpu
		t.Logf("CPU time %.2f times the plain shipper's of %.2f (%.2f without a journal), memory %.2f times of %.2f, "+
			"journal %.2f µs an event of %.2f",
			cpu, cpuBudget, light.cpu/bare.cpu, memory, memoryBudget, journal, journalBudget)
		if ratio := float64(bare.stored) / float64(ours.stored); ratio < .99 || ratio > 1.01 {
			t.Fatalf("the plain shipper shipped %.3f times as many bytes", ratio)
		}
		if cpu <= cpuBudget && memory <= memoryBudget && journal <= journalBudget {
			return
		}
		if attempt == attempts {
			t.Fatal("above the budget")
		}
	}
}

// cost has the resources that an extension's process used, and the work it did.
type cost struct {
	cpu             float64 // µs an event
	memory          int64   // resident bytes, the lowest of all peaks: a late garbage collection raises a peak
	calls           int     // reads and writes
	events          int
	emitted, stored int64 // bytes
}

func (c *cost) add(o cost) {
	if c.events == 0 {
		c.memory = o.memory
	}
	c.memory = min(c.memory, o.memory)
	c.cpu = (c.cpu*float64(c.events) + o.cpu*float64(o.events)) / float64(c.events+o.events)
	c.calls += o.calls
	c.events += o.events
	c.emitted += o.emitted
	c.stored += o.stored
}

func (c *cost) String() string {
	return fmt.Sprintf("%.2f µs an event, VmHWM %.1f MiB, %.1f reads and writes a thousand events, %d events, %d bytes of %d",
		c.cpu, float64(c.memory)/(1<<20), float64(c.calls)/float64(c.events)*1000, c.events, c.stored, c.emitted)
}

const texts = `{"text":5000,"bytes":300}`

// measureCost runs an environment of 20 invocations with 5,000 lines each.
func measureCost(t *testing.T, extension, request string, s setup) (c cost) {
	t.Run(filepath.Base(extension), func(t *testing.T) {
		const invocations, lines = 20, 5000 // of each request
		s.kinesis = kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1}
		change := s.sandbox
		s.sandbox = func(cfg *sandbox.Config) {
			cfg.Extensions[0].Path = extension
			cfg.NoFreeze = true
			cfg.Telemetry.QueueBytes = 1 << 30
			cfg.OnEvent = func(_ string, e sandbox.Event) {
				c.events++
				c.emitted += int64(len(e.Raw))
			}
			if change != nil {
				change(cfg)
			}
		}
		r := newTrial(t, s)
		pid := r.extensions()[0].PID
		started := cpuTime(t, pid)
		for range invocations {
			r.invoke(request)
		}
		c.calls = ioCalls(t, pid)
		if err := r.env.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		life := r.extensions()[0]
		c.cpu, c.memory = float64((life.CPU-started).Microseconds())/float64(max(c.events, 1)), life.MaxRSS
		for _, operation := range r.kinesis.Stats().Operations {
			c.stored += operation.Records["OK"].Bytes
		}
		if compressed := s.settings["KINESIS_TELEMETRY_COMPRESSION"] != ""; c.events < invocations*lines || c.stored < c.emitted && !compressed {
			t.Errorf("%d events, %d bytes became %d", c.events, c.emitted, c.stored)
		}
	})
	return c
}

// cpuTime is the CPU time of a process's threads. Go's threads live as long as the process.
func cpuTime(t *testing.T, pid int) (used time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		t.Skip("CPU time is read from /proc: ", err)
	}
	for _, thread := range threads {
		content, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		var nanoseconds int64
		if _, err := fmt.Sscan(string(content), &nanoseconds); err != nil {
			t.Fatal(err)
		}
		used += time.Duration(nanoseconds)
	}
	return used
}

// ioCalls is the number of reads and writes of a process.
func ioCalls(t *testing.T, pid int) (calls int) {
	t.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Skip("system calls are read from /proc: ", err)
	}
	for line := range strings.Lines(string(io)) {
		var n int
		if _, err := fmt.Sscanf(line, "syscr: %d", &n); err == nil {
			calls += n
		}
		if _, err := fmt.Sscanf(line, "syscw: %d", &n); err == nil {
			calls += n
		}
	}
	return calls
}

// hangs is a stream that does not answer.
var hangs = kinesislocal.Options{
	ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1, Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{Hang: true}}},
}

// With a dead stream and a full buffer, a line every 25 ms, each in its own POST, takes at most 3 % of a core.
func TestBudgetFullBuffer(t *testing.T) {
	budgets(t)
	const lines, duration = 400, 10 * time.Second
	for _, memory := range []int{1, 64} {
		t.Run(fmt.Sprintf("%d MiB", memory), func(t *testing.T) {
			r := newTrial(t, setup{
				settings: map[string]string{"KINESIS_TELEMETRY_BUFFER_BYTES": strconv.Itoa(memory << 20), "KINESIS_TELEMETRY_FLUSH_TIMEOUT": ""},
				kinesis:  hangs,
			})
			for range memory {
				r.invoke(`{"text":1200,"bytes":1000}`)
			}
			r.invoke(`{"duration":"1s"}`) // Lambda now posts the telemetry that it could not post before the freeze
			pid := r.extensions()[0].PID
			before, calls, began := cpuTime(t, pid), ioCalls(t, pid), time.Now()
			r.invoke(fmt.Sprintf(`{"text":%d,"bytes":300,"duration":"%s"}`, lines, duration))
			share := float64(cpuTime(t, pid)-before) / float64(time.Since(began))
			t.Logf("%.1f %% of a core of 3 %%, %d reads and writes", share*100, ioCalls(t, pid)-calls)
			if share > .03 {
				t.Error("over the budget")
			}
			r.kinesis.SetFaults(nil)
			if r.end(); lastStats(t, r).Dropped == 0 {
				t.Error("the buffer was not full")
			}
		})
	}
}

// With a dead stream the process takes at most the buffer and 14 MiB. A late garbage collection raises a peak, so the lowest peak counts.
func TestBudgetMemoryOfFullBuffer(t *testing.T) {
	budgets(t)
	const buffer, allowed, attempts = 32, 14, 3 // MiB; the buffer is a sixteenth of the memory
	for range attempts {
		r := newTrial(t, setup{
			settings: map[string]string{"KINESIS_TELEMETRY_FLUSH_TIMEOUT": ""},
			kinesis:  hangs,
			sandbox: func(cfg *sandbox.Config) {
				cfg.Function.MemoryMB = 16 * buffer
				cfg.Telemetry.QueueBytes = 1 << 30
			},
		})
		for range 60 {
			r.invoke(`{"text":500,"bytes":1000}`)
		}
		r.invoke(`{"duration":"1s"}`) // Lambda now posts the telemetry that it could not post before the freeze
		memory := r.extensions()[0].MaxRSS
		t.Logf("VmHWM %.1f MiB of %d", float64(memory)/(1<<20), buffer+allowed)
		r.kinesis.SetFaults(nil)
		if r.end(); lastStats(t, r).Dropped == 0 {
			t.Error("the buffer was not full")
		}
		if memory <= (buffer+allowed)<<20 {
			return
		}
	}
	t.Error("over the budget")
}
