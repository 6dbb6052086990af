package awake

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A timeout ends after its time, later after a restart, and a parent that ends is no freeze.
func TestTimeoutEndsAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, timeout := WithTimeout(t.Context(), 5*time.Second)
		<-ctx.Done()
		if took := time.Since(began); took != 5*time.Second || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Errorf("the timeout of 5s ended after %s: %v", took, context.Cause(ctx))
		}
		if timeout.Stop() {
			t.Error("a timeout counts as a freeze")
		}
		began = time.Now()
		ctx, timeout = WithTimeout(t.Context(), 5*time.Second)
		time.Sleep(4 * time.Second)
		timeout.Restart()
		<-ctx.Done()
		timeout.Restart()
		if took := time.Since(began); took < 8500*time.Millisecond || took > 9*time.Second || timeout.Stop() {
			t.Errorf("restarted after 4 s, the timeout ended after %s", took)
		}
		parent, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ctx, timeout = WithTimeout(parent, time.Hour)
		<-ctx.Done()
		if timeout.Stop() {
			t.Error("the parent's end counts as a freeze")
		}
	})
}

// An overdue timer or clocks that drifted apart show a freeze. A freeze does not use up the timeout.
func TestFreezeDoesNotUseUpTheTimeout(t *testing.T) {
	_, timeout := WithTimeout(t.Context(), time.Hour)
	timeout.mu.Lock()
	timeout.began = timeout.began.Add(-10 * time.Minute)
	timeout.mu.Unlock()
	timeout.tick()
	if timeout.left != slices-1 || !timeout.Stop() {
		t.Errorf("%d slices left", timeout.left)
	}
	now := time.Now()
	for _, test := range []struct {
		to       time.Time
		expected time.Duration
		want     bool
	}{
		{now.Add(4 * time.Second), 4 * time.Second, false},
		{now.Add(6 * time.Second), 4 * time.Second, true},
		{now.Add(2 * time.Second).Round(0), time.Minute, false}, // without a monotonic reading there is only one clock
	} {
		if Froze(now, test.to, test.expected) != test.want {
			t.Errorf("%s, expected %s", test.to.Sub(now), test.expected)
		}
	}
}
