package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// Line is one event read back from the stream. A member that is absent is its zero value.
type Line struct {
	Time      string          `json:"time"`
	Type      string          `json:"type"`
	Record    json.RawMessage `json:"record"` // the bytes that Lambda posted, where the event is not truncated
	RequestID string          `json:"requestId"`
	Seq       uint64          `json:"seq"`
	Source    SourceFields    `json:"source"`
	// Truncated is the size of the record as Lambda posted it; then Record is a string with the beginning of its JSON text.
	Truncated int `json:"truncated"`

	// Raw are the bytes of the event: a line without its line end, the data of a sub-record, an element of logEvents. They share memory with
	// the record where it is not compressed.
	Raw []byte `json:"-"`
	// Format and Compression are the record's.
	Format      Format      `json:"-"`
	Compression Compression `json:"-"`
}

// ErrForeign is what others have written into the stream. The error that wraps it says what the data look like.
var ErrForeign = errors.New("not written by the extension")

// Unpack reads the data of one Kinesis record in any format and compression, in order. It tells them apart by their bytes, and reads
// several records in a row, too, as Firehose puts them into one object. An event that cannot be read is yielded as an error that names
// its place, and the ones behind it follow, until a thousand in a row cannot be read. Data that are no events of the extension are an
// error that wraps ErrForeign.
//
// An event of the format CloudWatch has fewer members: Seq, the first 20 digits of Source.Instance, Source.Account, Source.Function
// where the log group has the default name, Time, Record, and Type if the message tells. What CloudWatch Logs itself has written into
// the stream is read, too, and has no Seq and no instance.
//
// Of compressed data it takes 64 MiB at most; above 32 MiB, 1,000 times their size.
func Unpack(data []byte) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		u := unpacker{yield: yield}
		for part, err := range decompressed(data) {
			u.compression = part.with
			switch {
			case err != nil:
				u.fail(err)
			case part.with != Uncompressed && compressionOf(part.data) != Uncompressed:
				u.fail(fmt.Errorf("%w: data that are compressed twice", ErrForeign))
			default:
				u.plain(part.data)
			}
			if u.stopped {
				return
			}
		}
	}
}

// unpacker yields the events of one record.
type unpacker struct {
	yield       func(Line, error) bool
	stopped     bool
	compression Compression
	format      Format
	unreadable  int // errors since the last event
}

// maxUnreadable is how many errors in a row are yielded: a bomb has millions of lines.
const maxUnreadable = 1000

func (u *unpacker) emit(line *Line, err error) {
	line.Format, line.Compression = u.format, u.compression
	if u.unreadable++; err == nil {
		u.unreadable = 0
	}
	if u.unreadable == maxUnreadable {
		err = fmt.Errorf("the last of %d errors in a row that are reported: %w", maxUnreadable, err)
		u.stopped = true
	}
	u.stopped = !u.yield(*line, err) || u.stopped
}

func (u *unpacker) fail(err error) { u.emit(&Line{}, err) }

// plain reads data that are not compressed (any more).
func (u *unpacker) plain(data []byte) {
	if len(data) == 0 {
		return
	}
	if hasPrefix(data, kplMagic) {
		u.kpl(data)
		return
	}
	if what := foreign(data); what != "" {
		u.format = ""
		u.emit(&Line{Raw: data}, fmt.Errorf("%w: %s", ErrForeign, what))
		return
	}
	u.format = JSON
	if bytes.IndexByte(data, '\n') >= 0 {
		u.format = NDJSON
	}
	number := 0
	for raw := range bytes.Lines(data) {
		number++
		u.line(bytes.TrimSuffix(raw, newline), number)
		if u.stopped {
			return
		}
	}
}

// line reads the events of one line: one, or several of the format JSON in a row, or envelopes.
func (u *unpacker) line(raw []byte, number int) {
	for first := true; first || len(raw) > 0; first = false {
		value, rest := raw, []byte(nil)
		if end := skipValue(raw, skipSpace(raw, 0)); end > 0 && hasPrefix(raw[skipSpace(raw, end):], "{") {
			value, rest = raw[:end], raw[skipSpace(raw, end):]
		}
		if isEnvelope(value) {
			format := u.format
			u.format = CloudWatch
			u.envelope(value)
			u.format = format
		} else {
			line, err := parseLine(value)
			if err != nil {
				err = fmt.Errorf("line %d of the record is not an event: %w", number, err)
			}
			u.emit(&line, err)
		}
		if u.stopped {
			return
		}
		raw = rest
	}
}

func (u *unpacker) kpl(data []byte) {
	u.format = KPL
	number := 0
	for raw, err := range kplEvents(data) {
		if err != nil {
			u.emit(&Line{Raw: data}, fmt.Errorf("%w: it begins like a record of the format kpl, but %w", ErrForeign, err))
			return
		}
		number++
		line, err := parseLine(raw)
		if err != nil {
			err = fmt.Errorf("sub-record %d of the record is not an event: %w", number, err)
		}
		if u.emit(&line, err); u.stopped {
			return
		}
	}
}

// ParseEvent reads one event: a line of the format NDJSON without its line end, the data of a record of the format JSON. Raw is the line
// itself.
func ParseEvent(line []byte) (Line, error) {
	event, err := parseLine(line)
	event.Format = JSON
	return event, err
}

// parseLine reads one event.
func parseLine(raw []byte) (Line, error) {
	line := Line{Raw: raw}
	if at := skipSpace(raw, 0); at < len(raw) && raw[at] != '{' {
		return line, fmt.Errorf("%w: text, %.40q", ErrForeign, raw[at:])
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		return line, err
	}
	if line.Source.Instance == "" {
		return line, fmt.Errorf("%w: JSON without source.instance", ErrForeign)
	}
	return line, nil
}

// foreign says what data look like, if it is nothing that begins as ours do.
func foreign(data []byte) string {
	if data[skipSpace(data[:len(data)-1], 0)] == '{' {
		return ""
	}
	for _, known := range []struct{ begins, what string }{
		{"[", "a JSON array"},
		{"H4sI", "base64 of gzip: decode it first"},
		{"KLUv/", "base64 of zstd: decode it first"},
		{"84mawg", "base64 of a KPL aggregated record: decode it first"},
		{"eyJ", "base64 of JSON: decode it first"},
		{"Obj\x01", "an Avro file"},
		{"PAR1", "a Parquet file"},
		{"PK\x03\x04", "a zip archive"},
		{"BZh", "bzip2"},
		{"\xfd7zXZ\x00", "xz"},
		{"\x04\x22\x4d\x18", "lz4"},
		{"\xff\x06\x00\x00sNaPpY", "snappy"},
		{"\x78\x01", "zlib"},
		{"\x78\x9c", "zlib"},
		{"\x78\xda", "zlib"},
		{"\x03\x00", "a record of the Glue Schema Registry"},
		{"\x03\x05", "a record of the Glue Schema Registry, compressed"},
	} {
		if hasPrefix(data, known.begins) {
			return known.what
		}
	}
	for _, c := range data[:min(len(data), 256)] {
		if c < ' ' && !isSpace(c) || c == 0x7f {
			return "binary data"
		}
	}
	return ""
}
