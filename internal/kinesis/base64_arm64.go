package kinesis

// encodeBlocks encodes the first n bytes of src as base64. n is a multiple of three. dst has room for all of src.
func encodeBlocks(dst, src []byte) (n int) {
	const block = 48
	blocks := len(src) / block
	if blocks > 0 {
		encodeNEON(&dst[0], &src[0], blocks)
	}
	return blocks * block
}

// encodeNEON encodes blocks of 48 bytes. Every arm64 CPU has these instructions.
//
//go:noescape
func encodeNEON(dst, src *byte, blocks int)
