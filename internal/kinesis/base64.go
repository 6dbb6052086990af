package kinesis

import (
	"encoding/base64"
	"slices"
)

// appendBase64 appends data in base64, padded, as encoding/base64 does. All that is shipped goes through it, so that what the CPU's
// vector instructions can encode is left to them.
func appendBase64(buf, data []byte) []byte {
	size := base64.StdEncoding.EncodedLen(len(data))
	buf = slices.Grow(buf, size)
	to := buf[len(buf) : len(buf)+size]
	n := encodeBlocks(to, data)
	base64.StdEncoding.Encode(to[n/3*4:], data[n:])
	return buf[:len(buf)+size]
}
