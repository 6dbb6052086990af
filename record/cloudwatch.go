package record

import (
	"bytes"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
)

// subscriptionFilter is the name of the filter in the envelope. It distinguishes the extension's event ids from CloudWatch's.
const subscriptionFilter = "kinesis-telemetry-extension"

// CloudWatchEncoder encodes one record of the format CloudWatch, compressed with gzip. It writes exactly the members that
// CloudWatch Logs writes: Vector rejects others. It allocates 810 KiB and memory for the largest event, and reuses them. It is
// for one goroutine.
type CloudWatchEncoder struct {
	// Owner is the account's id. LogGroup is the name of the function's log group. Consumers reject empty ones.
	Owner, LogGroup string
	// JSONLogs encodes platform events as CloudWatch does for a function with the log format JSON; else they are lines of text.
	// The first log of the function that is an object sets it.
	JSONLogs bool

	gzip     *gzip.Writer
	out      sink
	event    []byte
	instance [2]uint64 // see instanceBits
	first    bool
}

// Begin starts a record that is appended to dst. All its events are of one instance.
func (e *CloudWatchEncoder) Begin(dst []byte, instance, logStream string) {
	e.out.data = dst
	e.gzip = e.out.beginGzip(e.gzip)
	e.instance = instanceBits(instance)
	e.first = true
	b := e.event[:0]
	b = append(b, `{"messageType":"DATA_MESSAGE","owner":"`...)
	b = appendQuoted(b, []byte(e.Owner))
	b = append(b, `","logGroup":"`...)
	b = appendQuoted(b, []byte(e.LogGroup))
	b = append(b, `","logStream":"`...)
	b = appendQuoted(b, []byte(logStream))
	b = append(b, `","subscriptionFilters":["`+subscriptionFilter+`"],"logEvents":[`...)
	e.write(b)
}

// Add adds an event: a line of the format NDJSON, with or without its line end.
func (e *CloudWatchEncoder) Add(line []byte) {
	parts := split(bytes.TrimSuffix(line, newline))
	at := parts.unixMilli()
	b := e.event[:0]
	if !e.first {
		b = append(b, ',')
	}
	e.first = false
	b = append(b, `{"id":"`...)
	b = appendEventID(b, at, parts.seq, e.instance)
	b = append(b, `","timestamp":`...)
	b = strconv.AppendInt(b, at, 10)
	b = append(b, `,"message":"`...)
	b = e.appendMessage(b, &parts)
	e.write(append(b, `"}`...))
}

// End ends the record and returns dst with it.
func (e *CloudWatchEncoder) End() []byte {
	e.write(append(e.event[:0], `]}`...))
	_ = e.gzip.Close() // the sink never fails
	return e.out.take()
}

func (e *CloudWatchEncoder) write(b []byte) {
	_, _ = e.gzip.Write(b)
	e.event = b
}

// appendMessage appends the message that CloudWatch has for an event, as the content of a JSON string.
func (e *CloudWatchEncoder) appendMessage(dst []byte, parts *parts) []byte {
	kind, _ := stringOf(parts.kind)
	switch {
	case parts.truncated != nil: // the message must be the event's JSON, which alone marks it as truncated
	case string(kind) == "function" || string(kind) == "extension":
		if content, ok := stringOf(parts.record); ok {
			return appendText(dst, content)
		}
		if len(parts.record) > 0 && parts.record[0] == '{' {
			e.JSONLogs = e.JSONLogs || string(kind) == "function"
			return appendQuoted(dst, parts.record)
		}
	case !e.JSONLogs:
		if line, ok := appendPlatformLine(dst, string(kind), parts.record); ok {
			return line
		}
	}
	return append(appendQuoted(dst, parts.lambda), '}')
}

// appendText appends a line of text, as the content of a JSON string, with a line end. CloudWatch always has the line end, the
// Telemetry API leaves it out for some runtimes, and consumers that join messages need it.
func appendText(dst, content []byte) []byte {
	dst = append(dst, content...)
	if before, ok := bytes.CutSuffix(content, []byte{'n'}); ok {
		if escapes := len(before) - len(bytes.TrimRight(before, `\`)); escapes%2 == 1 {
			return dst
		}
	}
	return append(dst, lineEnd...)
}

// parts has the bytes of the values of a line's members.
type parts struct {
	time, kind, record, truncated []byte
	seq                           uint64
	lambda                        []byte // the line up to the extension's members, without the closing brace
}

// split finds the parts of a line. The last of two members of one name counts: the extension's members follow Lambda's.
func split(line []byte) parts {
	parts := parts{lambda: bytes.TrimSuffix(line, []byte{'}'})}
	rest := members(line)
	request := -1 // the position of the last member, if it may be the extension's requestId
	for {
		at := rest.at
		name, value, ok := rest.next()
		if !ok {
			return parts
		}
		before := request
		request = -1
		switch string(name) {
		case "time":
			parts.time = value
		case "type":
			parts.kind = value
		case "record":
			parts.record = value
		case "truncated":
			parts.truncated = value
		case "requestId":
			request = at
		case "seq":
			parts.seq = 0
			for _, c := range value {
				parts.seq = parts.seq*10 + uint64(c-'0')
			}
			if before < 0 {
				before = at
			}
			parts.lambda = line[:before]
		}
	}
}

// unixMilli returns the event's time, or 0 if it cannot be read: a retried event must have the same time, so the clock is no
// substitute.
func (p *parts) unixMilli() int64 {
	content, _ := stringOf(p.time)
	var at time.Time
	if at.UnmarshalText(content) != nil {
		colon := bytes.LastIndexByte(content, ':') // Lambda's guide also has 2022-10-12T00:00:15:064Z
		if colon < len("2006-01-02T15:04:") {
			return 0
		}
		content = bytes.Clone(content)
		content[colon] = '.'
		if at.UnmarshalText(content) != nil {
			return 0
		}
	}
	return min(max(at.UnixMilli(), 0), maxEventTime)
}

// appendQuoted appends text as the content of a JSON string.
func appendQuoted(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		if c >= ' ' {
			dst = append(dst, '\\', c)
		} else {
			dst = appendEscaped(dst, text[i:from])
		}
	}
	return append(dst, text[from:]...)
}
