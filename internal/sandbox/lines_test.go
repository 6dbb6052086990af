//go:build unix

package sandbox

import (
	"bytes"
	"os"
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

// A line without newline is emitted if no byte follows for a second. Bytes in the pipe count, although they are not read yet.
func TestIdleLine(t *testing.T) {
	for more, want := range map[string]string{"": "half", " and half\n": "half and half\n", " and more": ""} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		defer write.Close()
		got := ""
		r := newLineReader(read, func(lines [][]byte) { got += string(bytes.Join(lines, nil)) })
		for _, text := range []string{"half", more} {
			if _, err := write.WriteString(text); err != nil {
				t.Fatal(err)
			}
			if got != "" {
				t.Errorf("%q is emitted at once", got)
			}
			if text == "half" {
				r.drain()
			}
		}
		r.idleTimer.Stop()
		if r.onIdle(); got != want {
			t.Errorf("half, then %q: %q is emitted, want %q", more, got, want)
		}
		r.idleTimer.Stop()
	}
}
