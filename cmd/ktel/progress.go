package main

import (
	"fmt"
	"io"
	"time"
)

// How often a long reading says how far it is.
const (
	progressOnTerminal = 500 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

// reading is how far a reading is: done of whole, in whatever measure; whole is 0 or less where it is not known.
type reading struct {
	done, whole, bytes int64
}

// showProgress says on w how far a reading is, from time to time, until the function that it returns is called: on a terminal in one line
// that goes away, elsewhere in a line every ten seconds.
func (a *app) showProgress(w io.Writer, now func() reading) (end func()) {
	columns, terminal := terminalWidth(w)
	every := progressElsewhere
	if terminal {
		every = progressOnTerminal
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				if terminal {
					_, _ = io.WriteString(w, "\r\x1b[K")
				}
				return
			case <-ticker.C:
				text := now().after(time.Since(began))
				if terminal {
					_, _ = fmt.Fprintf(w, "\r\x1b[K%s", fit(text, columns-1))
				} else {
					_, _ = fmt.Fprintf(w, "ktel: %s\n", text)
				}
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
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
