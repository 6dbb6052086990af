//go:build unix

package sandbox

import "time"

// ProcessStats describes one process, alive or gone.
type ProcessStats struct {
	Name       string        // the extension's name, or the function's
	Kind       ProcessKind   // runtime or extension
	Generation int           // of the environment's life that it belongs to: 1, and one more after each reset
	PID        int           // also the number of its process group
	Register   time.Duration // from exec to register, 0 if it never did
	FirstNext  time.Duration // from exec to the first next, 0 if it never did
	Exited     bool
	ExitCode   int           // -1 while alive or if a signal ended it
	Signal     string        // the signal that ended it, or ""
	MaxRSS     int64         // peak resident set in bytes as far as it was seen: at register, next, the ends of phases and (not on Linux) the end
	CPU        time.Duration // user and system, 0 while alive
	Killed     bool          // the sandbox sent SIGKILL
}

// ProcessKind tells runtimes from extensions.
type ProcessKind string

// The kinds of process.
const (
	RuntimeProcess   ProcessKind = "runtime"
	ExtensionProcess ProcessKind = "extension"
)
