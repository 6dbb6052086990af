//go:build unix && !linux

package sandbox

import (
	"os"
	"syscall"
)

// processAttributes starts a process in its own process group.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// peakRSS returns 0: it would need /proc.
func peakRSS(int) int64 { return 0 }

// exitRSS returns the peak resident set of a process that has exited, in bytes (on macOS; the BSDs count in KiB).
func exitRSS(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss
	}
	return 0
}
