//go:build unix

package sandbox

import "syscall"

// Freeze stops all processes and the delivery of telemetry, as Lambda does between invocations: a POST that is in flight
// completes after the thaw. Invoke does it by itself unless Config.NoFreeze is set. It has no effect on a frozen environment.
func (e *Environment) Freeze() {
	e.freezing.Lock()
	defer e.freezing.Unlock()
	l := e.currentLife()
	if e.frozen || l == nil {
		return
	}
	e.frozen = true
	l.hub.freeze() // first: nothing is posted to a stopped process
	for _, p := range l.processes() {
		p.signal(syscall.SIGSTOP)
		for _, r := range p.readers {
			r.freeze()
		}
	}
}

// Thaw undoes Freeze.
func (e *Environment) Thaw() {
	e.freezing.Lock()
	defer e.freezing.Unlock()
	if !e.frozen {
		return
	}
	e.frozen = false
	l := e.currentLife()
	if l == nil {
		return
	}
	for _, p := range l.processes() {
		p.signal(syscall.SIGCONT)
		for _, r := range p.readers {
			r.thaw()
		}
	}
	l.hub.thaw()
}
