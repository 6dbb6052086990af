// Package record is the format of what the extension writes to a Kinesis data stream, both ways: it packs telemetry
// events into the data of Kinesis records and reads them back. It does no I/O and imports nothing but the standard
// library and a compressor. FORMAT.md is the specification.
//
// An event goes through as bytes: what Lambda posted is copied, never decoded and encoded again. The extension's own
// members (requestId, seq, source) are appended behind Lambda's.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Format is a way to lay events out in the data of Kinesis records.
type Format string

const (
	// NDJSON is many events a record, each a line that ends in "\n".
	NDJSON Format = "ndjson"
	// JSON is one event a record, without a line end.
	JSON Format = "json"
	// CloudWatch is the record of a CloudWatch Logs subscription: an envelope of many log events, gzip'ed.
	CloudWatch Format = "cloudwatch"
	// KPL is the aggregated record of the Kinesis Producer Library: each event is one record to those that take it apart.
	KPL Format = "kpl"
)

// Event is one telemetry event that has got its place in the stream. Its bytes are not changed.
type Event struct {
	// Raw is the JSON object as Lambda posted it: at least "{}", valid UTF-8, no line breaks.
	Raw []byte
	// RequestID is the content of a JSON string (already escaped); empty where the invocation is not known.
	RequestID string
	// Seq is the event's number within Source's instance.
	Seq uint64
	// Source says where the event comes from.
	Source *Source
}

// Source says where events come from. It is encoded once and shared by all events of one instance.
type Source struct {
	instance string
	member   []byte // of each event, and the event's closing brace
}

// SourceFields are the members of an event's "source". Empty ones are left out, but for Instance.
type SourceFields struct {
	Function string            `json:"function,omitempty"`
	Version  string            `json:"version,omitempty"`
	Account  string            `json:"account,omitempty"`
	Region   string            `json:"region,omitempty"`
	Instance string            `json:"instance"`
	Tags     map[string]string `json:"tags,omitempty"`
}

// NewSource encodes fields.
func NewSource(fields SourceFields) *Source {
	encoded, err := json.Marshal(fields)
	if err != nil {
		panic("record: a source of strings did not encode: " + err.Error()) // cannot be: strings and a map of strings
	}
	return newSource(fields.Instance, encoded)
}

// ParseSource reads what JSON has given. It fails on anything but an object with an instance.
func ParseSource(encoded []byte) (*Source, error) {
	var fields SourceFields
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return nil, fmt.Errorf("record: source: %w", err)
	}
	if fields.Instance == "" {
		return nil, errors.New("record: source: no instance")
	}
	return newSource(fields.Instance, encoded), nil
}

func newSource(instance string, encoded []byte) *Source {
	return &Source{instance: instance, member: slices.Concat([]byte(sourceMember), encoded, []byte("}"))}
}

// JSON is the source as the stream has it. It must not be changed.
func (s *Source) JSON() []byte { return s.member[len(sourceMember) : len(s.member)-1] }

// Instance is the source's instance: the life of one extension process, within which seq counts.
func (s *Source) Instance() string { return s.instance }

const (
	requestIDMember = `,"requestId":"`
	seqMember       = `,"seq":`
	sourceMember    = `,"source":`
)

// AppendEvent appends the event as one JSON object without a line end: Lambda's members, then the extension's own.
func AppendEvent(dst []byte, e *Event) []byte {
	return AppendMembers(append(dst, e.Raw[:len(e.Raw)-1]...), e)
}

// AppendMembers appends what stands behind Lambda's members: the extension's own, and the closing brace.
func AppendMembers(dst []byte, e *Event) []byte {
	comma := 0
	if isEmptyObject(e.Raw[:len(e.Raw)-1]) {
		comma = 1 // nothing stands before the first of our members
	}
	if e.RequestID == "" {
		dst = append(dst, seqMember[comma:]...)
	} else {
		dst = append(dst, requestIDMember[comma:]...)
		dst = append(dst, e.RequestID...)
		dst = append(dst, `"`+seqMember...)
	}
	dst = strconv.AppendUint(dst, e.Seq, 10)
	return append(dst, e.Source.member...)
}

// EventSize is the number of bytes that AppendEvent appends.
func EventSize(e *Event) int {
	size := len(e.Raw) - 1 + len(seqMember) + decimalDigits(e.Seq) + len(e.Source.member)
	if e.RequestID != "" {
		size += len(requestIDMember) + len(e.RequestID) + 1
	}
	if isEmptyObject(e.Raw[:len(e.Raw)-1]) {
		size--
	}
	return size
}

// isEmptyObject tells whether an object, its closing brace cut off, has no member.
func isEmptyObject(inner []byte) bool {
	for _, c := range inner[1:] {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}

func decimalDigits(n uint64) int {
	digits := 1
	for n >= 10 {
		n /= 10
		digits++
	}
	return digits
}
