package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kinesis-telemetry-extension/record"
)

var source = record.NewSource(record.SourceFields{
	Function: "checkout", Version: "7", Account: "123456789012", Region: "eu-west-1",
	Instance: "0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f", Tags: map[string]string{"team": "shop", "é": `"<&>`},
})

// An event has exactly these bytes.
func TestGolden(t *testing.T) {
	const from = `"source":{"function":"checkout","version":"7","account":"123456789012","region":"eu-west-1",` +
		`"instance":"0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f","tags":{"team":"shop","é":"\"\u003c\u0026\u003e"}}}`
	for _, test := range []struct{ raw, requestID, want string }{
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"x\n"}`, "8476a536",
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"x\n","requestId":"8476a536","seq":42,` + from,
		},
		{
			`{"time":"t","type":"platform.start","record":{ "b" : 1.0 }}`, "",
			`{"time":"t","type":"platform.start","record":{ "b" : 1.0 },"seq":42,` + from,
		},
		{`{}`, "", `{"seq":42,` + from},
		{`{ }`, "r", `{ "requestId":"r","seq":42,` + from},
	} {
		e := record.Event{Raw: []byte(test.raw), RequestID: test.requestID, Seq: 42, Source: source}
		got := record.AppendEvent(nil, &e)
		if string(got) != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if record.EventSize(&e) != len(got) {
			t.Errorf("EventSize says %d of %d bytes: %s", record.EventSize(&e), len(got), got)
		}
	}
}

// Events are read back byte for byte and in order, as lines of one record and one by one.
func FuzzAppendUnpack(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var data []byte
		var raws []string
		for seq := range 1 + random.Uint64N(60) {
			raw := fmt.Sprintf(`{"time":"t%d","type":"function","record":%q}`, seq, strings.Repeat("ä", random.IntN(200)))
			raws = append(raws, raw)
			e := record.Event{Raw: []byte(raw), Seq: seq, Source: source}
			from := len(data)
			data = record.AppendEvent(data, &e)
			if len(data)-from != record.EventSize(&e) {
				t.Fatalf("EventSize says %d of %d bytes", record.EventSize(&e), len(data)-from)
			}
			for line, err := range record.Unpack(data[from:]) {
				if err != nil || line.Seq != seq {
					t.Fatalf("alone: %+v, error %v", line, err)
				}
			}
			data = append(data, '\n')
		}
		next := 0
		for line, err := range record.Unpack(data) {
			if err != nil || line.Seq != uint64(next) || line.Source.Instance != source.Instance() ||
				!strings.HasSuffix(raws[next], `"record":`+string(line.Record)+`}`) {
				t.Fatalf("event %d: line %+v, error %v", next, line, err)
			}
			next++
		}
		if next != len(raws) {
			t.Fatalf("%d of %d events", next, len(raws))
		}
	})
}

// Each event of any lines is JSON, and a line that cannot be read does not hide the event after it.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("{\"seq\":1}\n{\"seq\":2}"))
	f.Add([]byte("{}\nnonsense\n\n{\"type\":1}"))
	f.Add([]byte("{}{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || data[0] != '{' || bytes.HasPrefix(data, []byte(`{"messageType"`)) {
			t.Skip()
		}
		event := stamped(`{"time":"t","type":"function","record":"x"}`, 7)
		found, results := false, 0
		for line, err := range record.Unpack(slices.Concat(data, []byte("\n"), event)) {
			if err == nil && !json.Valid(line.Raw) {
				t.Fatalf("%q was accepted as an event", line.Raw)
			}
			results++
			found = err == nil && line.Seq == 7
		}
		if !found && results < 1000 {
			t.Fatalf("%q hides the event after it", data)
		}
	})
}

func line(n int) []byte {
	return fmt.Appendf(nil, `{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"%0*d"}`, n, 7)
}

// AppendEvent does not allocate if the buffer is large enough.
func TestAppendEventDoesNotAllocate(t *testing.T) {
	e := record.Event{Raw: line(300), RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Source: source}
	buffer := record.AppendEvent(nil, &e)
	if allocs := testing.AllocsPerRun(100, func() { buffer = record.AppendEvent(buffer[:0], &e) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// An encoded source is read back unchanged. A source without an instance is an error.
func TestParseSource(t *testing.T) {
	read, err := record.ParseSource(source.JSON())
	if err != nil || read.Instance() != source.Instance() || !bytes.Equal(read.JSON(), source.JSON()) {
		t.Errorf("%+v, %v", read, err)
	}
	for _, text := range []string{"", "[]", "{}", `{"instance":1}`} {
		if read, err := record.ParseSource([]byte(text)); err == nil {
			t.Errorf("%q is accepted as %s", text, read.JSON())
		}
	}
}

// An error names the line that cannot be read.
func TestUnpackNamesTheLine(t *testing.T) {
	var got []string
	const event = `{"seq":1,"source":{"instance":"i"}}` + "\n"
	for _, err := range record.Unpack([]byte(event + "nonsense\n" + event + "[]")) {
		if err != nil {
			text, _, _ := strings.Cut(err.Error(), " of")
			got = append(got, text)
		}
	}
	if strings.Join(got, ", ") != "line 2, line 4" {
		t.Errorf("%q", got)
	}
}
