package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// sqlFormats are the formats that the engines' tables read.
var sqlFormats = slices.DeleteFunc(slices.Clone(formats), func(w written) bool {
	return w.format == record.KPL || w.format == record.CloudWatch
})

// The SQL of examples/sql finds exactly the gaps, duplicates and declared drops in the real extension's records: this test cuts
// records out, a lost answer causes duplicates, and a small buffer drops events. conformance/sql/check.sh runs the engines.
func TestConformanceSQL(t *testing.T) {
	if os.Getenv("CONFORMANCE") != "required" {
		t.Skip("CONFORMANCE=required is not set: this installs DuckDB, Flink and Trino's parser")
	}
	dir := os.Getenv("SQL_DIR") // to keep the files
	if dir == "" {
		dir = t.TempDir()
	}
	expected := map[string]sqlRows{}
	for _, w := range sqlFormats {
		name := fmt.Sprintf("%s-%s", w.format, w.compression)
		if !t.Run(name, func(t *testing.T) { expected[name] = w.writeObjects(t, filepath.Join(dir, name)) }) {
			return
		}
	}
	check := exec.Command("../conformance/sql/check.sh", dir)
	printed, err := check.CombinedOutput()
	t.Logf("%s\n%s", check, printed)
	if err != nil {
		t.Fatal(err)
	}
	results, err := filepath.Glob(filepath.Join(dir, "*", "*.json")) // CASE/ENGINE.json
	if err != nil {
		t.Fatal(err)
	}
	// DuckDB and Athena's SQL read all formats, Flink those with one event a line.
	if want := 2*len(sqlFormats) + 4; len(results) != want && os.Getenv("CI") == "true" {
		t.Errorf("%d answers of engines, want %d: %v", len(results), want, results)
	}
	for _, path := range results {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got sqlRows
		unmarshal(t, data, &got)
		name, engine := filepath.Base(filepath.Dir(path)), strings.TrimSuffix(filepath.Base(path), ".json")
		for _, difference := range expected[name].compare(got) {
			t.Errorf("%s, %s: %s", engine, name, difference)
		}
		t.Logf("%s, %s: %d missing ranges, %d duplicates, %d declared drops in %d instances", engine, name,
			len(got["missing"]), len(got["duplicates"]), len(got["dropped"]), len(got["instances"]))
	}
}

// sqlRows are the rows of each statement, by the name that its comment begins with. A time is in Unix milliseconds.
type sqlRows map[string][][]any

// compare returns the differences. It sorts the rows, because each engine sorts text and NULL differently.
func (want sqlRows) compare(got sqlRows) (differences []string) {
	if !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))) {
		return []string{fmt.Sprintf("statements %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		least := 0.
		if name == "delay" {
			least = 100 // the objects are hours apart, and Flink counts whole seconds
		}
		w, g := sortedRows(want[name], least), sortedRows(got[name], least)
		if !slices.Equal(w, g) {
			differences = append(differences, fmt.Sprintf("%s:\ngot\n%s\nwant\n%s", name, strings.Join(g, "\n"), strings.Join(w, "\n")))
		}
	}
	return differences
}

// sortedRows returns the rows as text, with numbers rounded to six digits or to a multiple of least.
func sortedRows(rows [][]any, least float64) (sorted []string) {
	for _, row := range rows {
		values := slices.Clone(row)
		for i, value := range values {
			if number, ok := value.(float64); ok {
				format := "%.6g"
				if least > 0 && i > 1 {
					number = math.Round(number/least) * least
				}
				if number == math.Trunc(number) {
					format = "%.0f"
				}
				values[i] = json.Number(fmt.Sprintf(format, number))
			}
		}
		text, err := json.Marshal(values)
		if err != nil {
			panic(err)
		}
		sorted = append(sorted, string(text))
	}
	slices.Sort(sorted)
	return sorted
}

// writeObjects runs three environments, cuts records out, and writes the others as Firehose does. It returns the expected results.
func (w written) writeObjects(t *testing.T, dir string) sqlRows {
	var stored []kinesislocal.Record
	overflow := w.overflow(t)
	for _, r := range []*trial{overflow, w.lostAnswers(t), w.failures(t)} {
		stored = append(stored, r.kinesis.Records(r.stream)...)
	}
	found := newFindings(t, stored)
	cut := found.cut(t)
	stored = slices.DeleteFunc(stored, func(s kinesislocal.Record) bool { return cut[string(s.Data)] })

	var left audit.Audit
	for _, s := range stored {
		left.AddRecord(s.PartitionKey, s.Data)
	}
	report := left.Report()
	after := newFindings(t, stored)
	rows := after.rows(t, &report)
	after.checkGaps(t, report.Gaps, found, cut)
	if len(cut) != 3 || len(rows["duplicates"]) == 0 || len(rows["dropped"]) != 1 || len(rows["errors"]) < 2 {
		t.Errorf("%d cuts, %d duplicates, %d declared drops, %d errors",
			len(cut), len(rows["duplicates"]), len(rows["dropped"]), len(rows["errors"]))
	}
	t.Logf("%d events in %d records", len(after.lines), len(stored))

	const objects = 3
	var delays []float64
	for n, part := range slices.Collect(slices.Chunk(stored, len(stored)/objects+1)) {
		var object bytes.Buffer
		for _, s := range part {
			object.Write(s.Data)
			if w.format == record.JSON && w.compression == record.Uncompressed {
				object.WriteByte('\n') // Firehose's AppendDelimiterToRecord
			}
		}
		path := filepath.Join(dir, "telemetry", "2026", "11", "24", fmt.Sprintf("%d.json%s", n, map[record.Compression]string{
			record.Gzip: ".gz", record.Zstd: ".zst",
		}[w.compression]))
		writeFile(t, path, object.Bytes())
		modified := time.Now().Add(time.Duration(n+1) * time.Hour)
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
		for _, line := range newFindings(t, part).lines {
			at, _ := time.Parse(time.RFC3339Nano, line.Time) // it was parsed before
			delays = append(delays, modified.Sub(at).Seconds())
		}
	}
	slices.Sort(delays)
	rows["delay"] = [][]any{{
		after.lines[0].Source.Function, float64(len(delays)), percentile(delays, .5), percentile(delays, .95), delays[len(delays)-1],
	}}
	return rows
}

func (w written) sqlTrial(t *testing.T, logs sandbox.LogFormat, more map[string]string) *trial {
	settings := w.settings()
	maps.Copy(settings, map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_RECORD_BYTES": "4000"})
	maps.Copy(settings, more)
	return newTrial(t, setup{
		settings: settings,
		kinesis:  kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		sandbox:  func(c *sandbox.Config) { c.Function.LogFormat = logs },
	})
}

// overflow logs more than the buffer holds during an outage of the stream. The extension declares the loss when the stream recovers.
func (w written) overflow(t *testing.T) *trial {
	r := w.sqlTrial(t, sandbox.Text, map[string]string{
		"KINESIS_TELEMETRY_BUFFER_BYTES": "1048576", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "100ms",
	})
	r.invoke(`{"text":20}`)
	r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*fails("InternalFailureException")}})
	r.invoke(`{"text":1500,"bytes":1000,"duration":"500ms"}`)
	r.kinesis.SetFaults(nil)
	for range 4 {
		r.invoke(`{"text":5,"duration":"500ms"}`)
	}
	r.end()
	return r
}

// lostAnswers delivers records twice.
func (w written) lostAnswers(t *testing.T) *trial {
	r := w.sqlTrial(t, sandbox.Text, nil)
	r.kinesis.SetFaults(&kinesislocal.Faults{Seed: 3, Rules: []kinesislocal.Rule{
		{From: 3, Count: 1, StoreThenReset: true}, {Probability: .2, StoreThenReset: true},
	}})
	for range 8 {
		r.invoke(`{"text":20,"bytes":100}`)
	}
	r.kinesis.SetFaults(nil)
	r.end()
	return r
}

// failures fails invocations, one of them by a panic that ends the environment.
func (w written) failures(t *testing.T) *trial {
	r := w.sqlTrial(t, sandbox.JSON, nil)
	for _, request := range []string{
		`{"json":30,"bytes":100}`, `{"json":4,"error":"no!"}`, `{"text":30,"bytes":100}`, `{"text":3,"panic":true}`, `{"json":30,"bytes":100}`,
	} {
		if _, err := r.env.Invoke(r.Context(), []byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	r.end()
	return r
}

// findings is the content of the stream, decoded by package record.
type findings struct {
	lines     []record.Line
	records   [][]record.Line // of each record
	data      []string
	instances map[string]map[uint64]int // count of each number
	declared  []declared
}

type declared struct {
	Reason, Instance         string
	Count, FirstSeq, LastSeq uint64
}

func newFindings(t *testing.T, stored []kinesislocal.Record) *findings {
	f := &findings{instances: map[string]map[uint64]int{}}
	for _, s := range stored {
		var lines []record.Line
		for line, err := range record.Unpack(s.Data) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
			instance := line.Source.Instance
			if f.instances[instance] == nil {
				f.instances[instance] = map[uint64]int{}
			}
			if f.instances[instance][line.Seq]++; line.Type == "kinesis-telemetry.dropped" && f.instances[instance][line.Seq] == 1 {
				var d declared
				unmarshal(t, line.Record, &d)
				f.declared = append(f.declared, d)
			}
		}
		f.lines, f.records, f.data = append(f.lines, lines...), append(f.records, lines), append(f.data, string(s.Data))
	}
	return f
}

// cut chooses three records from the middle of instances, with no missing neighbours. They have only function lines, so that the counts in
// the reports stay correct.
func (f *findings) cut(t *testing.T) map[string]bool {
	cut := map[string]bool{}
	of := map[string]bool{}
	for i, lines := range f.records {
		first, last := lines[0], lines[len(lines)-1]
		numbers := f.instances[first.Source.Instance]
		ordinary := !slices.ContainsFunc(lines, func(l record.Line) bool { return l.Type != "function" })
		if ordinary && !of[first.Source.Instance] && numbers[first.Seq-1] == 1 && numbers[last.Seq+1] == 1 && numbers[first.Seq] == 1 {
			cut[f.data[i]], of[first.Source.Instance] = true, true
		}
	}
	if len(cut) < 3 {
		t.Fatalf("%d records to cut out", len(cut))
	}
	for data := range cut {
		if len(cut) == 3 {
			break
		}
		delete(cut, data)
	}
	return cut
}

// checkGaps checks that the audit's missing numbers are the cut and the declared ones.
func (f *findings) checkGaps(t *testing.T, gaps []audit.Gap, before *findings, cut map[string]bool) {
	var missing, injected uint64
	for _, gap := range gaps {
		missing += gap.Count()
	}
	for i, lines := range before.records {
		if cut[before.data[i]] {
			injected += uint64(len(lines))
			gap := audit.Gap{Instance: lines[0].Source.Instance, First: lines[0].Seq, Last: lines[len(lines)-1].Seq}
			if !slices.Contains(gaps, gap) {
				t.Errorf("%v was cut out; the audit finds %v", gap, gaps)
			}
		}
	}
	for _, d := range f.declared {
		injected += d.Count
	}
	if missing != injected {
		t.Errorf("%d numbers are missing, %d were cut out or dropped: %v", missing, injected, gaps)
	}
}

// sqlReport is the record of a platform.report.
type sqlReport struct {
	Status    string
	ErrorType *string
	Metrics   struct {
		DurationMs                                      float64
		BilledDurationMs, MemorySizeMB, MaxMemoryUsedMB float64
		InitDurationMs, RestoreDurationMs               *float64
	}
}

func (f *findings) rows(t *testing.T, report *audit.Report) sqlRows {
	rows := sqlRows{}
	add := func(name string, values ...any) { rows[name] = append(rows[name], values) }
	missing, duplicates, dropped := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, gap := range report.Gaps {
		reason := "undeclared"
		for _, d := range f.declared {
			if d.Instance == gap.Instance && d.FirstSeq <= gap.Last && d.LastSeq >= gap.First {
				reason = d.Reason
			}
		}
		add("missing", gap.Instance, float64(gap.First), float64(gap.Last), float64(gap.Count()), reason)
		missing[gap.Instance] += float64(gap.Count())
	}
	copies := map[string]map[uint64]float64{}
	for _, d := range report.Duplicated {
		if copies[d.Instance] == nil {
			copies[d.Instance] = map[uint64]float64{}
		}
		copies[d.Instance][*d.Seq]++
		duplicates[d.Instance]++
	}
	for instance, numbers := range copies {
		for seq, extra := range numbers {
			add("duplicates", instance, float64(seq), extra+1)
		}
	}
	for _, d := range f.declared {
		add("dropped", d.Instance, d.Reason, float64(d.Count), float64(d.FirstSeq), float64(d.LastSeq))
		dropped[d.Instance] += float64(d.Count)
	}
	own := map[string]uint64{}
	for _, line := range f.lines {
		if strings.HasPrefix(line.Type, "kinesis-telemetry.") {
			own[line.Source.Instance] = max(own[line.Source.Instance], line.Seq)
		}
	}
	for instance, numbers := range f.instances {
		seqs := slices.Sorted(maps.Keys(numbers))
		events := float64(len(numbers)) + duplicates[instance]
		last := seqs[len(seqs)-1]
		add("instances", instance, float64(seqs[0]), float64(last), events, duplicates[instance], missing[instance], dropped[instance],
			missing[instance]-dropped[instance], own[instance] == last)
	}
	f.reports(t, add)
	return rows
}

func (f *findings) reports(t *testing.T, add func(string, ...any)) {
	var invocations, gbSeconds float64
	var inits []float64
	name := f.lines[0].Source.Function
	for _, line := range f.lines {
		at, err := time.Parse(time.RFC3339Nano, line.Time)
		if err != nil {
			t.Fatal(err)
		}
		var request any
		if line.RequestID != "" {
			request = line.RequestID
		}
		var r sqlReport
		switch line.Type {
		case "platform.report", "platform.initReport":
			unmarshal(t, line.Record, &r)
		case "function":
			if text := sqlText(line.Record); level(text) == "ERROR" {
				add("errors", float64(at.UnixMilli()), name, request, line.Type, text)
			}
			continue
		default:
			continue
		}
		if r.Status != "success" {
			add("errors", float64(at.UnixMilli()), name, request, line.Type, *cmp.Or(r.ErrorType, &r.Status))
		}
		if line.Type != "platform.report" {
			continue
		}
		m := r.Metrics
		add("invocations", float64(at.UnixMilli()), name, request, r.Status, optional(r.ErrorType),
			m.DurationMs, m.BilledDurationMs, m.MemorySizeMB, m.MaxMemoryUsedMB, optional(cmp.Or(m.InitDurationMs, m.RestoreDurationMs)))
		invocations++
		gbSeconds += m.BilledDurationMs / 1000 * m.MemorySizeMB / 1024
		if m.InitDurationMs != nil {
			inits = append(inits, *m.InitDurationMs)
		}
	}
	slices.Sort(inits)
	add("cold_starts", name, invocations, float64(len(inits)), percentile(inits, .5), inits[len(inits)-1])
	add("cost", name, invocations, gbSeconds, invocations*.2/1e6+gbSeconds*.0000166667, float64(len(f.lines)))
}

// percentile interpolates.
func percentile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	below := int(at)
	if below == len(sorted)-1 {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

func optional[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// sqlText is a record as in the tables: text, or the JSON of an object.
func sqlText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func level(text string) string {
	var members struct{ Level string }
	_ = json.Unmarshal([]byte(text), &members)
	return members.Level
}
