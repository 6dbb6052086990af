package listener

import "bytes"

// Event is one event of a POST body. All slices alias the body. Strings are the bytes between the quotes, escapes and
// all; nil where the member is absent or not a string.
type Event struct {
	// Raw is the JSON object, without line breaks.
	Raw []byte
	// Time and Type are the envelope's.
	Time, Type []byte
	// RequestID and TenantID are members of the record, where the record is an object.
	RequestID, TenantID []byte

	hasRecord bool
}

// eventStart is how Lambda begins an event. Behind a broken event the splitter looks for the next one by it.
const eventStart = `{"time":`

// maxScans bounds the search for whole events in a broken body, in its own lengths: each place where one may begin can cost
// a scan of the rest.
const maxScans = 16

// Split appends the events of a POST body, a JSON array of objects, to dst. An element that is no object, or is cut or
// broken, is counted as malformed and costs none of its neighbours. One such body is ordinary: an event larger than
// the subscription's maxBytes arrives cut in two POSTs of which neither parses (DESIGN.md, Non-obvious).
//
// Line breaks between tokens are overwritten with spaces, so that an event is one line.
func Split(dst []Event, body []byte) (events []Event, malformed int) {
	events = dst
	s := scanner(body)
	budget := maxScans * len(body)
	i := s.space(0)
	if i < len(s) && s[i] == '[' {
		if i = s.space(i + 1); i < len(s) && s[i] == ']' && s.space(i+1) == len(s) {
			return events, 0
		}
	} else {
		malformed++
		if i = s.resync(i, &budget); i < 0 {
			return events, malformed
		}
	}
	for {
		var event Event
		end, ok := s.event(&event, i)
		if ok {
			events = append(events, event)
		} else if end, ok = s.value(i, 0); ok {
			malformed++ // a whole value, but not an event
		}
		if ok {
			next := s.space(end)
			switch {
			case next < len(s) && s[next] == ',':
				i = s.space(next + 1)
				continue
			case next < len(s) && s[next] == ']' && s.space(next+1) == len(s):
				return events, malformed
			}
			i = next
		}
		malformed++
		if i = s.resync(i, &budget); i < 0 {
			return events, malformed
		}
	}
}

// scanner reads JSON (RFC 8259) in place. Its methods take the index of a value's first byte and return the index
// behind its last; ok is false where the bytes are not that value, and end is about how far they were read.
type scanner []byte

// maxDepth is how deep values may nest, as in encoding/json.
const maxDepth = 10000

// resync finds the next event behind i that is whole: with all three members, and followed as an element is. It returns
// -1 when there is none, or when budget is used up: the bytes that may still be read for it.
func (s scanner) resync(i int, budget *int) int {
	for i++; *budget > 0 && i < len(s); {
		found := bytes.Index(s[i:], []byte(eventStart))
		if found < 0 {
			return -1
		}
		i += found
		var event Event
		end, ok := s.event(&event, i)
		*budget -= end - i + 1
		if ok && event.Time != nil && event.Type != nil && event.hasRecord {
			if next := s.space(end); next < len(s) && (s[next] == ',' || s[next] == ']') {
				return i
			}
		}
		if ok {
			i = end // a value of the broken event
		} else {
			i++ // one of its own may begin within
		}
	}
	return -1
}

// event reads an object and notes what the extension needs of it.
func (s scanner) event(event *Event, i int) (end int, ok bool) {
	end, ok = s.object(i, 0, func(key, value []byte) {
		switch string(key) {
		case "time":
			event.Time = stringContent(value)
		case "type":
			event.Type = stringContent(value)
		case "record":
			event.hasRecord = true
			event.RequestID, event.TenantID = nil, nil
			if value[0] == '{' {
				event.record(value)
			}
		}
	})
	if !ok {
		return end, false
	}
	event.Raw = s[i:end:end]
	for j, c := range event.Raw {
		if c == '\n' || c == '\r' { // never inside a string, where they are escaped
			event.Raw[j] = ' '
		}
	}
	return end, true
}

// stringContent returns what stands between the quotes of a JSON string, nil for any other value.
func stringContent(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}

func (s scanner) space(i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// object reads an object and calls member for each of its members; the key comes without quotes.
func (s scanner) object(i, depth int, member func(key, value []byte)) (end int, ok bool) {
	if i >= len(s) || s[i] != '{' || depth >= maxDepth {
		return i, false
	}
	i = s.space(i + 1)
	if i < len(s) && s[i] == '}' {
		return i + 1, true
	}
	for {
		keyEnd, ok := s.str(i)
		if !ok {
			return i, false
		}
		colon := s.space(keyEnd)
		if colon >= len(s) || s[colon] != ':' {
			return i, false
		}
		start := s.space(colon + 1)
		valueEnd, ok := s.value(start, depth+1)
		if !ok {
			return valueEnd, false
		}
		if member != nil {
			member(s[i+1:keyEnd-1], s[start:valueEnd])
		}
		i = s.space(valueEnd)
		switch {
		case i < len(s) && s[i] == '}':
			return i + 1, true
		case i < len(s) && s[i] == ',':
			i = s.space(i + 1)
		default:
			return i, false
		}
	}
}

func (s scanner) array(i, depth int) (end int, ok bool) {
	if depth >= maxDepth {
		return i, false
	}
	i = s.space(i + 1)
	if i < len(s) && s[i] == ']' {
		return i + 1, true
	}
	for {
		if i, ok = s.value(i, depth+1); !ok {
			return i, false
		}
		i = s.space(i)
		switch {
		case i < len(s) && s[i] == ']':
			return i + 1, true
		case i < len(s) && s[i] == ',':
			i = s.space(i + 1)
		default:
			return i, false
		}
	}
}

func (s scanner) value(i, depth int) (end int, ok bool) {
	if i >= len(s) {
		return i, false
	}
	switch s[i] {
	case '{':
		return s.object(i, depth, nil)
	case '[':
		return s.array(i, depth)
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
	end = i + len(word)
	return end, end <= len(s) && string(s[i:end]) == word
}

func (s scanner) str(i int) (end int, ok bool) {
	if i >= len(s) || s[i] != '"' {
		return i, false
	}
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\':
			if i, ok = s.escape(i + 1); !ok {
				return i, false
			}
		case c < ' ':
			return i, false
		}
	}
	return i, false
}

// escape reads what stands behind a backslash and returns the index of its last byte.
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
	if i < len(s) && s[i] == '-' {
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
			return i, false
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
