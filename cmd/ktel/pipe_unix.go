//go:build unix

package main

import (
	"errors"
	"syscall"
)

// isClosedPipe reports whether a write failed because the reader has gone.
func isClosedPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }
