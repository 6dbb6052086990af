package input

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

const kplMagic = "\xf3\x89\x9a\xc2"

var errAggregated = errors.New("it cannot be deaggregated: it was cut short, or is not an aggregated record; the rest is skipped")

// aggregated reads an aggregated record of the Kinesis Producer Library. The record has no length: it ends where the MD5 of
// all its fields follows.
func (s *section) aggregated() {
	s.aggregates++
	where := fmt.Sprintf("%saggregated record %d", s.prefix, s.aggregates)
	m := message{section: s, sum: md5.New()}
	s.piece = append(s.piece[:0], kplMagic...)
	_, _ = s.from.Discard(len(kplMagic))
	for {
		end, err := s.from.Peek(md5.Size)
		if err == nil && bytes.Equal(end, m.sum.Sum(nil)) {
			s.piece = append(s.piece, end...)
			_, _ = s.from.Discard(md5.Size)
			s.unpack(where, s.piece, time.Time{}, s.compression)
			return
		}
		if err == nil {
			err = m.field()
		}
		if err != nil {
			if !errors.Is(err, errTooLong) {
				err = errAggregated
			}
			s.failAt(where, err)
			_, _ = io.Copy(io.Discard, s.from)
			return
		}
	}
}

// message reads the fields of a protobuf message into the section's piece.
type message struct {
	*section
	sum hash.Hash // MD5 of the fields so far
}

// field reads one field: https://protobuf.dev/programming-guides/encoding/
func (m *message) field() error {
	begins := len(m.piece)
	tag, err := m.varint()
	if err != nil {
		return err
	}
	size := uint64(0)
	switch tag & 7 {
	case 0:
		_, err = m.varint()
	case 1:
		size = 8
	case 2:
		size, err = m.varint()
	case 5:
		size = 4
	default:
		err = errAggregated
	}
	if err != nil {
		return err
	}
	if size > uint64(maxPiece-min(len(m.piece), maxPiece)) {
		return errTooLong
	}
	for left := int(size); left > 0; { //nolint:gosec // at most maxPiece
		chunk, err := m.chunk()
		if err != nil {
			return err
		}
		n := min(left, len(chunk))
		m.piece = append(m.piece, chunk[:n]...)
		_, _ = m.from.Discard(n)
		left -= n
	}
	m.sum.Write(m.piece[begins:])
	return nil
}

func (m *message) varint() (uint64, error) {
	head, _ := m.from.Peek(binary.MaxVarintLen64)
	value, n := binary.Uvarint(head)
	if n <= 0 {
		return 0, errAggregated
	}
	m.piece = append(m.piece, head[:n]...)
	_, _ = m.from.Discard(n)
	return value, nil
}
