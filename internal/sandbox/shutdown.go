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
	internalShutdownTimeout = 500 * time.Millisecond
	runtimeShutdownPercent  = 30
	maxFlush                = 500 * time.Millisecond // and at most a third of what is left; the emulator has up to 1 s
)

// shutdown ends the life: runtime, flush of telemetry, extensions, in this order and under one deadline. It returns when every
// process is gone. The error tells of extensions that did not end in time or well. If ctx ends, the rest is killed.
func (g *generation) shutdown(ctx context.Context, reason string) error {
	g.mu.Lock()
	g.stopping = true
	runtime := g.runtime
	agents := g.registrations
	g.mu.Unlock()
	for _, p := range g.processes() {
		p.sampleRSS()
	}
	now := time.Now()
	deadline := now.Add(g.shutdownBudget())
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
	defer cancel()

	// The runtime first, so that its last lines are flushed to the extensions.
	if runtime != nil {
		share, cancel := context.WithTimeout(ctx, deadline.Sub(now)*runtimeShutdownPercent/100)
		if len(agents) > 0 {
			runtime.signal(syscall.SIGTERM)
			awaitExit(share, runtime)
		}
		cancel()
		runtime.signal(syscall.SIGKILL)
		<-runtime.exited.Done()
	}
	flushing, stop := context.WithTimeout(ctx, min(maxFlush, time.Until(deadline)/3))
	g.hub.flush(flushing)
	stop()
	g.sendShutdown(deadline, reason)
	var errs []error
	for _, reg := range agents {
		if reg.process != nil && !awaitExit(ctx, reg.process) {
			reg.process.signal(syscall.SIGKILL)
		}
	}
	for _, reg := range agents {
		if reg.process == nil {
			continue
		}
		<-reg.process.exited.Done()
		errs = append(errs, g.shutdownError(reg))
	}
	g.close()
	for _, s := range g.hub.subs { // no one adds to them any more
		if text := s.neverAccepted(); text != "" {
			g.env.output.write("sandbox", [][]byte{[]byte(text)})
		}
	}
	return errors.Join(errs...)
}

// sendShutdown gives SHUTDOWN to the extensions that registered for it and kills the others: they get no signal that they
// could handle.
func (g *generation) sendShutdown(deadline time.Time, reason string) {
	event, err := json.Marshal(struct {
		EventType      string `json:"eventType"`
		DeadlineMs     int64  `json:"deadlineMs"`
		ShutdownReason string `json:"shutdownReason"`
	}{eventShutdown, deadline.UnixMilli(), reason})
	if err != nil {
		panic("sandbox: encoding SHUTDOWN: " + err.Error()) // strings and numbers always encode
	}
	g.mu.Lock()
	agents := g.registrations
	g.mu.Unlock()
	for _, reg := range agents {
		if reg.process == nil {
			continue
		}
		for _, s := range g.hub.subscribersOf(reg.name) {
			s.markShutdownSent()
		}
		g.mu.Lock()
		told, failed := reg.wants(eventShutdown), reg.reportedError()
		if told && !failed {
			reg.send(event)
		}
		g.mu.Unlock()
		if !told && !failed { // one that reported an error is expected to exit by itself
			reg.process.signal(syscall.SIGKILL)
		}
	}
}

func (g *generation) shutdownBudget() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	budget := time.Duration(0)
	for _, reg := range g.registrations {
		if reg.external {
			return g.env.cfg.ShutdownTimeout
		}
		budget = internalShutdownTimeout
	}
	return budget
}

// judge says what was wrong with the end of an extension that knew of SHUTDOWN.
func (g *generation) shutdownError(reg *registration) error {
	g.mu.Lock()
	told := reg.wants(eventShutdown)
	g.mu.Unlock()
	switch s := reg.process.stats(); {
	case !told:
		return nil
	case s.Killed:
		return fmt.Errorf("sandbox: extension %s was killed: it did not end within %v of shutdown; %s", reg.name, g.env.cfg.ShutdownTimeout, reg.process.printedText())
	case s.ExitCode != 0:
		return fmt.Errorf("sandbox: extension %s ended with %s; %s", reg.name, reg.process.exitText(), reg.process.printedText())
	default:
		return nil
	}
}

// release ends the life's goroutines and timers.
func (g *generation) close() {
	g.mu.Lock()
	timers := g.timers
	g.timers = nil
	g.mu.Unlock()
	for _, t := range timers {
		t.Stop()
	}
	g.cancel()
	g.hub.close()
}

func awaitExit(ctx context.Context, p *process) bool {
	select {
	case <-p.exited.Done():
		return true
	case <-ctx.Done():
		return !p.alive()
	}
}
