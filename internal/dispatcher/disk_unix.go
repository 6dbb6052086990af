//go:build unix

package dispatcher

import (
	"os"
	"syscall"
)

// openFlags make sure that no link is followed and that no pipe blocks.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// lock locks a file. It fails if another process has locked it.
func lock(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// Free implements journalFile.
func (f diskFile) Free() (bytes int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // their types differ between systems
}
