package record_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"kinesis-telemetry-extension/record"
)

// layout packs lines into records as the extension does.
type layout struct {
	format      record.Format
	compression record.Compression
}

var layouts = []layout{
	{record.NDJSON, record.Uncompressed},
	{record.NDJSON, record.Gzip},
	{record.NDJSON, record.Zstd},
	{record.JSON, record.Uncompressed},
	{record.JSON, record.Gzip},
	{record.JSON, record.Zstd},
	{record.KPL, record.Uncompressed},
	{record.CloudWatch, record.Gzip},
}

func (l layout) String() string { return fmt.Sprintf("%s %s", l.format, l.compression) }

// pack returns the data of one record, or of one record per line.
func (l layout) pack(t testing.TB, lines ...[]byte) (records [][]byte) {
	switch l.format {
	case record.CloudWatch:
		data, _, _ := cloudWatch(t, new(record.CloudWatchEncoder), lines...)
		return [][]byte{data}
	case record.KPL:
		var encoder record.KPLEncoder
		encoder.Begin(nil, source.Instance())
		for _, line := range lines {
			encoder.Add(line)
		}
		return [][]byte{encoder.End()}
	case record.JSON:
		for _, line := range lines {
			records = append(records, bytes.TrimSuffix(line, []byte("\n")))
		}
	default:
		records = append(records, bytes.Join(lines, nil))
	}
	if l.compression != record.Uncompressed {
		compressor := record.NewCompressor(l.compression)
		for i := range records {
			records[i] = compressor.Append(nil, [][]byte{records[i][:len(records[i])/2], records[i][len(records[i])/2:]})
		}
	}
	return records
}

// Events of every format are read back unchanged, from each record and from all records concatenated.
func TestRoundTrip(t *testing.T) {
	lines := [][]byte{
		stamped(`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"text\n"}`, 0),
		stamped(`{"time":"2026-11-23T18:00:00.124Z","type":"function","record":{"level":"INFO"}}`, 1),
		stamped(`{"time":"2026-11-23T18:00:00.125Z","type":"platform.runtimeDone",`+
			`"record":{"requestId":"8476a536-e9f4-11e8-9739-2dfe598c3fcd"}}`, 2),
		stamped(`{"time":"2026-11-23T18:00:00.126Z","type":"kinesis-telemetry.stats","record":{}}`, 3),
	}
	for _, l := range layouts {
		records := l.pack(t, lines...)
		if l.format != record.KPL { // a record of the format kpl does not contain its length
			records = append(records, bytes.Join(append(records, records...), nil))
		}
		seq := uint64(0)
		for _, data := range records {
			for line, err := range record.Unpack(data) {
				if err != nil {
					t.Fatalf("%v: %v", l, err)
				}
				if line.Seq != seq%4 || line.Format != l.format || line.Compression != l.compression || line.Raw == nil ||
					!strings.HasPrefix(source.Instance(), line.Source.Instance) || line.Source.Function != "checkout" {
					t.Errorf("%v: %+v, event %d", l, line, seq)
				}
				if want := fmt.Sprintf("2026-11-23T18:00:00.%dZ", 123+seq%4); line.Time != want || seq%4 > 0 && line.Type == "" {
					t.Errorf("%v: %+v, event %d", l, line, seq)
				}
				if l.format != record.CloudWatch && !bytes.Equal(line.Raw, bytes.TrimSuffix(lines[seq%4], []byte("\n"))) {
					t.Errorf("%v: %s", l, line.Raw)
				}
				seq++
			}
		}
		want := uint64(12)
		if l.format == record.KPL {
			want = 4
		}
		if seq != want {
			t.Errorf("%v: %d events", l, seq)
		}
	}
}

// Data of another writer and damaged data are an error each, without a panic. The error of the former wraps ErrForeign.
func TestUnpackForeign(t *testing.T) {
	event := stamped(`{"time":"t","type":"function","record":"x"}`, 1)
	kpl := layout{record.KPL, record.Uncompressed}.pack(t, event)[0]
	zipped := layout{record.NDJSON, record.Gzip}.pack(t, event)[0]
	zstd := layout{record.NDJSON, record.Zstd}.pack(t, event)[0]
	envelope := `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s",` +
		`"subscriptionFilters":["kinesis-telemetry-extension"],"logEvents":[`
	kplOfText := layout{record.KPL, record.Uncompressed}.pack(t, []byte("hello"))[0]
	for name, test := range map[string]struct {
		data    string
		foreign bool
		want    string
	}{
		"text":                          {"hello", true, "text"},
		"binary data":                   {"\x00\x01\x02\x03", true, "binary"},
		"an array":                      {`[{"a":1}]`, true, "array"},
		"JSON of another writer":        {`{"type":"order","id":1}`, true, "source.instance"},
		"JSON cut short":                {`{"time":"t","type":"fun`, false, "line 1"},
		"Avro":                          {"Obj\x01\x04\x14avro.codec", true, "Avro"},
		"base64 of gzip":                {base64.StdEncoding.EncodeToString(zipped), true, "base64 of gzip"},
		"base64 of zstd":                {base64.StdEncoding.EncodeToString(zstd), true, "base64 of zstd"},
		"base64 of kpl":                 {base64.StdEncoding.EncodeToString(kpl), true, "base64 of a KPL"},
		"base64 of JSON":                {base64.StdEncoding.EncodeToString(event), true, "base64 of JSON"},
		"kpl, cut short":                {string(kpl[:len(kpl)-1]), true, "MD5"},
		"kpl, shorter than an MD5":      {"\xf3\x89\x9a\xc2abc", true, "too short"},
		"gzip, cut short":               {string(zipped[:len(zipped)-9]), false, "gzip: it is cut short"},
		"gzip, header cut short":        {string(zipped[:5]), false, "gzip: it is cut short"},
		"gzip, damaged":                 {string(zipped[:len(zipped)-8]) + "12345678", false, "gzip: "},
		"zstd, cut short":               {string(zstd[:len(zstd)-1]), false, "zstd: it is cut short"},
		"zstd, damaged":                 {string(zstd[:len(zstd)-4]) + "1234", false, "zstd: "},
		"zstd of gzip":                  {string(record.NewCompressor(record.Zstd).Append(nil, [][]byte{zipped})), true, "twice"},
		"gzip of text":                  {string(record.NewCompressor(record.Gzip).Append(nil, [][]byte{[]byte("hello")})), true, "text"},
		"an envelope cut short":         {envelope + `{"id":"1"`, false, "not JSON"},
		"an envelope with a foreign id": {envelope + `{"id":"123","timestamp":1,"message":"x"}]}`, false, "id"},
		"an envelope with a bad event":  {envelope + `7]}`, false, "log event 1"},
		"an envelope of a wrong type":   {`{"messageType":7}`, true, "messageType"},
		"kpl of text":                   {string(kplOfText), true, "sub-record 1"},
		"an empty object":               {`{}`, true, "source.instance"},
	} {
		n := 0
		for line, err := range record.Unpack([]byte(test.data)) {
			n++
			if err == nil || errors.Is(err, record.ErrForeign) != test.foreign || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %+v, %v", name, line, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d results", name, n)
		}
	}
}

// Events that CloudWatch Logs itself wrote are read, and have no number. Control messages are skipped.
func TestUnpackCloudWatchLogs(t *testing.T) {
	const data = `{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/aws/lambda/f","logStream":"s",` +
		`"subscriptionFilters":["all"],"logEvents":[{"id":"37199773595581154154810589279545129148442535997644275712","timestamp":1668095539607,` +
		`"message":"START RequestId: 8476a536-e9f4 Version: 1\n"}],"policyLevel":"ACCOUNT_LEVEL_POLICY"}` +
		`{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],` +
		`"logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}`
	n := 0
	for line, err := range record.Unpack([]byte(data)) {
		n++
		if err != nil || line.Type != "platform.start" || line.RequestID != "8476a536-e9f4" || line.Source.Instance != "" || line.Seq != 0 ||
			line.Source.Account != "123456789012" || line.Source.Function != "f" || line.Time != "2022-11-10T15:52:19.607Z" ||
			string(line.Record) != `"START RequestId: 8476a536-e9f4 Version: 1\n"` || line.Format != record.CloudWatch {
			t.Errorf("%+v, %v", line, err)
		}
	}
	if n != 1 {
		t.Errorf("%d events", n)
	}
}

// zstdBomb returns a frame of RLE blocks: each has one byte and decompresses to 128 KiB.
func zstdBomb(blocks int) []byte {
	data := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38} // window of 128 KiB
	for i := range blocks {
		header := uint32(128<<10)<<3 | 1<<1
		if i == blocks-1 {
			header |= 1
		}
		data = binary.LittleEndian.AppendUint32(data, header|'x'<<24)
	}
	return data
}

// A decompression bomb is an error and costs a bounded amount of memory.
func TestBombIsAnError(t *testing.T) {
	var zeros bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&zeros, gzip.BestCompression)
	_, _ = writer.Write(make([]byte, 100<<20))
	_ = writer.Close()
	small := record.NewCompressor(record.Gzip).Append(nil, [][]byte{make([]byte, 1<<20)})
	for name, data := range map[string][]byte{
		"gzip":             zeros.Bytes(),
		"zstd":             zstdBomb(16 << 10),
		"zstd of 33 MiB":   zstdBomb(33 * 8),
		"many members":     bytes.Repeat(small, 100),
		"many frames":      bytes.Repeat(zstdBomb(8), 100),
		"a window of 1 GB": append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x03, 0, 0, 'x'}, zstdBomb(1)...),
		"a size of 1 TB":   {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 0x03, 0, 0},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := record.Decompress(data)
		if err == nil {
			t.Errorf("Decompress accepts %s", name)
		}
		var last error
		for _, last = range record.Unpack(data) {
		}
		if last == nil {
			t.Errorf("Unpack accepts %s", name)
		}
		runtime.ReadMemStats(&after)
		// The data are read twice, into buffers that double, and maybe under the race detector.
		if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 2000 {
			t.Errorf("%s: %d MiB allocated", name, allocated)
		}
		t.Logf("%s: %d bytes, %d MiB allocated: %v", name, len(data), (after.TotalAlloc-before.TotalAlloc)>>20, err)
	}
	// A record of the extension may have as high a ratio.
	if plain, _, err := record.Decompress(zstdBomb(8)); err != nil || len(plain) != 1<<20 {
		t.Errorf("%d bytes, %v", len(plain), err)
	}
}

// Unpack stops after a thousand errors in a row.
func TestUnpackStopsAtManyErrors(t *testing.T) {
	event := stamped(`{"time":"t","type":"function","record":"x"}`, 1)
	results, events := 0, 0
	data := slices.Concat(event, bytes.Repeat([]byte("\n"), 500), event, bytes.Repeat([]byte("\n"), 1<<20), event)
	for _, err := range record.Unpack(data) {
		results++
		if err == nil {
			events++
		}
	}
	if results != 1502 || events != 2 {
		t.Errorf("%d results, %d events", results, events)
	}
}

// Lines of all types are read back from every format, and the bounds of sizes hold.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint64(1), `"text\n"`)
	f.Add(uint64(2), `{"a":[1,"\\"]}`)
	f.Fuzz(func(t *testing.T, seed uint64, value string) {
		if !json.Valid([]byte(value)) || strings.ContainsAny(value, "\n\r") {
			t.Skip()
		}
		random := rand.New(rand.NewPCG(seed, 0))
		kinds := []string{"function", "extension", "platform.report", "platform.extension", "platform.initStart", "x"}
		var lines [][]byte
		for seq := range 1 + random.Uint64N(8) {
			raw := fmt.Sprintf(`{"time":"2026-11-23T18:00:%02d.123Z","type":"%s","record":%s}`,
				random.IntN(60), kinds[random.IntN(len(kinds))], value)
			lines = append(lines, stamped(raw, seq))
		}
		size := len(bytes.Join(lines, nil))
		for _, l := range layouts {
			seq := uint64(0)
			for _, data := range l.pack(t, lines...) {
				if bound := record.MaxKPLSize(source.Instance(), len(lines), size); l.format == record.KPL && len(data) > bound {
					t.Errorf("%d bytes, the bound is %d", len(data), bound)
				}
				for line, err := range record.Unpack(data) {
					if err != nil || line.Seq != seq || line.Format != l.format ||
						!strings.HasPrefix(source.Instance(), line.Source.Instance) {
						t.Fatalf("%v, event %d: %+v, error %v, of %s", l, seq, line, err, lines[seq])
					}
					seq++
				}
			}
			if seq != uint64(len(lines)) {
				t.Fatalf("%v: %d of %d events", l, seq, len(lines))
			}
		}
		_, plain, _ := cloudWatch(t, new(record.CloudWatchEncoder), lines...)
		if bound := 2*size + 2<<10; len(plain) > bound { // size is the total size of the lines
			t.Errorf("%d bytes of %d, the bound is %d", len(plain), size, bound)
		}
	})
}

// Any bytes are read to an end, without a panic and within the limits of decompression.
func FuzzUnpackAny(f *testing.F) {
	event := stamped(`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"x"}`, 1)
	for _, l := range layouts {
		data := l.pack(f, event, event)[0]
		f.Add(data)
		f.Add(append(data, data...))
	}
	f.Add([]byte(`{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1","message":"{}"}]}`))
	f.Add(zstdBomb(3))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := slices.Clone(data)
		for line, err := range record.Unpack(data) {
			if err == nil && (line.Raw == nil || line.Format == "") {
				t.Fatalf("%+v", line)
			}
		}
		if !bytes.Equal(data, kept) {
			t.Fatal("the data were changed")
		}
		plain, with, err := record.Decompress(data)
		if len(plain) > 64<<20 || err == nil && with == record.Uncompressed && !bytes.Equal(plain, data) {
			t.Fatalf("%d bytes", len(plain))
		}
		// The encoder also accepts any line, and its output is JSON if the line is.
		encoder := record.CloudWatchEncoder{Owner: "1", LogGroup: "g"}
		encoder.Begin(nil, "i", "s")
		encoder.Add(data)
		envelope, _, err := record.Decompress(encoder.End())
		if err != nil || json.Valid(data) && !json.Valid(envelope) {
			t.Fatalf("%q: %s, %v", data, envelope, err)
		}
	})
}
