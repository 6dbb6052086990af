// Package record implements the format of the extension's Kinesis records: it packs telemetry events into the data of records
// and reads them back. It does no I/O and imports only the standard library and a compressor. FORMAT.md is the specification.
//
// An event's bytes are copied as Lambda posted them, never decoded and encoded again. The extension's own members (requestId,
// seq, source) are appended after Lambda's.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Format is a layout of events in the data of Kinesis records.
type Format string

const (
	// NDJSON has many events in a record, each a line that ends in "\n".
	NDJSON Format = "ndjson"
	// JSON has one event in a record, without a line end.
	JSON Format = "json"
	// CloudWatch is the record of a CloudWatch Logs subscription: an envelope of many log events, compressed with gzip.
	CloudWatch Format = "cloudwatch"
	// KPL is the aggregated record of the Kinesis Producer Library: consumers that deaggregate it get one record per event.
	KPL Format = "kpl"
)

// Event is one telemetry event with its number and source. Its bytes are not changed.
type Event struct {
	// Raw is the JSON object as Lambda posted it: at least "{}", valid UTF-8, no line breaks.
	Raw []byte
	// RequestID is the content of a JSON string (already escaped); empty if the invocation is not known.
	RequestID string
	// Seq is the event's number within Source's instance.
	Seq uint64
	// Source is the event's function and instance.
	Source *Source
}

// Source is the function and the instance that events come from. It is encoded once, and all events of one instance share it.
type Source struct {
	instance string
	member   []byte // the member "source" of each event, and the event's closing brace
}

// SourceFields are the members of an event's "source". Empty members are left out, except Instance.
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
		panic("record: a source of strings did not encode: " + err.Error()) // cannot happen: strings and a map of strings
	}
	return newSource(fields.Instance, encoded)
}

// ParseSource reads a source that JSON has encoded. It fails if encoded is not an object with an instance.
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

// JSON returns the source as events have it. The caller must not change it.
func (s *Source) JSON() []byte { return s.member[len(sourceMember) : len(s.member)-1] }

// Instance returns the source's instance: one run of an extension process, within which seq counts.
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

// AppendMembers appends the end of the event, after Lambda's members: the extension's members and the closing brace.
func AppendMembers(dst []byte, e *Event) []byte {
	comma := 0
	if isEmptyObject(e.Raw[:len(e.Raw)-1]) {
		comma = 1 // no comma before the extension's first member
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

// EventSize returns the number of bytes that AppendEvent appends.
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

// isEmptyObject reports whether an object, without its closing brace, has no member.
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
