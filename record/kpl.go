package record

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
)

// An aggregated record of the Kinesis Producer Library is a magic number, a protobuf message and its MD5:
// https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
const (
	kplMagic = "\xf3\x89\x9a\xc2"

	// AggregatedRecord
	kplKeyTable = 1<<3 | protobufBytes
	kplRecords  = 3<<3 | protobufBytes
	// Record
	kplKeyIndex = 1<<3 | protobufVarint
	kplData     = 3<<3 | protobufBytes

	protobufVarint  = 0
	protobufFixed64 = 1
	protobufBytes   = 2
	protobufFixed32 = 5
)

// KPLEncoder encodes one record of the format KPL. All events have the partition key of the record itself, and no hash key: a
// consumer drops sub-records, or the whole record, if their keys belong to another shard. It keeps no memory.
type KPLEncoder struct {
	dst  []byte
	from int
}

// Begin starts a record that is appended to dst.
func (e *KPLEncoder) Begin(dst []byte, partitionKey string) {
	e.from = len(dst)
	dst = append(dst, kplMagic...)
	dst = append(dst, kplKeyTable)
	dst = binary.AppendUvarint(dst, uint64(len(partitionKey)))
	dst = append(dst, partitionKey...)
	e.dst = dst
}

// Add adds an event: a line, whose line end is dropped.
func (e *KPLEncoder) Add(line []byte) {
	line = bytes.TrimSuffix(line, newline)
	e.dst = append(e.dst, kplRecords)
	e.dst = binary.AppendUvarint(e.dst, uint64(kplEventSize(len(line))))
	e.dst = append(e.dst, kplKeyIndex, 0, kplData)
	e.dst = binary.AppendUvarint(e.dst, uint64(len(line)))
	e.dst = append(e.dst, line...)
}

// End ends the record and returns dst with it.
func (e *KPLEncoder) End() []byte {
	dst := e.dst
	sum := md5.Sum(dst[e.from+len(kplMagic):])
	e.dst = nil
	return append(dst, sum[:]...)
}

// MaxKPLSize returns an upper bound of the size of a record in the format KPL. size is the total size of its lines, one per
// event, with their line ends.
func MaxKPLSize(partitionKey string, events, size int) int {
	longest := varintSize(kplEventSize(size))
	head := len(kplMagic) + 1 + varintSize(len(partitionKey)) + len(partitionKey) + md5.Size
	return head + size + events*(1+longest+2+1+longest-len("\n"))
}

// kplEventSize returns the size of the protobuf message Record with data of size bytes.
func kplEventSize(size int) int { return 2 + 1 + varintSize(size) + size }

func varintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

var errProtobuf = errors.New("their protobuf message is not an AggregatedRecord")

// kplEvents yields the data of the sub-records.
func kplEvents(data []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		message := data[len(kplMagic):]
		size := len(message) - md5.Size
		if size < 0 {
			yield(nil, errors.New("they are too short"))
			return
		}
		if sum := md5.Sum(message[:size]); !bytes.Equal(sum[:], message[size:]) {
			yield(nil, errors.New("their MD5 is wrong: they were cut short, or are not an aggregated record"))
			return
		}
		for message = message[:size]; len(message) > 0; {
			tag, value, rest, err := protobufField(message)
			if err == nil && tag == kplRecords {
				value, err = kplDataOf(value)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if tag == kplRecords && !yield(value, nil) {
				return
			}
			message = rest
		}
	}
}

// kplDataOf returns the data of a protobuf message Record.
func kplDataOf(message []byte) (data []byte, err error) {
	for found := false; len(message) > 0 || !found; {
		tag, value, rest, err := protobufField(message)
		if err != nil {
			return nil, err
		}
		if tag == kplData {
			data, found = value, true
		}
		message = rest
	}
	return data, nil
}

// protobufField reads the first field of a message. value is the content of a field with a length.
func protobufField(message []byte) (tag uint64, value, rest []byte, err error) {
	tag, n := binary.Uvarint(message)
	if n <= 0 {
		return 0, nil, nil, errProtobuf
	}
	rest = message[n:]
	var size uint64
	switch tag & 7 {
	case protobufVarint:
		if _, n = binary.Uvarint(rest); n <= 0 {
			return 0, nil, nil, errProtobuf
		}
		return tag, nil, rest[n:], nil
	case protobufFixed64:
		size = 8
	case protobufFixed32:
		size = 4
	case protobufBytes:
		if size, n = binary.Uvarint(rest); n <= 0 {
			return 0, nil, nil, errProtobuf
		}
		rest = rest[n:]
	default:
		return 0, nil, nil, fmt.Errorf("%w: wire type %d", errProtobuf, tag&7)
	}
	if size > uint64(len(rest)) {
		return 0, nil, nil, errProtobuf
	}
	return tag, rest[:size], rest[size:], nil
}
