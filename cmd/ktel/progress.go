package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Intervals of progress messages.
const (
	progressOnTerminal = 500 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

// every calls report at each interval until end is called. end waits for a call in progress.
func every(interval time.Duration, report func()) (end func()) {
	stop := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				report()
			case <-stop:
				return
			}
		}
	})
	return func() {
		close(stop)
		reporting.Wait()
	}
}

// reading is the progress of reading an input: done of whole, in any unit. whole is 0 or less if it is unknown.
type reading struct {
	done, whole, bytes int64
}

// progress shows how far an input was read: on a terminal in one line that is erased at the end, elsewhere in a line
// every ten seconds. Other output goes through Write, which puts it above that line.
type progress struct {
	to       io.Writer
	columns  int
	terminal bool

	mu            sync.Mutex // guards to
	stop, stopped chan struct{}
}

func newProgress(to io.Writer) *progress {
	p := &progress{to: to}
	p.columns, p.terminal = terminalWidth(to)
	return p
}

const eraseLine = "\r\x1b[K"

// Write expects whole lines.
func (p *progress) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		_, _ = io.WriteString(p.to, eraseLine)
	}
	return p.to.Write(lines)
}

// start shows the progress that now returns, until end is called.
func (p *progress) start(now func() reading) {
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	every := progressElsewhere
	if p.terminal {
		every = progressOnTerminal
	}
	start := time.Now()
	go func() {
		defer close(p.stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.show(now().after(time.Since(start)))
			}
		}
	}()
}

func (p *progress) show(text string) {
	if !p.terminal {
		text = "ktel: " + text + "\n"
	} else {
		text = fit(text, p.columns-1)
	}
	_, _ = p.Write([]byte(text))
}

// end erases the line.
func (p *progress) end() {
	close(p.stop)
	<-p.stopped
	_, _ = p.Write(nil)
}

// after describes the progress after the elapsed time: how far, how fast, and the time left at that rate.
func (r reading) after(elapsed time.Duration) string {
	rate := int64(float64(r.bytes) / elapsed.Seconds())
	text := fmt.Sprintf("%s read, %s a second", bytesText(r.bytes), bytesText(rate))
	if r.whole <= 0 || r.done <= 0 || r.done > r.whole {
		return text
	}
	left := time.Duration(float64(elapsed) * float64(r.whole-r.done) / float64(r.done))
	return fmt.Sprintf("%s, %d%%, %s left", text, int64(100*float64(r.done)/float64(r.whole)), left.Round(time.Second))
}

// bytesText writes a number of bytes for a person.
func bytesText(n int64) string {
	size, unit := float64(n), "bytes"
	for _, next := range []string{"KB", "MB", "GB", "TB"} {
		if size < 1000 {
			break
		}
		size, unit = size/1000, next
	}
	if unit == "bytes" {
		return plural(int(n), "byte")
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
