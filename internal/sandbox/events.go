//go:build unix

package sandbox

import (
	"bytes"
	"encoding/json"
	"math"
	"time"
	"unicode/utf8"
)

// timeLayout is Lambda's format of times: ISO 8601, UTC, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// category is a type of telemetry that a subscription can select.
type category string

const (
	categoryPlatform  category = "platform"
	categoryFunction  category = "function"
	categoryExtension category = "extension"
)

// event is one encoded telemetry event: raw is the JSON object, raw[envelope:len(raw)-1] the value of its record member.
type event struct {
	raw      []byte
	envelope int // length of {"time":…,"type":…,"record":
	time     time.Time
	typ      string
}

func (ev event) record() []byte { return ev.raw[ev.envelope : len(ev.raw)-1] }

func (ev event) public() Event {
	return Event{Time: ev.time, Type: ev.typ, Raw: ev.raw, Record: ev.record()}
}

// arena allocates memory for encoded events in large chunks, so that a line needs no separate allocation. Memory is
// never reused: consumers may keep events.
type arena struct{ buf []byte }

const arenaChunk = 128 << 10

// reserve makes room for about n bytes at the end of the buffer.
func (a *arena) reserve(n int) {
	if cap(a.buf)-len(a.buf) < n {
		a.buf = make([]byte, 0, max(arenaChunk, n))
	}
}

// encode appends one event. appendRecord appends its record, of about size bytes.
func (a *arena) encode(at time.Time, typ string, size int, appendRecord func([]byte) []byte) event {
	a.reserve(size + 96)
	start := len(a.buf)
	b := a.buf
	b = append(b, `{"time":"`...)
	b = at.AppendFormat(b, timeLayout)
	b = append(b, `","type":"`...)
	b = append(b, typ...)
	b = append(b, `","record":`...)
	envelope := len(b) - start
	b = appendRecord(b)
	b = append(b, '}')
	a.buf = b
	return event{raw: b[start:len(b):len(b)], envelope: envelope, time: at, typ: typ}
}

// line encodes one line of a process's output. If asObject is true and isJSONObject(line), the record is the
// line itself: with JSON log format, schemas from 2022-12-13 on have objects. Otherwise the record is a string. Bytes
// that are not UTF-8 become U+FFFD, because JSON must be UTF-8; the guide does not document what Lambda does with them.
func (a *arena) line(at time.Time, typ string, text []byte, asObject bool) event {
	if asObject {
		if !utf8.Valid(text) {
			text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
		}
		return a.encode(at, typ, len(text), func(b []byte) []byte { return append(b, text...) })
	}
	return a.encode(at, typ, len(text)+len(text)/8, func(b []byte) []byte { return appendJSONString(b, text) })
}

// platform encodes a platform event. Its record is one of this package's structs, which always encode.
func (a *arena) platform(at time.Time, typ string, record any) event {
	data, err := json.Marshal(record)
	if err != nil {
		panic("sandbox: encoding " + typ + ": " + err.Error())
	}
	return a.encode(at, typ, len(data), func(b []byte) []byte { return append(b, data...) })
}

func isJSONObject(text []byte) bool {
	trimmed := bytes.TrimLeft(text, " \t\r\n")
	return len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(text)
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends text as a JSON string. It uses JSON's two-character escapes, \u00XX for other control
// characters, and copies everything else. Equal texts give equal bytes.
func appendJSONString(b, text []byte) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(b, text[start:i]...)
				b = append(b, "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		b = append(b, text[start:i]...)
		i++
		start = i
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, text[start:]...)
	return append(b, '"')
}

// cut divides an event that is larger than maxBytes, as Lambda has been seen to do: in the middle of the record's
// value, with a closing brace after the first part and the same envelope before the rest. Neither part parses. The
// first part is exactly maxBytes long; it can end inside a character or an escape. maxBytes must be less than
// len(ev.raw) and more than ev.envelope+1.
func (ev event) cut(maxBytes int) (first []byte, rest event) {
	at := maxBytes - 1
	first = make([]byte, 0, maxBytes)
	first = append(append(first, ev.raw[:at]...), '}')
	raw := make([]byte, 0, ev.envelope+len(ev.raw)-at)
	raw = append(append(raw, ev.raw[:ev.envelope]...), ev.raw[at:]...)
	rest = ev
	rest.raw = raw
	return first, rest
}

// milliseconds returns d in ms with three decimals, as in Lambda's metrics.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// The records of platform events; https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html.
type (
	tracingRecord struct {
		SpanID string `json:"spanId,omitempty"`
		Type   string `json:"type"`
		Value  string `json:"value"`
	}
	spanRecord struct {
		Name       string  `json:"name"`
		Start      string  `json:"start"`
		DurationMs float64 `json:"durationMs"`
	}
	initStartRecord struct {
		InitializationType InitType `json:"initializationType"`
		Phase              string   `json:"phase"`
		FunctionName       string   `json:"functionName"`
		FunctionVersion    string   `json:"functionVersion"`
		FunctionArn        string   `json:"functionArn"`
		InstanceID         string   `json:"instanceId"`
		InstanceMaxMemory  int      `json:"instanceMaxMemory"` // bytes
	}
	durationMetrics struct {
		DurationMs float64 `json:"durationMs"`
	}
	initDoneRecord struct { // initRuntimeDone, and with metrics initReport
		InitializationType InitType         `json:"initializationType"`
		Phase              string           `json:"phase"`
		Status             string           `json:"status"`
		ErrorType          string           `json:"errorType,omitempty"`
		Metrics            *durationMetrics `json:"metrics,omitempty"`
	}
	restoreStartRecord struct {
		FunctionName      string `json:"functionName"`
		FunctionVersion   string `json:"functionVersion"`
		InstanceID        string `json:"instanceId"`
		InstanceMaxMemory string `json:"instanceMaxMemory"`
	}
	restoreDoneRecord struct { // restoreRuntimeDone, and with metrics restoreReport
		Status  string           `json:"status"`
		Metrics *durationMetrics `json:"metrics,omitempty"`
	}
	startRecord struct {
		RequestID   string         `json:"requestId"`
		Version     string         `json:"version"`
		FunctionArn string         `json:"functionArn"`
		TenantID    string         `json:"tenantId,omitempty"`
		Tracing     *tracingRecord `json:"tracing,omitempty"`
	}
	runtimeDoneMetrics struct {
		DurationMs    float64 `json:"durationMs"`
		ProducedBytes int64   `json:"producedBytes"`
	}
	runtimeDoneRecord struct {
		RequestID string             `json:"requestId"`
		Status    string             `json:"status"`
		ErrorType string             `json:"errorType,omitempty"`
		Metrics   runtimeDoneMetrics `json:"metrics"`
		Spans     []spanRecord       `json:"spans,omitempty"`
		TenantID  string             `json:"tenantId,omitempty"`
		Tracing   *tracingRecord     `json:"tracing,omitempty"`
	}
	reportMetrics struct {
		DurationMs        float64 `json:"durationMs"`
		BilledDurationMs  float64 `json:"billedDurationMs"`
		MemorySizeMB      int     `json:"memorySizeMB"`
		MaxMemoryUsedMB   int64   `json:"maxMemoryUsedMB"`
		InitDurationMs    float64 `json:"initDurationMs,omitempty"`
		RestoreDurationMs float64 `json:"restoreDurationMs,omitempty"`
	}
	reportRecord struct {
		RequestID string         `json:"requestId"`
		Status    string         `json:"status"`
		ErrorType string         `json:"errorType,omitempty"`
		Metrics   any            `json:"metrics"` // reportMetrics, or durationMetrics on Managed Instances
		Spans     []spanRecord   `json:"spans,omitempty"`
		TenantID  string         `json:"tenantId,omitempty"`
		Tracing   *tracingRecord `json:"tracing,omitempty"`
	}
	extensionRecord struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Events    []string `json:"events"`
		ErrorType string   `json:"errorType,omitempty"`
	}
	subscriptionRecord struct {
		Name  string     `json:"name"`
		State string     `json:"state"`
		Types []category `json:"types"`
	}
	logsDroppedRecord struct {
		Reason         string `json:"reason"`
		DroppedRecords int    `json:"droppedRecords"`
		DroppedBytes   int    `json:"droppedBytes"`
	}
)

func span(name string, start, end time.Time) spanRecord {
	return spanRecord{Name: name, Start: start.UTC().Format(timeLayout), DurationMs: milliseconds(end.Sub(start))}
}
