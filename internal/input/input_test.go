package input_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"kinesis-telemetry-extension/internal/input"
	"kinesis-telemetry-extension/record"
)

// vectors returns records of every format and compression.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../record/testdata/vectors/*.bin")
	if err != nil || len(files) < 10 {
		t.Fatalf("%v, %v", files, err)
	}
	records := map[string][]byte{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records[filepath.Base(file)] = data
	}
	return records
}

// rawOf returns the bytes of the records' events, as package record reads them.
func rawOf(t testing.TB, records ...[]byte) (events []string) {
	t.Helper()
	for _, data := range records {
		for line, err := range record.Unpack(data) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, string(line.Raw))
		}
	}
	if len(events) == 0 {
		t.Fatal("no events")
	}
	return events
}

// read returns the bytes of an input's events, the messages of its unreadable pieces, and the reader's own error.
func read(from io.Reader) (events, unreadable []string, err error) {
	for event, problem := range input.Read(context.Background(), from) {
		if u, ok := errors.AsType[*input.UnreadableError](problem); ok {
			unreadable = append(unreadable, u.Error())
		} else if problem != nil {
			err = problem
		} else {
			events = append(events, string(event.Raw))
		}
	}
	return events, unreadable, err
}

// check fails unless the input has exactly these events and unreadable pieces, whether it is read whole or byte by byte.
func check(t *testing.T, data []byte, want []string, wantUnreadable ...string) {
	t.Helper()
	for name, from := range map[string]io.Reader{
		"": bytes.NewReader(data), ", byte by byte": iotest.OneByteReader(bytes.NewReader(data)),
	} {
		events, unreadable, err := read(from)
		if err != nil || !slices.Equal(events, want) || !slices.Equal(unreadable, wantUnreadable) {
			t.Errorf("%d events of %d%s, error %v, unreadable\n%s\nwant\n%s", len(events), len(want), name, err,
				strings.Join(unreadable, "\n"), strings.Join(wantUnreadable, "\n"))
		}
	}
}

func gzipped(data ...[]byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, part := range data {
		w.Write(part)
	}
	w.Close()
	return b.Bytes()
}

func zstded(data ...[]byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(slices.Concat(data...), nil)
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// getRecords returns records as `aws kinesis get-records` prints them.
func getRecords(records ...[]byte) []byte {
	var b strings.Builder
	b.WriteString("{\n    \"Records\": [")
	for i, data := range records {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n        {\n            \"SequenceNumber\": \"4960%d\",\n            \"ApproximateArrivalTimestamp\": "+
			"\"2026-11-23T18:00:02.500000+00:00\",\n            \"Data\": %q,\n            \"PartitionKey\": \"k\"\n        }", i, base64Of(data))
	}
	b.WriteString("\n    ],\n    \"NextShardIterator\": \"AAAA\",\n    \"MillisBehindLatest\": 0\n}\n")
	return []byte(b.String())
}

// lambdaEvent returns records as an event source mapping passes them to a function.
func lambdaEvent(records ...[]byte) []byte {
	var list []any
	for i, data := range records {
		list = append(list, map[string]any{
			"eventSource": "aws:kinesis",
			"kinesis": map[string]any{
				"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": fmt.Sprint("4960", i), "data": base64Of(data),
				"approximateArrivalTimestamp": 1795456802.5,
			},
		})
	}
	event, _ := json.Marshal(map[string]any{"Records": list})
	return event
}

// Records of every format are read in every kind of input.
func TestEveryFormatInEveryInput(t *testing.T) {
	var all [][]byte
	for name, data := range vectors(t) {
		want := rawOf(t, data)
		all = append(all, data)
		for way, content := range map[string][]byte{
			"raw":                    data,
			"base64":                 []byte(base64Of(data)),
			"base64 with a line end": []byte(base64Of(data) + "\n"),
			"base64 in quotes":       []byte(`"` + base64Of(data) + `"` + "\r\n"),
			"get-records":            getRecords(data),
			"Lambda event":           lambdaEvent(data),
			"an array of data":       []byte(`["` + base64Of(data) + `"]`),
			"gzip":                   gzipped(data),
			"zstd of get-records":    zstded(getRecords(data)),
		} {
			t.Run(name+"/"+way, func(t *testing.T) { check(t, content, want) })
		}
	}
	want := rawOf(t, all...)
	var lines, text bytes.Buffer
	for i, data := range all {
		fmt.Fprintln(&lines, base64Of(data))
		if i > 0 {
			text.WriteByte('\t') // as --output text has it
		}
		text.WriteString(base64Of(data))
	}
	check(t, lines.Bytes(), want)
	check(t, text.Bytes(), want)
	check(t, getRecords(all...), want)
	check(t, lambdaEvent(all...), want)
	check(t, slices.Concat(getRecords(all...), lambdaEvent(all...), lines.Bytes()), slices.Concat(want, want, want))
}

// Concatenated records are read, as Firehose writes them: without a separator.
func TestConcatenatedRecords(t *testing.T) {
	v := vectors(t)
	names := []string{
		"ndjson.gzip.bin", "json.bin", "json.bin", "cloudwatch-text.bin", "ndjson.zstd.bin", "json.zstd.bin", "json-in-a-row.bin",
		"ndjson.bin", "json.gzip.bin",
		"cloudwatch-json.bin", "ndjson.bin",
	}
	var row [][]byte
	for _, name := range names {
		row = append(row, v[name])
	}
	want := rawOf(t, row...)
	check(t, slices.Concat(row...), want)
	check(t, gzipped(row...), want) // Firehose compresses again
	plain, _, err := record.Decompress(v["cloudwatch-text.bin"])
	if err != nil {
		t.Fatal(err)
	}
	events := rawOf(t, plain)
	check(t, slices.Concat(plain, plain, plain), slices.Concat(events, events, events)) // Firehose decompresses
	for event, err := range input.Read(t.Context(), bytes.NewReader(v["ndjson.zstd.bin"])) {
		if err != nil || event.Format != record.NDJSON || event.Compression != record.Zstd {
			t.Fatalf("%s %s, %v", event.Format, event.Compression, err)
		}
	}
}

// Concatenated aggregated records, as `ktel tail -o raw` writes them, are separated by their checksums.
func TestConcatenatedAggregatedRecords(t *testing.T) {
	v := vectors(t)
	kpl, lines := v["kpl.bin"], v["ndjson.bin"]
	want := rawOf(t, kpl)
	check(t, slices.Concat(kpl, kpl, kpl), slices.Concat(want, want, want))
	check(t,
		slices.Concat(kpl, lines, kpl, v["json.gzip.bin"], kpl),
		slices.Concat(want, rawOf(t, lines), want, rawOf(t, v["json.gzip.bin"]), want))
	check(t, gzipped(kpl, kpl), slices.Concat(want, want))
	empty := append([]byte("\xf3\x89\x9a\xc2"), "\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e"...) // no sub-record
	check(t, slices.Concat(kpl, empty, kpl), slices.Concat(want, want))
	check(t, slices.Concat(kpl, kpl[:len(kpl)-1]), want, "aggregated record 2: "+notAggregated)
	broken := bytes.Clone(kpl)
	broken[len(broken)-40] ^= 0x20
	check(t, slices.Concat(kpl, broken, kpl), want, "aggregated record 2: "+notAggregated)
}

const (
	notAggregated = "it cannot be deaggregated: it was cut short, or is not an aggregated record; the rest is skipped"
	wrongChecksum = "its checksum is wrong: events that were read from it may be damaged"

	foreign = "not written by the extension: "
	tooLong = "it is longer than 64 MiB: no event or record is so long"
	bomb    = "its content is more than 1,000 times its size"
)

const event = `{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"a \"{[ b","seq":1,"source":{"function":"f","instance":"i"}}`

// Each piece that cannot be read is reported with its place, and the pieces after it are read.
func TestUnreadable(t *testing.T) {
	v := vectors(t)
	ndjson, gz, zst := v["ndjson.bin"], v["ndjson.gzip.bin"], v["ndjson.zstd.bin"]
	lines, ofGzip, ofZstd := rawOf(t, ndjson), rawOf(t, gz), rawOf(t, zst)
	broken := bytes.Clone(gz)
	broken[len(broken)-6] ^= 0xff // the checksum
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(event), "", "  "); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		data       string
		events     []string
		unreadable []string
	}{
		{"an empty input", "", nil, nil},
		{"blank lines", "\n\r\n \n\t\n", nil, nil},
		{"a byte order mark", "\xef\xbb\xbf" + event, []string{event}, nil},
		{"a line cut short", event + "\n" + event[:40] + "\n" + event, []string{event, event}, []string{"line 2: it is cut short"}},
		{"a last line cut short", event + "\n" + event[:90], []string{event}, []string{"line 2: it is cut short"}},
		{
			"text", "INFO starting\n" + event + "\nhello\n",
			[]string{event},
			[]string{"line 1: " + foreign + `text, "INFO starting"`, "line 3: " + foreign + `text, "hello"`},
		},
		{
			"JSON of another writer", `{"hello":"world"}` + event + "\n",
			[]string{event},
			[]string{"line 1: not an event: " + foreign + "JSON without source.instance"},
		},
		{
			"invalid JSON", "{]\n" + event,
			[]string{event},
			[]string{"line 1: not an event: invalid character ']' looking for beginning of object key string"},
		},
		{"indented events", indented.String() + "\n" + indented.String(), []string{indented.String(), indented.String()}, nil},
		{
			"binary data", event + "\n\x00\x01\x02" + event,
			[]string{event},
			[]string{"line 2: " + foreign + "binary data; the rest is skipped"},
		},
		{"a zip archive", "PK\x03\x04zip", nil, []string{"line 1: " + foreign + "a zip archive; the rest is skipped"}},
		{
			"base64 of another writer", base64Of([]byte(`{"a":1}`)) + "\n",
			nil,
			[]string{"line 1: line 1 of the record is not an event: " + foreign + "JSON without source.instance"},
		},
		{"base64 over several lines", wrap(base64Of(gz), 76) + "\n" + wrap(base64Of(zst), 64), slices.Concat(ofGzip, ofZstd), nil},
		{
			"base64 over several lines, from Windows",
			strings.ReplaceAll(wrap(base64Of(gz), 76)+"\n"+wrap(base64Of(zst), 64)+"\n", "\n", "\r\n") + event + "\r\n",
			slices.Concat(ofGzip, ofZstd, []string{event}), nil,
		},
		{"text from Windows", "hello\r\n", nil, []string{"line 1: " + foreign + `text, "hello"`}},
		{
			"a last gzip member cut short", string(gz) + string(gz[:len(gz)-40]), nil,
			[]string{"gzip member 2: gzip: it is cut short"},
		},
		{
			"a gzip member cut short between two others", string(gz) + string(gz[:len(gz)/2]) + string(gz),
			slices.Concat(ofGzip, ofGzip[:6], ofGzip),
			[]string{"gzip member 2: gzip: it is broken"},
		},
		{
			"a gzip member with a wrong checksum", string(broken) + string(gz), slices.Concat(ofGzip, ofGzip),
			[]string{"gzip member 1: gzip: " + wrongChecksum},
		},
		{
			"a broken gzip header", "\x1f\x8bxxxxxxxxxxxxxxxxx" + string(gz),
			ofGzip,
			[]string{"gzip member 1: gzip: its header is broken"},
		},
		{
			"a zstd frame with a wrong checksum", string(breakChecksum(bytes.Clone(zst))) + string(zst), nil,
			[]string{"zstd frame 1: zstd: " + wrongChecksum},
		},
		{
			"compressed three times", string(gzipped(gzipped(gz))) + "\n" + event,
			[]string{event},
			[]string{"gzip member 1, gzip member 1, line 1: it is compressed more than twice"},
		},
		{
			"a line cut short in a gzip member", string(gzipped([]byte(event+"\n"+event[:50]+"\n"+event+"\n"))) + event,
			[]string{event, event, event},
			[]string{"gzip member 1, line 2: it is cut short"},
		},
		{
			"a zstd frame's header cut short", event + "\n\x28\xb5\x2f\xfd",
			[]string{event},
			[]string{"zstd frame 1: zstd: it is cut short"},
		},
		{
			"a zstd frame's header cut short in a broken gzip member",
			string(breakChecksum(gzipped([]byte(event+"\n\x28\xb5\x2f\xfd")))) + string(gz),
			append([]string{event}, ofGzip...),
			[]string{"gzip member 1: gzip: " + wrongChecksum},
		},
		{
			"an aggregated record of another writer", "\xf3\x89\x9a\xc2 and more than sixteen bytes",
			nil,
			[]string{"aggregated record 1: " + notAggregated},
		},
		{
			"get-records with a record of another writer", string(getRecords([]byte("hello"), ndjson, nil)), lines,
			[]string{"record 1, sequence number 49600: line 1 of the record is not an event: " + foreign + `text, "hello"`},
		},
		{
			"records without valid data", `{"Records":[{"a":1},7,{"Data":"!"},{"Data":"` + base64Of(ndjson) + `"}]}`, lines,
			[]string{
				"record 1: it has no data of a Kinesis record",
				"record 2: json: cannot unmarshal number into Go value of type input.element",
				"record 3: its data: illegal base64 data at input byte 0",
			},
		},
		{"no records", `{"NextShardIterator":"x","ChildShards":[{"a":[1]}],"MillisBehindLatest":7}` + event, []string{event}, nil},
		{
			"a document cut short", string(getRecords(ndjson)[:200]) + "\n" + event,
			[]string{event},
			[]string{"line 1: a JSON document that cannot be read at line 6: it is cut short"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.events == nil { // the row checks only the unreadable pieces
				test.events, _, _ = read(strings.NewReader(test.data))
			}
			check(t, []byte(test.data), test.events, test.unreadable...)
		})
	}
}

// breakChecksum breaks the checksum at the end.
func breakChecksum(data []byte) []byte {
	data[len(data)-1] ^= 0xff
	return data
}

func wrap(text string, columns int) string {
	var b strings.Builder
	for ; len(text) > columns; text = text[columns:] {
		b.WriteString(text[:columns] + "\n")
	}
	return b.String() + text
}

// An event's arrival in the stream is read from the output of the AWS CLI and from Lambda's event.
func TestArrival(t *testing.T) {
	want := time.Date(2026, 11, 23, 18, 0, 2, 500_000_000, time.UTC)
	data := vectors(t)["ndjson.bin"]
	for name, content := range map[string][]byte{
		"get-records": getRecords(data), "Lambda": lambdaEvent(data),
		"CLI 1": bytes.ReplaceAll(getRecords(data), []byte(`"2026-11-23T18:00:02.500000+00:00"`), []byte("1795456802.5")),
	} {
		n := 0
		for event, err := range input.Read(t.Context(), bytes.NewReader(content)) {
			if n++; err != nil || !event.Arrived.Equal(want) {
				t.Errorf("%s: arrived %s, %v", name, event.Arrived, err)
			}
		}
		if n == 0 {
			t.Error("no events")
		}
	}
}

// A piece that another writer wrote is foreign. A piece that may hide events of the extension is not.
func TestForeign(t *testing.T) {
	for text, want := range map[string]bool{
		"hello": true, `{"a":1}`: true, string(getRecords([]byte("hello"))): true, event[:50]: false, "\x00\x01": false,
		"\xf3\x89\x9a\xc2 and more than sixteen bytes": false, "\x1f\x8bxxxxxxxxxxxxxx": false, "{]": false,
	} {
		for _, err := range input.Read(t.Context(), strings.NewReader(text)) {
			if errors.Is(err, record.ErrForeign) != want {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// An error of the input's reader is reported as that, and not as an unreadable piece.
func TestReaderErrorIsReported(t *testing.T) {
	gz := vectors(t)["ndjson.gzip.bin"]
	for name, data := range map[string][]byte{
		"lines": []byte(event + "\n" + event[:30]), "gzip": gz[:len(gz)/2], "get-records": getRecords(gz)[:300],
	} {
		failed := errors.New("no more")
		_, unreadable, err := read(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(failed)))
		if !errors.Is(err, failed) || len(unreadable) > 0 {
			t.Errorf("%s: %v, unreadable %v", name, err, unreadable)
		}
	}
}

// repeated is a reader of one byte, repeated left times.
type repeated struct {
	value byte
	left  int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), r.left)
	for i := range n {
		p[i] = r.value
	}
	r.left -= n
	return n, nil
}

// A decompression bomb, or a piece without an end, is one unreadable piece, and reading ends.
func TestBombIsOneUnreadablePiece(t *testing.T) {
	gz := gzipBomb('x', 80)
	var zst bytes.Buffer
	z, _ := zstd.NewWriter(&zst)
	io.Copy(z, &repeated{'\n', 80 << 20})
	z.Close()
	for name, test := range map[string]struct {
		data io.Reader
		want string
	}{
		"a line":         {&repeated{'x', 80 << 20}, "line 1: " + tooLong},
		"a line in gzip": {bytes.NewReader(gz), "gzip member 1: gzip: " + bomb},
		"a JSON value":   {&repeated{'{', 80 << 20}, "line 1: " + tooLong},
		"a JSON document": {
			io.MultiReader(strings.NewReader(`{"Records":[{"Data":"`), &repeated{'A', 80 << 20}),
			"line 1: a JSON document that cannot be read at line 1: " + tooLong,
		},
		"lines in zstd": {bytes.NewReader(zst.Bytes()), "zstd frame 1: zstd: " + bomb},
		"an aggregated record": {
			io.MultiReader(strings.NewReader("\xf3\x89\x9a\xc2"), &repeated{0x7a, 80 << 20}), // fields of 0x7a bytes
			"aggregated record 1: " + tooLong,
		},
		"gzip in a record": {
			bytes.NewReader(getRecords(gz)),
			"record 1, sequence number 49600: gzip: its data are too large: above 64 MiB, or above 1,000 times their compressed size",
		},
		"gzip in zstd": {bytes.NewReader(zstded(gz)), "zstd frame 1: zstd: " + bomb},
	} {
		t.Run(name, func(t *testing.T) {
			events, unreadable, err := read(test.data)
			if err != nil || len(events) > 0 || len(unreadable) != 1 || unreadable[0] != test.want {
				t.Errorf("%d events, %v, %s", len(events), err, strings.Join(unreadable[:min(len(unreadable), 3)], "\n"))
			}
		})
	}
}

// gzipBomb returns a gzip member of so many MiB of one byte. It compresses one MiB and repeats its deflate blocks: to compress
// all takes seconds.
func gzipBomb(value byte, mebibytes int) []byte {
	content := bytes.Repeat([]byte{value}, 1<<20)
	var blocks bytes.Buffer
	w, _ := flate.NewWriter(&blocks, flate.BestCompression)
	w.Write(content)
	w.Flush() // to a byte boundary
	member := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
	checksum := crc32.NewIEEE()
	for range mebibytes {
		member = append(member, blocks.Bytes()...)
		checksum.Write(content)
	}
	member = append(member, 3, 0) // the final block, empty
	member = binary.LittleEndian.AppendUint32(member, checksum.Sum32())
	return binary.LittleEndian.AppendUint32(member, uint32(mebibytes<<20))
}

// The helper's members are valid, and dense enough to count as bombs.
func TestGzipBombIsAMember(t *testing.T) {
	const mebibytes = 2
	member := gzipBomb('x', mebibytes)
	reader, err := gzip.NewReader(bytes.NewReader(member))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil || !bytes.Equal(content, bytes.Repeat([]byte("x"), mebibytes<<20)) || len(content) <= 1000*len(member) {
		t.Errorf("%d bytes of %d, %v", len(content), len(member), err)
	}
}

// The content of two layers is compared with the bytes of the input: each layer alone, and each inner member, is small enough.
func TestNestedBomb(t *testing.T) {
	inner := gzipBomb('\n', 30)
	data := slices.Concat(zstded(bytes.Repeat(inner, 100)), []byte(event)) // 3 GB
	check(t, data, []string{event}, "zstd frame 1: zstd: "+bomb)
}

// Two layers are read if their content is at most 32 MiB or 1,000 times the input, even if the inner layer is compressed a
// lot by the outer one.
func TestNestedDense(t *testing.T) {
	data := zstded(append(gzipBomb('\n', 31), event...))
	check(t, data, []string{event})
}

// An interruption also ends the reading of content that needs no more bytes of the input.
func TestInterruptionEndsReading(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	lines := gzipped(bytes.Repeat([]byte(event+"\n"), 100_000)) // the input is read completely before the first event
	events := 0
	var last error
	for _, err := range input.Read(ctx, bytes.NewReader(lines)) {
		if events++; err != nil {
			last = err
		}
		interrupt()
	}
	if !errors.Is(last, context.Canceled) || events > 2000 {
		t.Errorf("%d events, %v", events, last)
	}
}

// Any input is read without a panic, each event is valid, and a reader that yields byte by byte gives the same result.
func FuzzRead(f *testing.F) {
	for _, data := range vectors(f) {
		f.Add(data)
		f.Add([]byte(base64Of(data)))
		f.Add(getRecords(data))
		f.Add(slices.Concat(data, gzipped(data), []byte(event), zstded(lambdaEvent(data))))
	}
	f.Add([]byte(event + "\n{\n" + event + "\n"))
	f.Add([]byte(`{"Records":[{"kinesis":{"data":"` + base64Of([]byte(event)) + `"}},"x",[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		var events, unreadable []string
		for event, err := range input.Read(t.Context(), bytes.NewReader(data)) {
			if err != nil {
				if _, ok := errors.AsType[*input.UnreadableError](err); !ok {
					t.Fatalf("the reader cannot fail: %v", err)
				}
				unreadable = append(unreadable, err.Error())
				continue
			}
			if !json.Valid(event.Raw) {
				t.Errorf("an event that is not JSON: %q", event.Raw)
			}
			if event.Format != record.CloudWatch && event.Source.Instance == "" {
				t.Errorf("an event without an instance: %q", event.Raw)
			}
			events = append(events, string(event.Raw))
		}
		bytewise, unreadableBytewise, err := read(iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil || !slices.Equal(events, bytewise) || !slices.Equal(unreadable, unreadableBytewise) {
			t.Errorf("%d events, byte by byte %d; unreadable %q, byte by byte %q",
				len(events), len(bytewise), unreadable, unreadableBytewise)
		}
	})
}
