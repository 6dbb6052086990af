package kinesis

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// entry is what the reply says of one record: stored, or not and why. Neither is possible (a reply that says nothing).
type entry struct {
	stored  bool
	code    string
	message []byte // JSON string with its quotes, part of the reply's buffer
}

var errReply = errors.New("the reply is not one of PutRecords")

// parseReply reads a successful reply of PutRecords into entries[:0]. It takes exactly JSON's grammar: a reply that is
// cut short or damaged must not pass for an answer. Members that it does not know are skipped; of a member that comes
// twice the last counts.
func parseReply(reply []byte, entries []entry) ([]entry, error) {
	s := scanner{b: reply}
	entries, found := entries[:0], false
	ok := s.object(func(name []byte) bool {
		if string(name) != "Records" {
			return s.skip(0)
		}
		entries, found = entries[:0], true
		return s.array(func() bool {
			e, ok := s.entry()
			entries = append(entries, e)
			return ok
		})
	})
	if s.space(); !ok || !found || s.i != len(s.b) {
		return entries[:0], errReply
	}
	return entries, nil
}

func (s *scanner) entry() (e entry, ok bool) {
	ok = s.object(func(name []byte) bool {
		switch string(name) {
		case "SequenceNumber":
			value, ok := s.stringOrNull()
			e.stored = len(value) > len(`""`)
			return ok
		case "ErrorCode":
			value, ok := s.stringOrNull()
			e.code = unquote(value)
			return ok
		case "ErrorMessage":
			value, ok := s.stringOrNull()
			e.message = value
			return ok
		}
		return s.skip(1)
	})
	return e, ok
}

// unquote decodes a JSON string that the scanner took. The codes that come 500 at a time cost no memory.
func unquote(value []byte) string {
	switch string(value) {
	case "":
		return ""
	case `"ProvisionedThroughputExceededException"`:
		return codeThroughput
	case `"InternalFailure"`:
		return codeInternal
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return string(value)
	}
	return s
}

// parseError reads the error's type and message out of a reply with another status than 200. A reply of somebody else
// than AWS (a proxy's HTML) has no type; its text is the message.
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization
func parseError(header http.Header, body []byte) (code, message string) {
	var reply struct {
		Type    any    `json:"__type"`
		Code    any    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &reply); err != nil && reply.Message == "" {
		reply.Message = string(body)
	}
	code = header.Get("X-Amzn-Errortype")
	for _, candidate := range []any{reply.Code, reply.Type} {
		if text, ok := candidate.(string); ok && code == "" {
			code = text
		}
	}
	code, _, _ = strings.Cut(code, ":") // may be followed by a URL
	if i := strings.LastIndexByte(code, '#'); i >= 0 {
		code = code[i+1:] // may follow a namespace
	}
	return code, oneLine(reply.Message)
}

// oneLine makes text of unknown origin fit to stand in a log line.
func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "�")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// maxDepth bounds nesting: a reply that is all brackets must not cost the stack.
const maxDepth = 32

// scanner reads JSON. Its methods report false where the text is not JSON or not of the shape asked for; then the
// position means nothing any more.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\t' || s.b[s.i] == '\n' || s.b[s.i] == '\r') {
		s.i++
	}
}

// next takes c where it is the next character that is no space.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// object takes an object and calls member for each name; member takes the value.
func (s *scanner) object(member func(name []byte) bool) bool {
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return true
	}
	for {
		s.space()
		name, ok := s.quoted()
		if !ok || !s.next(':') {
			return false
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(unquote(name))
		} else {
			name = name[1 : len(name)-1]
		}
		if !member(name) {
			return false
		}
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

// array takes an array and calls element at each element, which takes it.
func (s *scanner) array(element func() bool) bool {
	if !s.next('[') {
		return false
	}
	if s.next(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

func (s *scanner) stringOrNull() ([]byte, bool) {
	s.space()
	if s.literal("null") {
		return nil, true
	}
	return s.quoted()
}

// quoted takes a string and returns it with its quotes.
func (s *scanner) quoted() ([]byte, bool) {
	start := s.i
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return nil, false
	}
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start:s.i], true
		case c < ' ':
			return nil, false
		case c == '\\':
			if !s.escape() {
				return nil, false
			}
		}
	}
	return nil, false
}

// escape takes an escape sequence but for its last character.
func (s *scanner) escape() bool {
	s.i++
	if s.i >= len(s.b) {
		return false
	}
	if s.b[s.i] != 'u' {
		return strings.IndexByte(`"\/bfnrt`, s.b[s.i]) >= 0
	}
	for range 4 {
		s.i++
		if s.i >= len(s.b) || !isHex(s.b[s.i]) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s *scanner) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// skip takes any value.
func (s *scanner) skip(depth int) bool {
	s.space()
	if s.i >= len(s.b) || depth > maxDepth {
		return false
	}
	switch s.b[s.i] {
	case '{':
		return s.object(func([]byte) bool { return s.skip(depth + 1) })
	case '[':
		return s.array(func() bool { return s.skip(depth + 1) })
	case '"':
		_, ok := s.quoted()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) number() bool {
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		if s.i++; !s.digits() {
			return false
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		if s.i++; s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		return s.digits()
	}
	return true
}

// digits takes one digit or more.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}
