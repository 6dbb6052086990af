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
	readSize        = 64 << 10    // what a pipe holds on Linux
	maxDrainReads   = 16          // bound of one drain: a background thread may print without end
	idleLineTimeout = time.Second // after it a line without newline is taken as whole
)

// lineReader cuts what a process prints on one pipe into lines of any length. Besides its own goroutine, drain may read: all
// that was printed before drain was called has been given to emit when it returns.
type lineReader struct {
	pipe *os.File
	emit func(lines [][]byte) // gets lines with their newline; must not keep them
	done chan struct{}        // closed when the pipe is at its end and everything was emitted

	mu        sync.Mutex // one reader at a time
	buf       []byte
	partial   []byte // start of a line whose end has not come yet
	lines     [][]byte
	idleTimer *time.Timer
	paused    bool // the timer must not emit: frozen or closed
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
		// An error means that the pipe was closed: the process is gone.
		_ = raw.Read(func(fd uintptr) bool {
			for {
				if n, again := r.readOnce(fd); n <= 0 {
					return !again
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

// readOnce reads what is there, at most one buffer. again says that nothing is there now.
func (r *lineReader) readOnce(fd uintptr) (n int, again bool) {
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

// feed emits the lines that end in data and keeps the rest.
func (r *lineReader) feed(data []byte) {
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

func (r *lineReader) onIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paused {
		r.flush()
	}
}

// drain emits what is in the pipe.
func (r *lineReader) drain() {
	raw, err := r.pipe.SyscallConn()
	if err != nil {
		return // closed: nothing is left
	}
	_ = raw.Control(func(fd uintptr) {
		for range maxDrainReads {
			if n, _ := r.readOnce(fd); n <= 0 {
				return
			}
		}
	})
}

// freeze emits everything that the stopped process has printed, a line without newline too.
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

// close ends run when the process is gone but something else holds the pipe's other end; run emits what is left.
func (r *lineReader) close() error {
	r.drain()
	return r.pipe.Close()
}
