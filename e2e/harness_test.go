// Package e2e runs the real extension in the sandbox. Its files are topics: delivery, settings, cost, faults of the stream, of the
// network and of the Telemetry API.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

const (
	extensionName = "kinesis-telemetry-extension"
	stream        = "telemetry-kinesis-stream" // the default of STREAM
	accessKey     = "ASIATESTTESTTESTTEST"
	secret        = "secret/secret/secret"
)

// binaries are the real extension and a real function, built once for all tests.
var binaries struct {
	extension, function string
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == stopAndGo {
		os.Exit(runStopAndGo(os.Args[2]))
	}
	flag.Parse()
	if os.Getenv("BUDGETS") == "" && flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", strconv.Itoa(waiting)) // unless the command line says otherwise
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "extension-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binaries.extension = filepath.Join(dir, extensionName)
		binaries.function = filepath.Join(dir, "bootstrap")
		for output, source := range map[string]string{
			binaries.extension: "kinesis-telemetry-extension/cmd/kinesis-telemetry-extension",
			binaries.function:  "kinesis-telemetry-extension/examples/hello",
		} {
			if err := build(output, source); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// waiting is how many tests run at a time: they wait for most of their time, for timeouts and frozen environments.
const waiting = 8

// concurrent lets a test run beside others, unless budgets are measured: each test has the machine to itself then.
func concurrent(t *testing.T) {
	if os.Getenv("BUDGETS") == "" {
		t.Parallel()
	}
}

// build builds a program as `make layer` does.
func build(output, source string, environ ...string) error {
	const flags = "-s -w -buildid= -funcalign=16"
	command := exec.Command("go", "build", "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", flags, "-o", output, source)
	command.Env = append(append(os.Environ(), "CGO_ENABLED=0"), environ...)
	if printed, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", source, err, printed)
	}
	return nil
}

// trial is one environment with the real extension, from its start to its shutdown, and its results.
type trial struct {
	*testing.T
	kinesis *kinesislocal.Server
	env     *sandbox.Environment
	audit   *audit.Audit
	output  output
	stream  string
	faulty  atomic.Bool     // the fault between the extension and Kinesis is active
	emitted []sandbox.Event // complete once the environment is shut down
}

// setup has the options of a trial. The zero value is the ordinary case.
type setup struct {
	settings map[string]string // variables of the extension; "" removes one that newTrial sets
	kinesis  kinesislocal.Options
	shards   int
	noStream bool
	maxKiB   int    // the stream's record limit; 0: Kinesis's default
	stream   string // read back this stream
	sandbox  func(*sandbox.Config)
	// extension changes the extension's surroundings, after Kinesis has started.
	extension func(*trial, *sandbox.Extension)
}

// output collects the output of all processes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// lines returns the lines of the extension's own log.
func (o *output) lines() (lines []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for line := range strings.Lines(o.text.String()) {
		if strings.Contains(line, "level=") && strings.Contains(line, "extension="+extensionName) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// newTrial starts Kinesis and the environment. Both end with the test.
func newTrial(t *testing.T, s setup) *trial {
	t.Helper()
	r := &trial{T: t, audit: new(audit.Audit), stream: stream}
	if s.stream != "" {
		r.stream = s.stream
	}
	s.kinesis.Credentials = map[string]string{accessKey: secret}
	var err error
	if r.kinesis, err = kinesislocal.Start(s.kinesis); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.kinesis.Close() })
	switch {
	case s.noStream:
	case s.maxKiB > 0:
		r.create(s.maxKiB)
	default:
		if err := r.kinesis.CreateStream(r.stream, max(s.shards, 1)); err != nil {
			t.Fatal(err)
		}
	}
	variables := map[string]string{
		"KINESIS_TELEMETRY_ENDPOINT_URL": r.kinesis.URL(), "KINESIS_TELEMETRY_SPILL_DIR": t.TempDir(),
		"KINESIS_TELEMETRY_FLUSH_TIMEOUT": "10s", // on a busy machine the default would cut off slow requests
	}
	maps.Copy(variables, s.settings)
	maps.DeleteFunc(variables, func(_, value string) bool { return value == "" })
	cfg := sandbox.Config{
		Function:    sandbox.Function{Command: []string{binaries.function}, Timeout: 30 * time.Second, Name: "hello"},
		Extensions:  []sandbox.Extension{{Path: binaries.extension, Env: variables}},
		Credentials: sandbox.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret, SessionToken: "token"},
		TmpDir:      t.TempDir(),
		Output:      &r.output,
		InitTimeout: time.Minute, // on a busy machine
		OnEvent: func(_ string, e sandbox.Event) {
			r.emitted = append(r.emitted, e)
			r.audit.AddEmitted(e.Raw)
		},

		ShutdownTimeout: 20 * time.Second, // the extension uses at most two seconds; a busy machine adds to that
	}
	if s.extension != nil {
		s.extension(r, &cfg.Extensions[0])
	}
	if s.sandbox != nil {
		s.sandbox(&cfg)
	}
	if r.env, err = sandbox.Start(t.Context(), cfg); err != nil {
		t.Fatalf("%v\n%s", err, r.output.text.String())
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.env.Shutdown(ctx)
		if t.Failed() {
			t.Logf("log of the extension:\n%s", strings.Join(r.output.lines(), "\n"))
		}
	})
	return r
}

// invoke invokes the function and fails the test unless it succeeds.
func (r *trial) invoke(request string, options ...sandbox.InvokeOption) sandbox.Result {
	r.Helper()
	result, err := r.env.Invoke(r.Context(), []byte(request), options...)
	if err != nil || result.Status != "success" {
		r.Fatalf("invoke: %v, status %q %s: %s", err, result.Status, result.ErrorType, result.Payload)
	}
	return result
}

// end shuts the environment down without errors, and audits the stream.
func (r *trial) end() audit.Report {
	r.Helper()
	if err := r.env.Shutdown(r.Context()); err != nil {
		r.Errorf("shutdown: %v", err)
	}
	for _, p := range r.extensions() {
		if p.ExitCode != 0 || p.Killed || p.Signal != "" {
			r.Errorf("the extension ended with code %d, signal %q, killed %t", p.ExitCode, p.Signal, p.Killed)
		}
	}
	for _, stored := range r.kinesis.Records(r.stream) {
		r.audit.AddRecord(stored.PartitionKey, stored.Data)
	}
	return r.audit.Report()
}

// extensions returns the extension's processes, in order.
func (r *trial) extensions() (processes []sandbox.ProcessStats) {
	for _, p := range r.env.Processes() {
		if p.Kind == sandbox.ExtensionProcess {
			processes = append(processes, p)
		}
	}
	return processes
}

// duplicates returns how many lines of the audited stream are duplicates. On a busy machine requests are cut off: copies of their events,
// under the same numbers, do not count, unless BUDGETS is set.
func (r *trial) duplicates(report *audit.Report) int {
	r.Helper()
	duplicates := len(report.Duplicated)
	if copies := len(linesOf(r)) - len(eventsOf(r)); os.Getenv("BUDGETS") == "" && duplicates == copies {
		return 0
	}
	return duplicates
}

// checkComplete checks that every event arrived once and unaltered (see duplicates), and that no number is missing.
func (r *trial) checkComplete(report audit.Report, least int) {
	r.Helper()
	if r.duplicates(&report) == 0 {
		report.Duplicated = nil
	}
	if !report.Complete() || report.Emitted < least || report.OutOfOrder > 0 {
		r.Errorf("emitted %d (at least %d expected), delivered %d, duplicated %d, altered %v, malformed %v, gaps %v, out of order %d; lost %v",
			report.Emitted, least, report.Delivered, len(report.Duplicated), report.Altered, report.Malformed, report.Gaps,
			report.OutOfOrder, report.Lost[:min(5, len(report.Lost))])
	}
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}
