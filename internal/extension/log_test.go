package extension

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
)

// blockedWriter is a writer that blocks until open is closed.
type blockedWriter struct {
	open chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.open
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// waitFor waits until a text is written, and returns everything that was written.
func (w *blockedWriter) waitFor(text string, flush func()) string {
	for {
		flush()
		w.mu.Lock()
		written := w.text.String()
		w.mu.Unlock()
		if strings.Contains(written, text) {
			return written
		}
	}
}

// A log line has a level and no time, because Lambda adds the time. Lines below the user's log level are not written.
func TestLogLines(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	close(w.open)
	log := NewLog(w, config.LogWarn)
	log.Info("not logged")
	log.Warn("logged", "key", 1)
	if got := w.waitFor("\n", log.Flush); got != "level=WARN msg=logged extension=kinesis-telemetry-extension key=1\n" {
		t.Errorf("%q", got)
	}
}

// A line equals that of slog.TextHandler, whatever its message and values are. Only slog leaves the control character DEL
// as it is.
func FuzzLogLine(f *testing.F) {
	f.Add("", "", 0)
	f.Add("two words", `a "quote"`, -1)
	f.Add("plain", "k=v", 1)
	f.Add("line\nbreak", "\xff", 2)
	f.Add("ü\u00a0\u202e", "\x00\t\ufffd😀", 3)
	f.Fuzz(func(t *testing.T, message, text string, number int) {
		if strings.Contains(message+text, "\x7f") {
			return
		}
		var want bytes.Buffer
		withoutTime := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
		handler := slog.NewTextHandler(&want, &slog.HandlerOptions{ReplaceAttr: withoutTime})
		slog.New(handler).With("extension", "kinesis-telemetry-extension").Error(message, "text", text, "number", number)
		lines := make(lineQueue, 1)
		(&Log{config.LogError, lines}).Error(message, "text", text, "number", number)
		if got := (<-lines).text; string(got) != want.String() {
			t.Errorf("got %s, slog has %s", got, want.String())
		}
	})
}

// At its end, the process waits up to 100 ms for queued lines, even if the queue is full.
func TestFlushWaitsForLastLines(t *testing.T) {
	for written, want := range map[time.Duration]time.Duration{
		90 * time.Millisecond: 90 * time.Millisecond, 110 * time.Millisecond: 100 * time.Millisecond,
	} {
		for _, lines := range []int{0, 1, maxLogLines} {
			synctest.Test(t, func(t *testing.T) {
				q := make(lineQueue, maxLogLines)
				for range lines {
					q.queue([]byte("x\n"))
				}
				go func() { // reads lines as NewLog does
					time.Sleep(written)
					for range lines {
						<-q
					}
					select {
					case l := <-q:
						close(l.written)
					default: // flush has timed out
					}
				}()
				if took := elapsed(q.flush); took != want {
					t.Errorf("waited for %s, want %s, for %d lines that are written after %s", took, want, lines, written)
				}
				time.Sleep(time.Second) // the reader ends
			})
		}
	}
}

// A blocked log does not block invocations, telemetry or the process's end.
func TestBlockedLogBlocksNothing(t *testing.T) {
	t.Parallel()
	w := &blockedWriter{open: make(chan struct{})}
	defer close(w.open)
	log := NewLog(w, config.LogDebug)
	for n := range 1000 {
		log.Warn(fmt.Sprint("line ", n))
	}
	x := newExtensionWithLog(log, acceptAll, "KINESIS_TELEMETRY_DELIVERY=sync")
	defer x.dispatcher.Close(false)
	f := x.startServing(newFakeLambda(t, nil))
	for _, id := range []string{"a", "b"} {
		f.awaitNext()
		f.post("broken", eventNow("platform.start", id))
		f.invoke(id)
		f.post(eventNow("platform.runtimeDone", id))
	}
	f.awaitNext()
	f.spindown()
	if took := elapsed(log.Flush); took < 100*time.Millisecond {
		t.Errorf("waited for the last lines for %s", took)
	}
}

// If the queue is full, lines are dropped. After the writer unblocks, later lines are written completely.
func TestLogAfterBlock(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	log := NewLog(w, config.LogWarn)
	for n := range 1000 {
		log.Warn(fmt.Sprint("line ", n))
	}
	close(w.open)
	w.waitFor(`"line 63"`, log.Flush)
	log.Warn("the last line")
	written := w.waitFor("the last line", log.Flush)
	got := strings.Count(written, "\n")
	if got < maxLogLines+1 || got > maxLogLines+3 || !strings.HasPrefix(written, `level=WARN msg="line 0"`) {
		t.Errorf("%d lines are written: %s", got, written)
	}
}
