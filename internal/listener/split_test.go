package listener

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// oracle returns the elements of a JSON array as encoding/json reads them.
func oracle(body []byte) (elements []json.RawMessage, isArray bool) {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '[' || json.Unmarshal(body, &elements) != nil {
		return nil, false
	}
	return elements, true
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		`[]`, ` [ ] `, `[{}]`, `[{"time":"t","type":"function","record":"x"}]`,
		`[{"time":"t","type":"platform.start","record":{"requestId":"r","n":[1,2.5e-3,true,false,null]}},{"a":"\u00e9\n"}]`,
		`[null,1,"x",[{}],{"time":1,"type":2,"record":null}]`,
		`[{"time":"t","type":"function","record":"cut}]`,
		`[{"time":"t","type":"function","record":rest"},{"time":"t","type":"function","record":"whole"}]`,
		"[{\"time\":\n\"t\"},\r\n{}]", `[{"a":1},]`, `[{"a":01}]`, `[{"a":"\x"}]`, `{"time":"t"}`, `[[[[`, "\xff[{}]",
		`[{"time":"a","time":"b","type":"x","record":{"requestId":"1","requestId":"2"}}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := Splitter{Limit: 1 << 20}
		events := p.Split(nil, bytes.Clone(body), true)
		for _, e := range events {
			if e.Raw != nil && (!json.Valid(e.Raw) || e.Raw[0] != '{' || bytes.ContainsAny(e.Raw, "\n\r") || !utf8.Valid(e.Raw)) {
				t.Fatalf("an event is not one line with a JSON object: %q", e.Raw)
			}
		}
		elements, isArray := oracle(body)
		if !isArray {
			events = p.Finish(events)
			isMalformed := func(e Event) bool { return e.Raw == nil }
			if len(bytes.TrimSpace(body)) > 0 && !slices.ContainsFunc(events, isMalformed) {
				t.Fatalf("a body that is not a JSON array has no malformed element: %q", body)
			}
			return
		}
		if len(events) != len(elements) {
			t.Fatalf("%d of %d elements of %q", len(events), len(elements), body)
		}
		for i, element := range elements {
			compareEvent(t, events[i], element)
		}
	})
}

// compareEvent compares an event with the same element as encoding/json reads it.
func compareEvent(t *testing.T, e Event, element json.RawMessage) {
	t.Helper()
	var members map[string]json.RawMessage
	var text string
	isEvent := json.Unmarshal(element, &members) == nil && members["record"] != nil &&
		json.Unmarshal(members["time"], &text) == nil && members["time"][0] == '"' &&
		json.Unmarshal(members["type"], &text) == nil && members["type"][0] == '"'
	if bytes.Contains(element, []byte(`\u`)) || !utf8.Valid(element) {
		return // the splitter does not decode escapes in keys
	}
	if isEvent != (e.Raw != nil) {
		t.Fatalf("%s became %q", element, e.Raw)
	}
	if !isEvent {
		return
	}
	oneLine := strings.NewReplacer("\n", " ", "\r", " ")
	if want := oneLine.Replace(string(element)); string(e.Raw) != want {
		t.Fatalf("raw %q, want %q", e.Raw, want)
	}
	at := e.Record
	if string(e.Raw[at.Start:at.End]) != oneLine.Replace(string(members["record"])) || at.Size != at.End-at.Start {
		t.Fatalf("record at %+v of %q", at, e.Raw)
	}
	content := func(value json.RawMessage) string {
		if len(value) == 0 || value[0] != '"' {
			return ""
		}
		return string(value[1 : len(value)-1])
	}
	if got, want := string(e.Time), content(members["time"]); got != want {
		t.Fatalf("time %q, want %q", got, want)
	}
	if got, want := string(e.Type), content(members["type"]); got != want {
		t.Fatalf("type %q, want %q", got, want)
	}
}

// event returns an event whose time and record contain n.
func event(n int) string {
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"line %d"}`, n, n)
}

// malformedBodies is the table of unusual and malformed bodies. Their events arrive, and each of their other elements is malformed, in
// its place among the events.
var malformedBodies = []struct {
	name, body string
	want       []string
}{
	{
		"unknown type", `[` + event(1) + `,{"time":"t","type":"platform.somethingNew","record":{}},` + event(2) + `]`,
		[]string{event(1), `{"time":"t","type":"platform.somethingNew","record":{}}`, event(2)},
	},
	{
		"null record", `[` + event(1) + `,{"time":"t","type":"function","record":null}]`,
		[]string{event(1), `{"time":"t","type":"function","record":null}`},
	},
	{
		"missing members", `[{},{"type":"function"},{"time":"t","type":"function"},{"time":"t","record":1},` + event(2) + `]`,
		[]string{malformed, malformed, malformed, malformed, event(2)},
	},
	{
		"unusual members",
		`[{"time":17,"type":"x","record":1},{"time":"t","type":["x"],"record":1},` +
			`{"time":"t","type":"x","record":{"requestId":{}},"more":true},` + event(2) + `]`,
		[]string{malformed, malformed, `{"time":"t","type":"x","record":{"requestId":{}},"more":true}`, event(2)},
	},
	{
		"elements that are no events", `[null,` + event(1) + `,7,"x",[1,{}],` + event(2) + `]`,
		[]string{malformed, event(1), malformed, malformed, malformed, event(2)},
	},
	{"cut in an event", `[` + event(1) + `,` + event(2)[:30], []string{event(1), malformed}},
	{"cut after a comma", `[` + event(1) + `,`, []string{event(1), malformed}},
	{"cut before the closing bracket", `[` + event(1) + `,` + event(2), []string{event(1), malformed}},
	{
		"first piece of a cut event", `[` + event(1) + `,` + event(2)[:len(event(2))-4] + `}]`,
		[]string{event(1), malformed},
	},
	{"cut before the key of the record", `[{"time":"t","type":"x",`, []string{malformed}},
	{"cut before the key of the record, and closed", `[{"time":"t","type":"x",}]`, []string{malformed}},
	{"never closed", `[{"time":"t","type":"function","record":nul,` + event(1) + `]`, []string{malformed}},
	{"cut before the record, and closed", `[` + event(1) + `,` + event(2)[:50] + `}]`, []string{event(1), malformed}},
	{
		"tail of a cut event", `[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":e 2","k":"v"}},` + event(3) + `,` + event(4) + `]`,
		[]string{malformed, event(3), event(4)},
	},
	{
		"tail that starts after a backslash",
		`[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":\","k":"v"}},` + event(3) + `,` + event(4) + `]`,
		[]string{malformed, event(3), event(4)},
	},
	{
		"tail without other events", `[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":e 2","k":"v"}}]`,
		[]string{malformed},
	},
	{
		"tail of a time series",
		`[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":` + strings.Repeat(`{"time":1700000000,"value":1},`, 500) +
			`{"time":1,"value":2}]}},` + event(3) + `,` + event(4) + `]`,
		[]string{malformed, event(3), event(4)},
	},
	{
		"tail of a list of objects that look like events",
		`[{"time":"t","type":"function","record":12.5,"id":1},{"id":2,"type":"platform.report"},` + event(1) + `,{"id":3}]}},` +
			event(3) + `,` + event(4) + `]`,
		[]string{malformed, event(3), event(4)},
	},
	{
		"tail, and then an element that is no event",
		`[{"time":"t","type":"function","record":12.5}},` + event(3) + `,{"id":1},` + event(4) + `]`,
		[]string{malformed, event(3), malformed, event(4)},
	},
	{
		"middle piece of a list of objects that look like events",
		`[{"time":"t","type":"function","record":f","id":1},` + event(1) + `,` + event(2) + `,` + event(3)[:60] + `}]`,
		[]string{malformed},
	},
	{
		"tail that breaks off in a list of objects that look like events",
		`[{"time":"t","type":"function","record":12.5}]},` + event(1) + `,` + event(2)[:60],
		[]string{malformed},
	},
	{"invalid literal in the middle", `[` + event(1) + `,{"time":tru},` + event(3) + `]`, []string{event(1), malformed, event(3)}},
	{
		"not a number", `[` + event(1) + `,{"time":"t","type":"function","record":{"a":[NaN,"]}"],"b":-Infinity}},` + event(3) + `]`,
		[]string{event(1), malformed, event(3)},
	},
	{
		"control characters", "[" + event(1) + `,{"time":"t","type":"function","record":"a` + "\x1b" + `\"},"},` + event(3) + `]`,
		[]string{event(1), malformed, event(3)},
	},
	{
		"not JSON at the end", `[` + event(1) + `,{"time":"t","type":"function","record":nul}]`,
		[]string{event(1), malformed},
	},
	{"leading comma", `[,` + event(1) + `]`, []string{malformed, event(1)}},
	{"too many brackets", `[` + event(1) + `}],` + event(2) + `]`, []string{malformed, event(2)}},
	{"text after the closing bracket", `[` + event(1) + `]]`, []string{malformed}},
	{"no array", event(1) + `,` + event(2) + `]`, []string{malformed}},
	{"not JSON", `hello`, []string{malformed}},
	{"only brackets", strings.Repeat("[", 100_000), []string{malformed}},
	{"empty", ``, nil},
	{"blank", " \n", nil},
	{"empty array", " [ ] ", nil},
	{
		"line breaks in a row", "[{\n\n\r\r\"time\":\"t\",\n\n\n\"type\":\"x\",\"record\":1\n}]",
		[]string{`{    "time":"t",   "type":"x","record":1 }`},
	},
	{
		"line breaks between tokens", "[\n" + strings.ReplaceAll(event(1), ",", ",\n") + "\r\n]\n",
		[]string{strings.ReplaceAll(event(1), ",", ", ")},
	},
}

func TestMalformedBodies(t *testing.T) {
	for _, test := range malformedBodies {
		if got := split(test.body); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// The time to split a body that only has beginnings of events must not grow with the square of its length.
func TestHostileBodies(t *testing.T) {
	for _, part := range []string{`{"time":`, `{"time":"t","type":"x","record":`, `{`, `{},`, `"`, `{"record":0},`, `\"`} {
		if got := split("[" + strings.Repeat(part, 1<<18/len(part))); len(got) == 0 || got[0] != malformed {
			t.Errorf("%s: %d elements", part, len(got))
		}
	}
}

// For every prefix of an event, the scanner returns the index of the first byte that is missing or invalid.
func TestEveryPrefixOfAnEvent(t *testing.T) {
	const whole = ` { "time" : "t" , "type":"x\\\"\/\b\f\n\r\t\u09aF\u19Afé","record" :` +
		`{"a":[ true , false,null,-0,0.5,-12.50e+7,1E-2,3e4,{},[],"",[ ],{ } ],"requestId":"r" }, "more":{"b":0} } `
	first := strings.Index(whole, "{")
	var event Event
	if end, ok := scanner(whole).event(&event, first); !ok || end != len(whole)-1 || string(event.RequestID) != "r" {
		t.Fatalf("%+v %d %t", event, end, ok)
	}
	for cut := first; cut < len(whole)-2; cut++ {
		for _, after := range []string{"", "\x01"} {
			if end, ok := scanner(whole[:cut]+after).event(&event, first); ok || end != cut {
				t.Errorf("%q is valid up to %d, want %d, %t", whole[:cut]+after, end, cut, ok)
			}
		}
	}
	for _, invalid := range []string{
		"01", "-", "-a", "1.", "1.e1", ".5", "1e", "1e+", "+1", "tru", "trux", "nulL", "fals", "NaN", "'a'",
		`"\x"`, `"\u00g0"`, `"\u00G0"`, `"\u00/0"`, `"\u00:0"`, `"\u00@0"`, "\"\\u00`0\"", "\"\n\"", "\"\x1f\"",
		"[1 2]", "[1,]", "[,1]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `{"a" 1}`, "", "}", "]",
	} {
		if _, ok := scanner(`{"time":"t","type":"x","record":`+invalid+"}").event(&event, 0); ok {
			t.Errorf("%s was accepted as a value", invalid)
		}
	}
	for depth, want := range map[int]bool{maxDepth - 1: true, maxDepth: false} {
		for _, brackets := range []string{"[]", `{}`} {
			open := strings.Repeat(strings.Replace(brackets[:1], "{", `{"a":`, 1), depth-1) + brackets[:1]
			deep := `{"time":"t","type":"x","record":` + open + strings.Repeat(brackets[1:], depth) + "}"
			if _, ok := scanner(deep).event(&event, 0); ok != want {
				t.Errorf("%d brackets %s: %t", depth, brackets, ok)
			}
		}
	}
}

func BenchmarkSplit(b *testing.B) {
	for name, record := range map[string]string{
		"text": `"` + strings.Repeat("x", 300) + `"`,
		"JSON": `{"level":"INFO","requestId":"6d68ca91-49c9-448d-89b8-7ca3e6dc66aa","message":"` + strings.Repeat("x", 150) + `"}`,
	} {
		b.Run(name, func(b *testing.B) {
			body := []byte("[" + event(0))
			count := 1
			for ; len(body) < 1<<20; count++ {
				body = append(append(body, `,{"time":"2026-11-23T18:00:00.001Z","type":"function","record":`+record...), '}')
			}
			body = append(body, ']')
			var p Splitter
			var events []Event
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				events = p.Split(events[:0], body, true)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/event")
		})
	}
}

// plain stops at every byte that RFC 8259 does not allow in a string, at every position in a word, whatever the next byte is.
func TestPlain(t *testing.T) {
	for c := range 256 {
		for at := range 24 {
			text := []byte(strings.Repeat("x", 24))
			text[at] = byte(c)
			for _, after := range []byte{'x', byte(c), '"', 0xff} {
				if at < 23 {
					text[at+1] = after
				}
				want := slices.IndexFunc(text, func(c byte) bool { return c < ' ' || c == '"' || c == '\\' })
				if want < 0 {
					want = len(text)
				}
				if got := scanner(text).plain(0); got != want {
					t.Fatalf("%q is plain up to %d, want %d", text, got, want)
				}
			}
		}
	}
}
