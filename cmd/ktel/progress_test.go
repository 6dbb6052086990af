package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// every reports at each interval until its end.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := 0
		end := every(5*time.Second, func() { reports++ })
		time.Sleep(12 * time.Second)
		end()
		time.Sleep(time.Minute)
		if reports != 2 {
			t.Errorf("%d reports in 12 seconds, want 2", reports)
		}
	})
}
