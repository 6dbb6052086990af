package input

import (
	"bytes"
	"encoding/base64"
	"errors"
)

// value reads one JSON value into s.piece. The value must end on its line unless it is multiline. value finds the end and does
// not check the syntax.
func (s *section) value(multiline bool) ([]byte, error) {
	s.piece = s.piece[:0]
	var v scanner
	for {
		chunk, err := s.chunk()
		if err != nil {
			return nil, errCut
		}
		end, done := v.scan(chunk, multiline)
		s.piece = append(s.piece, chunk[:end]...)
		s.line += bytes.Count(chunk[:end], newline)
		_, _ = s.from.Discard(end)
		switch {
		case done:
			return s.piece, nil
		case end < len(chunk): // the line ends before the value
			return nil, errCut
		case len(s.piece) > maxPiece:
			return nil, errTooLong
		}
	}
}

var newline, carriageReturn = []byte{'\n'}, []byte{'\r'}

// scanner finds the end of a JSON value that comes in chunks.
type scanner struct {
	depth             int
	inString, escaped bool
	scalar            bool
}

// scan returns how much of chunk belongs to the value, and whether the value ends there. If it does not and chunk has more
// bytes, the next byte is a line end.
func (v *scanner) scan(chunk []byte, multiline bool) (end int, done bool) {
	for i, c := range chunk {
		switch {
		case c == '\n' && (v.inString || !multiline):
			return i, v.scalar
		case v.escaped:
			v.escaped = false
		case v.inString:
			v.escaped = c == '\\'
			if v.inString = c != '"'; !v.inString && v.depth == 0 {
				return i + 1, true
			}
		case v.scalar:
			if c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n' {
				return i, true
			}
		case c == '"':
			v.inString = true
		case c == '{', c == '[':
			v.depth++
		case c == '}', c == ']':
			if v.depth--; v.depth <= 0 {
				return i + 1, true
			}
		case v.depth == 0:
			v.scalar = true
		}
	}
	return len(chunk), false
}

// chunk returns the buffered bytes. It fills the buffer if that is empty.
func (s *section) chunk() ([]byte, error) {
	if s.from.Buffered() == 0 {
		if _, err := s.from.Peek(1); err != nil {
			return nil, err
		}
	}
	return s.from.Peek(s.from.Buffered())
}

// textLine reads up to the end of the line and drops the carriage return that Windows writes there.
func (s *section) textLine() ([]byte, error) {
	s.piece = s.piece[:0]
	for {
		chunk, err := s.chunk()
		if err != nil { // the end of the input ends a line, too
			return bytes.TrimSuffix(s.piece, carriageReturn), nil //nolint:nilerr // the source or the layer keeps its error
		}
		end := bytes.IndexByte(chunk, '\n')
		if end < 0 {
			s.piece = append(s.piece, chunk...)
			_, _ = s.from.Discard(len(chunk))
			if len(s.piece) > maxPiece {
				return nil, errTooLong
			}
			continue
		}
		s.piece = append(s.piece, chunk[:end]...)
		_, _ = s.from.Discard(end)
		return bytes.TrimSuffix(s.piece, carriageReturn), nil
	}
}

// skipLine skips to the end of the line.
func (s *section) skipLine() {
	for {
		chunk, err := s.chunk()
		if err != nil {
			return
		}
		end := bytes.IndexByte(chunk, '\n')
		if end >= 0 {
			_, _ = s.from.Discard(end)
			return
		}
		_, _ = s.from.Discard(len(chunk))
	}
}

// base64 decodes a line of base64: one record, or several with space between. A line of 64 or 76 characters, where tools wrap
// base64, continues on the next line: no whole record is so short. It returns nil for other text.
func (s *section) base64(line []byte) (records [][]byte) {
	if !looksLikeRecord(line) {
		return nil
	}
	if wrapped := len(line); wrapped == 76 || wrapped == 64 {
		whole := bytes.Clone(line)
		for length := wrapped; length == wrapped && len(whole) < maxPiece && s.nextLineIsBase64(); {
			_, _ = s.from.Discard(1) // the line end
			s.line++
			next, _ := s.textLine()
			length = len(next)
			whole = append(whole, next...)
		}
		line = whole
	}
	for field := range bytes.FieldsSeq(line) {
		data, err := decodeBase64(field)
		if err != nil {
			return nil
		}
		records = append(records, data)
	}
	return records
}

// looksLikeRecord reports whether text begins like base64 of a record.
func looksLikeRecord(text []byte) bool {
	text = bytes.TrimLeft(text, `"`)
	head, err := decodeBase64(text[:min(len(text), 4)])
	for _, begins := range []string{gzipMagic, zstdMagic[:3], kplMagic[:3], "{"} {
		if err == nil && bytes.HasPrefix(head, []byte(begins)) {
			return true
		}
	}
	return false
}

// nextLineIsBase64 reports whether the first 76 characters of the next line are base64.
func (s *section) nextLineIsBase64() bool {
	head, _ := s.from.Peek(1 + 76)
	if len(head) < 2 {
		return false
	}
	for _, c := range head[1:] {
		switch {
		case c == '\n':
			return head[1] != '\n'
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '=', c == '\r':
		default:
			return false
		}
	}
	return true
}

var errNoBase64 = errors.New("it is not base64")

func decodeBase64(text []byte) ([]byte, error) {
	text = bytes.TrimRight(bytes.Trim(text, `"`), "=")
	data := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, err := base64.RawStdEncoding.Decode(data, text)
	if err != nil || n == 0 {
		return nil, errNoBase64
	}
	return data[:n], nil
}
