#include "textflag.h"

// Three bytes abcdefgh ijklmnop qrstuvwx become 32 bits, of which each 16 hold two of the four numbers of six bits.
// http://0x80.pl/notesen/2016-01-12-sse-base64-encoding.html

// A shuffle: each three bytes a b c become b a c b.
DATA spread<>+0(SB)/8, $0x0405030401020001
DATA spread<>+8(SB)/8, $0x0a0b090a07080607
GLOBL spread<>(SB), RODATA|NOPTR, $16

// Added to a number, these give its character: for 26 to 51, for the ten digits, for + and for /, and for 0 to 25.
DATA offsets<>+0(SB)/8, $0xfcfcfcfcfcfcfc47
DATA offsets<>+8(SB)/8, $0x000041f0edfcfcfc
GLOBL offsets<>(SB), RODATA|NOPTR, $16

DATA constants<>+0(SB)/4, $0x0fc0fc00 // the first and the third number
DATA constants<>+4(SB)/4, $0x04000040 // move them right by 10 and 6
DATA constants<>+8(SB)/4, $0x003f03f0 // the second and the fourth
DATA constants<>+12(SB)/4, $0x01000010 // move them left by 8 and 4
DATA constants<>+16(SB)/4, $0x33333333 // 51
DATA constants<>+20(SB)/4, $0x1a1a1a1a // 26
DATA constants<>+24(SB)/4, $0x0d0d0d0d // 13: the place of 0 to 25 in offsets
GLOBL constants<>(SB), RODATA|NOPTR, $28

// func encodeAVX2(dst, src *byte, blocks int)
TEXT ·encodeAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX
	VBROADCASTI128 spread<>(SB), Y8
	VBROADCASTI128 offsets<>(SB), Y9
	VPBROADCASTD constants<>+0(SB), Y10
	VPBROADCASTD constants<>+4(SB), Y11
	VPBROADCASTD constants<>+8(SB), Y12
	VPBROADCASTD constants<>+12(SB), Y13
	VPBROADCASTD constants<>+16(SB), Y14
	VPBROADCASTD constants<>+20(SB), Y15
	VPBROADCASTD constants<>+24(SB), Y7

block:
	VMOVDQU (SI), X0
	VINSERTI128 $1, 12(SI), Y0, Y0
	VPSHUFB Y8, Y0, Y0
	VPAND Y10, Y0, Y1
	VPMULHUW Y11, Y1, Y1
	VPAND Y12, Y0, Y0
	VPMULLW Y13, Y0, Y0
	VPOR Y1, Y0, Y0 // the numbers
	VPSUBUSB Y14, Y0, Y1 // 0 up to 51, then 1 to 12
	VPCMPGTB Y0, Y15, Y2
	VPAND Y7, Y2, Y2
	VPOR Y2, Y1, Y1
	VPSHUFB Y1, Y9, Y1
	VPADDB Y1, Y0, Y0
	VMOVDQU Y0, (DI)
	ADDQ $24, SI
	ADDQ $32, DI
	DECQ CX
	JNZ block
	VZEROUPPER
	RET

// func hasAVX2() bool
// The CPU has AVX and AVX2 (CPUID), and the operating system saves their registers (OSXSAVE and XGETBV). See Intel's
// Software Developer's Manual, volume 1, "Detection of Intel AVX2".
TEXT ·hasAVX2(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT done
	MOVL $1, AX
	XORL CX, CX
	CPUID
	BTL $27, CX // OSXSAVE
	JCC done
	BTL $28, CX // AVX
	JCC done
	XORL CX, CX
	XGETBV
	ANDL $6, AX // XMM and YMM registers
	CMPL AX, $6
	JNE done
	MOVL $7, AX
	XORL CX, CX
	CPUID
	BTL $5, BX // AVX2
	SETCS ret+0(FP)

done:
	RET
