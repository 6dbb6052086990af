#include "textflag.h"

DATA alphabet<>+0(SB)/8, $"ABCDEFGH"
DATA alphabet<>+8(SB)/8, $"IJKLMNOP"
DATA alphabet<>+16(SB)/8, $"QRSTUVWX"
DATA alphabet<>+24(SB)/8, $"YZabcdef"
DATA alphabet<>+32(SB)/8, $"ghijklmn"
DATA alphabet<>+40(SB)/8, $"opqrstuv"
DATA alphabet<>+48(SB)/8, $"wxyz0123"
DATA alphabet<>+56(SB)/8, $"456789+/"
GLOBL alphabet<>(SB), RODATA|NOPTR, $64

// func encodeNEON(dst, src *byte, blocks int)
TEXT ·encodeNEON(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD blocks+16(FP), R2
	MOVD $alphabet<>(SB), R3
	VLD1 (R3), [V16.B16, V17.B16, V18.B16, V19.B16]
	VMOVI $63, V20.B16

block:
	// Sixteen times three bytes abcdefgh ijklmnop qrstuvwx become abcdef, ghijkl, mnopqr and stuvwx.
	VLD3.P 48(R1), [V0.B16, V1.B16, V2.B16]
	VUSHR $2, V0.B16, V4.B16
	VSHL $4, V0.B16, V5.B16
	VSRI $4, V1.B16, V5.B16
	VSHL $2, V1.B16, V6.B16
	VSRI $6, V2.B16, V6.B16
	VAND V20.B16, V5.B16, V5.B16
	VAND V20.B16, V6.B16, V6.B16
	VAND V20.B16, V2.B16, V7.B16
	VTBL V4.B16, [V16.B16, V17.B16, V18.B16, V19.B16], V4.B16
	VTBL V5.B16, [V16.B16, V17.B16, V18.B16, V19.B16], V5.B16
	VTBL V6.B16, [V16.B16, V17.B16, V18.B16, V19.B16], V6.B16
	VTBL V7.B16, [V16.B16, V17.B16, V18.B16, V19.B16], V7.B16
	VST4.P [V4.B16, V5.B16, V6.B16, V7.B16], 64(R0)
	SUBS $1, R2, R2
	BNE block
	RET
