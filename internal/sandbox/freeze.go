//go:build unix

package sandbox

import "syscall"

// Freeze stops all processes and the delivery of telemetry, as Lambda does between invocations. A POST in flight completes
// after the thaw. Invoke freezes the environment itself unless Config.NoFreeze is set. Freeze has no effect on a frozen
// environment.
func (e *Environment) Freeze() {
	e.freezeMu.Lock()
	defer e.freezeMu.Unlock()
	g := e.currentGeneration()
	if e.frozen || g == nil {
		return
	}
	e.frozen = true
	g.hub.freeze() // first, so that no POST goes to a stopped process
	for _, p := range g.processes() {
		p.signal(syscall.SIGSTOP)
		for _, r := range p.readers {
			r.freeze()
		}
	}
}

// Thaw undoes Freeze.
func (e *Environment) Thaw() {
	e.freezeMu.Lock()
	defer e.freezeMu.Unlock()
	if !e.frozen {
		return
	}
	e.frozen = false
	g := e.currentGeneration()
	if g == nil {
		return
	}
	for _, p := range g.processes() {
		p.signal(syscall.SIGCONT)
		for _, r := range p.readers {
			r.thaw()
		}
	}
	g.hub.thaw()
}
