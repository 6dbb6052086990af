// Package awake measures time in which the environment runs. Lambda may freeze it in the middle of anything; an answer
// that came meanwhile lies in the socket when it thaws, and must not be taken for one that never came.
package awake

import (
	"context"
	"sync"
	"time"
)

const (
	// slices is into how many parts a timeout is cut, to tell time that passed from time that was slept.
	slices = 10
	// MaxDrift is how far the wall clock and the monotonic clock may move apart, and how long a timer may be overdue,
	// before it counts as a freeze. Shorter freezes do no harm.
	MaxDrift = time.Second
)

// Froze tells whether the environment stood still between two readings of the clock, where work or a timer would have
// taken no more than expected. Whether the monotonic clock runs on during a freeze depends on how it is done.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func Froze(from, to time.Time, expected time.Duration) bool {
	mono, wall := to.Sub(from), to.Round(0).Sub(from.Round(0))
	return mono > expected+MaxDrift || (wall-mono).Abs() > MaxDrift
}

// Timeout is a stretch of time with a timeout.
type Timeout struct {
	end   context.CancelCauseFunc
	slice time.Duration

	mu     sync.Mutex // guards all below
	timer  *time.Timer
	began  time.Time // the slice
	left   int       // slices, this one included
	frozen bool
}

// WithTimeout returns a context that ends with parent, with Timeout.Stop, and when timeout has passed awake, with
// context.DeadlineExceeded as its cause. Timeout.Stop must be called.
func WithTimeout(parent context.Context, timeout time.Duration) (context.Context, *Timeout) {
	ctx, end := context.WithCancelCause(parent)
	s := &Timeout{end: end, slice: timeout / slices, began: time.Now(), left: slices}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.slice, s.tick)
	return ctx, s
}

func (s *Timeout) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return // ended while the timer fired
	}
	s.look()
	if s.left--; s.left == 0 {
		s.end(context.DeadlineExceeded)
		return
	}
	s.timer.Reset(s.slice)
}

// look ends a slice and notices a freeze within it.
func (s *Timeout) look() {
	now := time.Now()
	s.frozen = s.frozen || Froze(s.began, now, s.slice)
	s.began = now
}

// Restart grants the timeout anew, to within a slice: there was progress.
func (s *Timeout) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left > 0 {
		s.left = slices
	}
}

// Stop ends the timeout and tells whether the environment stood still during it.
func (s *Timeout) Stop() (frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
	s.look()
	s.left = 0
	s.end(context.Canceled)
	return s.frozen
}
