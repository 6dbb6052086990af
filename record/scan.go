package record

import "bytes"

var newline = []byte{'\n'}

// object is a cursor over the members of a JSON object, or over the elements of an array. It finds the end of each value and
// does not check the syntax: it is for lines of the extension, and stops at other text.
type object struct {
	text []byte
	at   int
}

// members returns a cursor over the object, or array, that text begins with.
func members(text []byte) object {
	at := skipSpace(text, 0)
	if at == len(text) || text[at] != '{' && text[at] != '[' {
		return object{}
	}
	return object{text: text, at: at + 1}
}

// next returns the bytes of the next member: its name without quotes, and its value. ok is false after the last member.
func (o *object) next() (name, value []byte, ok bool) {
	at := o.separator()
	end := skipString(o.text, at)
	if end < 0 {
		return nil, nil, false
	}
	name = o.text[at+1 : end-1]
	at = skipSpace(o.text, end)
	if at == len(o.text) || o.text[at] != ':' {
		return nil, nil, false
	}
	o.at = at + 1
	value, ok = o.value(skipSpace(o.text, o.at))
	return name, value, ok
}

// element returns the next element of an array.
func (o *object) element() (value []byte, ok bool) { return o.value(o.separator()) }

func (o *object) value(at int) (value []byte, ok bool) {
	end := skipValue(o.text, at)
	if end < 0 {
		return nil, false
	}
	o.at = end
	return o.text[at:end], true
}

// separator returns the position of the next member.
func (o *object) separator() int {
	at := skipSpace(o.text, o.at)
	if at < len(o.text) && o.text[at] == ',' {
		at = skipSpace(o.text, at+1)
	}
	return at
}

// skipValue returns the end of the value that begins at at, or -1 if no value begins there.
func skipValue(text []byte, at int) int {
	if at >= len(text) {
		return -1
	}
	switch text[at] {
	case '"':
		return skipString(text, at)
	case '{', '[':
		return skipNested(text, at)
	}
	end := at
	for end < len(text) && !isDelimiter(text[end]) {
		end++
	}
	if end == at {
		return -1
	}
	return end
}

func skipNested(text []byte, at int) int {
	for depth := 0; at < len(text); at++ {
		switch text[at] {
		case '"':
			if at = skipString(text, at) - 1; at < 0 {
				return -1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at + 1
			}
		}
	}
	return -1
}

// skipString returns the end of the string that begins at at, after its closing quote, or -1 if no string begins there.
func skipString(text []byte, at int) int {
	if at >= len(text) || text[at] != '"' {
		return -1
	}
	for begin := at + 1; ; {
		n := bytes.IndexByte(text[begin:], '"')
		if n < 0 {
			return -1
		}
		quote := begin + n
		escapes := quote
		for text[escapes-1] == '\\' {
			escapes--
		}
		begin = quote + 1
		if (quote-escapes)%2 == 0 {
			return begin
		}
	}
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && isSpace(text[at]) {
		at++
	}
	return at
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func isDelimiter(c byte) bool {
	return isSpace(c) || c == ',' || c == ':' || c == '}' || c == ']' || c == '{' || c == '[' || c == '"'
}

// stringOf returns the content of a JSON string, with its escapes.
func stringOf(value []byte) (content []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}
