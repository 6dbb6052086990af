package kinesis

import "sync"

// encodeBlocks encodes the first n bytes of src as base64. n is a multiple of three. dst has room for all of src.
func encodeBlocks(dst, src []byte) (n int) {
	const block, read = 24, 28 // bytes that are encoded at once, and bytes that are read for them
	if len(src) < read || !avx2() {
		return 0
	}
	blocks := (len(src)-read)/block + 1
	encodeAVX2(&dst[0], &src[0], blocks)
	return blocks * block
}

// avx2 asks at first use: in a virtual machine each CPUID leaves the guest, which would delay the start of every environment.
var avx2 = sync.OnceValue(hasAVX2)

// hasAVX2 reports whether the CPU and the operating system support AVX2.
//
//go:noescape
func hasAVX2() bool

// encodeAVX2 encodes blocks of 24 bytes. It reads four bytes after the last block.
//
//go:noescape
func encodeAVX2(dst, src *byte, blocks int)
