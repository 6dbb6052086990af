package main

import (
	"fmt"
	"io"
	"math"
	"time"
)

// How often a long reading says how far it is.
const (
	progressOnTerminal = 500 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

// reading is how far a reading is: of whole, in whatever measure; 0 where the whole is not known.
type reading struct {
	done, whole int64
	text        string // such as "1.2 GB, 3,400 events"
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

// after says how far the reading is after so long, and how long it will go on at the same rate.
func (r reading) after(elapsed time.Duration) string {
	if r.whole <= 0 || r.done <= 0 || r.done > r.whole {
		return r.text
	}
	left := time.Duration(float64(elapsed) * float64(r.whole-r.done) / float64(r.done))
	return fmt.Sprintf("%.0f%%, %s, %s left", math.Floor(100*float64(r.done)/float64(r.whole)), r.text, left.Round(time.Second))
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
