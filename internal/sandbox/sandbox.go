//go:build unix

package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Environment is one execution environment. Its methods may be called from several goroutines. Under every init type
// but ManagedInstances, calls of Invoke run one after the other.
type Environment struct {
	cfg        Config
	addr       string // where the APIs are served
	server     *http.Server
	serverDone chan struct{} // closed when server has stopped
	spawner    *spawner
	output     *output
	token      string // authorizes requests for credentials and metadata
	instanceID string // also the name of the log stream, as in the emulator
	taskRoot   string

	// phaseToken holds one token. A phase runs only while it owns the token. On Managed Instances only init and shutdown
	// take it.
	phaseToken chan struct{}

	freezeMu sync.Mutex // guards frozen; locked while the processes are signalled
	frozen   bool

	mu                sync.Mutex  // guards the fields below
	generation        *generation // nil after a reset
	generationCount   int
	invocationCount   int // invocations started
	processes         []*process
	initDuration      time.Duration // of the init phase
	beforeFirstInvoke bool          // no invocation since the init phase
	closed            bool
	running           sync.WaitGroup
}

// ErrClosed is the error of calls on an environment that was shut down.
var ErrClosed = errors.New("sandbox: the environment is shut down")

// ErrUnhealthy is in the chain of Invoke's error after a process of a ManagedInstances environment has exited. Lambda
// replaces that environment; it does not reset it.
var ErrUnhealthy = errors.New("sandbox: the environment is unhealthy")

// Start starts the extensions and the function and runs the init phase. It returns when init is complete. If init
// failed, every process is gone and the error is an *InitError, or ctx's. ctx bounds the init phase only.
func Start(ctx context.Context, cfg Config) (*Environment, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	initCtx, cancel := context.WithTimeoutCause(ctx, cfg.InitTimeout, errDeadline)
	defer cancel()
	g := e.newGeneration("init")
	duration, err := g.init(initCtx)
	switch {
	case err == nil:
		e.initDuration, e.beforeFirstInvoke = duration, true
		if !cfg.NoFreeze {
			e.Freeze()
		}
	case cfg.RetryInit && ctx.Err() == nil:
		e.reset(context.WithoutCancel(ctx), resetReason(err))
	default:
		e.reset(context.WithoutCancel(ctx), resetReason(err))
		_ = e.Shutdown(ctx) // only the server is left to stop: the caller needs the init error
		return nil, err
	}
	return e, nil
}

// listen creates an environment and serves its APIs. It starts no process.
func listen(cfg Config) (*Environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("sandbox: listener of the APIs: %w", err)
	}
	e := &Environment{
		cfg: cfg, addr: listener.Addr().String(), serverDone: make(chan struct{}),
		spawner: newSpawner(cfg.Layers), token: rand.Text(),
		output: &output{w: cfg.Output}, taskRoot: cfg.Function.Dir, phaseToken: make(chan struct{}, 1),
		instanceID: time.Now().UTC().Format("2006/01/02") + "/[" + cfg.Function.Version + "]" + strings.ReplaceAll(newUUID(), "-", ""),
	}
	if e.taskRoot == "" {
		if e.taskRoot, err = os.Getwd(); err != nil {
			e.taskRoot = "/"
		}
	}
	e.phaseToken <- struct{}{}
	e.server = &http.Server{Handler: e.routes(), ConnContext: e.connContext, ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(e.serverDone)
		_ = e.server.Serve(listener) // returns when Shutdown closes the listener
	}()
	return e, nil
}

// Invoke runs a whole invoke phase: thaw, invoke, report, freeze. It returns when the phase has ended. The Result has the
// response's own time, and any failure of the function or of an extension. An error means that no phase ran, or that ctx
// ended during the phase, which resets the environment.
func (e *Environment) Invoke(ctx context.Context, payload []byte, opts ...InvokeOption) (Result, error) {
	if e.cfg.InitType == ManagedInstances {
		return e.invokeManaged(ctx, payload, opts)
	}
	select {
	case <-e.phaseToken:
		defer func() { e.phaseToken <- struct{}{} }()
	case <-ctx.Done():
		return Result{}, fmt.Errorf("sandbox: waiting for the environment: %w", ctx.Err())
	}
	if e.isClosed() {
		return Result{}, ErrClosed
	}
	p := e.newInvokePhase(payload, opts)
	err := p.run(ctx)
	return p.result, err
}

// invokeManaged runs one of several concurrent phases. It never resets the environment. After a timeout the environment
// goes on; after a crash it stays unhealthy
// (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html).
func (e *Environment) invokeManaged(ctx context.Context, payload []byte, opts []InvokeOption) (Result, error) {
	e.mu.Lock()
	switch {
	case e.closed:
		e.mu.Unlock()
		return Result{}, ErrClosed
	case e.generation == nil:
		e.mu.Unlock()
		return Result{}, ErrUnhealthy
	}
	g := e.generation
	e.running.Add(1)
	e.mu.Unlock()
	defer e.running.Done()
	g.mu.Lock()
	fail := g.failure
	g.mu.Unlock()
	if fail != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrUnhealthy, fail)
	}
	p := e.newInvokePhase(payload, opts)
	err := p.run(ctx)
	return p.result, err
}

// Shutdown runs the shutdown phase (reason spindown) and releases everything: after it every process and goroutine is
// gone. It waits for a running Invoke. If ctx ends first, it kills the remaining processes at once. The error names each
// extension that did not exit in time or exited with a failure. Further calls return nil.
func (e *Environment) Shutdown(ctx context.Context) error {
	var errs []error
	select {
	case <-e.phaseToken:
	case <-ctx.Done():
		e.killProcesses() // ends the running phase
		<-e.phaseToken
	}
	defer func() { e.phaseToken <- struct{}{} }()
	e.mu.Lock()
	wasClosed := e.closed
	e.closed = true
	e.mu.Unlock()
	if wasClosed {
		return nil
	}
	e.awaitManagedInvocations(ctx)
	if g := e.currentGeneration(); g != nil {
		e.Thaw()
		errs = append(errs, g.shutdown(ctx, "spindown"))
		e.setGeneration(nil)
	}
	serverCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := e.server.Shutdown(serverCtx); err != nil { // waits for connections; the clients are gone
		errs = append(errs, fmt.Errorf("sandbox: closing the APIs: %w", e.server.Close()))
	}
	<-e.serverDone
	e.spawner.close()
	return errors.Join(errs...)
}

// reset stops the processes after a failure. The next Invoke starts new ones.
func (e *Environment) reset(ctx context.Context, reason string) {
	g := e.currentGeneration()
	e.Thaw()
	// Telemetry and Processes report how the extensions exited. The caller gets the reason of the reset.
	_ = g.shutdown(ctx, reason)
	e.setGeneration(nil)
}

func (e *Environment) currentGeneration() *generation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.generation
}

func (e *Environment) setGeneration(g *generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generation = g
}

func (e *Environment) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

func (e *Environment) allProcesses() []*process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]*process(nil), e.processes...)
}

func (e *Environment) killProcesses() {
	for _, p := range e.allProcesses() {
		p.signal(syscall.SIGKILL)
	}
}

// Processes describes every process of every generation, in the order in which they started.
func (e *Environment) Processes() []ProcessStats {
	all := e.allProcesses()
	stats := make([]ProcessStats, len(all))
	for i, p := range all {
		stats[i] = p.stats()
	}
	return stats
}

// ErrNotSubscribed is the error of Inject for an extension that has no subscription in the current generation.
var ErrNotSubscribed = errors.New("sandbox: the extension is not subscribed to telemetry")

// Inject posts body, which may be any bytes, to the telemetry destination of the named extension's first subscription,
// beside the events. It returns the answer's status and how long the POST took. It thaws a frozen environment first.
func (e *Environment) Inject(extension string, body []byte) (status int, took time.Duration, err error) {
	g := e.currentGeneration()
	if g == nil {
		return 0, 0, ErrNotSubscribed
	}
	subs := g.hub.subscribersOf(extension)
	if len(subs) == 0 {
		return 0, 0, ErrNotSubscribed
	}
	e.Thaw()
	begin := time.Now()
	status, err = subs[0].inject(body)
	if err != nil {
		err = fmt.Errorf("sandbox: posting to extension %s: %w", extension, err)
	}
	return status, time.Since(begin), err
}

func (e *Environment) functionARN() string {
	return fmt.Sprintf("arn:%s:lambda:%s:%s:function:%s", partition(e.cfg.Region), e.cfg.Region, e.cfg.AccountID, e.cfg.Function.Name)
}

// partition returns the second part of every ARN in a region. It is a copy of kinesis.Partition for the partitions that
// matter here: this package imports no other package of this module.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	default:
		return "aws"
	}
}

// newTrace returns a new X-Ray trace header that is not sampled.
func newTrace(now time.Time) string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", now.Unix(), hex.EncodeToString(b[:12]), hex.EncodeToString(b[12:]))
}

// output copies the processes' output to a writer for people, each line with the process's name.
type output struct {
	mu sync.Mutex
	w  io.Writer
	b  bytes.Buffer
}

func (o *output) write(name string, lines [][]byte) {
	if o.w == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
	for _, line := range lines {
		o.b.WriteString("[" + name + "] ")
		o.b.Write(bytes.TrimSuffix(line, []byte("\n")))
		o.b.WriteByte('\n')
	}
	_, _ = o.w.Write(o.b.Bytes()) // a broken writer does not stop the function
}

// takeInitDuration returns the duration of the init phase or, under SnapStart, of the restore phase. Only the first
// invocation after init gets it; later ones get zeros.
func (e *Environment) takeInitDuration() (initDuration, restoreDuration time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.beforeFirstInvoke {
		return 0, 0
	}
	e.beforeFirstInvoke = false
	// SnapStart runs init when a version is published. The sandbox takes no snapshot, so restoring takes no time.
	if e.cfg.InitType == SnapStart {
		return 0, time.Millisecond
	}
	if e.cfg.InitType == ManagedInstances {
		return 0, 0
	}
	return e.initDuration, 0
}

// awaitManagedInvocations waits for running invocations. When ctx ends, it kills the processes, which ends the
// invocations.
func (e *Environment) awaitManagedInvocations(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		e.killProcesses()
		<-done
	}
}
