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
type life struct {
	env     *Environment
	gen     int
	phase   string // init, or invoke for a suppressed init
	hub     *hub
	ctx     context.Context //nolint:containedctx // the lifetime of the pollers of both APIs, nobody's request
	cancel  context.CancelFunc
	invokes chan *invocation // to a poller of the runtime

	mu           sync.Mutex // guards what follows and the agents
	changed      chan struct{}
	runtime      *process
	runtimeReady time.Time // first next
	agents       []*agent
	agentsClosed bool     // no further registration: the runtime is ready
	misnamed     []string // quoted names that are no external extension's
	ending       bool     // shutdown or reset runs: processes are expected to end
	failure      *failure
	current      *invocation            // the one that the runtime works on; unused on Managed Instances
	invocations  map[string]*invocation // those without response yet
	timers       []*time.Timer          // of delayed events
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

func (e *Environment) newLife(phase string) *life {
	l := &life{
		env: e, phase: phase, hub: newHub(&e.cfg), invokes: make(chan *invocation),
		changed: make(chan struct{}), invocations: map[string]*invocation{},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for _, x := range e.cfg.Extensions {
		l.agents = append(l.agents, &agent{id: newUUID(), name: x.Name, external: true, wake: make(chan struct{}, 1)})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generations++
	l.gen = e.generations
	l.hub.begin(e.begun - 1)
	e.life = l
	return l
}

func (l *life) changedLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until cond, which is called with mu held, is true. It returns the life's *failure, or the cause of ctx's end.
func (l *life) await(ctx context.Context, cond func() bool) error {
	for {
		l.mu.Lock()
		ok, fail, changed := cond(), l.failure, l.changed
		l.mu.Unlock()
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
func (l *life) fail(typ, msg string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(typ, msg)
}

func (l *life) failLocked(typ, msg string) {
	if l.failure == nil && !l.ending {
		l.failure = &failure{typ, msg}
		l.changedLocked()
	}
}

// agent is a registered or expected extension; guarded by the life's mu.
type agent struct {
	id       string
	name     string
	external bool
	proc     *process // external ones
	state    string
	errType  string // of the state
	events   []string

	ready     bool // called next at least once
	idle      bool // has called next and got nothing since
	idleSince time.Time
	pending   []byte // the event for next
	wake      chan struct{}

	faulted map[*StatusFault]int // calls answered by a fault
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

func (a *agent) wants(event string) bool { return slices.Contains(a.events, event) }

func (a *agent) registered() bool {
	return a.state != "" && a.state != stateStarted && a.state != stateLaunchError
}

// failed says that the extension reported an error itself: it gets no further events.
func (a *agent) failed() bool { return a.state == stateInitError || a.state == stateExitError }

// send hands an event to the extension's next call, the one that waits or the one to come.
func (a *agent) send(event []byte) {
	a.pending, a.idle = event, false
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// record is the agent's platform.extension.
func (a *agent) record() extensionRecord {
	return extensionRecord{Name: a.name, State: a.state, Events: append([]string{}, a.events...), ErrorType: a.errType}
}

// setState changes an agent's state and emits it. Lambda tells the states at the end of init; later ones are those from which
// an extension does not come back.
func (l *life) setState(a *agent, state, errType string) {
	l.mu.Lock()
	a.state, a.errType = state, errType
	rec := a.record()
	l.changedLocked()
	l.mu.Unlock()
	l.hub.platform("platform.extension", rec)
}

// start starts one process; set stores it. Both happen under mu, so that no call of the process comes before.
func (l *life) start(s spec, c category, set func(*process)) error {
	e := l.env
	l.mu.Lock()
	defer l.mu.Unlock()
	s.gen = l.gen
	p, err := startProcess(e.spawner, s, func(lines [][]byte) {
		e.output.write(s.name, lines)
		l.hub.lines(c, lines)
	}, l.onExit)
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
func (l *life) onExit(p *process) {
	l.mu.Lock()
	var a *agent
	if i := slices.IndexFunc(l.agents, func(a *agent) bool { return a.proc == p }); i >= 0 {
		a = l.agents[i]
	}
	ending := l.ending
	failed := a != nil && a.failed()
	if !ending {
		switch {
		case a == nil:
			l.failLocked(errRuntimeExit, fmt.Sprintf("Runtime exited with error: %s; %s", p.ending(), p.words()))
		case !failed:
			misnamed := ""
			if !a.registered() {
				misnamed = l.misnamedLocked()
			}
			l.failLocked(errExtensionCrash, fmt.Sprintf("extension %s ended (%s) outside shutdown%s; %s", p.name, p.ending(), misnamed, p.words()))
		}
	}
	l.changedLocked()
	l.mu.Unlock()
	switch {
	case a == nil:
	case !ending && !failed:
		l.setState(a, stateExited, errExtensionCrash)
	case ending && p.stats().ExitCode != 0:
		l.setState(a, stateShutdownFailed, "")
	default:
		l.setState(a, stateExited, "")
	}
}

// processes are the life's own, the runtime last.
func (l *life) processes() []*process {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*process
	for _, a := range l.agents {
		if a.proc != nil {
			all = append(all, a.proc)
		}
	}
	if l.runtime != nil {
		all = append(all, l.runtime)
	}
	return all
}

// drain emits every line that was printed up to now.
func (l *life) drain() {
	for _, p := range l.processes() {
		p.drain()
	}
}

// later emits a platform event of an invocation after d; at once if d is 0. The end of the life cancels it.
func (l *life) later(d time.Duration, invocation int, typ string, record any) {
	if d <= 0 {
		l.hub.platformOf(invocation, typ, record)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timers = append(l.timers, time.AfterFunc(d, func() { l.hub.platformOf(invocation, typ, record) }))
}
