package kinesis

// encodeBlocks encodes the first n bytes of src, a multiple of three, in base64. dst has room for all of src.
func encodeBlocks(dst, src []byte) (n int) {
	const block = 48
	blocks := len(src) / block
	if blocks > 0 {
		encodeNEON(&dst[0], &src[0], blocks)
	}
	return blocks * block
}

// encodeNEON encodes blocks of 48 bytes. Every arm64 CPU has its instructions.
//
//go:noescape
func encodeNEON(dst, src *byte, blocks int)
