//go:build unix

package sandbox

import "runtime"

// spawner forks on one operating system thread. On Linux a process with Pdeathsig is killed when the thread that started it
// ends (golang.org/issue/27505), and Go threads can end; this one lives as long as the environment. It may also have a mount
// namespace of its own, which its children inherit; see names.
type spawner struct {
	work   chan func()
	done   chan struct{}
	mounts mounts
}

// newSpawner starts the thread. Its children find sandbox.localdomain at address, and the layers at /opt, where that can be arranged.
func newSpawner(address string, layers []string) *spawner {
	s := &spawner{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // and no unlock: a thread in another namespace must end with its goroutine
		s.mounts = newMounts(address, layers)
		close(ready)
		for f := range s.work {
			f()
		}
	}()
	<-ready
	return s
}

// do runs f on the thread and returns its error.
func (s *spawner) do(f func() error) error {
	result := make(chan error, 1)
	s.work <- func() { result <- f() }
	return <-result
}

// close ends the thread; do must not be called any more.
func (s *spawner) close() {
	close(s.work)
	<-s.done
	s.mounts.close()
}
