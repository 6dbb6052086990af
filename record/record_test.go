package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"kinesis-telemetry-extension/record"
)

var source = record.NewSource(record.SourceFields{
	Function: "checkout", Version: "7", Account: "123456789012", Region: "eu-west-1",
	Instance: "0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f", Tags: map[string]string{"team": "shop", "é": `"<&>`},
})

func TestGolden(t *testing.T) {
	const from = `"source":{"function":"checkout","version":"7","account":"123456789012","region":"eu-west-1",` +
		`"instance":"0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f","tags":{"team":"shop","é":"\"\u003c\u0026\u003e"}}}`
	for _, test := range []struct{ raw, requestID, want string }{
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"x\n"}`, "8476a536",
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"x\n","requestId":"8476a536","seq":42,` + from,
		},
		{`{"time":"t","type":"platform.start","record":{ "b" : 1.0 }}`, "", `{"time":"t","type":"platform.start","record":{ "b" : 1.0 },"seq":42,` + from},
		{`{}`, "", `{"seq":42,` + from},
		{`{ }`, "r", `{ "requestId":"r","seq":42,` + from},
	} {
		e := record.Event{Raw: []byte(test.raw), RequestID: test.requestID, Seq: 42, Source: source}
		got := record.AppendEvent(nil, &e)
		if string(got) != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if record.Size(&e) != len(got) {
			t.Errorf("Size says %d of %d bytes: %s", record.Size(&e), len(got), got)
		}
	}
}

// What goes in comes out: byte for byte, in order, within the limits, in both formats.
func FuzzPackUnpack(f *testing.F) {
	f.Add(uint64(1), uint16(300), uint16(2000), uint8(9), true)
	f.Add(uint64(2), uint16(1), uint16(1), uint8(1), false)
	f.Fuzz(func(t *testing.T, seed uint64, recordBytes, requestBytes uint16, records uint8, lines bool) {
		random := rand.New(rand.NewPCG(seed, 0))
		limits := record.Limits{RecordBytes: int(recordBytes), RequestBytes: int(requestBytes), Records: 1 + int(records)}
		format := record.JSON
		if lines {
			format = record.NDJSON
		}
		var events []record.Event
		for seq := range 1 + random.Uint64N(60) {
			raw := fmt.Sprintf(`{"time":"t%d","type":"function","record":%q}`, seq, strings.Repeat("ä", random.IntN(200)))
			events = append(events, record.Event{
				Raw: []byte(raw), Seq: seq, Source: source, Key: strings.Repeat("k", 1+random.IntN(3)),
			})
		}
		packer := record.NewPacker(format, limits)
		for next := 0; next < len(events); {
			packer.Reset()
			n := 0
			for next+n < len(events) && packer.Add(&events[next+n]) {
				n++
			}
			if n == 0 {
				t.Fatal("the first event after a Reset does not fit")
			}
			checkRequest(t, packer, events[next:next+n], limits, format)
			next += n
		}
	})
}

func checkRequest(t *testing.T, packer *record.Packer, events []record.Event, limits record.Limits, format record.Format) {
	t.Helper()
	total, next := 0, 0
	for r, packed := range packer.Records() {
		size := len(packed.Key) + len(packed.Data)
		total += size
		if packed.Events > 1 && size > limits.RecordBytes || format == record.JSON && packed.Events != 1 {
			t.Fatalf("a record of %d events and %d bytes", packed.Events, size)
		}
		count := 0
		for line, err := range record.Unpack(packed.Data) {
			e := events[next]
			if err != nil || line.Seq != e.Seq || e.Key != packed.Key || packer.RecordOf(next) != r {
				t.Fatalf("event %d: line %+v, error %v", next, line, err)
			}
			if !bytes.Contains(e.Raw, append([]byte(`"record":`), line.Record...)) || line.Source.Instance != source.Instance() {
				t.Fatalf("event %d came back as %+v", next, line)
			}
			next++
			count++
		}
		if count != packed.Events {
			t.Fatalf("a record of %d events holds %d", packed.Events, count)
		}
	}
	if next != len(events) || len(events) > 1 && (total > limits.RequestBytes || len(packer.Records()) > limits.Records) {
		t.Fatalf("%d of %d events in %d records, %d bytes", next, len(events), len(packer.Records()), total)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("{\"seq\":1}\n{\"seq\":2}"))
	f.Add([]byte("{}\nnonsense\n\n{\"type\":1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := 0
		for _, err := range record.Unpack(data) {
			raw := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))[lines]
			if err == nil && !json.Valid(raw) {
				t.Fatalf("%q was taken for an event", raw)
			}
			lines++
		}
	})
}

func line(n int) []byte {
	return fmt.Appendf(nil, `{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"%0*d"}`, n, 7)
}

// The partition key counts, once a record: in the size that a record is filled up to, in the record limit, and in the request.
func TestKeysCount(t *testing.T) {
	e := record.Event{Raw: line(300), Key: source.Instance(), Source: source}
	for _, format := range []record.Format{record.NDJSON, record.JSON} {
		size := record.Size(&e)
		if format == record.NDJSON {
			size++
		}
		fit := func(limits record.Limits) (events int, records []record.Packed) {
			packer := record.NewPacker(format, limits)
			if got := packer.RecordSize(&e); got != size+len(e.Key) {
				t.Errorf("%s: a record with one event has %d bytes, not %d", format, got, size+len(e.Key))
			}
			for events < 10 && packer.Add(&e) {
				events++
			}
			return events, packer.Records()
		}
		for _, short := range []int{0, 1} {
			_, records := fit(record.Limits{RecordBytes: len(e.Key) + 2*size - short, RequestBytes: 1 << 20, Records: 100})
			if want := 2 - short; format == record.NDJSON && records[0].Events != want {
				t.Errorf("a record %d bytes short of two events and a key holds %d events", short, records[0].Events)
			}
			events, _ := fit(record.Limits{RecordBytes: 1, RequestBytes: 2*(len(e.Key)+size) - short, Records: 100})
			if want := 2 - short; events != want {
				t.Errorf("%s: a request %d bytes short of two records holds %d", format, short, events)
			}
		}
	}
}

// Stamping and packing allocate nothing once the buffers have grown.
func TestPackAllocatesNothing(t *testing.T) {
	packer := record.NewPacker(record.NDJSON, record.Limits{RecordBytes: 100_000, RequestBytes: 5 << 20, Records: 500})
	e := record.Event{Raw: line(300), RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Key: source.Instance(), Source: source}
	pack := func() {
		packer.Reset()
		for e.Seq = range 100 {
			packer.Add(&e)
		}
		packer.Records()
	}
	pack()
	if allocs := testing.AllocsPerRun(100, pack); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkPack(b *testing.B) {
	packer := record.NewPacker(record.NDJSON, record.Limits{RecordBytes: 100_000, RequestBytes: 5 << 20, Records: 500})
	e := record.Event{Raw: line(300), RequestID: "8476a536-e9f4-11e8-9739-2dfe598c3fcd", Key: source.Instance(), Source: source}
	b.ReportAllocs()
	b.SetBytes(int64(record.Size(&e)))
	for b.Loop() {
		if !packer.Add(&e) {
			packer.Reset()
		}
	}
}
