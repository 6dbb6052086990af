package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		end := every(5*time.Second, func() { told++ })
		time.Sleep(12 * time.Second)
		end()
		time.Sleep(time.Minute)
		if told != 2 {
			t.Errorf("told %d times in 12 seconds, want 2", told)
		}
	})
}
