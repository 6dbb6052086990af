package record

import (
	"encoding/hex"
	"math/bits"
	"strconv"
)

// An event id of CloudWatch Logs is a number of 56 decimal digits. Its bits from 144 up are the event's time in Unix
// milliseconds. The extension's ids have 64 bits of seq and the first 80 bits of the instance below the time.
const (
	eventIDDigits = 56
	maxEventTime  = 4_484_155_085_838 // in the year 2112: the last time whose ids have 56 digits

	instanceDigits = 80 / 4
	limb           = 10_000_000_000_000_000_000 // 19 digits
	limbDigits     = 19
)

// instanceBits returns the first 80 bits of an instance: the upper 16, the lower 64.
func instanceBits(instance string) (n [2]uint64) {
	for i := range instanceDigits {
		digit := uint64(0)
		if i < len(instance) {
			digit = uint64(hexDigit(instance[i]))
		}
		n[0] = n[0]<<4&0xffff | n[1]>>60
		n[1] = n[1]<<4 | digit
	}
	return n
}

func hexDigit(c byte) byte {
	switch {
	case c >= 'a':
		c -= 'a' - 10
	case c >= 'A':
		c -= 'A' - 10
	}
	return c & 0xf
}

// appendEventID appends at << 144 | seq << 80 | instance.
func appendEventID(dst []byte, at int64, seq uint64, instance [2]uint64) []byte {
	words := [3]uint64{uint64(at)<<16 | seq>>48, seq<<16 | instance[0], instance[1]}
	var digits [3 * limbDigits]byte
	for i := range 3 { // the lowest digits first
		remainder := uint64(0)
		for w := range words {
			words[w], remainder = bits.Div64(remainder, words[w], limb)
		}
		end := len(digits) - i*limbDigits
		for d := end - 1; d >= end-limbDigits; d-- {
			digits[d] = '0' + byte(remainder%10)
			remainder /= 10
		}
	}
	return append(dst, digits[len(digits)-eventIDDigits:]...)
}

// parseEventID splits an event id into its parts. instance is the first 20 digits of the instance.
func parseEventID(id string) (at int64, seq uint64, instance string, ok bool) {
	if len(id) != eventIDDigits {
		return 0, 0, "", false
	}
	var words [3]uint64
	for _, c := range []byte(id) {
		if c < '0' || c > '9' {
			return 0, 0, "", false
		}
		carry := uint64(c - '0')
		for w := len(words) - 1; w >= 0; w-- {
			high, low := bits.Mul64(words[w], 10)
			var over uint64
			words[w], over = bits.Add64(low, carry, 0)
			carry = high + over
		}
	}
	var prefix [10]byte
	for i := range prefix {
		word, shift := words[2], 8*(len(prefix)-1-i)
		if i < 2 {
			word, shift = words[1], 8*(1-i)
		}
		prefix[i] = byte(word >> shift)
	}
	return int64(words[0] >> 16), words[0]<<48 | words[1]>>16, hex.EncodeToString(prefix[:]), true
}

// appendDecimal appends a JSON number with the given decimals (-1: as many as it has).
func appendDecimal(dst, number []byte, decimals int) (_ []byte, ok bool) {
	const most = 1e15 // Lambda writes no larger numbers
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil || f < -most || f > most {
		return dst, false
	}
	return strconv.AppendFloat(dst, f, 'f', decimals, 64), true
}
