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

// Environment is one execution environment. Its methods may be called from several goroutines; on other init types than
// ManagedInstances, Invokes run one after the other.
type Environment struct {
	cfg        Config
	addr       string // of the APIs
	server     *http.Server
	serverDone chan struct{} // closed when server has ended
	spawner    *spawner
	output     *output
	token      string // of the endpoints for credentials and metadata
	instanceID string // also the name of the log stream, as in the emulator
	taskRoot   string

	phaseToken chan struct{} // holds one token: who has it runs a phase; on Managed Instances only init and shutdown take it

	freezeMu sync.Mutex // guards frozen; held while the processes are signalled
	frozen   bool

	mu                sync.Mutex  // guards what follows
	generation        *generation // nil after a reset
	generationCount   int
	invocationCount   int // invocations so far
	processes         []*process
	initDuration      time.Duration // of the init phase until the first report told it
	beforeFirstInvoke bool          // no invocation since the init phase
	closed            bool
	running           sync.WaitGroup
}

// ErrClosed is returned by calls on an environment that was shut down.
var ErrClosed = errors.New("sandbox: the environment is shut down")

// ErrUnhealthy is in the chain of the error of Invoke when a process of a ManagedInstances environment has ended: Lambda
// replaces such an environment by another, it does not reset it.
var ErrUnhealthy = errors.New("sandbox: the environment is unhealthy")

// Start starts the extensions and the function and runs the init phase. It returns when init is complete; if init failed,
// the error is an *InitError (unless ctx ended) and every process is gone. ctx bounds the init phase only.
func Start(ctx context.Context, cfg Config) (*Environment, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, cfg.InitTimeout, errDeadline)
	defer cancel()
	g := e.newGeneration("init")
	took, err := g.init(limited)
	switch {
	case err == nil:
		e.initDuration, e.beforeFirstInvoke = took, true
		if !cfg.NoFreeze {
			e.Freeze()
		}
	case cfg.RetryInit && ctx.Err() == nil:
		e.reset(context.WithoutCancel(ctx), resetReason(err))
	default:
		e.reset(context.WithoutCancel(ctx), resetReason(err))
		_ = e.Shutdown(ctx) // nothing is left but the server: the init error is what counts
		return nil, err
	}
	return e, nil
}

// listen makes an environment whose APIs are served and whose processes are yet to start.
func listen(cfg Config) (*Environment, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("sandbox: listener of the APIs: %w", err)
	}
	e := &Environment{
		cfg: cfg, addr: listener.Addr().String(), serverDone: make(chan struct{}),
		spawner: newSpawner(cfg.Telemetry.DialHost, cfg.Layers), token: rand.Text(),
		output: &output{w: cfg.Output}, taskRoot: cfg.Function.Dir, phaseToken: make(chan struct{}, 1),
		instanceID: time.Now().UTC().Format("2006/01/02") + "/[" + cfg.Function.Version + "]" + strings.ReplaceAll(newUUID(), "-", ""),
	}
	if e.taskRoot == "" {
		if e.taskRoot, err = os.Getwd(); err != nil {
			e.taskRoot = "/"
		}
	}
	e.phaseToken <- struct{}{}
	e.server = &http.Server{Handler: e.routes(), ReadHeaderTimeout: time.Minute}
	go func() {
		defer close(e.serverDone)
		_ = e.server.Serve(listener) // returns when Shutdown closes it
	}()
	return e, nil
}

// Invoke runs a whole invoke phase: thaw, invoke, report, freeze. It returns when the phase has ended; how long the
// response took is in the Result. What goes wrong in the function or in an extension is in the Result, too. An error means
// that there was no phase, or that ctx ended during it, which resets the environment.
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

// invokeManaged runs one of several phases at once. There is no reset: the environment lives on after a timeout and is at its
// end after a crash (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html).
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

// Shutdown runs the shutdown phase (reason spindown) and releases everything: after it every process and goroutine is gone.
// It waits for a running Invoke. When ctx ends first, what is alive is killed at once. The error tells of extensions that did
// not end in time or well. Further calls return nil.
func (e *Environment) Shutdown(ctx context.Context) error {
	var errs []error
	select {
	case <-e.phaseToken:
	case <-ctx.Done():
		for _, p := range e.allProcesses() { // ends the running phase
			p.signal(syscall.SIGKILL)
		}
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
	quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := e.server.Shutdown(quick); err != nil { // waits for connections, whose other ends are gone
		errs = append(errs, fmt.Errorf("sandbox: closing the APIs: %w", e.server.Close()))
	}
	<-e.serverDone
	e.spawner.close()
	return errors.Join(errs...)
}

// reset ends the processes after a failure; the next Invoke starts them anew.
func (e *Environment) reset(ctx context.Context, reason string) {
	g := e.currentGeneration()
	e.Thaw()
	// How the extensions ended is in telemetry and Processes; the reason of the reset is what the caller hears.
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

// Processes describes every process of every life of the environment, in the order of their start.
func (e *Environment) Processes() []ProcessStats {
	all := e.allProcesses()
	stats := make([]ProcessStats, len(all))
	for i, p := range all {
		stats[i] = p.stats()
	}
	return stats
}

// ErrNotSubscribed is the error of Inject for an extension that has no subscription in this life of the environment.
var ErrNotSubscribed = errors.New("sandbox: the extension is not subscribed to telemetry")

// Inject posts body, whatever it is, to the telemetry destination of the named extension (that of its first subscription),
// beside the events. It returns the status of the answer and how long it took. A frozen environment is thawed first.
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

// partition returns the second part of every ARN in a region. It is a copy of kinesis.Partition for the partitions that matter
// here: this package imports none of ours.
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

// newTrace is an X-Ray header that is not sampled.
func newTrace(now time.Time) string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", now.Unix(), hex.EncodeToString(b[:12]), hex.EncodeToString(b[12:]))
}

// output copies what processes print for a person to read.
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
	_, _ = o.w.Write(o.b.Bytes()) // a broken display does not stop the function
}

// takeInitDuration returns the durations of the init phase and, under SnapStart, of the restore phase to the first invocation
// after init, zeros to others.
func (e *Environment) takeInitDuration() (initTook, restored time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.beforeFirstInvoke {
		return 0, 0
	}
	e.beforeFirstInvoke = false
	if e.cfg.InitType == SnapStart { // init was when the version was published; there is no snapshot here: restoring takes no time
		return 0, time.Millisecond
	}
	if e.cfg.InitType == ManagedInstances {
		return 0, 0
	}
	return e.initDuration, 0
}

// waitManaged waits for running invocations; when ctx ends it kills the processes, which ends them.
func (e *Environment) awaitManagedInvocations(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.running.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		for _, p := range e.allProcesses() {
			p.signal(syscall.SIGKILL)
		}
		<-done
	}
}
