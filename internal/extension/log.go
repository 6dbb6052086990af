package extension

import (
	"bytes"
	"io"
	"log/slog"
	"time"
)

const (
	// maxLogLines is how many lines are queued for a slow reader of the log. Further lines are dropped.
	maxLogLines = 64
	// logTimeout is how long the process waits at its end for queued lines to be written.
	logTimeout = 100 * time.Millisecond
)

// NewLog returns the extension's own log, which writes to w, and flush, which the process calls at its end to wait for queued
// lines. Lambda adds the time to each line, so the lines have none. Logging never blocks: if nobody reads w, for example because
// Lambda's own log is slow, the function must not wait for it.
func NewLog(w io.Writer, level slog.Level) (log *slog.Logger, flush func()) {
	lines := make(lineQueue, maxLogLines)
	go func() { // runs until the process exits, because a blocked write cannot be cancelled
		for l := range lines {
			if l.written != nil {
				close(l.written)
				continue
			}
			_, _ = w.Write(l.text)
		}
	}()
	log = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})).With("extension", "kinesis-telemetry-extension")
	return log, lines.flush
}

// logLine is a line to write or, if written is set, a marker that reports that all earlier lines are written.
type logLine struct {
	text    []byte
	written chan struct{} // closed when all earlier lines are written
}

type lineQueue chan logLine

// Write queues a line, or drops it if the queue is full.
func (q lineQueue) Write(p []byte) (int, error) {
	select {
	case q <- logLine{text: bytes.Clone(p)}:
	default:
	}
	return len(p), nil
}

// flush waits until all queued lines are written, up to logTimeout.
func (q lineQueue) flush() {
	timeout, written := time.After(logTimeout), make(chan struct{})
	select {
	case q <- logLine{written: written}:
	case <-timeout:
		return
	}
	select {
	case <-written:
	case <-timeout:
	}
}
