package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"kinesis-telemetry-extension/record"
)

// ownPrefix begins the type of the extension's own events.
const ownPrefix = "kinesis-telemetry."

// Line is one line of a record: an event, or bytes that should have been one.
type Line struct {
	// Raw is the line without its line feed. Raw, Time, Type and Record share the record's memory.
	Raw []byte
	// Time, Type and Record are the members' values, byte for byte, strings with their quotes. An absent member is nil.
	Time, Type, Record json.RawMessage
	// RequestID is empty if the line has none.
	RequestID string
	// Instance and Seq are the line's number, if Numbered.
	Instance string
	Seq      uint64
	Numbered bool
	// MessageOnly marks a log event of the format cloudwatch: the line has only the event's message. Its number and its time
	// identify the event.
	MessageOnly bool
	// Err is why the line is not an event. The members are then not valid.
	Err error
}

// TypeName returns the event's type without quotes; empty if it is not a string.
func (l *Line) TypeName() string { return text(l.Type) }

// TimeText returns the event's time as text; empty if it is not a string.
func (l *Line) TimeText() string { return text(l.Time) }

// fromExtension reports whether the event is the extension's own, not Lambda's.
func (l *Line) fromExtension() bool { return strings.HasPrefix(l.TypeName(), ownPrefix) }

var (
	errEmptyRecord = errors.New("the record is empty")
	errEmptyLine   = errors.New("the line is empty")
	errNoLineFeed  = errors.New("the record's last line does not end in a line feed")
	errNotUTF8     = errors.New("the line is not valid UTF-8")
)

// Lines splits a record's data into its events. In a line format, each byte is part of a Line or is the line feed after it. A
// line that is not an event has an Err. A record of a single line needs no line feed (format json).
func Lines(data []byte) []Line {
	plain, compression, err := record.Decompress(data)
	if err != nil {
		return []Line{{Raw: data, Err: err}}
	}
	if compression != record.Uncompressed {
		data = plain
	}
	for line, err := range record.Unpack(data) {
		if err == nil && (line.Format == record.KPL || line.Format == record.CloudWatch) {
			return unpacked(data)
		}
		break
	}
	return split(data)
}

// unpacked returns the events of a record that does not consist of lines.
func unpacked(data []byte) (lines []Line) {
	for event, err := range record.Unpack(data) {
		line := Line{Raw: event.Raw, Err: err}
		switch {
		case err != nil:
		case event.Format == record.CloudWatch:
			line.Time, line.Type, line.Record = quoted(event.Time), quoted(event.Type), event.Record
			line.Instance, line.Seq = event.Source.Instance, event.Seq
			line.Numbered, line.MessageOnly = event.Source.Instance != "", true
		default:
			line = parseLine(event.Raw)
		}
		lines = append(lines, line)
	}
	return lines
}

func quoted(text string) json.RawMessage {
	encoded, _ := json.Marshal(text) // a string always encodes
	return encoded
}

// split returns the lines of data.
func split(data []byte) []Line {
	if len(data) == 0 {
		return []Line{{Err: errEmptyRecord}}
	}
	lines := make([]Line, 0, bytes.Count(data, []byte{'\n'})+1)
	for len(data) > 0 {
		raw, rest, ended := bytes.Cut(data, []byte{'\n'})
		line := parseLine(raw)
		if !ended && len(lines) > 0 && line.Err == nil {
			line.Err = errNoLineFeed
		}
		lines = append(lines, line)
		data = rest
	}
	return lines
}

func parseLine(raw []byte) Line {
	line := Line{Raw: raw}
	if len(bytes.TrimSpace(raw)) == 0 {
		line.Err = errEmptyLine
		return line
	}
	if !utf8.Valid(raw) {
		line.Err = errNotUTF8
		return line
	}
	members, err := membersOf(raw)
	if err != nil {
		line.Err = err
		return line
	}
	line.Time, line.Type, line.Record = members["time"], members["type"], members["record"]
	line.RequestID = text(members["requestId"])
	line.Err = line.number(members["seq"], members["source"])
	return line
}

// number reads seq and source.instance. A line with neither is another writer's. A line with only one of them is a bug of the
// extension.
func (l *Line) number(seq, source json.RawMessage) error {
	if seq == nil && source == nil {
		return nil
	}
	from, err := membersOf(source)
	instance := text(from["instance"])
	if err != nil || instance == "" {
		return errors.New("source has no instance")
	}
	if err := json.Unmarshal(seq, &l.Seq); err != nil || bytes.Equal(seq, []byte("null")) {
		return fmt.Errorf("seq %.40q is not a number that counts events", seq)
	}
	l.Instance, l.Numbered = instance, true
	return nil
}

// membersOf returns the members of a JSON object with the exact bytes of their values. The last of two members of one name
// counts: the extension's members follow Lambda's.
func membersOf(raw []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("the line is not JSON: %w", syntax)
		}
		return nil, errors.New("the line is not a JSON object")
	}
	if members == nil {
		return nil, errors.New("the line is not a JSON object") // null
	}
	return members, nil
}

// text returns the content of a JSON string; empty if raw is not a string.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
