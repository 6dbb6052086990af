package record

import "bytes"

// platform has the values of a platform event's record that the lines of CloudWatch contain, as bytes of JSON.
type platform struct {
	requestID, version, initializationType, phase, status, errorType, name, state []byte
	runtimeVersion, runtimeVersionArn, events, types, metrics, tracing            []byte
}

func readPlatform(record []byte) (p platform) {
	rest := members(record)
	for {
		name, value, ok := rest.next()
		if !ok {
			return p
		}
		if field := p.field(string(name)); field != nil {
			*field = value
		}
	}
}

func (p *platform) field(member string) *[]byte {
	switch member {
	case "requestId":
		return &p.requestID
	case "version":
		return &p.version
	case "initializationType":
		return &p.initializationType
	case "phase":
		return &p.phase
	case "status":
		return &p.status
	case "errorType":
		return &p.errorType
	case "name":
		return &p.name
	case "state":
		return &p.state
	case "runtimeVersion":
		return &p.runtimeVersion
	case "runtimeVersionArn":
		return &p.runtimeVersionArn
	case "events":
		return &p.events
	case "types":
		return &p.types
	case "metrics":
		return &p.metrics
	case "tracing":
		return &p.tracing
	}
	return nil
}

// failed reports whether the event has a status other than success.
func (p *platform) failed() bool {
	status, _ := stringOf(p.status)
	return len(status) > 0 && string(status) != "success"
}

// line is a message, as the content of a JSON string. failed is set if a required value is missing or has the wrong type.
type line struct {
	text   []byte
	failed bool
}

// tab and lineEnd are escaped for a JSON string.
const (
	tab     = `\t`
	lineEnd = `\n`
)

func (l *line) add(literal string) { l.text = append(l.text, literal...) }

// required adds a string that the line needs.
func (l *line) required(before string, value []byte) {
	l.failed = !l.optional(before, value) || l.failed
}

// optional adds a string if the event has it.
func (l *line) optional(before string, value []byte) bool {
	content, ok := stringOf(value)
	if ok {
		l.text = append(append(l.text, before...), content...)
	}
	return ok
}

// number adds a number.
func (l *line) number(before string, value []byte, decimals int, unit string) {
	l.add(before)
	var ok bool
	l.text, ok = appendDecimal(l.text, value, decimals)
	l.add(unit)
	l.failed = l.failed || !ok
}

// appendPlatformLine appends the line that CloudWatch has for a platform event of a function with the log format text, as the
// content of a JSON string. ok is false if CloudWatch has no line for the event.
func appendPlatformLine(dst []byte, kind string, record []byte) (_ []byte, ok bool) {
	l := line{text: dst}
	p := readPlatform(record)
	switch kind {
	case "platform.initStart":
		l.runtime("INIT_START", &p)
	case "platform.restoreStart":
		l.runtime("RESTORE_START", &p)
	case "platform.initReport":
		kind, _ := stringOf(p.initializationType)
		if !p.failed() && string(kind) != "snap-start" { // on demand, REPORT has the init duration
			return dst, false
		}
		l.duration("INIT_REPORT Init Duration: ", &p)
		if p.failed() {
			l.optional(tab+"Phase: ", p.phase)
		}
		l.failure(&p)
	case "platform.restoreReport":
		l.duration("RESTORE_REPORT Restore Duration: ", &p)
		l.failure(&p)
	case "platform.start":
		l.required("START RequestId: ", p.requestID)
		l.optional(" Version: ", p.version)
	case "platform.runtimeDone": // CloudWatch writes END with REPORT; here each event is one line
		l.required("END RequestId: ", p.requestID)
	case "platform.report":
		l.report(&p)
	case "platform.extension":
		l.required("EXTENSION"+tab+"Name: ", p.name)
		l.required(tab+"State: ", p.state)
		l.list(tab+"Events: [", p.events, ",", false)
		l.optional(tab+"Error Type: ", p.errorType)
	case "platform.telemetrySubscription":
		l.required("TELEMETRY"+tab+"Name: ", p.name)
		l.required(tab+"State: ", p.state)
		l.list(tab+"Types: [", p.types, ", ", true)
	default:
		return dst, false
	}
	l.add(lineEnd)
	return l.text, !l.failed
}

func (l *line) runtime(name string, p *platform) {
	l.add(name)
	l.required(" Runtime Version: ", p.runtimeVersion)
	l.optional(tab+"Runtime Version ARN: ", p.runtimeVersionArn)
}

func (l *line) duration(before string, p *platform) {
	rest := members(p.metrics)
	for {
		name, value, ok := rest.next()
		if !ok {
			l.failed = true
			return
		}
		if string(name) == "durationMs" {
			l.number(before, value, 2, " ms")
			return
		}
	}
}

func (l *line) failure(p *platform) {
	if p.failed() {
		l.optional(tab+"Status: ", p.status)
		l.optional(tab+"Error Type: ", p.errorType)
	}
}

// reportFields are the metrics of a REPORT line, in its order.
var reportFields = [...]struct {
	member, name, unit string
	decimals           int
}{
	{"durationMs", "Duration: ", " ms" + tab, 2},
	{"billedDurationMs", "Billed Duration: ", " ms" + tab, -1},
	{"memorySizeMB", "Memory Size: ", " MB" + tab, -1},
	{"maxMemoryUsedMB", "Max Memory Used: ", " MB" + tab, -1},
	{"initDurationMs", "Init Duration: ", " ms" + tab, 2},
	{"restoreDurationMs", "Restore Duration: ", " ms" + tab, 2},
	{"billedRestoreDurationMs", "Billed Restore Duration: ", " ms" + tab, -1},
}

func (l *line) report(p *platform) {
	var values [len(reportFields)][]byte
	rest := members(p.metrics)
	for {
		name, value, ok := rest.next()
		if !ok {
			break
		}
		for i := range reportFields {
			if reportFields[i].member == string(name) {
				values[i] = value
			}
		}
	}
	l.required("REPORT RequestId: ", p.requestID)
	l.add(tab)
	l.failed = l.failed || values[0] == nil // all other metrics may be missing
	for i, value := range values {
		if value != nil {
			l.number(reportFields[i].name, value, reportFields[i].decimals, reportFields[i].unit)
		}
	}
	if p.failed() {
		l.optional("Status: ", p.status)
		l.optional(tab+"Error Type: ", p.errorType)
	}
	l.xray(p.tracing)
}

// xray adds the line of a sampled trace. The Telemetry API does not have the segment's id; spanId is the nearest.
func (l *line) xray(tracing []byte) {
	var header, span []byte
	rest := members(tracing)
	for {
		name, value, ok := rest.next()
		if !ok {
			break
		}
		switch string(name) {
		case "value":
			header, _ = stringOf(value)
		case "spanId":
			span = value
		}
	}
	root, sampled := traceOf(header)
	if len(root) == 0 || !sampled {
		return
	}
	l.add(lineEnd + "XRAY TraceId: ")
	l.text = append(l.text, root...)
	l.optional(tab+"SegmentId: ", span)
	l.add(tab + "Sampled: true" + tab)
}

// list adds the strings of an array.
func (l *line) list(before string, array []byte, between string, capital bool) {
	l.add(before)
	rest := members(array)
	for n := 0; ; n++ {
		value, ok := rest.element()
		content, isString := stringOf(value)
		if !ok {
			break
		}
		l.failed = l.failed || !isString
		if n > 0 {
			l.add(between)
		}
		from := len(l.text)
		l.text = append(l.text, content...)
		if capital && len(content) > 0 && content[0] >= 'a' && content[0] <= 'z' {
			l.text[from] -= 'a' - 'A'
		}
	}
	l.add("]")
}

// traceOf reads the header X-Amzn-Trace-Id: Root=1-…;Parent=…;Sampled=1.
func traceOf(header []byte) (root []byte, sampled bool) {
	for field := range bytes.SplitSeq(header, []byte{';'}) {
		name, value, _ := bytes.Cut(field, []byte{'='})
		switch string(name) {
		case "Root":
			root = value
		case "Sampled":
			sampled = string(value) == "1"
		}
	}
	return root, sampled
}
