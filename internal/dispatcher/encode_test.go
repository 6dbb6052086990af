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

// A record of the format cloudwatch names the log stream of the life in which its events were received, and the log group.
func TestLogStream(t *testing.T) {
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
		return all(kinesis.Sent, nil)(ctx, records)
	}}
	dir, o := t.TempDir(), options()
	o.Format, o.Compression = record.CloudWatch, record.Gzip
	o.Source.Version = "7"
	d := life(t, o, dir, stream)
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	d.SetLogStream("2026/11/26/[7]abc")
	d.Receive([]Event{logEvent(2, 10)}, time.Time{}, false)
	instance := d.source.Instance()
	d.kill()
	o.LogGroup = "orders"
	d = life(t, o, dir, stream)
	d.Receive([]Event{logEvent(3, 10)}, time.Time{}, false)
	d.Ship(t.Context(), flush.AtShutdown)
	d.Close(false)
	made := regexp.MustCompile(`^\d{4}/\d\d/\d\d/`)
	for i := range streams {
		streams[i] = made.ReplaceAllString(streams[i], "DATE/")
	}
	want := []string{"DATE/[7]" + instance, "DATE/[7]abc", "DATE/f[7]" + d.source.Instance()}
	if !slices.Equal(streams, want) || !slices.Equal(groups, []string{"orders", "orders", "orders"}) {
		t.Errorf("log streams %q of %q, want %q", streams, groups, want)
	}
}

// An event above the record limit that fits once it is compressed stands alone and is whole; one of which only the beginning was kept
// is truncated whatever it would come to.
func TestCompressedAboveTheLimit(t *testing.T) {
	for _, compression := range []record.Compression{record.Gzip, record.Zstd} {
		var sizes []int
		stream := &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			for _, r := range records {
				sizes = append(sizes, r.Size())
			}
			return all(kinesis.Sent, nil)(ctx, records)
		}}
		o := options()
		o.Compression = compression
		d := New(o, stream)
		large, cut := logEvent(1, 8000), logEvent(2, 8000)
		cut.Record = record.Span{Start: bytes.Index(cut.Raw, []byte(`"00`)), End: len(cut.Raw) - 1, Size: 10_000_000}
		d.Receive([]Event{logEvent(0, 10), large, logEvent(3, 10), cut}, time.Time{}, false)
		d.Ship(t.Context(), flush.AtShutdown)
		check(t, d)
		d.Close(false)
		lines, _ := stream.took()
		truncated := 0
		for _, line := range lines {
			if line.Truncated > 0 {
				truncated++
			}
		}
		if len(lines) != 4 || len(sizes) != 4 || truncated != 1 || lines[3].Truncated != 10_000_000 || slices.Max(sizes) > o.MaxRecordBytes {
			t.Errorf("%s: %d lines, records of %d bytes, %d truncated", compression, len(lines), sizes, truncated)
		}
	}
}
