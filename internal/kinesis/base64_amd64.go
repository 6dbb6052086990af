package kinesis

import "golang.org/x/sys/cpu"

// encodeBlocks encodes the first n bytes of src as base64. n is a multiple of three. dst has room for all of src.
func encodeBlocks(dst, src []byte) (n int) {
	const block, read = 24, 28 // bytes that are encoded at once, and bytes that are read for them
	if !cpu.X86.HasAVX2 || len(src) < read {
		return 0
	}
	blocks := (len(src)-read)/block + 1
	encodeAVX2(&dst[0], &src[0], blocks)
	return blocks * block
}

// encodeAVX2 encodes blocks of 24 bytes. It reads four bytes after the last block.
//
//go:noescape
func encodeAVX2(dst, src *byte, blocks int)
