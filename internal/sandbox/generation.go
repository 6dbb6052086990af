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

// life is what lasts from an init to the shutdown or reset after it: one set of processes, registrations and subscriptions.
// Handlers change its state under mu and call changedLocked; the phases (init, invoke, shutdown) run in the goroutine of Start,
// Invoke and Shutdown and wait for the state that they need with await.
type generation struct {
	env     *Environment
	number  int
	phase   string // init, or invoke for a suppressed init
	hub     *hub
	ctx     context.Context //nolint:containedctx // the lifetime of the pollers of both APIs, nobody's request
	cancel  context.CancelFunc
	invokes chan *invocation // to a poller of the runtime

	mu                 sync.Mutex // guards what follows and the agents
	changed            chan struct{}
	runtime            *process
	runtimeReady       time.Time // first next
	registrations      []*registration
	registrationClosed bool     // no further registration: the runtime is ready
	refusedNames       []string // quoted names that are no external extension's
	stopping           bool     // shutdown or reset runs: processes are expected to end
	failure            *failure
	current            *invocation            // the one that the runtime works on; unused on Managed Instances
	invocations        map[string]*invocation // those without response yet
	timers             []*time.Timer          // of delayed events
}

// failure is the first thing that made a life unfit, in the words of telemetry.
type failure struct {
	typ string
	msg string
}

func (f *failure) Error() string { return f.typ + ": " + f.msg }

// Types of failure; those of Lambda's emulator.
const (
	errExtensionCrash  = "Extension.Crash"
	errExtensionLaunch = "Extension.LaunchError"
	errRuntimeExit     = "Runtime.ExitError"
	errRuntimeEntry    = "Runtime.InvalidEntrypoint"
	errTimedOut        = "Sandbox.Timedout"
	errSandboxFailure  = "Sandbox.Failure"
)

// errDeadline is the cause of a context whose deadline is Lambda's rather than the caller's.
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

// await waits until cond, which is called with mu held, is true. It returns the life's *failure, or the cause of ctx's end.
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

// fail notes the first failure.
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

// agent is a registered or expected extension; guarded by the life's mu.
type registration struct {
	id       string
	name     string
	external bool
	process  *process // external ones
	state    string
	errType  string // of the state
	events   []string

	ready        bool // called next at least once
	waiting      bool // has called next and got nothing since
	waitingSince time.Time
	pendingEvent []byte // the event for next
	wake         chan struct{}

	faultedCalls map[*StatusFault]int // calls answered by a fault
}

// States of an extension as platform.extension tells them.
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

// failed says that the extension reported an error itself: it gets no further events.
func (reg *registration) reportedError() bool {
	return reg.state == stateInitError || reg.state == stateExitError
}

// send hands an event to the extension's next call, the one that waits or the one to come.
func (reg *registration) send(event []byte) {
	reg.pendingEvent, reg.waiting = event, false
	select {
	case reg.wake <- struct{}{}:
	default:
	}
}

// record is the agent's platform.extension.
func (reg *registration) record() extensionRecord {
	return extensionRecord{Name: reg.name, State: reg.state, Events: append([]string{}, reg.events...), ErrorType: reg.errType}
}

// setState changes an agent's state and emits it. Lambda tells the states at the end of init; later ones are those from which
// an extension does not come back.
func (g *generation) setState(reg *registration, state, errType string) {
	g.mu.Lock()
	reg.state, reg.errType = state, errType
	rec := reg.record()
	g.changedLocked()
	g.mu.Unlock()
	g.hub.platform("platform.extension", rec)
}

// start starts one process; set stores it. Both happen under mu, so that no call of the process comes before.
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

// onExit notes the end of a process: expected while ending, a failure at any other time.
func (g *generation) onExit(p *process) {
	g.mu.Lock()
	var reg *registration
	if i := slices.IndexFunc(g.registrations, func(reg *registration) bool { return reg.process == p }); i >= 0 {
		reg = g.registrations[i]
	}
	ending := g.stopping
	failed := reg != nil && reg.reportedError()
	if !ending {
		switch {
		case reg == nil:
			g.failLocked(errRuntimeExit, fmt.Sprintf("Runtime exited with error: %s; %s", p.exitText(), p.printedText()))
		case !failed:
			misnamed := ""
			if !reg.registered() {
				misnamed = g.refusedNamesLocked()
			}
			g.failLocked(errExtensionCrash, fmt.Sprintf("extension %s ended (%s) outside shutdown%s; %s", p.name, p.exitText(), misnamed, p.printedText()))
		}
	}
	g.changedLocked()
	g.mu.Unlock()
	switch {
	case reg == nil:
	case !ending && !failed:
		g.setState(reg, stateExited, errExtensionCrash)
	case ending && p.stats().ExitCode != 0:
		g.setState(reg, stateShutdownFailed, "")
	default:
		g.setState(reg, stateExited, "")
	}
}

// processes are the life's own, the runtime last.
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

// drain emits every line that was printed up to now.
func (g *generation) drain() {
	for _, p := range g.processes() {
		p.drain()
	}
}

// later emits a platform event of an invocation after d; at once if d is 0. The end of the life cancels it.
func (g *generation) emitAfter(d time.Duration, invocation int, typ string, record any) {
	if d <= 0 {
		g.hub.platformFor(invocation, typ, record)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timers = append(g.timers, time.AfterFunc(d, func() { g.hub.platformFor(invocation, typ, record) }))
}
