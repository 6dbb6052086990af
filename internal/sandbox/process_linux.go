package sandbox

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// processAttributes puts a process into a group of its own, which dies with the sandbox.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// peakRSS is the peak resident set of a live process in bytes, 0 if it cannot be read.
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

// exitRSS is not used on Linux: the kernel counts the parent's memory at the time of the fork into ru_maxrss.
func exitRSS(*os.ProcessState) int64 { return 0 }
