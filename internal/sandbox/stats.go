//go:build unix

package sandbox

import "time"

// ProcessStats describes one process, running or exited.
type ProcessStats struct {
	Name       string        // of the extension or the function
	Kind       ProcessKind   // runtime or extension
	Generation int           // 1 for the first set of processes, one more after each reset
	PID        int           // also the number of its process group
	Register   time.Duration // from exec to register, 0 if it never registered
	FirstNext  time.Duration // from exec to the first next, 0 if it never called next
	Exited     bool
	ExitCode   int           // -1 while running or if a signal ended it
	Signal     string        // the signal that ended it, or ""
	CPU        time.Duration // user and system time, 0 while running
	Killed     bool          // the sandbox sent SIGKILL

	// MaxRSS is the highest peak of the resident set that was sampled, in bytes: at register, next, the ends of phases
	// and, except on Linux, the exit.
	MaxRSS int64
}

// ProcessKind is the kind of a process.
type ProcessKind string

// The kinds of processes.
const (
	RuntimeProcess   ProcessKind = "runtime"
	ExtensionProcess ProcessKind = "extension"
)
