package listener

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// malformed marks an element without Raw in the result of split.
const malformed = "malformed"

// split splits bodies that arrive one after the other, and finishes.
func split(bodies ...string) (elements []string) {
	p := Splitter{Limit: 1 << 20}
	var events []Event
	for _, body := range bodies {
		events = p.Split(events, []byte(body), true)
	}
	for _, e := range p.Finish(events) {
		if e.Raw == nil {
			elements = append(elements, malformed)
			continue
		}
		elements = append(elements, string(e.Raw))
	}
	return elements
}

// checkCutEvents posts the events of a seed in pieces. Exactly these events arrive, unchanged and in order.
func checkCutEvents(t *testing.T, seed uint64) {
	t.Helper()
	logs := randomLogs{rand.New(rand.NewPCG(seed, 9))}
	events, maxBytes := logs.lines()
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

// If a POST with a piece of an event is lost, the rest of that event becomes malformed elements. No part of its log line becomes an
// event, and all complete events arrive.
func TestLostPieces(t *testing.T) {
	for seed := range uint64(100) {
		logs := randomLogs{rand.New(rand.NewPCG(seed, 10))}
		const maxBytes = 400
		first, second := logs.line(100, maxBytes-50), logs.line(101, maxBytes-50)
		for len(first) <= maxBytes || len(first) > 2*maxBytes-100 || first[maxBytes-2] == '\\' {
			first = logs.line(100, maxBytes-50) // until it has two pieces, and the second does not start with an escaped quote
		}
		bodies := postBodies(maxBytes, []string{event(1), first, event(2), runtimeDone})
		for _, test := range []struct{ lost, want []string }{
			{bodies[1:], []string{malformed, event(2), runtimeDone}},
			{append(bodies[:1:1], "["+event(3)+","+second+"]"), []string{event(1), malformed, event(3), second}},
		} {
			if got := slices.Compact(split(test.lost...)); !slices.Equal(got, test.want) {
				t.Fatalf("seed %d: got\n%s\nof\n%s", seed, strings.Join(got, "\n"), strings.Join(test.lost, "\n"))
			}
		}
	}
}

// Pieces that do not match, or are not JSON, become malformed elements. All other events arrive.
func TestPiecesThatDoNotMatch(t *testing.T) {
	const envelope = `{"time":"t","type":"function","record":`
	same := envelope + `"same time, same type"}`
	for _, test := range []struct {
		name         string
		bodies, want []string // ENVELOPE, SAME, ONE and TWO are replaced
	}{
		{
			"another event with the same envelope",
			[]string{`[ENVELOPE{"a":"b}]`, `[SAME,ONE]`},
			[]string{malformed, same, event(1)},
		},
		{
			"a value follows where one is missing",
			[]string{`[ENVELOPE{"a":}]`, `[ENVELOPE{"b":1}},ONE]`},
			[]string{malformed, envelope + `{"b":1}}`, event(1)},
		},
		{
			"not JSON after the cut",
			[]string{`[ENVELOPE{"a":[1,}]`, `[ENVELOPENaN],"b":"}]"}},ONE]`},
			[]string{malformed, event(1)},
		},
		{
			"not JSON after the cut, and the tail looks like an event",
			[]string{`[ENVELOPE[{"a":}]`, `[ENVELOPE1},NaN,SAME]},ONE]`},
			[]string{malformed, malformed, event(1)},
		},
		{
			"not JSON before the cut",
			[]string{`[ENVELOPE{"a":NaN,"b":[SAME,"c}]`, `[ENVELOPE"]}},ONE]`},
			[]string{malformed, malformed, event(1)},
		},
		{
			"not JSON in the middle",
			[]string{`[ENVELOPE{"a":"b}]`, `[ENVELOPEc","d":NaN,"e":"f}]`, `[ENVELOPE"}},ONE]`},
			[]string{malformed, malformed, malformed, event(1)},
		},
		{
			"another time",
			[]string{`[ENVELOPE"a}]`, `[{"time":"u","type":"function","record":b"},ONE]`},
			[]string{malformed, malformed, event(1)},
		},
		{"an empty array in between", []string{`[ENVELOPE"a}]`, `[]`, `[ONE]`}, []string{malformed, event(1)}},
		{"no array in between", []string{`[ENVELOPE"a}]`, `x`, `[ONE]`}, []string{malformed, malformed, event(1)}},
		{
			"no array in between, but the envelope in it",
			[]string{`[ENVELOPE"a}]`, `xENVELOPEb"}]`, `[ONE]`},
			[]string{malformed, malformed, event(1)},
		},
		{"an empty body in between", []string{`[ENVELOPE"a}]`, ` `, `[ENVELOPEb"}]`}, []string{envelope + `"ab"}`}},
		{"too many brackets", []string{`[ENVELOPE[1}]`, `[ENVELOPE]}},ONE]`}, []string{malformed, malformed, event(1)}},
		{
			"white space around",
			[]string{" [\nONE , ENVELOPE {\"a\"}]\n", "\t[ ENVELOPE : \"b\" } } , TWO ] "},
			[]string{event(1), envelope + ` {"a" : "b" } }`, event(2)},
		},
		{"line breaks within", []string{"[ENVELOPE{\n}]", "[ENVELOPE\"a\":\r\n1}}]"}, []string{envelope + `{ "a":  1}}`}},
		{
			"the next event is cut as well",
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
			"the cut is at the end of the value, and no event follows",
			[]string{`[TWO,ENVELOPE"a"}]`, `[ENVELOPE}]`, `[ONE]`},
			[]string{event(2), envelope + `"a"}`, event(1)},
		},
		{"no value, and another event before it", []string{`[ONE]`, `[ENVELOPE}]`}, []string{event(1), malformed}},
		{"no value, and nothing before it", []string{`[ENVELOPE}]`}, []string{malformed}},
		{
			"an envelope that is too long",
			[]string{`[{"time":"` + strings.Repeat("t", maxEnvelope) + `","type":"function","record":"a}]`, `[ONE]`},
			[]string{malformed, event(1)},
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

// Of an event above the limit, the Splitter keeps the beginning and the size.
func TestPiecesAboveLimit(t *testing.T) {
	const envelope = `{"time":"2026-11-23T18:00:00.000Z","type":"function","record":`
	record := `{"requestId":"r","tenantId":"é` + "\xff" + `","text":"` + strings.Repeat("é", 1000) + `"}`
	whole := envelope + record + "}"
	for limit := 990; limit < 1010; limit++ { // cuts within and between characters
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
