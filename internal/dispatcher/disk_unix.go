//go:build unix

package dispatcher

import (
	"os"
	"syscall"
)

// openFlags keep a link, or a pipe, from being taken for a journal.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// lock fails where another process has the file.
func lock(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func (f diskFile) Free() (bytes int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // their types differ between systems
}
