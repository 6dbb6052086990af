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
)

// blockedWriter is a writer that nobody reads from until it is opened.
type blockedWriter struct {
	open chan struct{}
	mu   sync.Mutex
	text bytes.Buffer
}

func (g *blockedWriter) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

// until waits until something is written, for as long as that takes on a busy machine.
func (g *blockedWriter) until(text string, wait func()) string {
	for {
		wait()
		g.mu.Lock()
		written := g.text.String()
		g.mu.Unlock()
		if strings.Contains(written, text) {
			return written
		}
	}
}

// A line has its level and no time, which Lambda puts to it; the level that the user has chosen is the least.
func TestLogLines(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	close(w.open)
	log, wait := NewLog(w, slog.LevelWarn)
	log.Info("not said")
	log.Warn("said", "key", 1)
	if got := w.until("\n", wait); got != "level=WARN msg=said extension=kinesis-telemetry-extension key=1\n" {
		t.Errorf("%q", got)
	}
}

// At its end the process waits for lines that are not written yet, up to 100 ms, whether there is room for more lines or not.
func TestFlushWaitsForLastLines(t *testing.T) {
	for written, want := range map[time.Duration]time.Duration{
		90 * time.Millisecond: 90 * time.Millisecond, 110 * time.Millisecond: 100 * time.Millisecond,
	} {
		for _, lines := range []int{0, 1, maxLogLines} {
			synctest.Test(t, func(t *testing.T) {
				q := make(lineQueue, maxLogLines)
				for range lines {
					fmt.Fprintln(q, "x")
				}
				go func() { // as NewLog does
					time.Sleep(written)
					for range lines {
						<-q
					}
					select {
					case l := <-q:
						close(l.written)
					default: // was not waited for any more
					}
				}()
				if took := elapsed(q.flush); took != want {
					t.Errorf("waited %s for %d lines that are written after %s", took, lines, written)
				}
				time.Sleep(time.Second) // the reader ends
			})
		}
	}
}

// A log that nobody reads blocks nothing: neither an invocation, nor telemetry, nor the process's end.
func TestBlockedLog(t *testing.T) {
	t.Parallel()
	w := &blockedWriter{open: make(chan struct{})}
	defer close(w.open)
	log, wait := NewLog(w, slog.LevelDebug)
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
	if took := elapsed(wait); took < 100*time.Millisecond {
		t.Errorf("waited %s for the last lines", took)
	}
}

// Lines that find no room while nobody reads are left out; once somebody reads again, later lines are written, each as it was.
func TestLogAfterBlock(t *testing.T) {
	w := &blockedWriter{open: make(chan struct{})}
	log, wait := NewLog(w, slog.LevelWarn)
	for n := range 1000 {
		log.Warn(fmt.Sprint("line ", n))
	}
	close(w.open)
	w.until(`"line 63"`, wait)
	log.Warn("the last line")
	written := w.until("the last line", wait)
	if got := strings.Count(written, "\n"); got < maxLogLines+1 || got > maxLogLines+3 || !strings.HasPrefix(written, `level=WARN msg="line 0"`) {
		t.Errorf("%d lines are written: %s", got, written)
	}
}
