package kinesis

import (
	"encoding/base64"
	"slices"
)

// appendBase64 appends data to buf as padded base64, like encoding/base64. Every shipped byte goes through it, so it
// uses the CPU's vector instructions as far as they can encode.
func appendBase64(buf, data []byte) []byte {
	size := base64.StdEncoding.EncodedLen(len(data))
	buf = slices.Grow(buf, size)
	to := buf[len(buf) : len(buf)+size]
	n := encodeBlocks(to, data)
	base64.StdEncoding.Encode(to[n/3*4:], data[n:])
	return buf[:len(buf)+size]
}
