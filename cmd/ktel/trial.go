//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	smithytime "github.com/aws/smithy-go/time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/sandbox"
)

// endTime limits the end of an interrupted trial: the sandbox's own shutdown takes at most 2 seconds.
const endTime = 5 * time.Second

// trial runs a function in one execution environment, from init to shutdown, and audits its stream.
type trial struct {
	function   sandbox.Function
	extensions []sandbox.Extension
	layers     []string // folders, mounted at /opt if this machine can
	audited    string   // the extension that delivers the events; empty: none
	initType   sandbox.InitType
	payloads   [][]byte      // events, used in turn
	count      int           // invocations
	workers    int           // invocations at a time
	gap        time.Duration // between two invocations
	noFreeze   bool
	delivery   string // mode of the audited extension; empty: its default

	show     showLine         // nil: events are not shown
	respond  func(invocation) // called for each result, one at a time
	progress func(format string, args ...any)
	output   *processOutput // of the processes
	tempDir  string         // removed by its creator
	answered atomic.Int64   // invocations
	// open opens the stream; record is called for each record until it is closed.
	open func(ctx context.Context, record func(string, []byte)) (stream, error)
}

// run runs the trial. It returns an error for a failure of ktel itself, or ctx's. Failures of the function and lost
// events are in the Summary. When run returns, all processes have ended.
func (s *trial) run(parent context.Context) (Summary, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	c := newCollector(s.show, func(err error) { cancel(cannot(fmt.Errorf("show the events: %w", err))) })
	st, err := s.open(ctx, c.record)
	if err != nil {
		c.finish()
		return Summary{}, err
	}
	invocations, processes, initErr, err := s.runEnvironment(ctx, st.destination(), c)
	if err == nil {
		err = st.drain(ctx, func() bool { r := c.audit.Report(); return r.Complete() })
	}
	err = errors.Join(err, st.close())
	c.finish()
	if parent.Err() != nil {
		return Summary{}, parent.Err()
	}
	if ctx.Err() != nil {
		return Summary{}, context.Cause(ctx)
	}
	if err != nil {
		return Summary{}, err
	}
	report := c.audit.Report()
	summary := summarize(invocations, processes, &report)
	summary.Audited, summary.Disabled = s.audited != "", s.disabled()
	summary.Stream.Throttled = st.throttled()
	summary.Stream.Name, summary.Stream.Endpoint = st.destination().stream, st.destination().endpoint
	if initErr != nil {
		summary.InitError = initErr.Type + ": " + initErr.Message
	}
	if summary.Audited && !summary.Disabled && initErr == nil && report.Emitted == 0 {
		summary.Idle = cmp.Or(s.output.lastMessage(), "it printed nothing")
	}
	summary.Complete = summary.Complete && summary.InitError == "" && summary.Idle == ""
	return summary, nil
}

// disabled reports whether the extension's settings turn it off.
func (s *trial) disabled() bool {
	var environ []string
	for name, value := range s.function.Env {
		environ = append(environ, name+"="+value)
	}
	settings, _ := config.Load(environ) // the extension reports mistakes
	return !settings.Enabled
}

// runEnvironment runs the environment from init to shutdown.
func (s *trial) runEnvironment(ctx context.Context, to destination, c *collector) (
	[]invocation, []sandbox.ProcessStats, *sandbox.InitError, error,
) {
	cfg, err := s.config(to, c)
	if err != nil {
		return nil, nil, nil, err
	}
	s.progress("starting the environment for %s", plural(s.count, "invocation"))
	env, err := sandbox.Start(ctx, cfg)
	if initErr, ok := errors.AsType[*sandbox.InitError](err); ok {
		return nil, nil, initErr, nil
	}
	if err != nil {
		return nil, nil, nil, cannot(fmt.Errorf("start the environment: %w", err))
	}
	invocations, err := s.invoke(ctx, env)
	shutdownCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if shutdownErr := env.Shutdown(shutdownCtx); shutdownErr != nil && ctx.Err() == nil {
		s.progress("%v", shutdownErr)
	}
	return invocations, env.Processes(), nil, err
}

func (s *trial) config(to destination, c *collector) (sandbox.Config, error) {
	tmp := filepath.Join(s.tempDir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return sandbox.Config{}, cannot(err)
	}
	function := s.function
	// As on Lambda, the extension's settings are variables of the function. Variables of the user override these.
	function.Env = map[string]string{
		"KINESIS_TELEMETRY_STREAM":       to.stream,
		"KINESIS_TELEMETRY_ENDPOINT_URL": to.endpoint,
		// The default is a folder in /tmp, which programs on this machine share.
		"KINESIS_TELEMETRY_SPILL_DIR": filepath.Join(tmp, extensionName),
	}
	if s.delivery != "" {
		function.Env["KINESIS_TELEMETRY_DELIVERY"] = s.delivery
	}
	maps.Copy(function.Env, s.function.Env)
	return sandbox.Config{
		Function: function, Extensions: s.extensions, Layers: s.layers, InitType: s.initType,
		Region: to.region, Credentials: to.credentials, TmpDir: tmp, Output: s.output, NoFreeze: s.noFreeze,
		OnEvent: func(extension string, e sandbox.Event) {
			if extension == s.audited {
				c.audit.AddEmitted(e.Raw)
			}
		},
	}, nil
}

// invoke runs the invocations with s.workers workers, until all are done or one cannot run.
func (s *trial) invoke(ctx context.Context, env *sandbox.Environment) ([]invocation, error) {
	var (
		mu       sync.Mutex // guards the variables below
		next     int
		outcomes []invocation
		failed   error
	)
	work := func() {
		for {
			mu.Lock()
			number := next
			next++
			stop := failed != nil || number >= s.count
			mu.Unlock()
			if stop {
				return
			}
			if number >= s.workers && smithytime.SleepWithContext(ctx, s.gap) != nil {
				return
			}
			result, err := env.Invoke(ctx, s.payloads[number%len(s.payloads)])
			mu.Lock()
			if err != nil {
				failed = cannot(fmt.Errorf("invoke the function: %w", err))
			} else {
				outcomes = append(outcomes, invocation{number + 1, result})
				s.answered.Store(int64(len(outcomes)))
				s.respond(outcomes[len(outcomes)-1])
			}
			mu.Unlock()
		}
	}
	var wg sync.WaitGroup
	for range s.workers {
		wg.Go(work)
	}
	wg.Wait()
	return outcomes, failed
}
