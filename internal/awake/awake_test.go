package awake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, span := WithTimeout(t.Context(), 5*time.Second)
		<-ctx.Done()
		if took := time.Since(began); took != 5*time.Second || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Errorf("ended after %s: %v", took, context.Cause(ctx))
		}
		if span.Stop() {
			t.Error("a timeout was taken for a freeze")
		}
		began = time.Now()
		ctx, span = WithTimeout(t.Context(), 5*time.Second)
		time.Sleep(4 * time.Second)
		span.Restart()
		<-ctx.Done()
		span.Restart()
		if took := time.Since(began); took < 8500*time.Millisecond || took > 9*time.Second || span.Stop() {
			t.Errorf("with progress after 4 s it ended after %s", took)
		}
		parent, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ctx, span = WithTimeout(parent, time.Hour)
		<-ctx.Done()
		if span.Stop() {
			t.Error("the parent's end was taken for a freeze")
		}
	})
}

// A freeze is seen by a timer that is overdue, or by clocks that moved apart; and it does not use up the timeout.
func TestFreeze(t *testing.T) {
	_, span := WithTimeout(t.Context(), time.Hour)
	span.mu.Lock()
	span.began = span.began.Add(-10 * time.Minute)
	span.mu.Unlock()
	span.tick()
	if span.left != slices-1 || !span.Stop() {
		t.Errorf("%d slices left", span.left)
	}
	now := time.Now()
	for _, test := range []struct {
		to       time.Time
		expected time.Duration
		want     bool
	}{
		{now.Add(4 * time.Second), 4 * time.Second, false},
		{now.Add(6 * time.Second), 4 * time.Second, true},
		{now.Add(2 * time.Second).Round(0), time.Minute, false}, // without a monotonic reading there is one clock only
	} {
		if Froze(now, test.to, test.expected) != test.want {
			t.Errorf("%s, expected %s", test.to.Sub(now), test.expected)
		}
	}
}
