//go:build unix

package sandbox

import (
	"slices"
	"strings"
	"testing"
)

// The reader finds the same lines, however the bytes are split over reads.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\nbc\n\nd"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var got []string
		r := newLineReader(nil, func(lines [][]byte) {
			for _, l := range lines {
				got = append(got, string(l))
			}
		})
		r.paused = true // no idle timer in this test
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			r.feed(slices.Clone(rest[:n]))
			rest = rest[n:]
		}
		r.flush()
		r.idleTimer.Stop()
		want := strings.SplitAfter(string(data), "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}
