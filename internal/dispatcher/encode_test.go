package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// A record of the format cloudwatch names the log group, and the log stream of the process that received its events.
func TestCloudWatchRecordNamesItsLogStream(t *testing.T) {
	var streams, groups []string
	stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for _, r := range records {
			plain, _, err := record.Decompress(bytes.Join(r.Data, nil))
			if err != nil {
				t.Fatal(err)
			}
			var envelope struct{ Owner, LogGroup, LogStream string }
			if err := json.Unmarshal(plain, &envelope); err != nil {
				t.Fatal(err)
			}
			streams, groups = append(streams, envelope.LogStream), append(groups, envelope.LogGroup)
			if envelope.Owner == "" {
				t.Error("no owner")
			}
		}
		return answerAll(kinesis.Sent, nil)(ctx, records)
	}}
	dir, o := t.TempDir(), options()
	o.Format, o.Compression = record.CloudWatch, record.Gzip
	o.Source.Version = "7"
	d := startProcess(t, o, dir, stream)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.SetLogStream("2026/11/26/[7]abc")
	d.Receive([]Event{logEvent(2, 10)}, time.Time{}, false)
	instance := d.source.Instance()
	d.kill()
	o.LogGroup = "orders"
	d = startProcess(t, o, dir, stream)
	d.Receive([]Event{logEvent(3, 10)}, time.Time{}, false)
	d.Ship(t.Context(), flush.AtShutdown)
	d.Close(false)
	date := regexp.MustCompile(`^\d{4}/\d\d/\d\d/`)
	for i := range streams {
		streams[i] = date.ReplaceAllString(streams[i], "DATE/")
	}
	want := []string{"DATE/[7]" + instance, "DATE/[7]abc", "DATE/f[7]" + d.source.Instance()}
	if !slices.Equal(streams, want) || !slices.Equal(groups, []string{"orders", "orders", "orders"}) {
		t.Errorf("log streams %q of %q, want %q", streams, groups, want)
	}
}

// sizeRecorder returns a stream that accepts everything and appends the size of each record to sizes.
func sizeRecorder(sizes *[]int) *fakeStream {
	return &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		for i := range records {
			*sizes = append(*sizes, records[i].Size())
		}
		return answerAll(kinesis.Sent, nil)(ctx, records)
	}}
}

// An event above the record limit that fits when compressed is whole, in its own record. An event that was received in
// part is truncated in any case.
func TestEventThatFitsCompressedStaysWhole(t *testing.T) {
	for _, compression := range []record.Compression{record.Gzip, record.Zstd} {
		var sizes []int
		stream := sizeRecorder(&sizes)
		o := options()
		o.Compression = compression
		d := New(o, stream)
		large, cut := logEvent(1, 8000), logEvent(2, 8000)
		cut.Record = record.Span{Start: bytes.Index(cut.Raw, []byte(`"00`)), End: len(cut.Raw) - 1, Size: 10_000_000}
		d.Receive([]Event{logEvent(0, 10), large, logEvent(3, 10), cut}, time.Time{}, false)
		d.Ship(t.Context(), flush.AtShutdown)
		check(t, d)
		d.Close(false)
		lines, _ := stream.accepted()
		truncated := 0
		for _, line := range lines {
			if line.Truncated > 0 {
				truncated++
			}
		}
		if len(lines) != 4 || len(sizes) != 4 || truncated != 1 || lines[3].Truncated != 10_000_000 ||
			slices.Max(sizes) > o.MaxRecordBytes {
			t.Errorf("%s: %d lines, records of %d bytes, %d truncated", compression, len(lines), sizes, truncated)
		}
	}
}

// A record of each format is filled up to RECORD_BYTES, with its framing and key, and not a byte above.
func TestRecordsAreFilledUpToRecordBytes(t *testing.T) {
	for _, format := range []record.Format{record.NDJSON, record.KPL} {
		for short := range 2 {
			var sizes []int
			stream := sizeRecorder(&sizes)
			o := options()
			o.Format = format
			d := New(o, stream)
			line := record.EventSize(&record.Event{Raw: logEvent(0, 100).Raw, Source: d.source}) + 1
			most := 1
			for d.recordBytes(d.source.Instance(), most+1, (most+1)*line) <= o.Flush.RecordBytes {
				most++
			}
			d.options.Flush.RecordBytes = d.recordBytes(d.source.Instance(), most, most*line) - short
			d.Receive(slices.Repeat([]Event{logEvent(0, 100)}, most+1), time.Time{}, false)
			if first := d.list.next; first.lines != most-short {
				t.Errorf("%s: %d lines in a record that has room for %d", format, first.lines, most-short)
			}
			d.Ship(t.Context(), flush.AtShutdown)
			d.Close(false)
			if len(sizes) != 2 || sizes[0] > d.options.Flush.RecordBytes || d.options.Flush.RecordBytes-sizes[0] > 2*most+short*line {
				t.Errorf("%s: records of %d bytes, filled up to %d", format, sizes, d.options.Flush.RecordBytes)
			}
		}
	}
}

// A compressed record of exactly the limit stays whole. With one byte more its event is truncated. So is an
// uncompressed event above the limit.
func TestCompressedLimitIsExact(t *testing.T) {
	for _, test := range []struct {
		compression record.Compression
		short       int
		whole       bool
	}{{record.Gzip, 0, true}, {record.Gzip, 1, false}, {record.Uncompressed, 0, false}} {
		var sizes []int
		stream := sizeRecorder(&sizes)
		o := options()
		o.Compression = record.Gzip
		d := New(o, stream)
		defer d.Close(false)
		e := logEvent(1, 8000)
		start, end := bytes.Index(e.Raw, []byte(`"00`)), len(e.Raw)-1
		e.Record = record.Span{Start: start, End: end, Size: end - start}
		d.options.MaxRecordBytes = d.compressedBytes(d.source.Instance(), &record.Event{Raw: e.Raw, Source: d.source}) - test.short
		if test.compression == record.Uncompressed {
			d.encoder = newEncoder(&Options{Format: record.NDJSON})
			d.options.MaxRecordBytes = 5000
		}
		d.Receive([]Event{e}, time.Time{}, false)
		d.Ship(t.Context(), flush.AtShutdown)
		lines, _ := stream.accepted()
		if len(lines) == 0 && !test.whole { // the record is too small for a truncated event
			continue
		}
		if len(lines) != 1 || (lines[0].Truncated == 0) != test.whole || sizes[0] > d.options.MaxRecordBytes {
			t.Errorf("%s, %d bytes short: %d lines, records of %d bytes, limit %d",
				test.compression, test.short, len(lines), sizes, d.options.MaxRecordBytes)
		}
	}
}

// An event larger than the whole buffer is dropped at once, and no other event is dropped for it.
func TestEventLargerThanTheBufferIsDropped(t *testing.T) {
	o := options()
	o.MaxRecordBytes = 1 << 20
	d := New(o, &fakeStream{})
	defer d.Close(false)
	pages := 6
	o.Flush.BufferBytes = pages * d.pages.size
	room := pages*(d.pages.size-headerBytes) - 1
	overhead := record.EventSize(&record.Event{Raw: logEvent(0, 10).Raw, Source: d.source}) + 1 - 10
	d.mu.Lock()
	d.options.Flush.BufferBytes = o.Flush.BufferBytes
	d.mu.Unlock()
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.Receive([]Event{logEvent(2, room+1-overhead)}, time.Time{}, false)
	if s := check(t, d); s.Buffered != 1 || s.Reasons[reasonOverflow] != 1 || d.list.next.first != 0 {
		t.Errorf("too large: %+v", s)
	}
}
