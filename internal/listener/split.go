package listener

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Event is one element of a POST body. A string is the bytes between its quotes, with their escapes. It is nil if the member is
// absent or not a string.
type Event struct {
	// Raw is the JSON object, without line breaks. It is nil if the element is malformed: not JSON, without a time, a type or a
	// record, or a piece of an event whose other pieces did not arrive.
	Raw []byte
	// Time and Type are members of the event.
	Time, Type []byte
	// RequestID and TenantID are members of the record, if the record is an object.
	RequestID, TenantID []byte
	// Record is the position of the record's value in Raw.
	Record Span
	// Repaired reports that U+FFFD replaced bytes that are not UTF-8.
	Repaired bool
}

// Span is the position of a value. Size is the length of the value, which is more than End-Start if only its beginning was kept.
type Span struct{ Start, End, Size int }

// Splitter cuts POST bodies into events, and joins the pieces of an event that Lambda has cut (DESIGN.md, Non-obvious).
type Splitter struct {
	// Limit is how many bytes of an event are kept if it arrives in pieces.
	Limit     int
	partial   partialEvent
	emptyTail []byte // the next piece of the last event, if Lambda has cut that event at the end of its value
}

// partialEvent is the beginning of an event whose next piece arrives with the next POST. The zero value is none.
type partialEvent struct {
	raw    []byte // from the event's opening brace, at most Limit bytes
	size   int    // of all pieces
	inside nesting
}

// closing is the text that Lambda appends to each piece but the last.
const closing = "}]"

// Split appends the elements of a POST body, a JSON array, to dst. It overwrites line breaks between tokens with spaces, so that an
// event is one line. whole reports that the body did not break off.
func (p *Splitter) Split(dst []Event, body []byte, whole bool) []Event {
	s := scanner(bytes.TrimRight(body, " \t\r\n"))
	if len(s) == 0 {
		return dst
	}
	first, isArray := s.firstElement()
	events, i, joined := p.join(dst, s, first, whole)
	if !isArray {
		return append(events, Event{})
	}
	before, valid, hasBreaks := len(events), utf8.Valid(s), bytes.IndexByte(s, '\n') >= 0 || bytes.IndexByte(s, '\r') >= 0
	for i != noElement {
		n := len(events)
		events = slices.Grow(events, 1)[:n+1]
		event := &events[n]
		end, next, ok := s.element(event, i)
		if ok && hasBreaks {
			oneLine(event.Raw)
		}
		if ok && !valid {
			*event = event.repair()
		}
		var open bool
		if !ok {
			*event, _ = s.envelope(i)
			next, open, ok = s.skipElement(i)
		}
		if !ok {
			// The brackets do not match. The first element may be the tail of a value whose beginning did not arrive. Then the
			// elements after it are parts of that value, up to the event that eventAfterTail finds.
			inTail := !joined && (!open || whole && i > first && events[before].Raw == nil)
			if open && whole && !inTail && p.keepPartial(s, i, end) {
				events = events[:n]
				break
			}
			next = noElement
			if !joined && whole {
				next = s.eventAfterTail(first)
			}
			if inTail || next != noElement {
				events = events[:before+1]
				events[before], _ = s.envelope(first)
			}
			joined = true
		}
		i = next
	}
	p.emptyTail = p.emptyTail[:0]
	if n := len(events); n > len(dst) && events[n-1].Raw != nil {
		last := &events[n-1]
		p.emptyTail = append(append(p.emptyTail, last.Raw[:last.Record.Start]...), '}')
	}
	return events
}

// hasPartial reports whether a partial event waits for its next piece.
func (p *Splitter) hasPartial() bool { return p.partial.raw != nil }

// Finish appends a partial event, whose next piece will not arrive any more, as malformed.
func (p *Splitter) Finish(dst []Event) []Event {
	dst, _, _ = p.join(dst, nil, noElement, true)
	return dst
}

// keepPartial keeps the element at i as the partial event, if the body ends with closing and the bytes before it are the beginning of
// an event. end is the index of the first byte that is not JSON.
func (p *Splitter) keepPartial(s scanner, i, end int) bool {
	cut := len(s) - len(closing)
	_, value := s.envelope(i)
	if end < cut || value == 0 || !bytes.HasSuffix(s, []byte(closing)) {
		return false
	}
	p.partial.add(s[i:cut], p.Limit)
	return true
}

// join continues the partial event with the body's first element, at i. It returns the index of the next element to read: the second
// element if the first was joined, else i. If the first element does not continue the partial event, join appends that as malformed.
func (p *Splitter) join(dst []Event, s scanner, i int, whole bool) (events []Event, next int, joined bool) {
	partial := p.partial
	if partial.raw == nil {
		if i != noElement && len(p.emptyTail) > 0 && bytes.HasPrefix(s[i:], p.emptyTail) {
			if next, ok := s.afterElement(i + len(p.emptyTail)); ok {
				return dst, next, true
			}
		}
		return dst, i, false
	}
	malformed, value := scanner(partial.raw).envelope(0)
	if i != noElement && bytes.HasPrefix(s[i:], partial.raw[:value]) {
		rest, inside := s[i+value:], partial.inside
		end := inside.skip(rest)
		next, last := s.afterElement(i + value + end)
		if !last && !whole {
			return dst, noElement, true // Lambda repeats the POST
		}
		if !last {
			end, next = len(bytes.TrimSuffix(rest, []byte(closing))), noElement
		}
		partial.add(rest[:end], p.Limit)
		event, ok, isBeginning := partial.event()
		if last && ok {
			p.partial = partialEvent{}
			return append(dst, event), next, true
		}
		if !last && isBeginning {
			p.partial = partial
			return dst, next, true
		}
		if _, _, alone := s.element(&event, i); last && !alone {
			p.partial = partialEvent{}
			return append(dst, malformed), next, true
		}
	}
	p.partial = partialEvent{}
	return append(dst, malformed), i, false
}

// add appends a piece, and keeps at most limit bytes of all pieces.
func (e *partialEvent) add(piece []byte, limit int) {
	e.inside.skip(piece)
	e.size += len(piece)
	e.raw = append(e.raw, piece[:max(0, min(len(piece), max(limit, maxEnvelope)-len(e.raw)))]...)
}

// event reads the pieces. ok reports that they are a whole event, isBeginning that they are the beginning of one.
func (e *partialEvent) event() (event Event, ok, isBeginning bool) {
	s := scanner(e.raw)
	end, ok := s.event(&event, 0)
	isBeginning = !ok && end >= len(s)
	if ok {
		oneLine(event.Raw)
	}
	if e.size == len(s) {
		if ok {
			event = event.repair()
		}
		return event, ok && s.space(end) == len(s), isBeginning
	}
	// The bytes beyond the limit were not kept. They count as valid JSON.
	s = bytes.ToValidUTF8(s, []byte("\uFFFD"))
	var value int
	event, value = s.envelope(0)
	s.record(&event, value)
	event.Record = Span{value, len(s), e.size - value - 1}
	s = append(s, '}')
	event.Raw = s
	return event, isBeginning, isBeginning
}

// repair returns the event with U+FFFD instead of bytes that are not UTF-8.
func (event Event) repair() Event {
	if utf8.Valid(event.Raw) {
		return event
	}
	scanner(bytes.ToValidUTF8(event.Raw, []byte("\uFFFD"))).event(&event, 0)
	event.Repaired = true
	return event
}
