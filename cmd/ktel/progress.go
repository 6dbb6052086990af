package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// How often what takes long, such as a reading, says how far it is.
const (
	progressOnTerminal = 500 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

// every calls tell at each interval, until the function that it returns is called. That one waits for a call under way.
func every(interval time.Duration, tell func()) (end func()) {
	stop := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				tell()
			case <-stop:
				return
			}
		}
	})
	return func() {
		close(stop)
		telling.Wait()
	}
}

// reading is how far a reading is: done of whole, in whatever measure; whole is 0 or less where it is not known.
type reading struct {
	done, whole, bytes int64
}

// progress says from time to time how far a reading is: on a terminal in one line that goes away, elsewhere in a line every ten seconds.
// What is written to it in between goes above that line.
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

// Write takes whole lines.
func (p *progress) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		_, _ = io.WriteString(p.to, eraseLine)
	}
	return p.to.Write(lines)
}

// start shows what now returns, until end.
func (p *progress) start(now func() reading) {
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	every := progressElsewhere
	if p.terminal {
		every = progressOnTerminal
	}
	began := time.Now()
	go func() {
		defer close(p.stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-ticker.C:
				p.show(now().after(time.Since(began)))
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

// end takes the line away.
func (p *progress) end() {
	close(p.stop)
	<-p.stopped
	_, _ = p.Write(nil)
}

// after says how far the reading is after so long, how fast, and how long it will go on at that rate.
func (r reading) after(elapsed time.Duration) string {
	rate := int64(float64(r.bytes) / elapsed.Seconds())
	text := fmt.Sprintf("%s read, %s a second", bytesText(r.bytes), bytesText(rate))
	if r.whole <= 0 || r.done <= 0 || r.done > r.whole {
		return text
	}
	left := time.Duration(float64(elapsed) * float64(r.whole-r.done) / float64(r.done))
	return fmt.Sprintf("%s, %d%%, %s left", text, int64(100*float64(r.done)/float64(r.whole)), left.Round(time.Second))
}

// bytesText is a number of bytes for people.
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
