//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Parts of the shutdown's time, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html: nothing without
// extensions, 500 ms with internal ones, 2 s with external ones. The guide is silent on the runtime's share; the emulator
// gives it 30 %.
const (
	internalShutdown = 500 * time.Millisecond
	runtimePercent   = 30
	flushMost        = 500 * time.Millisecond // and at most a third of what is left; the emulator has up to 1 s
)

// shutdown ends the life: runtime, flush of telemetry, extensions, in this order and under one deadline. It returns when every
// process is gone. The error tells of extensions that did not end in time or well. If ctx ends, the rest is killed.
func (l *life) shutdown(ctx context.Context, reason string) error {
	l.mu.Lock()
	l.ending = true
	runtime := l.runtime
	agents := l.agents
	l.mu.Unlock()
	for _, p := range l.processes() {
		p.sampleRSS()
	}
	now := time.Now()
	deadline := now.Add(l.shutdownBudget())
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
	defer cancel()

	// The runtime first, so that its last lines are flushed to the extensions.
	if runtime != nil {
		share, cancel := context.WithTimeout(ctx, deadline.Sub(now)*runtimePercent/100)
		if len(agents) > 0 {
			runtime.signal(syscall.SIGTERM)
			awaitExit(share, runtime)
		}
		cancel()
		runtime.signal(syscall.SIGKILL)
		<-runtime.exited.Done()
	}
	flushing, stop := context.WithTimeout(ctx, min(flushMost, time.Until(deadline)/3))
	l.hub.flush(flushing)
	stop()
	l.sendShutdown(deadline, reason)
	var errs []error
	for _, a := range agents {
		if a.proc != nil && !awaitExit(ctx, a.proc) {
			a.proc.signal(syscall.SIGKILL)
		}
	}
	for _, a := range agents {
		if a.proc == nil {
			continue
		}
		<-a.proc.exited.Done()
		errs = append(errs, l.judge(a))
	}
	l.release()
	for _, s := range l.hub.subs { // no one adds to them any more
		if text := s.deaf(); text != "" {
			l.env.output.write("sandbox", [][]byte{[]byte(text)})
		}
	}
	return errors.Join(errs...)
}

// sendShutdown gives SHUTDOWN to the extensions that registered for it and kills the others: they get no signal that they
// could handle.
func (l *life) sendShutdown(deadline time.Time, reason string) {
	event, err := json.Marshal(struct {
		EventType      string `json:"eventType"`
		DeadlineMs     int64  `json:"deadlineMs"`
		ShutdownReason string `json:"shutdownReason"`
	}{eventShutdown, deadline.UnixMilli(), reason})
	if err != nil {
		panic("sandbox: encoding SHUTDOWN: " + err.Error()) // strings and numbers always encode
	}
	l.mu.Lock()
	agents := l.agents
	l.mu.Unlock()
	for _, a := range agents {
		if a.proc == nil {
			continue
		}
		for _, s := range l.hub.of(a.name) {
			s.leave()
		}
		l.mu.Lock()
		told, failed := a.wants(eventShutdown), a.failed()
		if told && !failed {
			a.send(event)
		}
		l.mu.Unlock()
		if !told && !failed { // one that reported an error is expected to exit by itself
			a.proc.signal(syscall.SIGKILL)
		}
	}
}

func (l *life) shutdownBudget() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	budget := time.Duration(0)
	for _, a := range l.agents {
		if a.external {
			return l.env.cfg.ShutdownTimeout
		}
		budget = internalShutdown
	}
	return budget
}

// judge says what was wrong with the end of an extension that knew of SHUTDOWN.
func (l *life) judge(a *agent) error {
	l.mu.Lock()
	told := a.wants(eventShutdown)
	l.mu.Unlock()
	switch s := a.proc.stats(); {
	case !told:
		return nil
	case s.Killed:
		return fmt.Errorf("sandbox: extension %s was killed: it did not end within %v of shutdown; %s", a.name, l.env.cfg.ShutdownTimeout, a.proc.words())
	case s.ExitCode != 0:
		return fmt.Errorf("sandbox: extension %s ended with %s; %s", a.name, a.proc.ending(), a.proc.words())
	default:
		return nil
	}
}

// release ends the life's goroutines and timers.
func (l *life) release() {
	l.mu.Lock()
	timers := l.timers
	l.timers = nil
	l.mu.Unlock()
	for _, t := range timers {
		t.Stop()
	}
	l.cancel()
	l.hub.close()
}

func awaitExit(ctx context.Context, p *process) bool {
	select {
	case <-p.exited.Done():
		return true
	case <-ctx.Done():
		return !p.alive()
	}
}
