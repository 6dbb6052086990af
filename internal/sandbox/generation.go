//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// generation is one set of processes, registrations and subscriptions. It lasts from an init to the next reset or
// shutdown. HTTP handlers change its state under mu and then call changedLocked. The phases (init, invoke, shutdown) run
// in the goroutines of Start, Invoke and Shutdown and use await to wait for a state.
type generation struct {
	env     *Environment
	number  int
	phase   string // init, or invoke for a suppressed init
	hub     *hub
	ctx     context.Context //nolint:containedctx // outlives requests: ends the long polls of both APIs
	cancel  context.CancelFunc
	invokes chan *invocation // to the runtime's call of next

	mu                 sync.Mutex    // guards the fields below and the registrations
	changed            chan struct{} // closed and replaced at each change
	runtime            *process
	runtimeReady       time.Time // first next
	registrations      []*registration
	registrationClosed bool     // the runtime is ready: no further extension can register
	refusedNames       []string // quoted; registrations refused because no external extension has the name
	stopping           bool     // shutdown or reset runs: processes are expected to exit
	failure            *failure
	current            *invocation            // the runtime's current invocation; unused on Managed Instances
	invocations        map[string]*invocation // by request id; invocations without a response
	timers             []*time.Timer          // of delayed events
}

// failure is the first failure of a generation, with telemetry's error type.
type failure struct {
	typ string
	msg string
}

func (f *failure) Error() string { return f.typ + ": " + f.msg }

// Types of failure, as in Lambda's emulator.
const (
	errExtensionCrash  = "Extension.Crash"
	errExtensionLaunch = "Extension.LaunchError"
	errRuntimeExit     = "Runtime.ExitError"
	errRuntimeEntry    = "Runtime.InvalidEntrypoint"
	errTimedOut        = "Sandbox.Timedout"
	errSandboxFailure  = "Sandbox.Failure"
)

// errDeadline is the cause of a context that ended at Lambda's deadline rather than the caller's.
var errDeadline = errors.New("sandbox: deadline of the phase")

func (e *Environment) newGeneration(phase string) *generation {
	g := &generation{
		env: e, phase: phase, hub: newHub(&e.cfg), invokes: make(chan *invocation),
		changed: make(chan struct{}), invocations: map[string]*invocation{},
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	for _, x := range e.cfg.Extensions {
		g.registrations = append(g.registrations, &registration{id: newUUID(), name: x.Name, external: true, wake: make(chan struct{}, 1)})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generationCount++
	g.number = e.generationCount
	g.hub.beginInvocation(e.invocationCount - 1)
	e.generation = g
	return g
}

func (g *generation) changedLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// await waits until cond is true; it calls cond with mu locked. It returns the generation's *failure, or the cause of
// ctx's end.
func (g *generation) await(ctx context.Context, cond func() bool) error {
	for {
		g.mu.Lock()
		ok, fail, changed := cond(), g.failure, g.changed
		g.mu.Unlock()
		switch {
		case ok:
			return nil
		case fail != nil:
			return fail
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fail records the first failure.
func (g *generation) fail(typ, msg string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(typ, msg)
}

func (g *generation) failLocked(typ, msg string) {
	if g.failure == nil && !g.stopping {
		g.failure = &failure{typ, msg}
		g.changedLocked()
	}
}

// registration is an extension that has registered or is expected to. The generation's mu guards it.
type registration struct {
	id       string
	name     string
	external bool
	process  *process // nil for internal extensions
	state    string
	errType  string // of the state
	events   []string

	ready        bool // called next at least once
	waiting      bool // called next and has received no event since
	waitingSince time.Time
	pendingEvent []byte // to be returned by next
	wake         chan struct{}

	faultedCalls map[*StatusFault]int // how many calls each fault has answered
}

// States of an extension, as in platform.extension.
const (
	stateStarted        = "Started"
	stateRegistered     = "Registered"
	stateReady          = "Ready"
	stateRunning        = "Running"
	stateInitError      = "InitError"
	stateExitError      = "ExitError"
	stateLaunchError    = "LaunchError"
	stateShutdownFailed = "ShutdownFailed"
	stateExited         = "Exited"
)

// Lifecycle events of the Extensions API.
const (
	eventInvoke   = "INVOKE"
	eventShutdown = "SHUTDOWN"
)

func (reg *registration) wants(event string) bool { return slices.Contains(reg.events, event) }

func (reg *registration) registered() bool {
	return reg.state != "" && reg.state != stateStarted && reg.state != stateLaunchError
}

// reportedError reports whether the extension has reported an error itself. It gets no further events.
func (reg *registration) reportedError() bool {
	return reg.state == stateInitError || reg.state == stateExitError
}

// send queues an event for the extension's waiting or following call of next.
func (reg *registration) send(event []byte) {
	reg.pendingEvent, reg.waiting = event, false
	select {
	case reg.wake <- struct{}{}:
	default:
	}
}

// record returns the record of the extension's platform.extension.
func (reg *registration) record() extensionRecord {
	return extensionRecord{Name: reg.name, State: reg.state, Events: append([]string{}, reg.events...), ErrorType: reg.errType}
}

// setState changes an extension's state and emits it. Lambda emits all states at the end of init, and later only final
// ones.
func (g *generation) setState(reg *registration, state, errType string) {
	g.mu.Lock()
	reg.state, reg.errType = state, errType
	rec := reg.record()
	g.changedLocked()
	g.mu.Unlock()
	g.hub.platform("platform.extension", rec)
}

// start starts one process and stores it with set. Both happen under mu, so no API call of the process is handled before
// the process is stored.
func (g *generation) start(s processSpec, c category, set func(*process)) error {
	e := g.env
	g.mu.Lock()
	defer g.mu.Unlock()
	s.generation = g.number
	p, err := startProcess(e.spawner, s, func(lines [][]byte) {
		e.output.write(s.name, lines)
		g.hub.lines(c, lines)
	}, g.onExit)
	if err != nil {
		return err
	}
	set(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.processes = append(e.processes, p)
	return nil
}

// onExit records the exit of a process: expected while the generation stops, a failure at any other time.
func (g *generation) onExit(p *process) {
	g.mu.Lock()
	var reg *registration
	if i := slices.IndexFunc(g.registrations, func(reg *registration) bool { return reg.process == p }); i >= 0 {
		reg = g.registrations[i]
	}
	stopping := g.stopping
	failed := reg != nil && reg.reportedError()
	if !stopping {
		switch {
		case reg == nil:
			g.failLocked(errRuntimeExit, fmt.Sprintf("Runtime exited with error: %s; %s", p.exitText(), p.printedText()))
		case !failed:
			refused := ""
			if !reg.registered() {
				refused = g.refusedNamesLocked()
			}
			g.failLocked(errExtensionCrash, fmt.Sprintf("extension %s exited (%s) before shutdown%s; %s",
				p.name, p.exitText(), refused, p.printedText()))
		}
	}
	g.changedLocked()
	g.mu.Unlock()
	switch {
	case reg == nil:
	case !stopping && !failed:
		g.setState(reg, stateExited, errExtensionCrash)
	case stopping && p.stats().ExitCode != 0:
		g.setState(reg, stateShutdownFailed, "")
	default:
		g.setState(reg, stateExited, "")
	}
}

// processes returns the generation's processes, the runtime last.
func (g *generation) processes() []*process {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*process
	for _, reg := range g.registrations {
		if reg.process != nil {
			all = append(all, reg.process)
		}
	}
	if g.runtime != nil {
		all = append(all, g.runtime)
	}
	return all
}

// drain emits every line that the processes have printed so far.
func (g *generation) drain() {
	for _, p := range g.processes() {
		p.drain()
	}
}

// emitAfter emits a platform event of an invocation after d, or at once if d is 0. The end of the generation cancels it.
func (g *generation) emitAfter(d time.Duration, invocation int, typ string, record any) {
	if d <= 0 {
		g.hub.platformFor(invocation, typ, record)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timers = append(g.timers, time.AfterFunc(d, func() { g.hub.platformFor(invocation, typ, record) }))
}
