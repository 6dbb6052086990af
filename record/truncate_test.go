package record_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"kinesis-telemetry-extension/record"
)

// event returns an event with a record of this JSON text.
func event(text, behind string) (raw []byte, value record.Span) {
	const before = `{"time":"t","type":"function","record":`
	return []byte(before + text + behind + "}"), record.Span{Start: len(before), End: len(before) + len(text), Size: len(text)}
}

// A record is cut at the last character or escape that fits.
func TestTruncate(t *testing.T) {
	for _, test := range []struct {
		text, behind string
		room         int // beyond the size of the event with an empty record
		want         string
	}{
		{`"abcdef"`, "", 0, ``},
		{`"abcdef"`, "", 1, ``},
		{`"abcdef"`, "", 2, `"`},
		{`"abcdef"`, "", 4, `"ab`},
		{`{"a":[1,2]}`, `,"more":{"x":"}"}`, 9, `{"a":[1`},
		{`"é𝄞"`, "", 3, `"`},
		{`"é𝄞"`, "", 4, `"é`},
		{`"é𝄞"`, "", 7, `"é`},
		{`"é𝄞"`, "", 8, `"é𝄞`},
		{`"a\n\\b"`, "", 5, `"a`},
		{`"a\n\\b"`, "", 6, `"a\n`},
		{`"a\n\\b"`, "", 9, `"a\n`},
		{`"a\n\\b"`, "", 10, `"a\n\\`},
		{`"a\"b"`, "", 6, `"a`},
		{`"a\"b"`, "", 7, `"a\"`},
		{`"\u00e9x"`, "", 8, `"`},
		{`"\u00e9x"`, "", 9, `"\u00e9`},
		{`"\ud834\udd1ex"`, "", 15, `"`},
		{`"\ud834\udd1ex"`, "", 16, `"\ud834\udd1e`},
		{`"\ud834x\udd1ex"`, "", 9, `"\ud834`},
		{"[\t1]", "", 6, "["},
		{"[\t1]", "", 7, "[\t"},
		{"12345", "", 3, "123"},
	} {
		raw, value := event(test.text, test.behind)
		value.Size = 1234567
		empty := len(raw) - len(test.text) + len(`"","truncated":1234567`)
		got := record.Truncate(raw, value, empty+test.room)
		var read struct {
			record.Line
			Record string          `json:"record"`
			More   json.RawMessage `json:"more"`
		}
		if err := json.Unmarshal(got, &read); err != nil || read.Record != test.want || read.Truncated != 1234567 ||
			read.Time != "t" || (read.More != nil) != (test.behind != "") {
			t.Errorf("%s, room for %d bytes: %s, want a record of %q; %v", test.text, test.room, got, test.want, err)
		}
		if short := record.Truncate(raw, value, empty-1); short != nil {
			t.Errorf("%s: %s has more than %d bytes", test.text, short, empty-1)
		}
	}
	if got := record.Truncate([]byte("{}"), record.Span{}, 1000); got != nil {
		t.Errorf("an event without a record became %s", got)
	}
}

// A value of which only the beginning was kept may end anywhere and may be invalid JSON. The truncated event is valid.
func TestTruncateIncompleteValue(t *testing.T) {
	for _, text := range []string{`"a\`, `"a\u`, `"a\u12`, `"a\ud834\u`, "\"\xc3", "\"a\\\xc3\xa9", "\"\x00\x1f"} {
		raw, value := event(text, "")
		for room := range len(raw) + 200 {
			got := record.Truncate(raw, value, room)
			if got != nil && (!json.Valid(got) || !utf8.Valid(got) || len(got) > room) {
				t.Errorf("%q in %d bytes: %q", text, room, got)
			}
		}
	}
}

// A truncated event is valid JSON and at most as large as its room. Its record is the longest beginning of the value's text
// that fits.
func FuzzTruncate(f *testing.F) {
	f.Add([]byte(`"é𝄞\n\\\"\u00e9\ud834\udd1e"`), 90)
	f.Add([]byte(`{"a":[1,"\t"], "b" : null}`), 80)
	f.Fuzz(func(t *testing.T, text []byte, room int) {
		if !json.Valid(text) || !utf8.Valid(text) || bytes.ContainsAny(text, "\n\r") || len(bytes.TrimSpace(text)) < len(text) {
			t.Skip()
		}
		raw, value := event(string(text), "")
		got := record.Truncate(raw, value, room)
		if got == nil {
			return
		}
		var line struct {
			record.Line
			Record string `json:"record"`
		}
		if err := json.Unmarshal(got, &line); err != nil || len(got) > room ||
			!strings.HasPrefix(string(text), line.Record) || line.Truncated != len(text) {
			t.Fatalf("%s: %s, %v", text, got, err)
		}
		if rest := text[len(line.Record):]; len(rest) > 0 && len(got)+6*len(`\ud834\udd1e`) <= room {
			t.Fatalf("%s: %s has room for more of %s", text, got, rest)
		}
		if text[0] == '"' && line.Record != "" && line.Record != string(text) && !json.Valid([]byte(line.Record+`"`)) {
			t.Fatalf("%s: %s ends within an escape", text, got)
		}
	})
}
