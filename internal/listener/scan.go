package listener

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// scanner reads JSON (RFC 8259) in place. Its methods take the index of a value's first byte and return the index after its last
// byte. If ok is false, end is the index of the first byte that is wrong or missing.
type scanner []byte

// maxDepth is how deep values may be nested, as in encoding/json.
const maxDepth = 10000

// noElement is returned instead of the index of an element if there is none.
const noElement = -1

// firstElement returns the index of the body's first element, or noElement.
func (s scanner) firstElement() (first int, isArray bool) {
	i := s.space(0)
	if s[i] != '[' {
		return noElement, false
	}
	if i = s.space(i + 1); i == len(s)-1 && s[i] == ']' {
		return noElement, true
	}
	return i, true
}

// element reads an event and the comma or bracket after it. It returns end as event does, and next as afterElement does.
func (s scanner) element(event *Event, i int) (end, next int, ok bool) {
	if end, ok = s.event(event, i); ok {
		next, ok = s.afterElement(end)
	}
	return end, next, ok
}

// afterElement reads the comma after an element and returns the index of the next element. At the closing bracket of the body it
// returns noElement.
func (s scanner) afterElement(end int) (next int, ok bool) {
	end = s.space(end)
	if end < len(s) && s[end] == ',' {
		return s.space(end + 1), true
	}
	return noElement, end == len(s)-1 && s[end] == ']'
}

// skipElement skips an element that is not valid JSON: it only looks at brackets and quotes. open reports that the body ends within
// the element.
func (s scanner) skipElement(i int) (next int, open, ok bool) {
	var inside nesting
	end := i + inside.skip(s[i:])
	next, ok = s.afterElement(end)
	return next, end == len(s), ok
}

// nesting is the state of a reader that only looks at brackets and quotes. It continues in the next piece of an event.
type nesting struct {
	depth           int
	quoted, escaped bool
}

// skip reads up to the end of an element, which is a comma or a closing bracket at depth 0.
func (n *nesting) skip(s []byte) (end int) {
	for i, c := range s {
		switch {
		case n.escaped:
			n.escaped = false
		case n.quoted:
			n.quoted, n.escaped = c != '"', c == '\\'
		case c == '"':
			n.quoted = true
		case c == '{' || c == '[':
			n.depth++
		case c == '}' || c == ']':
			if n.depth == 0 {
				return i
			}
			n.depth--
		case c == ',' && n.depth == 0:
			return i
		}
	}
	return len(s)
}

// eventAfterTail returns the index of the event after the element at i, if that element is the tail of a cut value. The tail closes
// more brackets than it opens, so its commas are deeper than the commas between elements. The end of the body shows the depth of
// the commas between elements.
func (s scanner) eventAfterTail(i int) (next int) {
	_, value := s.envelope(i)
	if value == 0 || s[len(s)-1] != ']' {
		return noElement
	}
	rest := s[i+value : len(s)-1]
	for _, start := range []nesting{{}, {quoted: true}, {quoted: true, escaped: true}} {
		start.depth = len(rest) // no tail closes more brackets
		inside := start
		inside.skip(rest)
		if inside.quoted || inside.depth >= start.depth {
			continue
		}
		start.depth -= inside.depth
		comma := start.skip(rest)
		for end := comma; end < len(rest) && rest[end] == ','; {
			end += 1 + start.skip(rest[end+1:])
			if end == len(rest) {
				next = s.space(i + value + comma + 1)
				if _, _, ok := s.element(new(Event), next); ok {
					return next
				}
			}
		}
	}
	return noElement
}

const (
	// eventStart is the text that each of Lambda's events starts with.
	eventStart = `{"time":`
	recordKey  = `"record":`
	// maxEnvelope bounds the bytes of an event before its record. Lambda's events have about 70.
	maxEnvelope = 512
)

// envelope reads the beginning of an event, up to the record's value. value is the offset of that value from i. If value is 0,
// there is no event at i.
func (s scanner) envelope(i int) (event Event, value int) {
	if !bytes.HasPrefix(s[i:], []byte(eventStart)) {
		return Event{}, 0
	}
	before, _, found := bytes.Cut(s[i:min(len(s), i+maxEnvelope)], []byte(recordKey))
	_, ok := scanner(slices.Concat(before, []byte(recordKey+"0}"))).event(&event, 0)
	if !found || !ok {
		return Event{}, 0
	}
	return Event{Time: event.Time, Type: event.Type}, len(before) + len(recordKey)
}

// event reads an event: an object with a time, a type and a record. If ok is false, some fields of event may be set.
func (s scanner) event(event *Event, i int) (end int, ok bool) {
	*event = Event{}
	end, ok = s.object(i, 0, func(key []byte, at int) (end int, ok bool) {
		if string(key) == "record" {
			end, ok = s.record(event, at)
			event.Record = Span{at - i, end - i, end - at}
			return end, ok
		}
		if end, ok = s.value(at, 1); !ok {
			return end, false
		}
		switch string(key) {
		case "time":
			event.Time = stringContent(s[at:end])
		case "type":
			event.Type = stringContent(s[at:end])
		}
		return end, true
	})
	if !ok || event.Time == nil || event.Type == nil || event.Record.Size == 0 {
		return end, false
	}
	event.Raw = s[i:end:end]
	return end, true
}

// stringContent returns the bytes between the quotes of a JSON string, and nil for any other value.
func stringContent(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}

// oneLine overwrites line breaks with spaces. They are always between tokens, because JSON escapes them in strings.
func oneLine(text []byte) {
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text[i] = ' '
		}
	}
}

func (s scanner) space(i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// object reads an object. value reads the value of each member; key has no quotes.
func (s scanner) object(i, depth int, value func(key []byte, at int) (end int, ok bool)) (end int, ok bool) {
	if i >= len(s) || s[i] != '{' {
		return i, false
	}
	return s.compound(i, depth, value)
}

// compound reads an object or an array. value, which may be nil, reads the values of an object.
func (s scanner) compound(i, depth int, value func(key []byte, at int) (end int, ok bool)) (end int, ok bool) {
	if depth >= maxDepth {
		return i, false
	}
	isObject := s[i] == '{'
	closing := s[i] + 2 // as in ASCII
	i = s.space(i + 1)
	if i < len(s) && s[i] == closing {
		return i + 1, true
	}
	for {
		var key []byte
		if isObject {
			keyEnd, ok := s.str(i)
			if !ok {
				return keyEnd, false
			}
			key = s[i+1 : keyEnd-1]
			i = s.space(keyEnd)
			if i >= len(s) || s[i] != ':' {
				return i, false
			}
			i = s.space(i + 1)
		}
		if value == nil {
			i, ok = s.value(i, depth+1)
		} else {
			i, ok = value(key, i)
		}
		if !ok {
			return i, false
		}
		i = s.space(i)
		if i < len(s) && s[i] == closing {
			return i + 1, true
		}
		if i >= len(s) || s[i] != ',' {
			return i, false
		}
		i = s.space(i + 1)
	}
}

// members reads an object and calls member for each of its members.
func (s scanner) members(i, depth int, member func(key, value []byte)) (end int, ok bool) {
	return s.object(i, depth, func(key []byte, at int) (end int, ok bool) {
		if end, ok = s.value(at, depth+1); ok {
			member(key, s[at:end])
		}
		return end, ok
	})
}

func (s scanner) value(i, depth int) (end int, ok bool) {
	if i >= len(s) {
		return i, false
	}
	switch s[i] {
	case '{', '[':
		return s.compound(i, depth, nil)
	case '"':
		return s.str(i)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	}
	return s.number(i)
}

func (s scanner) literal(i int, word string) (end int, ok bool) {
	for _, c := range []byte(word) {
		if i >= len(s) || s[i] != c {
			return i, false
		}
		i++
	}
	return i, true
}

func (s scanner) str(i int) (end int, ok bool) {
	if i >= len(s) || s[i] != '"' {
		return i, false
	}
	for i++; ; i++ {
		if i = s.plain(i); i >= len(s) {
			return i, false
		}
		switch s[i] {
		case '"':
			return i + 1, true
		case '\\':
			if i, ok = s.escape(i + 1); !ok {
				return i, false
			}
		default: // a control character
			return i, false
		}
	}
}

// plain returns the index of the first byte that is a quote, a backslash or a control character, or len(s). It reads many bytes at
// once, because nearly all bytes that the extension receives are inside of strings.
func (s scanner) plain(i int) (end int) {
	for ; len(s)-i >= 32; i += 32 {
		block := s[i : i+32 : i+32]
		if (special(block)|special(block[8:])|special(block[16:])|special(block[24:]))&high != 0 {
			break
		}
	}
	for ; len(s)-i >= 8; i += 8 {
		if found := special(s[i:i+8:i+8]) & high; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

const (
	ones = 0x0101010101010101
	high = 0x80 * ones
)

// special reads eight bytes and sets the high bit of the first one that ends the plain part of a string: a backslash, a quote or a
// control character. A quote and a control character are below '!' after one bit is flipped. special may also set high bits of later
// bytes. Only the high bits have a meaning.
func special(text []byte) uint64 {
	word := binary.LittleEndian.Uint64(text)
	return ((word ^ ones*2 - ones*'!') | (word ^ ones*'\\' - ones)) &^ word
}

// escape reads the characters after a backslash and returns the index of the last one.
func (s scanner) escape(i int) (last int, ok bool) {
	if i >= len(s) {
		return i, false
	}
	switch s[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i, true
	case 'u':
		for range 4 {
			if i++; i >= len(s) || !isHex(s[i]) {
				return i, false
			}
		}
		return i, true
	}
	return i, false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s scanner) number(i int) (end int, ok bool) {
	if s[i] == '-' {
		i++
	}
	whole := s.digits(i)
	if whole == i || s[i] == '0' && whole > i+1 {
		return i, false
	}
	i = whole
	if i < len(s) && s[i] == '.' {
		fraction := s.digits(i + 1)
		if fraction == i+1 {
			return fraction, false
		}
		i = fraction
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		exponent := s.digits(i)
		if exponent == i {
			return i, false
		}
		i = exponent
	}
	return i, true
}

func (s scanner) digits(i int) int {
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return i
}
