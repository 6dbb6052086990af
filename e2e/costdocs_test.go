package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	pricing "kinesis-telemetry-extension/internal/cost"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

const measurementsFile = "../internal/cost/measurements.json"

// The measurements behind docs/cost.md, on the log lines of a shop: bytes and records of an invocation, CPU and memory. With
// -args -update the test writes them. Otherwise it compares them, except CPU and memory, which depend on the machine.
func TestBudgetCostMeasurements(t *testing.T) {
	budgets(t)
	function := filepath.Join(t.TempDir(), "bootstrap")
	if err := build(function, "./testdata/realistic"); err != nil {
		t.Fatal(err)
	}
	measured := pricing.Measurements{Date: time.Now().UTC().Format(time.DateOnly), Machine: machine(), Go: runtime.Version()}
	for _, each := range []bool{false, true} {
		for _, w := range formats {
			if each && w.format != record.NDJSON {
				continue
			}
			run := w.measure(t, function, each, &measured)
			if t.Failed() {
				return
			}
			t.Logf("%s %s, each %t: %.0f bytes, %.4f records an invocation, %.2f µs an event, %.1f MiB",
				run.Format, run.Compression, each, run.Bytes, run.Records, run.CPUMicros, run.MemoryMiB)
			measured.Runs = append(measured.Runs, run)
		}
	}
	if *update {
		data, err := json.MarshalIndent(measured, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, measurementsFile, append(data, '\n'))
		return
	}
	_, committed, err := pricing.Load()
	if err != nil || len(committed.Runs) != len(measured.Runs) {
		t.Fatalf("%d runs, %d are committed: %v", len(measured.Runs), len(committed.Runs), err)
	}
	for i, was := range committed.Runs {
		is := measured.Runs[i]
		if is.Format != was.Format || is.Compression != was.Compression || ratio(is.Bytes, was.Bytes) > .05 || ratio(is.KiB, was.KiB) > .1 {
			t.Errorf("%s %s: %.0f bytes and %.1f KiB an invocation, want the committed %.0f and %.1f: run this test with -args -update",
				is.Format, is.Compression, is.Bytes, is.KiB, was.Bytes, was.KiB)
		}
	}
}

func ratio(is, was float64) float64 { return max(is/was, was/is) - 1 }

// measure runs an environment of many invocations with ten lines each. It ships full records, except the last, or a record with
// each invocation.
func (w written) measure(t *testing.T, function string, each bool, measured *pricing.Measurements) (run pricing.Run) {
	run = pricing.Run{Format: string(w.format), Compression: string(w.compression), EachInvocation: each}
	t.Run(fmt.Sprintf("%s %s %t", w.format, w.compression, each), func(t *testing.T) {
		invocations := 2000
		settings := map[string]string{
			"KINESIS_TELEMETRY_FORMAT": string(w.format), "KINESIS_TELEMETRY_COMPRESSION": string(w.compression),
			"KINESIS_TELEMETRY_DELIVERY": "deferred", "KINESIS_TELEMETRY_MAX_DELAY": "15m", "KINESIS_TELEMETRY_BUFFER_BYTES": "16777216",
		}
		if each {
			invocations = 300
			settings["KINESIS_TELEMETRY_DELIVERY"] = "sync"
		}
		r := newTrial(t, setup{
			settings: settings,
			kinesis:  kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
			sandbox: func(cfg *sandbox.Config) {
				cfg.Function.Command, cfg.NoFreeze = []string{function}, !each // the log format is Lambda's default, Text
			},
		})
		pid := r.extensions()[0].PID
		started := cpuTime(t, pid)
		for range invocations {
			r.invoke(`{}`)
		}
		if err := r.env.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		life := r.extensions()[0]
		events, n := float64(len(r.emitted)), float64(invocations)
		var traffic pricing.Traffic
		lines, bytes := 0, 0
		for _, stored := range r.kinesis.Records(r.stream) {
			traffic.Add(len(stored.Data), len(stored.PartitionKey))
			if w.format != record.CloudWatch {
				continue
			}
			for line := range record.Unpack(stored.Data) {
				var event struct{ Message string }
				unmarshal(t, line.Raw, &event)
				lines, bytes = lines+1, bytes+len(event.Message)
			}
		}
		if events < n*10 || traffic.Records == 0 {
			t.Fatalf("%.0f events, %.0f records", events, traffic.Records)
		}
		run.Traffic = traffic.Times(1 / n)
		run.CPUMicros, run.MemoryMiB = float64((life.CPU-started).Microseconds())/events, float64(life.MaxRSS)/(1<<20)
		if w.format == record.CloudWatch {
			measured.CloudWatchLines, measured.CloudWatchBytes = float64(lines)/n, float64(bytes)/n
		}
		measured.Lines, measured.Events = 10, events/n
		printed := 0
		for _, e := range r.emitted {
			if e.Type == "function" {
				printed += len(sqlText(e.Record))
			}
		}
		measured.LineBytes = float64(printed) / n / 10
	})
	return run
}

// machine names the processor.
func machine() string {
	name := runtime.GOARCH
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			name = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d CPUs of %s", runtime.NumCPU(), name)
}
