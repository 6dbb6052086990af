package listener

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Event is one element of a POST body. Strings are the bytes between the quotes, escapes and all; nil where the member is
// absent or not a string.
type Event struct {
	// Raw is the JSON object, without line breaks. It is nil where the element is malformed: not JSON, without a time, a type or
	// a record, or a piece of an event whose other pieces did not come.
	Raw []byte
	// Time and Type are the envelope's.
	Time, Type []byte
	// RequestID and TenantID are members of the record, where the record is an object.
	RequestID, TenantID []byte
	// Record is the place of the record's value in Raw.
	Record Span
	// Repaired tells that bytes which are not UTF-8 were replaced by U+FFFD.
	Repaired bool
}

// Span is the place of a value. Size is the length of the value: more than the place has, where only the beginning was kept.
type Span struct{ Start, End, Size int }

// Splitter cuts POST bodies into events, and joins the pieces of an event that Lambda has cut (DESIGN.md, Non-obvious).
type Splitter struct {
	// Limit is how many bytes are kept of an event that arrives in pieces.
	Limit     int
	partial   partialEvent
	emptyTail []byte // the next piece of the last event, should Lambda have cut that at the end of its value
}

// partialEvent is the beginning of an event whose next piece comes with the next POST. The zero value is none.
type partialEvent struct {
	raw    []byte // from the event's brace on, at most limit bytes
	size   int    // of all pieces
	inside nesting
}

// closing is what Lambda appends to a piece that is not the last.
const closing = "}]"

// Split appends the elements of a POST body, a JSON array, to dst. It overwrites line breaks between tokens with spaces, so that
// an event is one line. whole tells that the body did not break off.
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
			// The brackets do not match. The first element may be the rest of a value whose beginning did not come. Then the elements
			// behind it are parts of that value, up to the event that behindRest finds.
			ofValue := !joined && (!open || whole && i > first && events[before].Raw == nil)
			if open && whole && !ofValue && p.keepPartial(s, i, end) {
				events = events[:n]
				break
			}
			next = noElement
			if !joined && whole {
				next = s.eventAfterTail(first)
			}
			if ofValue || next != noElement {
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

// hasPartial tells whether there is a half.
func (p *Splitter) hasPartial() bool { return p.partial.raw != nil }

// Finish appends the half, whose next piece does not come any more, as malformed.
func (p *Splitter) Finish(dst []Event) []Event {
	dst, _, _ = p.join(dst, nil, noElement, true)
	return dst
}

// keepPartial makes the element at i the half, if the bytes up to closing, with which the body ends, are the beginning of an event. end
// is the first byte that is not JSON.
func (p *Splitter) keepPartial(s scanner, i, end int) bool {
	cut := len(s) - len(closing)
	_, value := s.envelope(i)
	if end < cut || value == 0 || !bytes.HasSuffix(s, []byte(closing)) {
		return false
	}
	p.partial.add(s[i:cut], p.Limit)
	return true
}

// join continues the half with the body's first element, at i. It returns where the next element is: the one behind it where that
// was joined, else itself. A half that the element does not continue is malformed.
func (p *Splitter) join(dst []Event, s scanner, i int, whole bool) (events []Event, next int, joined bool) {
	h := p.partial
	if h.raw == nil {
		if i != noElement && len(p.emptyTail) > 0 && bytes.HasPrefix(s[i:], p.emptyTail) {
			if next, ok := s.afterElement(i + len(p.emptyTail)); ok {
				return dst, next, true
			}
		}
		return dst, i, false
	}
	malformed, value := scanner(h.raw).envelope(0)
	if i != noElement && bytes.HasPrefix(s[i:], h.raw[:value]) {
		rest, inside := s[i+value:], h.inside
		end := inside.skip(rest)
		next, last := s.afterElement(i + value + end)
		if !last && !whole {
			return dst, noElement, true // Lambda posts it again
		}
		if !last {
			end, next = len(bytes.TrimSuffix(rest, []byte(closing))), noElement
		}
		h.add(rest[:end], p.Limit)
		event, ok, isBeginning := h.event()
		if last && ok {
			p.partial = partialEvent{}
			return append(dst, event), next, true
		}
		if !last && isBeginning {
			p.partial = h
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

// add appends a piece.
func (h *partialEvent) add(piece []byte, limit int) {
	h.inside.skip(piece)
	h.size += len(piece)
	h.raw = append(h.raw, piece[:max(0, min(len(piece), max(limit, maxEnvelope)-len(h.raw)))]...)
}

// event reads the pieces: as an event (ok), or as the beginning of one.
func (h *partialEvent) event() (event Event, ok, isBeginning bool) {
	s := scanner(h.raw)
	end, ok := s.event(&event, 0)
	isBeginning = !ok && end >= len(s)
	if ok {
		oneLine(event.Raw)
	}
	if h.size == len(s) {
		if ok {
			event = event.repair()
		}
		return event, ok && s.space(end) == len(s), isBeginning
	}
	// The bytes beyond the limit count as JSON.
	s = bytes.ToValidUTF8(s, []byte("\uFFFD"))
	var value int
	event, value = s.envelope(0)
	s.record(&event, value)
	event.Record = Span{value, len(s), h.size - value - 1}
	s = append(s, '}')
	event.Raw = s
	return event, isBeginning, isBeginning
}

// repair replaces bytes that are not UTF-8.
func (event Event) repair() Event {
	if utf8.Valid(event.Raw) {
		return event
	}
	scanner(bytes.ToValidUTF8(event.Raw, []byte("\uFFFD"))).event(&event, 0)
	event.Repaired = true
	return event
}
