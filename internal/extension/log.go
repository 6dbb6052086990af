package extension

import (
	"bytes"
	"io"
	"log/slog"
	"time"
)

const (
	// maxLogLines is how many lines wait for a slow reader of w; more are left out.
	maxLogLines = 64
	// logTimeout is how long the process waits for them at its end.
	logTimeout = 100 * time.Millisecond
)

// NewLog returns the log of the extension's own few lines, and what waits for the last of them at the process's end. Lambda
// puts the time to each line, so they have none. A line never blocks: where nobody reads w, as when Lambda's own log is
// slow, the function must not wait for it.
func NewLog(w io.Writer, level slog.Level) (log *slog.Logger, wait func()) {
	lines := make(lineQueue, maxLogLines)
	go func() { // for as long as the process lives: a write that blocks cannot be ended
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

type logLine struct {
	text    []byte
	written chan struct{} // closed when all before it is written; nil: nobody waits
}

type lineQueue chan logLine

func (q lineQueue) Write(p []byte) (int, error) {
	select {
	case q <- logLine{text: bytes.Clone(p)}:
	default:
	}
	return len(p), nil
}

func (q lineQueue) flush() {
	over, written := time.After(logTimeout), make(chan struct{})
	select {
	case q <- logLine{written: written}:
	case <-over:
		return
	}
	select {
	case <-written:
	case <-over:
	}
}
