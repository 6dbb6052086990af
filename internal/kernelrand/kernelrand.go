// Package kernelrand draws random values from the kernel's generator. Environments that resume from one SnapStart snapshot
// share the state of math/rand: with that, all of them would draw the same ids and retry at the same instant.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
package kernelrand

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// Fraction returns a number from [0, 1), evenly distributed.
func Fraction() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.NativeEndian.Uint64(b[:])>>11) / (1 << 53)
}

// Hex returns a random string of hexadecimal digits, two for each byte.
func Hex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
