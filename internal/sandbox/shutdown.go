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

// Time limits of the shutdown, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html: 0 without
// extensions, 500 ms with internal ones, 2 s with external ones. The guide does not document the runtime's share; the
// emulator gives it 30 %.
const (
	internalShutdownTimeout = 500 * time.Millisecond
	runtimeShutdownPercent  = 30
	maxFlush                = 500 * time.Millisecond // or a quarter of a longer ShutdownTimeout; the emulator takes up to 1 s
)

// shutdown ends the generation under one deadline: it stops the runtime, flushes telemetry, and stops the extensions.
// It returns when every process is gone. The error names each extension that did not exit in time or exited with a
// failure. If ctx ends, the remaining processes are killed.
func (g *generation) shutdown(ctx context.Context, reason string) error {
	g.mu.Lock()
	g.stopping = true
	runtime := g.runtime
	registrations := g.registrations
	g.mu.Unlock()
	for _, p := range g.processes() {
		p.sampleRSS()
	}
	now := time.Now()
	deadline := now.Add(g.shutdownBudget())
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errDeadline)
	defer cancel()

	// The runtime stops first, so that its last lines are flushed to the extensions.
	if runtime != nil {
		runtimeCtx, cancel := context.WithTimeout(ctx, deadline.Sub(now)*runtimeShutdownPercent/100)
		if len(registrations) > 0 {
			runtime.signal(syscall.SIGTERM)
			awaitExit(runtimeCtx, runtime)
		}
		cancel()
		runtime.signal(syscall.SIGKILL)
		<-runtime.exited.Done()
	}
	flushCtx, stop := context.WithTimeout(ctx, min(max(maxFlush, g.env.cfg.ShutdownTimeout/4), time.Until(deadline)/3))
	g.hub.flush(flushCtx)
	stop()
	g.sendShutdown(deadline, reason)
	var errs []error
	for _, reg := range registrations {
		if reg.process != nil && !awaitExit(ctx, reg.process) {
			reg.process.signal(syscall.SIGKILL)
		}
	}
	for _, reg := range registrations {
		if reg.process == nil {
			continue
		}
		<-reg.process.exited.Done()
		errs = append(errs, g.shutdownError(reg))
	}
	g.close()
	for _, s := range g.hub.subs { // the hub is closed: no lock needed
		if text := s.neverAccepted(); text != "" {
			g.env.output.write("sandbox", [][]byte{[]byte(text)})
		}
	}
	return errors.Join(errs...)
}

// sendShutdown sends SHUTDOWN to the extensions that registered for it. It kills the others; they get no signal that they
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
	registrations := g.registrations
	g.mu.Unlock()
	for _, reg := range registrations {
		if reg.process == nil {
			continue
		}
		for _, s := range g.hub.subscribersOf(reg.name) {
			s.markShutdownSent()
		}
		g.mu.Lock()
		wantsShutdown, failed := reg.wants(eventShutdown), reg.reportedError()
		if wantsShutdown && !failed {
			reg.send(event)
		}
		g.mu.Unlock()
		if !wantsShutdown && !failed { // an extension that reported an error is about to exit
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

// shutdownError returns an error if an extension that registered for SHUTDOWN was killed or exited with a failure.
func (g *generation) shutdownError(reg *registration) error {
	g.mu.Lock()
	wantsShutdown := reg.wants(eventShutdown)
	g.mu.Unlock()
	switch s := reg.process.stats(); {
	case !wantsShutdown:
		return nil
	case s.Killed:
		return fmt.Errorf("sandbox: extension %s was killed: it did not exit within %v of shutdown; %s",
			reg.name, g.env.cfg.ShutdownTimeout, reg.process.printedText())
	case s.ExitCode != 0:
		return fmt.Errorf("sandbox: extension %s ended with %s; %s", reg.name, reg.process.exitText(), reg.process.printedText())
	default:
		return nil
	}
}

// close ends the generation's goroutines and timers.
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
