package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// Line is one event that was read from the stream. An absent member has its zero value.
type Line struct {
	Time      string          `json:"time"`
	Type      string          `json:"type"`
	Record    json.RawMessage `json:"record"` // the bytes that Lambda posted, unless the event is truncated
	RequestID string          `json:"requestId"`
	Seq       uint64          `json:"seq"`
	Source    SourceFields    `json:"source"`
	// Truncated is the size of the record that Lambda posted, if the event is truncated. Record is then a string with the
	// beginning of that record's JSON text.
	Truncated int `json:"truncated"`

	// Raw has the bytes of the event: a line without its line end, the data of a sub-record, or an element of logEvents. It
	// shares the memory of an uncompressed record.
	Raw []byte `json:"-"`
	// Format and Compression are the record's.
	Format      Format      `json:"-"`
	Compression Compression `json:"-"`
}

// ErrForeign reports data that another writer wrote into the stream. The error that wraps it names the kind of data.
var ErrForeign = errors.New("not written by the extension")

// Unpack yields the events in the data of one Kinesis record, in order. It detects the format and the compression by the
// bytes. It also reads several concatenated records, as Firehose writes them into one object. For an event that it cannot read
// it yields an error with the event's place, and continues after it; it stops after a thousand errors in a row. For data of
// another writer the error wraps ErrForeign.
//
// An event of the format CloudWatch has fewer members: Seq, the first 20 digits of Source.Instance, Source.Account, Time,
// Record, Source.Function if the log group has the default name, and Type if the message has it. Unpack also reads the records
// of CloudWatch Logs itself: their events have no Seq and no instance.
//
// Unpack decompresses at most 64 MiB, and above 32 MiB at most 1,000 times the size of the data.
func Unpack(data []byte) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		u := unpacker{yield: yield}
		for part, err := range decompressed(data) {
			u.compression = part.with
			switch {
			case err != nil:
				u.fail(err)
			case part.with != Uncompressed && compressionOf(part.data) != Uncompressed:
				u.fail(fmt.Errorf("%w: data compressed twice", ErrForeign))
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

// maxUnreadable bounds the errors in a row: a decompression bomb has millions of lines.
const maxUnreadable = 1000

func (u *unpacker) emit(line *Line, err error) {
	line.Format, line.Compression = u.format, u.compression
	if u.unreadable++; err == nil {
		u.unreadable = 0
	}
	if u.unreadable == maxUnreadable {
		err = fmt.Errorf("the last reported of %d errors in a row: %w", maxUnreadable, err)
		u.stopped = true
	}
	u.stopped = !u.yield(*line, err) || u.stopped
}

func (u *unpacker) fail(err error) { u.emit(&Line{}, err) }

// plain reads uncompressed data.
func (u *unpacker) plain(data []byte) {
	if len(data) == 0 {
		return
	}
	if hasPrefix(data, kplMagic) {
		u.kpl(data)
		return
	}
	if kind := foreignKind(data); kind != "" {
		u.format = ""
		u.emit(&Line{Raw: data}, fmt.Errorf("%w: %s", ErrForeign, kind))
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

// line reads the events of one line: an event, several concatenated events of the format JSON, or envelopes.
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
			u.emit(&Line{Raw: data}, fmt.Errorf("%w: the data begin like a record of the format kpl, but %w", ErrForeign, err))
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

// ParseEvent reads one event: a line of the format NDJSON without its line end, or the data of a record of the format JSON.
// Raw is the line itself.
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

// foreignKind names the kind of data that do not begin like a record of the extension. It returns "" for data that may be one.
func foreignKind(data []byte) string {
	if data[skipSpace(data[:len(data)-1], 0)] == '{' {
		return ""
	}
	for _, known := range []struct{ prefix, kind string }{
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
		if hasPrefix(data, known.prefix) {
			return known.kind
		}
	}
	for _, c := range data[:min(len(data), 256)] {
		if c < ' ' && !isSpace(c) || c == 0x7f {
			return "binary data"
		}
	}
	return ""
}
