//go:build unix

package lambdaapi

import (
	"net"
	"syscall"
)

// quiet reports whether an idle connection is open and has nothing to read. A peer that closed it, or sent a response without
// a request, left something.
func quiet(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var first [1]byte
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		_, _, peeked = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK) // the socket does not block
		return true
	})
	return err == nil && peeked == syscall.EAGAIN
}
