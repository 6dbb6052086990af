package record

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Span is the place of the record's value in an event's JSON. Size is the size in bytes of the value that Lambda posted. Size
// is more than End - Start if only the beginning of the value was kept.
type Span struct{ Start, End, Size int }

const truncatedMember = `,"truncated":`

// Truncate returns the event raw in at most room bytes. Its record becomes a string with the beginning of the value's JSON
// text, as much as fits, and is cut neither within a character nor within an escape of that text. The value's size becomes its
// last member, truncated. Truncate returns nil if even an empty string does not fit.
func Truncate(raw []byte, value Span, room int) []byte {
	if value.End == 0 {
		return nil
	}
	end := append([]byte{'"'}, raw[value.End:len(raw)-1]...)
	end = append(strconv.AppendInt(append(end, truncatedMember...), int64(value.Size), 10), '}')
	text, room := raw[value.Start:value.End], room-len(end)
	if room <= value.Start {
		return nil
	}
	short := make([]byte, 0, room+len(end))
	short = append(append(short, raw[:value.Start]...), '"')
	var escaped []byte
	for len(text) > 0 {
		n := unescapedLen(text[:min(len(text), room-len(short))])
		short, text = append(short, text[:n]...), text[n:]
		n = unitLen(text)
		if escaped = appendEscaped(escaped[:0], text[:n]); len(short)+len(escaped) > room {
			break
		}
		short, text = append(short, escaped...), text[n:]
	}
	return append(short, end...)
}

// unescapedLen returns how many ASCII characters at the beginning of text a JSON string can have without an escape.
func unescapedLen(text []byte) int {
	for i, c := range text {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return len(text)
}

// unitLen returns the length of the character or escape that text begins with. The two escapes of a surrogate pair are one
// unit.
func unitLen(text []byte) int {
	_, n := utf8.DecodeRune(text)
	if !bytes.HasPrefix(text, []byte(`\u`)) {
		if n < len(text) && text[0] == '\\' {
			_, next := utf8.DecodeRune(text[n:])
			n += next
		}
		return n
	}
	const hex = len(`\u0000`)
	n = min(hex, len(text))
	code, _ := strconv.ParseUint(string(text[len(`\u`):n]), 16, 32)
	if utf16.IsSurrogate(rune(code)) && bytes.HasPrefix(text[n:], []byte(`\u`)) {
		n = min(2*hex, len(text))
	}
	return n
}

// appendEscaped appends text as the content of a JSON string.
func appendEscaped(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
		text = text[n:]
	}
	return dst
}
