package kinesis

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// encoder encodes in base64 as encoding/base64 does, in half the time: all that is shipped goes through it. It has the characters
// of each 12 bits, the first in the upper half.
type encoder [1 << 12]uint16

func newEncoder() *encoder {
	var e encoder
	for i := range e {
		e[i] = uint16(alphabet[i>>6])<<8 | uint16(alphabet[i&63])
	}
	return &e
}

// append appends data in base64, padded.
func (e *encoder) append(buf, data []byte) []byte {
	size := base64.StdEncoding.EncodedLen(len(data))
	buf = slices.Grow(buf, size)
	buf = buf[:len(buf)+size]
	to := buf[len(buf)-size:]
	for len(data) >= 16 && len(to) >= 16 { // twelve of them are encoded
		binary.BigEndian.PutUint64(to, e.six(binary.BigEndian.Uint64(data)))
		binary.BigEndian.PutUint64(to[8:], e.six(binary.BigEndian.Uint64(data[6:])))
		data, to = data[12:], to[16:]
	}
	base64.StdEncoding.Encode(to, data)
	return buf
}

// six encodes the first six of eight bytes.
func (e *encoder) six(bits uint64) uint64 {
	return uint64(e[bits>>52])<<48 | uint64(e[bits>>40&0xfff])<<32 | uint64(e[bits>>28&0xfff])<<16 | uint64(e[bits>>16&0xfff])
}
