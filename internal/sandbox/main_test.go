//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is also the function and the extension, selected by its first argument.
const (
	argFunction  = "sandbox-test-function"
	argExtension = "sandbox-test-extension"
	argPoller    = "sandbox-test-poller"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case argFunction:
			runFunction(os.Args[2])
			return
		case argPoller:
			runPoller()
			return
		case argExtension:
			if err := runExtension(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, "extension:", err)
				os.Exit(1)
			}
			return
		}
	}
	idleLineTimeout = time.Minute // on a loaded machine, a process may pause for seconds in the middle of a line
	// The tests wait most of their time. The flag -parallel still overrides this.
	_ = flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0))))
	goleak.VerifyTestMain(m)
}

// subscribeAll is the body of a subscription to all types of telemetry.
const subscribeAll = `{"schemaVersion":"2025-01-29","types":["platform","function","extension"],` +
	`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:PORT/telemetry"},` +
	`"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25}}`

// testConfig returns the config of a function with one extension per plan, named x0, x1 …
func testConfig(t *testing.T, c *collector, mode string, plans ...plan) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Function: Function{
			Command: []string{self, argFunction, mode}, Timeout: time.Minute, MemoryMB: 256, Name: "fn",
			Env: map[string]string{"GORACE": "atexit_sleep_ms=0"}, // by default the race detector delays the exit by a second
		},
		// A loaded machine may be slow. Processes that are ready or exit in time do not wait for these limits.
		InitTimeout:     time.Minute,
		ShutdownTimeout: 20 * time.Second,
		OnEvent:         c.onEvent,
	}
	for i, p := range plans {
		p.Collector = c.listener.Addr().String()
		if p.Events == nil {
			p.Events = []string{eventInvoke, eventShutdown}
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		name := "x" + strconv.Itoa(i)
		cfg.Extensions = append(cfg.Extensions, Extension{Path: self, Name: name, Args: []string{argExtension, string(data), name}})
	}
	return cfg
}

func start(t *testing.T, cfg Config) *Environment {
	t.Helper()
	e, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Shutdown(context.Background()) })
	return e
}

func invoke(t *testing.T, e *Environment, o task, opts ...InvokeOption) Result {
	t.Helper()
	payload, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Invoke(t.Context(), payload, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func shutdown(t *testing.T, e *Environment) {
	t.Helper()
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range e.Processes() {
		if !p.Exited {
			t.Errorf("%s still runs after Shutdown", p.Name)
		}
	}
}

var onLinux = runtime.GOOS == "linux"
