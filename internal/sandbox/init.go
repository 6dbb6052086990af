//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// InitError is the error of a failed init phase.
type InitError struct {
	Type    string // as in telemetry: Extension.Crash, Extension.LaunchError, Runtime.ExitError, Sandbox.Timedout …
	Message string // for people: what happened, and the process's first and last lines
}

func (e *InitError) Error() string { return "sandbox: init failed: " + e.Type + ": " + e.Message }

// init runs the init phase of a new generation. ctx must end at the phase's time limit. After a failure the processes
// still run: the caller must reset. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func (g *generation) init(ctx context.Context) (time.Duration, error) {
	cfg := &g.env.cfg
	begin := time.Now()
	g.hub.platform("platform.initStart", initStartRecord{
		InitializationType: cfg.InitType, Phase: g.phase, FunctionName: cfg.Function.Name, FunctionVersion: cfg.Function.Version,
		FunctionArn: g.env.functionARN(), InstanceID: g.env.instanceID, InstanceMaxMemory: cfg.Function.memoryBytes(),
	})
	done := initDoneRecord{InitializationType: cfg.InitType, Phase: g.phase, Status: statusSuccess}
	runtimeDone, err := g.runInit(ctx, done)
	if err != nil {
		done.Status, done.ErrorType = initStatus(err)
		if !runtimeDone {
			g.hub.platform("platform.initRuntimeDone", done)
		}
	}
	g.mu.Lock()
	var states []extensionRecord
	for _, reg := range g.registrations {
		switch reg.state {
		case stateStarted, stateRegistered, stateReady, stateRunning: // setState has emitted the other states
			states = append(states, reg.record())
		}
	}
	g.mu.Unlock()
	for _, s := range states {
		g.hub.platform("platform.extension", s)
	}
	took := time.Since(begin)
	done.Metrics = &durationMetrics{milliseconds(took)}
	g.hub.platform("platform.initReport", done)
	g.hub.closeSubscriptions() // https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html: only init allows subscribing
	return took, g.initError(err)
}

// runInit starts all processes and waits until all are ready. It reports whether it has emitted initRuntimeDone.
func (g *generation) runInit(ctx context.Context, done initDoneRecord) (runtimeDone bool, err error) {
	if err := g.startExtensions(); err != nil {
		return false, err
	}
	// The runtime starts only when every external extension has registered (guide, page lambda-extensions).
	if err := g.await(ctx, func() bool { return g.allExternal((*registration).registered) }); err != nil {
		return false, err
	}
	if err := g.startRuntime(); err != nil {
		return false, err
	}
	if err := g.await(ctx, func() bool { return !g.runtimeReady.IsZero() }); err != nil {
		return false, err
	}
	g.drain()
	g.hub.platform("platform.initRuntimeDone", done)
	return true, g.await(ctx, func() bool {
		for _, reg := range g.registrations {
			if !reg.ready {
				return false
			}
		}
		return true
	})
}

func (g *generation) allExternal(is func(*registration) bool) bool {
	for _, reg := range g.registrations {
		if reg.external && !is(reg) {
			return false
		}
	}
	return true
}

func (g *generation) startExtensions() error {
	e := g.env
	for i := range e.cfg.Extensions {
		x, reg := &e.cfg.Extensions[i], g.registrations[i]
		err := g.start(processSpec{
			name: x.Name, kind: ExtensionProcess, path: fileCommand(x.Path), args: x.Args, env: e.extensionEnv(x), blockOutput: x.BlockOutput,
		}, categoryExtension, func(p *process) { reg.process, reg.state = p, stateStarted })
		if err != nil {
			g.setState(reg, stateLaunchError, errExtensionLaunch)
			return &failure{errExtensionLaunch, fmt.Sprintf("extension %s cannot be started: %v", x.Name, err)}
		}
	}
	return nil
}

// fileCommand prevents a lookup of path in PATH: path always names a file.
func fileCommand(path string) string {
	if !strings.Contains(path, "/") {
		return "./" + path
	}
	return path
}

func (g *generation) startRuntime() error {
	e := g.env
	f := &e.cfg.Function
	err := g.start(processSpec{name: f.Name, kind: RuntimeProcess, path: f.Command[0], args: f.Command[1:], dir: f.Dir, env: e.functionEnv()},
		categoryFunction, func(p *process) { g.runtime = p })
	if err != nil {
		return &failure{errRuntimeEntry, fmt.Sprintf("the function cannot be started: %v", err)}
	}
	return nil
}

// initError turns the reason of a failed init into an *InitError that names the processes at fault.
func (g *generation) initError(err error) error {
	var fail *failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fail):
		return &InitError{Type: fail.typ, Message: fail.msg}
	case !errors.Is(err, errDeadline):
		return err // the caller's ctx
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var waits []string
	for _, reg := range g.registrations {
		switch {
		case reg.external && !reg.registered():
			waits = append(waits, fmt.Sprintf("extension %s never registered%s; %s", reg.name, g.refusedNamesLocked(), reg.process.printedText()))
		case !reg.ready:
			waits = append(waits, fmt.Sprintf("extension %s never asked for the next event", reg.name))
		}
	}
	switch {
	case g.runtime != nil && g.runtimeReady.IsZero():
		waits = append(waits, fmt.Sprintf("the function never asked for the next invocation (%s)", g.runtime.printedText()))
	case g.runtime == nil:
		waits = append(waits, "so the function was not started")
	}
	return &InitError{Type: errTimedOut, Message: "timed out: " + strings.Join(waits, "; ")}
}

// refusedNamesLocked returns a text about the names whose registration was refused, or "".
func (g *generation) refusedNamesLocked() string {
	if len(g.refusedNames) == 0 {
		return ""
	}
	return " (registration as " + strings.Join(g.refusedNames, ", ") + " was refused: Lambda-Extension-Name must be the file name)"
}

// initStatus returns telemetry's status and error type of a failed init.
func initStatus(err error) (status, errType string) {
	var fail *failure
	switch {
	case errors.As(err, &fail):
		return statusError, fail.typ
	case errors.Is(err, errDeadline):
		return statusTimeout, errTimedOut
	default:
		return statusFailure, errSandboxFailure
	}
}
