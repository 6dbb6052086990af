package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"kinesis-telemetry-extension/internal/audit"
)

// event returns an event as Lambda posts it. line returns that event as the extension writes it.
func event(record string) string {
	return `{"time":"2026-11-23T18:00:00.123Z","type":"function","record":` + record + `}`
}

func line(record, instance string, seq int) string {
	return event(record)[:len(event(record))-1] +
		fmt.Sprintf(`,"requestId":"8476a536","seq":%d,"source":{"function":"f","instance":%q}}`, seq, instance)
}

func own(kind, instance string, seq int) string {
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:01.000Z","type":"kinesis-telemetry.%s","record":{"n":1},"seq":%d,"source":{"instance":%q}}`,
		kind, seq, instance)
}

// outcome summarizes a Report for a table.
type outcome struct {
	emitted, delivered, lost, duplicated, altered, conflicting, unknown, malformed, own, outOfOrder int
	gaps                                                                                            string
	complete                                                                                        bool
}

func outcomeOf(r *audit.Report) outcome {
	o := outcome{
		emitted: r.Emitted, delivered: r.Delivered, lost: len(r.Lost), duplicated: len(r.Duplicated), altered: len(r.Altered),
		conflicting: len(r.Conflicting), unknown: len(r.Unknown), malformed: len(r.Malformed), outOfOrder: r.OutOfOrder, complete: r.Complete(),
	}
	for _, n := range r.Own {
		o.own += n
	}
	gaps := make([]string, 0, len(r.Gaps))
	for _, g := range r.Gaps {
		gaps = append(gaps, fmt.Sprintf("%s:%d-%d(%d)", g.Instance, g.First, g.Last, g.Count()))
	}
	o.gaps = strings.Join(gaps, " ")
	return o
}

func TestReport(t *testing.T) {
	tests := []struct {
		name    string
		emitted []string
		records []string
		want    outcome
	}{
		{
			name: "no events",
			want: outcome{complete: true},
		},
		{
			name:    "every event arrives once, in two records, with an event of the extension's own",
			emitted: []string{event(`"a"`), event(`{"level":"INFO"}`), event(`null`)},
			records: []string{
				line(`"a"`, "i", 0) + "\n" + line(`{"level":"INFO"}`, "i", 1) + "\n",
				line(`null`, "i", 2) + "\n" + own("stats", "i", 3) + "\n",
			},
			want: outcome{emitted: 3, delivered: 3, own: 1, complete: true},
		},
		{
			name:    "one event per record without a line feed (format json)",
			emitted: []string{event(`"a"`), event(`"b"`)},
			records: []string{line(`"a"`, "i", 0), line(`"b"`, "i", 1)},
			want:    outcome{emitted: 2, delivered: 2, complete: true},
		},
		{
			name:    "an event and its number are missing",
			emitted: []string{event(`"a"`), event(`"b"`), event(`"c"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + line(`"c"`, "i", 2) + "\n"},
			want:    outcome{emitted: 3, delivered: 2, lost: 1, gaps: "i:1-1(1)"},
		},
		{
			name:    "equal events are counted, not merged",
			emitted: []string{event(`"a"`), event(`"a"`), event(`"a"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + line(`"a"`, "i", 1) + "\n"},
			want:    outcome{emitted: 3, delivered: 2, lost: 1},
		},
		{
			name:    "a copy, with the same number, does not replace a lost equal event",
			emitted: []string{event(`"a"`), event(`"a"`)},
			records: []string{line(`"a"`, "i", 0) + "\n", line(`"a"`, "i", 0) + "\n"},
			want:    outcome{emitted: 2, delivered: 1, lost: 1, duplicated: 1},
		},
		{
			name:    "a copy with a new number",
			emitted: []string{event(`"a"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + line(`"a"`, "i", 1) + "\n"},
			want:    outcome{emitted: 1, delivered: 1, duplicated: 1},
		},
		{
			name:    "the same number in another instance is another event",
			emitted: []string{event(`"a"`), event(`"b"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + line(`"b"`, "j", 0) + "\n"},
			want:    outcome{emitted: 2, delivered: 2, complete: true},
		},
		{
			name:    "the same value in another spelling is altered",
			emitted: []string{event(`{"a":1,"b":1.0}`), event(`"\u00e9"`)},
			records: []string{line(`{"b":1.0,"a":1}`, "i", 0) + "\n" + line(`"é"`, "i", 1) + "\n"},
			want:    outcome{emitted: 2, lost: 2, altered: 2},
		},
		{
			name:    "two contents under one number",
			emitted: []string{event(`"a"`), event(`"b"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + line(`"b"`, "i", 0) + "\n"},
			want:    outcome{emitted: 2, delivered: 2, conflicting: 1},
		},
		{
			name:    "a line of another writer",
			emitted: []string{event(`"a"`)},
			records: []string{line(`"a"`, "i", 0) + "\n" + `{"hello":"world"}` + "\n"},
			want:    outcome{emitted: 1, delivered: 1, unknown: 1, complete: true},
		},
		{
			name:    "absent and null are different records",
			emitted: []string{`{"time":"t","type":"x"}`, `{"time":"t","type":"y","record":null}`},
			records: []string{
				`{"time":"t","type":"x","record":null,"seq":0,"source":{"instance":"i"}}`,
				`{"time":"t","type":"y","record":null,"seq":1,"source":{"instance":"i"}}`,
			},
			want: outcome{emitted: 2, delivered: 1, lost: 1, altered: 1},
		},
		{
			name:    "lines that are not events",
			emitted: []string{event(`"a"`)},
			records: []string{
				"", "\n", "null\n", "[1]\n", `{"time":` + "\n", "\xff{}\n",
				`{"type":"x","seq":-1,"source":{"instance":"i"}}`,
				`{"type":"x","seq":null,"source":{"instance":"i"}}`,
				`{"type":"x","seq":1,"source":{}}`,
				`{"type":"x","source":{"instance":"i"}}`,
				line(`"a"`, "i", 0) + "\n" + `{"type":"cut"}`,
			},
			want: outcome{emitted: 1, delivered: 1, malformed: 11},
		},
		{
			name:    "a line out of order within a partition key",
			emitted: []string{event(`"a"`), event(`"b"`), event(`"c"`)},
			records: []string{line(`"a"`, "i", 0), line(`"c"`, "i", 2), line(`"b"`, "i", 1)},
			want:    outcome{emitted: 3, delivered: 3, outOfOrder: 1, complete: true},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, emittedFirst := range []bool{true, false} {
				var a audit.Audit
				emit := func() {
					for _, raw := range test.emitted {
						a.AddEmitted([]byte(raw))
					}
				}
				if emittedFirst {
					emit()
				}
				for _, data := range test.records {
					a.AddRecord("key", []byte(data))
				}
				if !emittedFirst {
					emit()
				}
				report := a.Report()
				if got := outcomeOf(&report); got != test.want {
					t.Errorf("emitted first: %v\n got %+v\nwant %+v", emittedFirst, got, test.want)
				}
			}
		})
	}
}

// A report describes each event so that a person can find it: time, type, size and an excerpt.
func TestReportShowsEvents(t *testing.T) {
	var a audit.Audit
	long := `"` + strings.Repeat("é", 300) + `"`
	a.AddEmitted([]byte(event(long)))
	a.AddRecord("key", []byte(line(`"a"`, "i", 7)))
	report := a.Report()
	lost := report.Lost[0]
	if lost.Time != "2026-11-23T18:00:00.123Z" || lost.Type != "function" || lost.Bytes != 602 {
		t.Errorf("lost event is described as %+v", lost)
	}
	if !utf8.ValidString(lost.Excerpt) || len(lost.Excerpt) > 200 || !strings.HasPrefix(long, lost.Excerpt) || len(lost.Excerpt) < 190 {
		t.Errorf("excerpt %q of %d bytes", lost.Excerpt, len(lost.Excerpt))
	}
	altered := report.Altered[0]
	if altered.Instance != "i" || altered.Seq == nil || *altered.Seq != 7 || altered.Excerpt != `"a"` {
		t.Errorf("altered line is described as %+v", altered)
	}
	if a.AddRecord("key", []byte("{")); len(a.Report().Malformed) != 1 || a.Report().Malformed[0].Reason == "" {
		t.Errorf("malformed line is described as %+v", a.Report().Malformed)
	}
}

// A report has the billed units of the records, and of one record per event.
func TestReportBilledUnits(t *testing.T) {
	var a audit.Audit
	// With the key of 4 bytes the first record has exactly 25 KiB, the second one byte more.
	exact := `{"type":"x","record":"` + strings.Repeat("a", 25<<10-4-len(`{"type":"x","record":""}`)) + `"}`
	a.AddRecord("0123", []byte(exact))
	a.AddRecord("0123", []byte(exact+"\n"))
	// Ten small events in one record.
	a.AddRecord("0123", []byte(strings.Repeat(`{"type":"x"}`+"\n", 10)))
	r := a.Report()
	if r.Records != 3 || r.Lines != 12 || r.Bytes != 25<<10+25<<10+1+130+4 {
		t.Errorf("records %d, lines %d, bytes %d", r.Records, r.Lines, r.Bytes)
	}
	if r.PayloadUnits != 1+2+1 || r.UnitsOnePerEvent != 12 {
		t.Errorf("payload units %d, with one record per event %d; want 4, 12", r.PayloadUnits, r.UnitsOnePerEvent)
	}
	if r.OnDemandKB != 25+26+1 || r.OnDemandKBOnePerEvent != 25+25+10 {
		t.Errorf("on-demand KB %d, with one record per event %d; want 52, 60", r.OnDemandKB, r.OnDemandKBOnePerEvent)
	}
}

func TestConcurrentUse(t *testing.T) {
	var a audit.Audit
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 50 {
				record := fmt.Sprintf(`"%d/%d"`, worker, n)
				a.AddEmitted([]byte(event(record)))
				a.AddRecord("key", []byte(line(record, fmt.Sprint(worker), n)))
				a.Report()
			}
		})
	}
	wg.Wait()
	if r := a.Report(); !r.Complete() || r.Delivered != 200 {
		t.Errorf("delivered %d of %d, complete %v", r.Delivered, r.Emitted, r.Complete())
	}
}

// Each byte of any record is part of a line or ends one, and every line without an error is a JSON event.
func FuzzLines(f *testing.F) {
	f.Add([]byte(line(`"a"`, "i", 0) + "\n" + own("stats", "i", 1) + "\n"))
	f.Add([]byte(`{"record": {"a":[1, 2]} ,"type":"x","seq":18446744073709551615,"source":{"instance":"i"}}`))
	f.Add([]byte("\n\r\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var joined [][]byte
		for _, l := range audit.Lines(data) {
			joined = append(joined, l.Raw)
			if l.Err != nil {
				continue
			}
			if !json.Valid(l.Raw) || !utf8.Valid(l.Raw) {
				t.Errorf("%q is accepted as an event", l.Raw)
			}
			for _, value := range [][]byte{l.Time, l.Type, l.Record} {
				if value != nil && (!json.Valid(value) || !bytes.Contains(l.Raw, value)) {
					t.Errorf("%q is accepted as a value in %q", value, l.Raw)
				}
			}
		}
		if got := bytes.Join(joined, []byte("\n")); !bytes.Equal(got, bytes.TrimSuffix(data, []byte("\n"))) {
			t.Errorf("the lines join to %q", got)
		}
	})
}

// An event is delivered if a line has the same bytes of its record, and only then.
func FuzzDelivered(f *testing.F) {
	f.Add(`"a"`, `"b"`)
	f.Add(`{"a": [1.0, 2e3]} `, `{"a":[1.0,2e3]}`)
	f.Add(`"\u00e9"`, `"é"`)
	f.Fuzz(func(t *testing.T, record, other string) {
		for _, s := range []string{record, other} {
			if !json.Valid([]byte(s)) || !utf8.ValidString(s) || strings.Contains(s, "\n") {
				t.Skip("not a line's value")
			}
		}
		var a audit.Audit
		a.AddEmitted([]byte(event(record)))
		a.AddRecord("key", []byte(line(other, "i", 0)+"\n"))
		const space = " \t\r"
		same := strings.Trim(record, space) == strings.Trim(other, space)
		if r := a.Report(); r.Complete() != same {
			t.Errorf("emitted %q, seen %q: %+v", record, other, r)
		}
	})
}
