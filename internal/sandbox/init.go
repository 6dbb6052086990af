//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// InitError says that the init phase failed.
type InitError struct {
	Type    string // as in telemetry: Extension.Crash, Extension.LaunchError, Runtime.ExitError, Sandbox.Timedout …
	Message string // for a person: what happened, and the last lines that the process printed
}

func (e *InitError) Error() string { return "sandbox: init failed: " + e.Type + ": " + e.Message }

// init runs the init phase of a new life; ctx ends with its limit. On failure the processes still run: the caller resets.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func (l *life) init(ctx context.Context) (time.Duration, error) {
	cfg := &l.env.cfg
	begin := time.Now()
	l.hub.platform("platform.initStart", initStartRecord{
		InitializationType: cfg.InitType, Phase: l.phase, FunctionName: cfg.Function.Name, FunctionVersion: cfg.Function.Version,
		FunctionArn: l.env.functionARN(), InstanceID: l.env.instanceID, InstanceMaxMemory: cfg.Function.memoryBytes(),
	})
	done := initDoneRecord{InitializationType: cfg.InitType, Phase: l.phase, Status: statusSuccess}
	runtimeDone, err := l.runInit(ctx, done)
	if err != nil {
		done.Status, done.ErrorType = initStatus(err)
		if !runtimeDone {
			l.hub.platform("platform.initRuntimeDone", done)
		}
	}
	l.mu.Lock()
	var states []extensionRecord
	for _, a := range l.agents {
		switch a.state {
		case stateStarted, stateRegistered, stateReady, stateRunning: // others were told when they came about
			states = append(states, a.record())
		}
	}
	l.mu.Unlock()
	for _, s := range states {
		l.hub.platform("platform.extension", s)
	}
	took := time.Since(begin)
	done.Metrics = &durationMetrics{milliseconds(took)}
	l.hub.platform("platform.initReport", done)
	l.hub.endReplay() // https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html: subscribe during init only
	return took, l.explainInit(err)
}

// runInit starts everything and waits until all are ready. It reports whether initRuntimeDone was emitted.
func (l *life) runInit(ctx context.Context, done initDoneRecord) (runtimeDone bool, err error) {
	if err := l.startExtensions(); err != nil {
		return false, err
	}
	// The runtime starts only after every external extension registered (guide, page lambda-extensions).
	if err := l.await(ctx, func() bool { return l.allExternal((*agent).registered) }); err != nil {
		return false, err
	}
	if err := l.startRuntime(); err != nil {
		return false, err
	}
	if err := l.await(ctx, func() bool { return !l.runtimeReady.IsZero() }); err != nil {
		return false, err
	}
	l.drain()
	l.hub.platform("platform.initRuntimeDone", done)
	return true, l.await(ctx, func() bool {
		for _, a := range l.agents {
			if !a.ready {
				return false
			}
		}
		return true
	})
}

func (l *life) allExternal(is func(*agent) bool) bool {
	for _, a := range l.agents {
		if a.external && !is(a) {
			return false
		}
	}
	return true
}

func (l *life) startExtensions() error {
	e := l.env
	for i := range e.cfg.Extensions {
		x, a := &e.cfg.Extensions[i], l.agents[i]
		err := l.start(spec{
			name: x.Name, kind: ExtensionProcess, path: fileCommand(x.Path), args: x.Args, env: e.extensionEnv(x), blockOutput: x.BlockOutput,
		}, categoryExtension, func(p *process) { a.proc, a.state = p, stateStarted })
		if err != nil {
			l.setState(a, stateLaunchError, errExtensionLaunch)
			return &failure{errExtensionLaunch, fmt.Sprintf("extension %s cannot be started: %v", x.Name, err)}
		}
	}
	return nil
}

// fileCommand makes sure that path is taken for a file rather than for a command to look up in PATH.
func fileCommand(path string) string {
	if !strings.Contains(path, "/") {
		return "./" + path
	}
	return path
}

func (l *life) startRuntime() error {
	e := l.env
	f := &e.cfg.Function
	err := l.start(spec{name: f.Name, kind: RuntimeProcess, path: f.Command[0], args: f.Command[1:], dir: f.Dir, env: e.functionEnv()},
		categoryFunction, func(p *process) { l.runtime = p })
	if err != nil {
		return &failure{errRuntimeEntry, fmt.Sprintf("the function cannot be started: %v", err)}
	}
	return nil
}

// explainInit turns the reason of a failed init into an *InitError that says what to look at.
func (l *life) explainInit(err error) error {
	var fail *failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fail):
		return &InitError{Type: fail.typ, Message: fail.msg}
	case !errors.Is(err, errDeadline):
		return err // the caller's ctx
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var waits []string
	for _, a := range l.agents {
		switch {
		case a.external && !a.registered():
			waits = append(waits, fmt.Sprintf("extension %s never registered%s; %s", a.name, l.misnamedLocked(), a.proc.words()))
		case !a.ready:
			waits = append(waits, fmt.Sprintf("extension %s never asked for the next event", a.name))
		}
	}
	switch {
	case l.runtime != nil && l.runtimeReady.IsZero():
		waits = append(waits, fmt.Sprintf("the function never asked for the next invocation (%s)", l.runtime.words()))
	case l.runtime == nil:
		waits = append(waits, "so the function was not started")
	}
	return &InitError{Type: errTimedOut, Message: "time is over: " + strings.Join(waits, "; ")}
}

// misnamedLocked tells of the names with which registration was refused.
func (l *life) misnamedLocked() string {
	if len(l.misnamed) == 0 {
		return ""
	}
	return " (registration as " + strings.Join(l.misnamed, ", ") + " was refused: Lambda-Extension-Name must be the file name)"
}

// initStatus is the status and error type of telemetry for a failed init.
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
