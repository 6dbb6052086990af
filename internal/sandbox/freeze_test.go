//go:build unix

package sandbox

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A freeze stops the processes. A POST in flight completes after the thaw, and no event is lost.
func TestFreeze(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Answers: []int{0}})
	e := start(t, cfg) // frozen: the events of init are buffered
	if onLinux {
		for _, p := range e.Processes() {
			if s := procState(t, p.PID); s != "T" {
				t.Errorf("%s is in state %s", p.Name, s)
			}
		}
	}
	e.Thaw()
	first := c.await("first POST", func(m message) bool { return m.Kind == "post" })
	e.Freeze() // while that POST is in flight
	c.releaseExtensions()
	r := invoke(t, e, task{Lines: 1, Text: "line"})
	if r.Status != "success" {
		t.Errorf("%+v", r)
	}
	shutdown(t, e)
	if posts := c.ofKind("post"); string(posts[0].Body) != string(first.Body) || strings.Contains(string(first.Body), "platform.start") {
		t.Errorf("first POST: %s", first.Body)
	}
	c.checkDelivered("x0")
}

// procState returns the state of a process from /proc, T if it is stopped. It waits for T: after the signal, the kernel
// needs a moment to stop the threads.
func procState(t *testing.T, pid int) string {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		if rest[:1] == "T" || time.Now().After(limit) {
			return rest[:1]
		}
		time.Sleep(time.Millisecond)
	}
}
