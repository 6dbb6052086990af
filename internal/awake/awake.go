// Package awake measures time in which the environment runs. Lambda may freeze the environment at any moment. An answer
// that arrives during the freeze is in the socket after the thaw, so no timeout may count it as missing.
package awake

import (
	"context"
	"sync"
	"time"
)

const (
	// slices is the number of parts of a timeout. A slice that takes much longer than its part shows a freeze.
	slices = 10
	// MaxDrift is how far the wall clock and the monotonic clock may drift apart, and how long a timer may be overdue,
	// until that counts as a freeze. Shorter freezes do no harm.
	MaxDrift = time.Second
)

// Froze reports whether the environment was frozen between two readings of the clock. expected is the longest time that
// the work or the timer between them takes. Whether the monotonic clock runs during a freeze depends on how Lambda
// freezes.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func Froze(from, to time.Time, expected time.Duration) bool {
	mono, wall := to.Sub(from), to.Round(0).Sub(from.Round(0))
	return mono > expected+MaxDrift || (wall-mono).Abs() > MaxDrift
}

// Sleep waits for pause, or until ctx ends, and then returns ctx's error. A freeze lengthens it.
func Sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Timeout is a timeout that counts only time in which the environment is awake.
type Timeout struct {
	end   context.CancelCauseFunc
	slice time.Duration

	mu     sync.Mutex // guards all below
	timer  *time.Timer
	began  time.Time // start of the current slice
	left   int       // number of slices, the current one included
	frozen bool
}

// WithTimeout returns a context that ends with parent, with Timeout.Stop, or when timeout has passed awake. In the last
// case its cause is context.DeadlineExceeded. The caller must call Timeout.Stop.
func WithTimeout(parent context.Context, timeout time.Duration) (context.Context, *Timeout) {
	ctx, end := context.WithCancelCause(parent)
	t := &Timeout{end: end, slice: timeout / slices, began: time.Now(), left: slices}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(t.slice, t.tick)
	return ctx, t
}

// tick ends a slice, and the timeout after the last slice.
func (t *Timeout) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		return // stopped while the timer fired
	}
	t.endSlice()
	if t.left--; t.left == 0 {
		t.end(context.DeadlineExceeded)
		return
	}
	t.timer.Reset(t.slice)
}

// endSlice ends a slice and notices a freeze in it.
func (t *Timeout) endSlice() {
	now := time.Now()
	t.frozen = t.frozen || Froze(t.began, now, t.slice)
	t.began = now
}

// Restart starts the timeout again after progress, to within a slice.
func (t *Timeout) Restart() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left > 0 {
		t.left = slices
	}
}

// Stop ends the timeout and reports whether the environment was frozen during it.
func (t *Timeout) Stop() (frozen bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.Stop()
	t.endSlice()
	t.left = 0
	t.end(context.Canceled)
	return t.frozen
}
