package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// written is a format and compression of the extension.
type written struct {
	format      record.Format
	compression record.Compression
}

// formats are all formats with all their compressions.
var formats = []written{
	{record.NDJSON, record.Uncompressed},
	{record.NDJSON, record.Gzip},
	{record.NDJSON, record.Zstd},
	{record.JSON, record.Uncompressed},
	{record.JSON, record.Gzip},
	{record.JSON, record.Zstd},
	{record.KPL, record.Uncompressed},
	{record.CloudWatch, record.Gzip},
}

// In every format and compression each event arrives, in order: also if half of the records are refused, if an event is cut or
// above the record limit, and if the next process delivers it.
func TestFormats(t *testing.T) {
	concurrent(t)
	for _, f := range formats {
		for _, logs := range []sandbox.LogFormat{sandbox.Text, sandbox.JSON} {
			t.Run(fmt.Sprintf("%s %s, logs in %s", f.format, f.compression, logs), func(t *testing.T) {
				t.Parallel()
				r := newTrial(t, setup{
					settings: map[string]string{
						"KINESIS_TELEMETRY_FORMAT": string(f.format), "KINESIS_TELEMETRY_COMPRESSION": string(f.compression),
						"KINESIS_TELEMETRY_DELIVERY": "sync",
					},
					kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
					sandbox: func(c *sandbox.Config) { c.Function.LogFormat = logs },
				})
				r.invoke(`{"text":300,"json":300,"bytes":200}`)
				r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*throttles(.5)}})
				r.invoke(`{"text":30,"json":30}`)
				r.kinesis.SetFaults(nil)
				r.invoke(`{"text":3,"duration":"20ms"}`)
				report := r.end()
				wrong := len(report.Lost) + len(report.Gaps) + len(report.Malformed) +
					len(report.Altered) + len(report.Unknown) + r.duplicates(&report)
				if wrong > 0 || report.Emitted < 660 {
					t.Errorf("emitted %d, delivered %d; lost %v, gaps %v, malformed %v, altered %v, unknown %v, duplicated %d",
						report.Emitted, report.Delivered, report.Lost[:min(3, len(report.Lost))], report.Gaps,
						report.Malformed[:min(3, len(report.Malformed))], report.Altered,
						report.Unknown[:min(3, len(report.Unknown))], len(report.Duplicated))
				}
				bytes := 0
				for _, stored := range r.kinesis.Records(r.stream) {
					bytes += len(stored.Data)
					for line, err := range record.Unpack(stored.Data) {
						if err != nil || line.Format != f.format || line.Compression != f.compression {
							t.Fatalf("read as %s %s, %v", line.Format, line.Compression, err)
						}
					}
				}
				t.Logf("%d events, %d records, %d bytes", report.Delivered, len(r.kinesis.Records(r.stream)), bytes)
			})
		}
	}
}

// The first twelve faults of the table have the same result in every format and compression.
func TestGuaranteesInEachFormat(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: the chaos suite takes minutes")
	}
	for _, f := range formats[1:] {
		for _, s := range scenarios[:12] {
			t.Run(fmt.Sprintf("%s %s, %s", f.format, f.compression, s.name), func(t *testing.T) {
				t.Parallel()
				change := s.change
				s.change = func(su *setup) {
					su.settings["KINESIS_TELEMETRY_FORMAT"], su.settings["KINESIS_TELEMETRY_COMPRESSION"] = string(f.format), string(f.compression)
					if change != nil {
						change(su)
					}
				}
				s.checkPromises(t, s.run(t, "adaptive"))
			})
		}
	}
}

// An event that is cut, and one above the record limit, arrive in each format: compressed if it fits then, otherwise truncated.
func TestLargeEventsInEachFormat(t *testing.T) {
	concurrent(t)
	for _, f := range formats {
		t.Run(fmt.Sprintf("%s %s", f.format, f.compression), func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_FORMAT": string(f.format), "KINESIS_TELEMETRY_COMPRESSION": string(f.compression),
					"KINESIS_TELEMETRY_DELIVERY": "sync",
				},
				kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
			})
			r.invoke(`{"text":2,"bytes":1048576,"duration":"20ms"}`)
			r.invoke(`{"text":3}`)
			report := r.end()
			truncated := 0
			for _, stored := range r.kinesis.Records(r.stream) {
				for line := range record.Unpack(stored.Data) {
					if line.Truncated > 0 {
						truncated++
					}
				}
			}
			large := 0 // 2, or fewer if a starved function takes a second for one line: the sandbox takes its beginning as a line
			for _, e := range r.emitted {
				if len(e.Record) > 1<<20 {
					large++
				}
			}
			want := 0
			if f.compression == record.Uncompressed {
				want = large
			}
			if large == 0 || len(report.Gaps)+len(report.Malformed) > 0 || truncated != want || len(report.Lost) != want {
				t.Errorf("%d truncated, want %d; lost %v, gaps %v, malformed %v", truncated, want, report.Lost, report.Gaps, report.Malformed)
			}
		})
	}
}
