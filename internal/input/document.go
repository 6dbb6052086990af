package input

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// documentMembers are the members that can be the first of a document: a reply of GetRecords, or an event of a Lambda function.
var documentMembers = []string{
	"Records", "NextShardIterator", "MillisBehindLatest", "ChildShards", "ResponseMetadata", "$metadata", "window", "shardId", "invocationId",
}

func isDocument(firstMember string) bool {
	for _, name := range documentMembers {
		if strings.EqualFold(firstMember, name) {
			return true
		}
	}
	return false
}

// element is a record in a document of GetRecords, a Lambda event source mapping or Firehose. Their members differ in case,
// which encoding/json ignores.
type element struct {
	Data           *string
	Arrived        json.RawMessage `json:"ApproximateArrivalTimestamp"`
	SequenceNumber string
	Kinesis        *element
}

var (
	errNoDocument = errors.New("it is not JSON")
	errNoData     = errors.New("it has no data of a Kinesis record")
)

// document reads a JSON object with records, or an array of records. It buffers one record at a time.
func (s *section) document() {
	where := s.place()
	head, _ := s.from.Peek(1)
	var err error
	if head[0] == '[' {
		err = s.elements()
	} else {
		err = s.documentObject()
	}
	if err != nil {
		s.failAt(where, fmt.Errorf("a JSON document that cannot be read at %s: %w", s.place(), err))
		s.skipLine()
	}
}

// documentObject reads the members of the object that begins here.
func (s *section) documentObject() error {
	return s.list('}', func() error {
		name, err := s.value(true)
		if err != nil {
			return err
		}
		records := strings.EqualFold(string(name), `"Records"`)
		if head, err := s.skipSpace(); err != nil || head[0] != ':' {
			return errNoDocument
		}
		_, _ = s.from.Discard(1)
		head, err := s.skipSpace()
		if err != nil {
			return errCut
		}
		if records && head[0] == '[' {
			return s.elements()
		}
		_, err = s.value(true)
		return err
	})
}

// elements reads the array of records that begins here.
func (s *section) elements() error {
	return s.list(']', func() error {
		value, err := s.value(true)
		if err == nil {
			s.element(value)
		}
		return err
	})
}

// list calls read for each element between the bracket that begins here and its closing one.
func (s *section) list(closing byte, read func() error) error {
	_, _ = s.from.Discard(1)
	for first := true; !s.stopped; first = false {
		head, err := s.skipSpace()
		if err != nil {
			return errCut
		}
		switch {
		case head[0] == closing:
			_, _ = s.from.Discard(1)
			return nil
		case first:
		case head[0] != ',':
			return errNoDocument
		default:
			_, _ = s.from.Discard(1)
			if _, err = s.skipSpace(); err != nil {
				return errCut
			}
		}
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// element reads a record of a document: an object, or a string of base64.
func (s *section) element(value []byte) {
	s.records++
	where := fmt.Sprintf("%srecord %d", s.prefix, s.records)
	e := element{}
	var err error
	if value[0] == '"' {
		err = json.Unmarshal(value, &e.Data)
	} else {
		err = json.Unmarshal(value, &e)
	}
	if err != nil {
		s.failAt(where, err)
		return
	}
	if e.Kinesis != nil {
		e = *e.Kinesis
	}
	if e.SequenceNumber != "" {
		where += ", sequence number " + e.SequenceNumber
	}
	if e.Data == nil {
		s.failAt(where, errNoData)
		return
	}
	data, err := base64.StdEncoding.DecodeString(*e.Data)
	if err != nil {
		s.failAt(where, fmt.Errorf("its data: %w", err))
		return
	}
	s.unpack(where, data, arrival(e.Arrived), s.compression)
}

// arrival reads a time: text in version 2 of the AWS CLI, elsewhere seconds since 1970.
func arrival(value json.RawMessage) time.Time {
	var text string
	if json.Unmarshal(value, &text) == nil {
		at, _ := time.Parse(time.RFC3339, text)
		return at
	}
	var seconds float64
	if json.Unmarshal(value, &seconds) != nil || seconds <= 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000)))
}
