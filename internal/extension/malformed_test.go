package extension

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kinesis-telemetry-extension/internal/flush"
)

// An element that is not an event gets a seq, and the stream declares it as dropped, unless the user did not select its type. It
// does not start or end an invocation.
func TestMalformedElementsAreDeclared(t *testing.T) {
	for events, want := range map[string]string{
		"platform":          "[2platform.start 3kinesis-telemetry.dropped] malformed 2 0 1",
		"platform,function": "[0function 4platform.start 5kinesis-telemetry.dropped] malformed 3 1 3",
	} {
		var s recorder
		x := newExtension(t, s.put, "KINESIS_TELEMETRY_EVENTS="+events)
		post(x, `[{"time":"t","type":"function","record":1},{"time":"t","type":"function","record":NaN},`+
			`{"time":"t","type":"platform.runtimeDone","record":{"requestId":"a"},},{"id":1},`+eventNow("platform.start", "a")+`]`)
		if x.invocations.awaitedReport != "" || x.invocations.current.id != "a" {
			t.Errorf("%s: invocation %q is running, the report of %q is awaited", events, x.invocations.current.id, x.invocations.awaitedReport)
		}
		x.dispatcher.Ship(t.Context(), flush.AtShutdown)
		x.dispatcher.Close(false)
		var got []string
		for _, line := range s.lines {
			got = append(got, fmt.Sprint(line.Seq, line.Type))
		}
		var dropped struct {
			Reason                   string
			Count, FirstSeq, LastSeq int
		}
		if err := json.Unmarshal(s.lines[len(s.lines)-1].Record, &dropped); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %s %d %d %d", got, dropped.Reason, dropped.Count, dropped.FirstSeq, dropped.LastSeq); got != want {
			t.Errorf("%s: %s, want %s", events, got, want)
		}
	}
}

// An event above the record limit is delivered with the beginning of its record and the record's size.
func TestTruncatedEventKeepsItsBeginning(t *testing.T) {
	var s recorder
	x := newExtension(t, s.put, "KINESIS_TELEMETRY_MAX_RECORD_BYTES=2048")
	record := `{"requestId":"a","text":"` + strings.Repeat("x", 5000) + `"}`
	post(x, "["+eventNow("platform.start", "a")+`,{"time":"t","type":"function","record":`+record+`},`+eventNow("function", "")+"]")
	x.dispatcher.Ship(t.Context(), flush.AtShutdown)
	x.dispatcher.Close(false)
	if types := s.types(); !slices.Equal(types, []string{"platform.start", "function", "function"}) {
		t.Fatalf("%q", types)
	}
	long, text := s.lines[1], ""
	if err := json.Unmarshal(long.Record, &text); err != nil || !strings.HasPrefix(record, text) || len(text) < 1500 {
		t.Errorf("%s, %v", long.Record, err)
	}
	if long.Truncated != len(record) || long.RequestID != "a" || s.lines[2].Truncated != 0 {
		t.Errorf("truncated from %d, request %q; the next: truncated from %d", long.Truncated, long.RequestID, s.lines[2].Truncated)
	}
}
