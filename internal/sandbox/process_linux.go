package sandbox

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// processAttributes starts a process in its own process group. The kernel kills it when the sandbox dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// peakRSS returns the peak resident set of a running process in bytes, 0 if it cannot be read.
func peakRSS(pid int) int64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, found := bytes.Cut(data, []byte("VmHWM:"))
	if !found {
		return 0
	}
	fields := bytes.Fields(rest[:min(len(rest), 64)])
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// exitRSS returns 0: on Linux, ru_maxrss includes the parent's memory at the time of the fork.
func exitRSS(*os.ProcessState) int64 { return 0 }
