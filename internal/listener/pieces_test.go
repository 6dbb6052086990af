package listener

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// malformedElement stands for an element without Raw in what split returns.
const malformedElement = "malformed"

// split cuts bodies that come one after the other, and ends.
func split(bodies ...string) (elements []string) {
	p := Splitter{Limit: 1 << 20}
	var events []Event
	for _, body := range bodies {
		events = p.Split(events, []byte(body), true)
	}
	for _, e := range p.Finish(events) {
		if e.Raw == nil {
			elements = append(elements, malformedElement)
			continue
		}
		elements = append(elements, string(e.Raw))
	}
	return elements
}

// postBodies posts events as Lambda does: a body is full when it has maxBytes, and an event above that is cut in mid-value, with
// the closing brackets behind each piece but the last and the event's beginning before each but the first.
func postBodies(maxBytes int, events []string) (bodies []string) {
	for len(events) > 0 {
		body := ""
		for len(events) > 0 && len(body) < maxBytes {
			event := events[0]
			if body != "" {
				body += ","
			}
			if len(event) <= maxBytes {
				body += event
				events = events[1:]
				continue
			}
			body += event[:maxBytes-1] + "}"
			envelope := event[:strings.Index(event, recordKey)+len(recordKey)]
			events = append([]string{envelope + event[maxBytes-1:]}, events[1:]...)
			break
		}
		bodies = append(bodies, "["+body+"]")
	}
	return bodies
}

// randomLogs makes what an randomLogs may log: values full of objects that look like events, of brackets, quotes, escapes
// and characters of several bytes.
type randomLogs struct{ *rand.Rand }

func (a randomLogs) pick(of ...string) string { return of[a.IntN(len(of))] }

func (a randomLogs) text(words int) string {
	text := ""
	for range words {
		text += a.pick(
			`{"time":"2026-11-23T18:00:00.000Z","type":"platform.report","record":{"requestId":"forged"}}`,
			`{"time":"t","type":"function","record":"forged"},`, `,{"time":`,
			`},{`, `}]`, `]}`, `]}},`, `"}`, `"}]`, `,`, `"`, `\`, `\u00e9`, `{`, `[`, "é", "𝄞", "\n", "\x00", "plain words ", `null`, `12`,
		)
	}
	return text
}

func (a randomLogs) string(words int) string {
	var quoted strings.Builder
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(a.IntN(2) == 0)
	if err := encoder.Encode(a.text(words)); err != nil {
		panic(err)
	}
	return strings.TrimSpace(quoted.String())
}

func (a randomLogs) event(depth int) string {
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":%s,"record":%s}`,
		a.IntN(3), a.pick(`"platform.report"`, `"platform.runtimeDone"`, `"function"`), a.value(depth-1))
}

func (a randomLogs) value(depth int) string {
	if depth <= 0 {
		return a.pick("12.5", "-1e9", "true", "null", `"forged"`, `""`, `{}`, `[]`, a.string(2))
	}
	var parts []string
	for range a.IntN(4) {
		parts = append(parts, a.pick(a.event(depth), a.value(depth-1), a.string(3)))
	}
	if a.IntN(3) == 0 {
		return "[" + strings.Join(parts, ",") + "]"
	}
	for i := range parts {
		parts[i] = a.pick(`"id":`, `"time":`, `"record":`, a.string(1)+":") + parts[i]
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// line is an event whose record is a line of the application, of a few hundred bytes at least where it is to be cut.
func (a randomLogs) line(n, least int) string {
	record := a.value(4)
	if a.IntN(3) == 0 {
		record = a.string(20)
	}
	for len(record) < least {
		record = `{"a":` + record + `,"more":[` + a.event(3) + `,` + a.event(3) + `,` + a.string(5) + `]}`
	}
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":%s}`, n, record)
}

const runtimeDone = `{"time":"2026-11-23T18:00:00.999Z","type":"platform.runtimeDone","record":{"requestId":"r","status":"success"}}`

// lines are events of which one or two in a row are to be cut by the maxBytes that it returns, with neighbours.
func (a randomLogs) lines() (events []string, maxBytes int) {
	maxBytes = 120 + a.IntN(400)
	for n := range a.IntN(3) {
		events = append(events, fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"before"}`, n))
	}
	for n := range 1 + a.IntN(2) {
		events = append(events, a.line(100+n*a.IntN(2), maxBytes+a.IntN(2*maxBytes)))
	}
	for n := range a.IntN(3) {
		events = append(events, fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"behind"}`, 200+n))
	}
	return append(events, runtimeDone), maxBytes
}

// checkCutEvents posts the events of a seed in pieces: each arrives as it was logged, in order, and nothing else does.
func checkCutEvents(t *testing.T, seed uint64) {
	t.Helper()
	a := randomLogs{rand.New(rand.NewPCG(seed, 9))}
	events, maxBytes := a.lines()
	bodies := postBodies(maxBytes, events)
	if got := split(bodies...); !slices.Equal(got, events) {
		t.Fatalf("seed %d, cut at %d bytes: got\n%s\nwant\n%s\nposted\n%s", seed, maxBytes,
			strings.Join(got, "\n"), strings.Join(events, "\n"), strings.Join(bodies, "\n"))
	}
}

func TestCutEvents(t *testing.T) {
	for seed := range uint64(300) {
		checkCutEvents(t, seed)
	}
}

func FuzzCutEvents(f *testing.F) {
	f.Add(uint64(0))
	f.Fuzz(checkCutEvents)
}

// A POST is lost: nothing of the application becomes an event where an event was cut in two, and what is whole arrives.
func TestLostPieces(t *testing.T) {
	for seed := range uint64(100) {
		a := randomLogs{rand.New(rand.NewPCG(seed, 10))}
		const maxBytes = 400
		first, second := a.line(100, maxBytes-50), a.line(101, maxBytes-50)
		for len(first) <= maxBytes || len(first) > 2*maxBytes-100 || first[maxBytes-2] == '\\' {
			first = a.line(100, maxBytes-50) // in two pieces, the second of which does not begin with a quote that is escaped
		}
		bodies := postBodies(maxBytes, []string{event(1), first, event(2), runtimeDone})
		for _, test := range []struct{ lost, want []string }{
			{bodies[1:], []string{malformedElement, event(2), runtimeDone}},
			{append(bodies[:1:1], "["+event(3)+","+second+"]"), []string{event(1), malformedElement, event(3), second}},
		} {
			if got := slices.Compact(split(test.lost...)); !slices.Equal(got, test.want) {
				t.Fatalf("seed %d: got\n%s\nof\n%s", seed, strings.Join(got, "\n"), strings.Join(test.lost, "\n"))
			}
		}
	}
}

// Where pieces do not belong together, or are not JSON, it costs no more than them.
func TestPiecesThatDoNotFit(t *testing.T) {
	const envelope = `{"time":"t","type":"function","record":`
	same := envelope + `"same time, same type"}`
	for _, test := range []struct {
		name         string
		bodies, want []string // ENVELOPE, SAME, ONE and TWO are replaced
	}{
		{
			"another event with the same beginning",
			[]string{`[ENVELOPE{"a":"b}]`, `[SAME,ONE]`},
			[]string{malformedElement, same, event(1)},
		},
		{
			"a value follows where one is missing",
			[]string{`[ENVELOPE{"a":}]`, `[ENVELOPE{"b":1}},ONE]`},
			[]string{malformedElement, envelope + `{"b":1}}`, event(1)},
		},
		{
			"not JSON behind the cut",
			[]string{`[ENVELOPE{"a":[1,}]`, `[ENVELOPENaN],"b":"}]"}},ONE]`},
			[]string{malformedElement, event(1)},
		},
		{
			"not JSON behind the cut, where the rest looks like an event",
			[]string{`[ENVELOPE[{"a":}]`, `[ENVELOPE1},NaN,SAME]},ONE]`},
			[]string{malformedElement, malformedElement, event(1)},
		},
		{
			"not JSON before the cut",
			[]string{`[ENVELOPE{"a":NaN,"b":[SAME,"c}]`, `[ENVELOPE"]}},ONE]`},
			[]string{malformedElement, malformedElement, event(1)},
		},
		{
			"not JSON in the middle",
			[]string{`[ENVELOPE{"a":"b}]`, `[ENVELOPEc","d":NaN,"e":"f}]`, `[ENVELOPE"}},ONE]`},
			[]string{malformedElement, malformedElement, malformedElement, event(1)},
		},
		{
			"another time",
			[]string{`[ENVELOPE"a}]`, `[{"time":"u","type":"function","record":b"},ONE]`},
			[]string{malformedElement, malformedElement, event(1)},
		},
		{"an empty array between", []string{`[ENVELOPE"a}]`, `[]`, `[ONE]`}, []string{malformedElement, event(1)}},
		{"no array between", []string{`[ENVELOPE"a}]`, `x`, `[ONE]`}, []string{malformedElement, malformedElement, event(1)}},
		{
			"no array between, and the beginning in it",
			[]string{`[ENVELOPE"a}]`, `xENVELOPEb"}]`, `[ONE]`},
			[]string{malformedElement, malformedElement, event(1)},
		},
		{"nothing between", []string{`[ENVELOPE"a}]`, ` `, `[ENVELOPEb"}]`}, []string{envelope + `"ab"}`}},
		{"brackets too many", []string{`[ENVELOPE[1}]`, `[ENVELOPE]}},ONE]`}, []string{malformedElement, malformedElement, event(1)}},
		{
			"white space around",
			[]string{" [\nONE , ENVELOPE {\"a\"}]\n", "\t[ ENVELOPE : \"b\" } } , TWO ] "},
			[]string{event(1), envelope + ` {"a" : "b" } }`, event(2)},
		},
		{"line breaks within", []string{"[ENVELOPE{\n}]", "[ENVELOPE\"a\":\r\n1}}]"}, []string{envelope + `{ "a":  1}}`}},
		{
			"the next is cut, too",
			[]string{`[ENVELOPE"a}]`, `[ENVELOPEb"},ENVELOPE"c}]`, `[ENVELOPEd"}]`},
			[]string{envelope + `"ab"}`, envelope + `"cd"}`},
		},
		{"the end of the value is cut off", []string{`[ENVELOPE[[1]}]`, `[ENVELOPE]}]`}, []string{envelope + `[[1]]}`}},
		{
			"the cut is at the end of the value",
			[]string{`[ENVELOPE[{"a":1}]}]`, `[ENVELOPE},ONE]`},
			[]string{envelope + `[{"a":1}]}`, event(1)},
		},
		{
			"the cut is at the end of the value, and nothing is behind it",
			[]string{`[TWO,ENVELOPE"a"}]`, `[ENVELOPE}]`, `[ONE]`},
			[]string{event(2), envelope + `"a"}`, event(1)},
		},
		{"no value, and another event before it", []string{`[ONE]`, `[ENVELOPE}]`}, []string{event(1), malformedElement}},
		{"no value, and nothing before it", []string{`[ENVELOPE}]`}, []string{malformedElement}},
		{
			"a beginning that is too long for one",
			[]string{`[{"time":"` + strings.Repeat("t", maxEnvelope) + `","type":"function","record":"a}]`, `[ONE]`},
			[]string{malformedElement, event(1)},
		},
	} {
		replace := strings.NewReplacer("ENVELOPE", envelope, "SAME", same, "ONE", event(1), "TWO", event(2))
		var bodies []string
		for _, body := range test.bodies {
			bodies = append(bodies, replace.Replace(body))
		}
		if got := split(bodies...); !slices.Equal(got, test.want) {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// Of an event beyond the limit the beginning is kept, and its size.
func TestPiecesBeyondTheLimit(t *testing.T) {
	const envelope = `{"time":"2026-11-23T18:00:00.000Z","type":"function","record":`
	record := `{"requestId":"r","tenantId":"é` + "\xff" + `","text":"` + strings.Repeat("é", 1000) + `"}`
	whole := envelope + record + "}"
	for limit := 990; limit < 1010; limit++ { // within and between characters
		p := Splitter{Limit: limit}
		var events []Event
		for _, body := range postBodies(500, []string{event(1), whole, event(2)}) {
			events = p.Split(events, []byte(body), true)
		}
		if len(events) != 3 || string(events[0].Raw) != event(1) || string(events[2].Raw) != event(2) {
			t.Fatalf("limit %d: %d events", limit, len(events))
		}
		e := events[1]
		kept := strings.ToValidUTF8(whole[:limit], "\uFFFD")
		if at := e.Record; string(e.Raw) != kept+"}" || string(e.Raw[:at.Start]) != envelope || at.End != len(kept) || at.Size != len(record) {
			t.Errorf("limit %d: record at %+v of %q, %d bytes", limit, at, e.Raw, len(record))
		}
		if got := fmt.Sprintf("%s %s %s %s", e.Time, e.Type, e.RequestID, e.TenantID); got != "2026-11-23T18:00:00.000Z function r é\uFFFD" {
			t.Errorf("limit %d: %s", limit, got)
		}
	}
	whole = strings.ToValidUTF8(whole, "?")
	for _, limit := range []int{len(whole), len(whole) - 2, 0} {
		p := Splitter{Limit: limit}
		var events []Event
		for _, body := range postBodies(500, []string{whole}) {
			events = p.Split(events, []byte(body), true)
		}
		if len(events) != 1 || events[0].Record.Size != len(record) || (string(events[0].Raw) == whole) != (limit == len(whole)) {
			t.Errorf("limit %d: %d events", limit, len(events))
		}
	}
}
