package extension

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// A line has its level and no time, which Lambda puts to it; the level that the user has chosen is the least.
func TestLogLines(t *testing.T) {
	var w bytes.Buffer
	log, wait := NewLog(&w, slog.LevelWarn)
	log.Info("not said")
	log.Warn("said", "key", 1)
	wait()
	if got := w.String(); got != "level=WARN msg=said extension=kinesis-telemetry-extension key=1\n" {
		t.Errorf("%q", got)
	}
}

// slowWriter takes 1 ms for each line.
type slowWriter struct {
	mu    sync.Mutex
	lines int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines++
	return len(p), nil
}

// The process waits for lines that a slow reader has not read yet, up to 100 ms.
func TestSlowLog(t *testing.T) {
	w := &slowWriter{}
	log, wait := NewLog(w, slog.LevelWarn)
	const lines = 10
	for range lines {
		log.Error("x")
	}
	wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines != lines {
		t.Errorf("%d of %d lines are written", w.lines, lines)
	}
}

// blocked is a writer that nobody reads from.
type blocked chan struct{}

func (b blocked) Write([]byte) (int, error) {
	<-b
	return 0, nil
}

// A log that nobody reads blocks nothing: neither an invocation, nor telemetry, nor the process's end.
func TestBlockedLog(t *testing.T) {
	t.Parallel()
	w := make(blocked)
	defer close(w)
	log, wait := NewLog(w, slog.LevelDebug)
	for n := range 1000 {
		log.Warn(fmt.Sprint("line ", n))
	}
	x := begunWith(log, stored, "KINESIS_TELEMETRY_DELIVERY=sync")
	defer x.dispatcher.Close()
	f := x.serving(newLambda(t, nil))
	for _, id := range []string{"a", "b"} {
		f.next()
		f.invoke(id)
		f.post("broken", tell("platform.start", id), tell("platform.runtimeDone", id))
	}
	f.next()
	f.spindown()
	if took := in(wait); took < 100*time.Millisecond {
		t.Errorf("waited %s for the last lines", took)
	}
}

// Once the reader reads again, the lines that it has missed are left out and later ones are written.
func TestLogAfterABlock(t *testing.T) {
	w := &gate{open: make(chan struct{})}
	log, wait := NewLog(w, slog.LevelWarn)
	for n := range 1000 {
		log.Warn(fmt.Sprint("line ", n))
	}
	close(w.open)
	wait()
	log.Warn("the last line")
	wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Count(w.text.String(), "\n"); got < 64 || got > 70 || !strings.Contains(w.text.String(), "the last line") {
		t.Errorf("%d lines are written", got)
	}
}

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	text bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}
