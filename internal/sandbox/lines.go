//go:build unix

package sandbox

import (
	"bytes"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	readSize      = 64 << 10 // the capacity of a pipe on Linux
	maxDrainReads = 16       // bounds one drain: a background thread may never stop printing
)

// idleLineTimeout is how long after its last byte a line without newline counts as complete. Only tests change it.
var idleLineTimeout = time.Second

// lineReader splits a process's output on one pipe into lines of any length. Its own goroutine and drain read the pipe.
// When drain returns, emit has received all that the process printed before the call.
type lineReader struct {
	pipe *os.File
	emit func(lines [][]byte) // gets lines with their newline; must not keep them
	done chan struct{}        // closed when the pipe has ended and all its lines are emitted

	mu        sync.Mutex // guards the fields below: one reader at a time
	buf       []byte
	partial   []byte // start of a line without newline so far
	lines     [][]byte
	idleTimer *time.Timer
	idle      bool // nothing was read since the timer fired
	paused    bool // frozen or closed: the timer must not emit
}

func newLineReader(pipe *os.File, emit func([][]byte)) *lineReader {
	r := &lineReader{pipe: pipe, emit: emit, done: make(chan struct{}), buf: make([]byte, readSize)}
	r.idleTimer = time.AfterFunc(time.Hour, r.onIdle)
	return r
}

// run reads until the end of the pipe or until close.
func (r *lineReader) run() {
	defer close(r.done)
	raw, err := r.pipe.SyscallConn()
	if err == nil {
		// An error means that the pipe is closed: the process is gone.
		_ = raw.Read(func(fd uintptr) bool {
			for {
				if n, empty := r.readOnce(fd); n <= 0 {
					return !empty
				}
			}
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	r.idleTimer.Stop()
	r.flush()
}

// readOnce reads the available bytes, at most one buffer. empty reports that the pipe is open and has none.
func (r *lineReader) readOnce(fd uintptr) (n int, empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		n, err := syscall.Read(int(fd), r.buf)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, true
		case err != nil || n <= 0:
			return 0, false
		}
		r.feed(r.buf[:n])
		return n, false
	}
}

// feed emits the lines that are complete in data and keeps the rest.
func (r *lineReader) feed(data []byte) {
	r.idle = false
	lines := r.lines[:0]
	for {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			break
		}
		line := data[:end]
		if len(r.partial) > 0 {
			line = append(r.partial, line...)
			r.partial = nil
		}
		lines = append(lines, line)
		data = data[end:]
	}
	if len(lines) > 0 {
		r.emit(lines)
		clear(lines)
		r.lines = lines
	}
	r.partial = append(r.partial, data...)
	if len(r.partial) > 0 {
		r.idleTimer.Reset(idleLineTimeout)
	}
}

// flush emits a last line without newline.
func (r *lineReader) flush() {
	if len(r.partial) > 0 {
		line := r.partial
		r.partial = nil
		r.emit([][]byte{line})
	}
}

// onIdle emits a line without newline, unless the pipe has more: on a loaded machine the reader may be late, not the process.
func (r *lineReader) onIdle() {
	r.mu.Lock()
	r.idle = true
	r.mu.Unlock()
	r.drain()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle && !r.paused {
		r.flush()
	}
}

// drain emits the lines in the pipe.
func (r *lineReader) drain() {
	raw, err := r.pipe.SyscallConn()
	if err != nil {
		return // closed: the pipe is drained
	}
	_ = raw.Control(func(fd uintptr) {
		for range maxDrainReads {
			if n, _ := r.readOnce(fd); n <= 0 {
				return
			}
		}
	})
}

// freeze emits all output of the stopped process, including a line without newline.
func (r *lineReader) freeze() {
	r.drain()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = true
	r.flush()
}

func (r *lineReader) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
	default:
		r.paused = false
		if len(r.partial) > 0 {
			r.idleTimer.Reset(idleLineTimeout)
		}
	}
}

// close ends run when the process is gone but the pipe's other end is still open elsewhere. run emits the last lines.
func (r *lineReader) close() error {
	r.drain()
	return r.pipe.Close()
}
