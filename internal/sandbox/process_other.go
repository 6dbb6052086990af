//go:build unix && !linux

package sandbox

import (
	"os"
	"syscall"
)

// processAttributes puts a process into a group of its own.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// peakRSS needs /proc.
func peakRSS(int) int64 { return 0 }

// exitRSS is the peak resident set of a process that has ended, in bytes (macOS; the BSDs count in KiB).
func exitRSS(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss
	}
	return 0
}
