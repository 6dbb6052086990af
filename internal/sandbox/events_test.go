//go:build unix

package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// The parts of a cut event, joined, are the event's record, and each part but the last has exactly maxBytes bytes.
func FuzzCut(f *testing.F) {
	f.Add([]byte(`{"message":"é and more than the limit"}`), 70)
	f.Fuzz(func(t *testing.T, text []byte, limit int) {
		var a arena
		ev := a.line(time.Unix(0, 0).UTC(), "function", text, isJSONObject(text))
		if limit <= ev.envelope+1 || limit > 1<<20 {
			t.Skip()
		}
		want := bytes.Clone(ev.record())
		var got []byte
		for len(ev.raw) > limit {
			var first []byte
			first, ev = ev.cut(limit)
			if len(first) != limit || first[limit-1] != '}' {
				t.Fatalf("first part of %d bytes: %q", len(first), first)
			}
			got = append(got, first[ev.envelope:limit-1]...)
		}
		if got = append(got, ev.record()...); !bytes.Equal(got, want) {
			t.Fatalf("joined %q, want %q", got, want)
		}
	})
}

// encoding/json decodes an encoded line to the line's text; an object stays valid JSON.
func FuzzLine(f *testing.F) {
	f.Add([]byte("\x00\x7f\xff\u2028 {\"<>&"))
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var a arena
		var got struct {
			Time, Type string
			Record     json.RawMessage
		}
		ev := a.line(time.Unix(0, 0).UTC(), "function", text, false)
		var s string
		if err := errors.Join(json.Unmarshal(ev.raw, &got), json.Unmarshal(ev.record(), &s)); err != nil {
			t.Fatalf("%q: %v", ev.raw, err)
		}
		if want := fmt.Sprint(bytesToRunes(text)); fmt.Sprint([]rune(s)) != want || string(got.Record) != string(ev.record()) {
			t.Fatalf("%q became %q", text, s)
		}
		ev = a.line(time.Unix(0, 0).UTC(), "function", text, isJSONObject(text))
		if err := json.Unmarshal(ev.raw, &got); err != nil {
			t.Fatalf("%q: %v", ev.raw, err)
		}
	})
}

// bytesToRunes decodes bytes as Go does: U+FFFD for each byte that is not UTF-8.
func bytesToRunes(text []byte) []rune { return []rune(string(text)) }
