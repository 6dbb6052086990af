//go:build unix

package main

import (
	"errors"
	"syscall"
)

// isClosedPipe tells whether nobody reads what is written.
func isClosedPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }
