package record

import "bytes"

// platform is what the lines of CloudWatch are made of: values of a platform event's record, as they stand.
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
		if place := p.place(string(name)); place != nil {
			*place = value
		}
	}
}

func (p *platform) place(member string) *[]byte {
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

// failed tells whether the status is another than success.
func (p *platform) failed() bool {
	status, _ := stringOf(p.status)
	return len(status) > 0 && string(status) != "success"
}

// line is a message that is written, as the content of a JSON string. failed is set where a value is missing or is another than Lambda's.
type line struct {
	text   []byte
	failed bool
}

// tab and lineEnd are escaped as a JSON string has them.
const (
	tab     = `\t`
	lineEnd = `\n`
)

func (l *line) add(literal string) { l.text = append(l.text, literal...) }

// must adds a string that the line needs.
func (l *line) must(before string, value []byte) {
	l.failed = !l.may(before, value) || l.failed
}

// may adds a string if it is there.
func (l *line) may(before string, value []byte) bool {
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

// appendPlatformLine appends the line that CloudWatch has for a platform event where the function's log format is text, as the content of a
// JSON string. It is not ok where CloudWatch has none.
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
		if !p.failed() && string(kind) != "snap-start" { // on demand it is in REPORT then
			return dst, false
		}
		l.duration("INIT_REPORT Init Duration: ", &p)
		if p.failed() {
			l.may(tab+"Phase: ", p.phase)
		}
		l.trouble(&p)
	case "platform.restoreReport":
		l.duration("RESTORE_REPORT Restore Duration: ", &p)
		l.trouble(&p)
	case "platform.start":
		l.must("START RequestId: ", p.requestID)
		l.may(" Version: ", p.version)
	case "platform.runtimeDone": // CloudWatch writes END with REPORT: one event is one line
		l.must("END RequestId: ", p.requestID)
	case "platform.report":
		l.report(&p)
	case "platform.extension":
		l.must("EXTENSION"+tab+"Name: ", p.name)
		l.must(tab+"State: ", p.state)
		l.list(tab+"Events: [", p.events, ",", false)
		l.may(tab+"Error Type: ", p.errorType)
	case "platform.telemetrySubscription":
		l.must("TELEMETRY"+tab+"Name: ", p.name)
		l.must(tab+"State: ", p.state)
		l.list(tab+"Types: [", p.types, ", ", true)
	default:
		return dst, false
	}
	l.add(lineEnd)
	return l.text, !l.failed
}

func (l *line) runtime(name string, p *platform) {
	l.add(name)
	l.must(" Runtime Version: ", p.runtimeVersion)
	l.may(tab+"Runtime Version ARN: ", p.runtimeVersionArn)
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

func (l *line) trouble(p *platform) {
	if p.failed() {
		l.may(tab+"Status: ", p.status)
		l.may(tab+"Error Type: ", p.errorType)
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
	l.must("REPORT RequestId: ", p.requestID)
	l.add(tab)
	l.failed = l.failed || values[0] == nil // all other metrics may be missing
	for i, value := range values {
		if value != nil {
			l.number(reportFields[i].name, value, reportFields[i].decimals, reportFields[i].unit)
		}
	}
	if p.failed() {
		l.may("Status: ", p.status)
		l.may(tab+"Error Type: ", p.errorType)
	}
	l.xray(p.tracing)
}

// xray adds the line of a trace that is sampled. Telemetry does not name the segment; spanId is the nearest.
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
	l.may(tab+"SegmentId: ", span)
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

// traceOf reads an X-Amzn-Trace-Id: Root=1-…;Parent=…;Sampled=1.
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
