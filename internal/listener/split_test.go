package listener

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// oracle is encoding/json's opinion of a body that is a JSON array.
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
		elements, isArray := oracle(body)
		events, malformed := Split(nil, bytes.Clone(body))
		for _, e := range events {
			if !json.Valid(e.Raw) || e.Raw[0] != '{' || bytes.ContainsAny(e.Raw, "\n\r") {
				t.Fatalf("an event is not one line with a JSON object: %q", e.Raw)
			}
		}
		if !isArray {
			if malformed == 0 {
				t.Fatalf("nothing is said of a body that is not a JSON array: %q", body)
			}
			return
		}
		objects := 0
		for _, element := range elements {
			if element[0] != '{' {
				continue
			}
			if objects >= len(events) {
				t.Fatalf("lost %s", element)
			}
			compareEvent(t, events[objects], element)
			objects++
		}
		if objects != len(events) || malformed != len(elements)-objects {
			t.Fatalf("got %d events and %d malformed of %q", len(events), malformed, body)
		}
	})
}

// compareEvent compares an event with what encoding/json reads of the same element.
func compareEvent(t *testing.T, e Event, element json.RawMessage) {
	t.Helper()
	oneLine := strings.NewReplacer("\n", " ", "\r", " ").Replace(string(element))
	if string(e.Raw) != oneLine {
		t.Fatalf("raw %q, want %q", e.Raw, oneLine)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(element, &members); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(element, []byte(`\u`)) || !bytes.Equal(element, bytes.ToValidUTF8(element, nil)) {
		return // a key that is written with escapes is another key to the splitter
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

func event(n int) string {
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"line %d"}`, n, n)
}

// oddBodies is the table of odd bodies: what is whole in them arrives, the rest is counted.
var oddBodies = []struct {
	name, body string
	want       []string
	malformed  int
}{
	{
		"unknown type", `[` + event(1) + `,{"time":"t","type":"platform.somethingNew","record":{}},` + event(2) + `]`,
		[]string{event(1), `{"time":"t","type":"platform.somethingNew","record":{}}`, event(2)},
		0,
	},
	{
		"null record", `[` + event(1) + `,{"time":"t","type":"function","record":null}]`,
		[]string{event(1), `{"time":"t","type":"function","record":null}`},
		0,
	},
	{"missing members", `[{},{"type":"function"},` + event(2) + `]`, []string{`{}`, `{"type":"function"}`, event(2)}, 0},
	{
		"odd members", `[{"time":17,"type":["x"],"record":{"requestId":{}},"more":true},` + event(2) + `]`,
		[]string{`{"time":17,"type":["x"],"record":{"requestId":{}},"more":true}`, event(2)},
		0,
	},
	{"elements that are no events", `[null,` + event(1) + `,7,"x",[],` + event(2) + `]`, []string{event(1), event(2)}, 4},
	{"cut short", `[` + event(1) + `,` + event(2)[:30], []string{event(1)}, 1},
	{"cut between two", `[` + event(1) + `,`, []string{event(1)}, 1},
	{"first half of an event that was cut in two", `[` + event(1) + `,` + event(2)[:60] + `}]`, []string{event(1)}, 1},
	{
		"second half", `[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":e 2","k":"v"}},` + event(3) + `,` + event(4) + `]`,
		[]string{event(3), event(4)},
		1,
	},
	{
		"second half of a time series",
		`[{"time":"2026-11-23T18:00:00.001Z","type":"function","record":` + strings.Repeat(`{"time":1700000000,"value":1},`, 500) +
			`{"time":1,"value":2}]}},` + event(3) + `,` + event(4) + `]`,
		[]string{event(3), event(4)},
		1,
	},
	{"broken in the middle", `[` + event(1) + `,{"time":tru},` + event(3) + `]`, []string{event(1), event(3)}, 1},
	{"no array", event(1) + `,` + event(2) + `]`, []string{event(2)}, 1},
	{"not JSON", `hello`, nil, 1},
	{"empty", ``, nil, 1},
	{"line breaks between tokens", "[\n" + strings.ReplaceAll(event(1), ",", ",\n") + "\r\n]\n", []string{strings.ReplaceAll(event(1), ",", ", ")}, 0},
}

func TestSplitOddBodies(t *testing.T) {
	for _, test := range oddBodies {
		t.Run(test.name, func(t *testing.T) {
			events, malformed := Split(nil, []byte(test.body))
			var got []string
			for _, e := range events {
				got = append(got, string(e.Raw))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") || malformed != test.malformed {
				t.Errorf("got %d malformed and %q, want %d and %q", malformed, got, test.malformed, test.want)
			}
		})
	}
}

// A body of nothing but beginnings must not cost the square of its length.
func TestSplitGivesUpOnHostileBodies(t *testing.T) {
	body := []byte("[" + strings.Repeat(eventStart, 1<<20/len(eventStart)))
	if events, malformed := Split(nil, body); len(events) != 0 || malformed == 0 {
		t.Errorf("got %d events, %d malformed", len(events), malformed)
	}
	budget := maxScans * len(body)
	if at := scanner(body).resync(0, &budget); at >= 0 || budget > 0 {
		t.Errorf("found an event at %d, and may read %d bytes more", at, budget)
	}
}

func BenchmarkSplit(b *testing.B) {
	body := []byte("[" + event(0))
	for n := 1; len(body) < 1<<20; n++ {
		body = append(append(body, ','), `{"time":"2026-11-23T18:00:00.001Z","type":"function","record":{"level":"INFO","requestId":"6d68ca91-49c9-448d-89b8-7ca3e6dc66aa","message":"`+strings.Repeat("x", 150)+`"}}`...)
	}
	body = append(body, ']')
	var events []Event
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		events, _ = Split(events[:0], body)
	}
}
