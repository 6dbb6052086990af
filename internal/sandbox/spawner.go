//go:build unix

package sandbox

import "runtime"

// spawner starts all processes from one operating system thread, which lives as long as the environment. On Linux a
// process with Pdeathsig is killed when the thread that started it ends (golang.org/issue/27505), and Go can end its
// threads. This thread may also have its own mount namespace, which its children inherit; see mounts.
type spawner struct {
	work   chan func()
	done   chan struct{}
	mounts mounts
}

// newSpawner starts the thread. If this machine allows the mounts, its children resolve sandbox.localdomain and see the
// layers at /opt.
func newSpawner(layers []string) *spawner {
	s := &spawner{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: a thread in another namespace must end with its goroutine
		s.mounts = newMounts(layers)
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

// close ends the thread. do must not be called afterwards.
func (s *spawner) close() {
	close(s.work)
	<-s.done
	s.mounts.close()
}
