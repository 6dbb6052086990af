package kinesislocal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// This file has its own JSON parser, because encoding/json ignores the case of members and decodes an array into a blob.
// AWS does neither: "records" is not "Records". The parser is also cheap: to parse 5 MiB of base64 costs less than to receive
// them. It stays until encoding/json/v2, which has neither defect, is Go's default.

type kind byte

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindList
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "Boolean", "number", "String", "list", "structure"}[k]
}

// value is a JSON value. The zero value is null. raw is the text of a scalar, without quotes.
type value struct {
	kind    kind
	escaped bool // a string with escapes
	raw     []byte
	items   []value
	members []member
}

type member struct {
	name  string
	value value
}

// maxDepth is the limit of encoding/json.
const maxDepth = 10000

// parseJSON reads one JSON text. The value refers to b.
func parseJSON(b []byte) (value, bool) {
	p := parser{rest: b}
	v, ok := p.value(0)
	if !ok || p.next() != 0 || len(p.rest) != 0 {
		return value{}, false
	}
	return v, true
}

type parser struct{ rest []byte }

// next skips white space and returns the byte that follows, 0 at the end.
func (p *parser) next() byte {
	for len(p.rest) > 0 {
		switch c := p.rest[0]; c {
		case ' ', '\t', '\r', '\n':
			p.rest = p.rest[1:]
		default:
			return c
		}
	}
	return 0
}

func (p *parser) skip(c byte) bool {
	if p.next() != c || len(p.rest) == 0 {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) value(depth int) (value, bool) {
	switch c := p.next(); c {
	case '{':
		return p.object(depth + 1)
	case '[':
		return p.list(depth + 1)
	case '"':
		return p.text()
	case 't':
		return p.literal("true", kindBool)
	case 'f':
		return p.literal("false", kindBool)
	case 'n':
		return p.literal("null", kindNull)
	default:
		return p.number()
	}
}

func (p *parser) literal(s string, k kind) (value, bool) {
	if !bytes.HasPrefix(p.rest, []byte(s)) {
		return value{}, false
	}
	v := value{kind: k, raw: p.rest[:len(s)]}
	p.rest = p.rest[len(s):]
	return v, true
}

func (p *parser) number() (value, bool) {
	n := 0
	for n < len(p.rest) && bytes.IndexByte([]byte("+-.0123456789Ee"), p.rest[n]) >= 0 {
		n++
	}
	if n == 0 || !json.Valid(p.rest[:n]) {
		return value{}, false
	}
	v := value{kind: kindNumber, raw: p.rest[:n]}
	p.rest = p.rest[n:]
	return v, true
}

func (p *parser) text() (value, bool) {
	v := value{kind: kindString}
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			v.raw = p.rest[1:i]
			if v.escaped && !json.Valid(p.rest[:i+1]) {
				return value{}, false
			}
			p.rest = p.rest[i+1:]
			return v, true
		case c == '\\':
			v.escaped = true
			i++
		case c < ' ':
			return value{}, false
		}
	}
	return value{}, false
}

func (p *parser) list(depth int) (value, bool) {
	v := value{kind: kindList}
	ok := depth <= maxDepth && p.elements(']', func() bool {
		item, ok := p.value(depth)
		v.items = append(v.items, item)
		return ok
	})
	return v, ok
}

func (p *parser) object(depth int) (value, bool) {
	v := value{kind: kindObject}
	ok := depth <= maxDepth && p.elements('}', func() bool {
		if p.next() != '"' {
			return false
		}
		name, ok := p.text()
		if !ok || !p.skip(':') {
			return false
		}
		item, ok := p.value(depth)
		v.members = append(v.members, member{string(name.unescaped()), item})
		return ok
	})
	return v, ok
}

// elements reads from the opening bracket to the closing one. It calls read for each element between them.
func (p *parser) elements(closing byte, read func() bool) bool {
	p.rest = p.rest[1:]
	if p.skip(closing) {
		return true
	}
	for read() {
		if p.skip(closing) {
			return true
		}
		if !p.skip(',') {
			return false
		}
	}
	return false
}

func (v value) unescaped() []byte {
	if !v.escaped {
		return v.raw
	}
	quoted := append(append([]byte{'"'}, v.raw...), '"')
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return nil // cannot happen: text has checked it
	}
	return []byte(s)
}

// fields reads the members of one structure. err is the error of the first member with a wrong type.
type fields struct {
	value value
	err   error
}

func (f *fields) get(name, as string, want kind) (value, bool) {
	for i := len(f.value.members) - 1; i >= 0; i-- {
		m := f.value.members[i]
		if m.name != name || m.value.kind == kindNull {
			continue
		}
		if m.value.kind != want {
			f.fail("%s of %s can not be converted to %s", m.value.kind, name, as)
			return value{}, false
		}
		return m.value, true
	}
	return value{}, false
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = newError(codeSerialization, format, args...)
	}
}

// text returns nil if the member is absent.
func (f *fields) text(name string) *string {
	v, ok := f.get(name, "a String", kindString)
	if !ok {
		return nil
	}
	b := v.unescaped()
	if !utf8.Valid(b) {
		f.fail("'%s' is not valid UTF-8", name)
	}
	s := string(b)
	return &s
}

// integer returns fallback if the member is absent.
func (f *fields) integer(name string, fallback int) int {
	if x, ok := f.float(name, "an Integer"); ok {
		return int(math.Max(math.MinInt32, math.Min(math.MaxInt32, x)))
	}
	return fallback
}

func (f *fields) float(name, as string) (float64, bool) {
	v, ok := f.get(name, as, kindNumber)
	if !ok {
		return 0, false
	}
	x, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil {
		f.fail("%s can not be converted to %s", v.raw, as)
	}
	return x, err == nil
}

// instant reads a time in seconds since 1970, to the millisecond.
func (f *fields) instant(name string) (time.Time, bool) {
	x, ok := f.float(name, "milliseconds since epoch")
	if ok && math.Abs(x) > 1e12 {
		f.fail("%s is out of range", name)
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(x * 1000))), ok
}

func (f *fields) dryRun() bool {
	v, ok := f.get("DryRun", "a Boolean", kindBool)
	return ok && v.raw[0] == 't'
}

// structures returns the elements of a list. ok is false if the list is absent.
func (f *fields) structures(name string) (items []fields, ok bool) {
	v, ok := f.get(name, "a list", kindList)
	items = make([]fields, len(v.items))
	for i, item := range v.items {
		if item.kind != kindObject && item.kind != kindNull {
			f.fail("%s in %s can not be converted to a structure", item.kind, name)
		}
		items[i].value = item
	}
	return items, ok
}

func (f *fields) structure(name string) fields {
	v, _ := f.get(name, "a structure", kindObject)
	return fields{value: v}
}

// blob decodes base64. It returns nil if the member is absent.
func (f *fields) blob(name string) []byte {
	v, ok := f.get(name, "a Blob", kindString)
	if !ok {
		return nil
	}
	src := v.unescaped()
	if len(src)%4 != 0 {
		f.fail("can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: %d", len(src))
		return nil
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
	n, err := base64.StdEncoding.Strict().Decode(data, src)
	// The decoder ignores line ends, AWS does not.
	if err != nil || v.escaped && bytes.ContainsAny(src, "\r\n") {
		f.fail("can not be converted to a Blob: Invalid Base64 character")
		return nil
	}
	return data[:n]
}
