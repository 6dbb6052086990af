package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/audit"
)

// Columns of a shown event. The message takes the rest of the line. A narrow terminal shows no seq.
const (
	timeColumns       = 12
	typeColumns       = 20
	requestColumns    = 8
	seqColumns        = 5
	messageColumn     = timeColumns + typeColumns + requestColumns + seqColumns + 4
	minMessageColumns = 20
	narrowColumns     = 72 // terminals with fewer columns are narrow
	secondColumns     = 8  // a time without its fraction
	familyColumns     = 11 // fits most types without their family
)

// display shows events for a person, each on its own line.
type display struct {
	out         io.Writer
	colors      palette
	columns     func() int // of the terminal; 0: lines are not shortened
	headerShown bool
}

// show writes the event of a line, or why it is not an event.
func (d *display) show(line *audit.Line) error {
	var b strings.Builder
	columns := d.columns()
	if !d.headerShown {
		d.headerShown = true
		head := pad("time (UTC)", timeColumns) + " " + pad("type", typeColumns) + " " + pad("request", requestColumns) + " " +
			fmt.Sprintf("%*s", seqColumns, "seq") + " message"
		if columns > 0 && columns < narrowColumns {
			head = pad("UTC", secondColumns) + " " + pad("type", familyColumns) + " " + pad("request", requestColumns) + " message"
		}
		b.WriteString(d.colors.dim(head) + "\n")
	}
	d.render(&b, line, columns)
	b.WriteByte('\n')
	_, err := io.WriteString(d.out, b.String())
	return err
}

func (d *display) render(b *strings.Builder, line *audit.Line, columns int) {
	room := func(used int) int {
		if columns <= 0 {
			return 0
		}
		return max(1, columns-used)
	}
	if line.Err != nil {
		at := messageColumn
		if columns > 0 && columns < narrowColumns {
			at = len("not an event ")
		}
		b.WriteString(d.colors.bad(pad("not an event", at-1)) + " " + fit(printable(line.Err.Error()+": "+string(line.Raw)), room(at)))
		return
	}
	kind := line.TypeName()
	request := pad(fit(printable(shortID(line.RequestID)), requestColumns), requestColumns)
	moment, typed, seq := pad(clock(line.TimeText()), timeColumns), pad(shortType(kind), typeColumns), strings.Repeat(" ", seqColumns)+" "
	if line.Numbered {
		seq = fmt.Sprintf("%*d ", seqColumns, line.Seq)
	}
	if columns > 0 && columns < narrowColumns {
		moment, typed, seq = pad(fit(moment, secondColumns), secondColumns), pad(nameOf(kind), familyColumns), ""
		if clocked := clock(line.TimeText()); len(clocked) == timeColumns {
			moment = clocked[:secondColumns]
		}
	}
	b.WriteString(d.colors.dim(moment) + " " + typeColor(d.colors, kind)(typed) + " " + d.colors.dim(request) + " " + seq)
	d.renderMessage(b, messageOf(kind, line.Record), room(ansi.StringWidth(moment+typed+request+seq)+3))
}

// renderMessage writes a message on one line.
func (d *display) renderMessage(b *strings.Builder, m message, room int) {
	if m.level != "" {
		level := pad(fit(printable(m.level), 5), 5)
		b.WriteString(levelColor(d.colors, m.level)(level) + " ")
		if room > 0 {
			room = max(1, room-len(level)-1)
		}
	}
	text := fit(printable(m.text), room)
	if m.alarming {
		text = d.colors.bad(text)
	}
	b.WriteString(text)
}

func typeColor(colors palette, kind string) func(...any) string {
	switch {
	case kind == "function":
		return colors.function
	case kind == kindExtension:
		return colors.extension
	case strings.HasPrefix(kind, "platform."):
		return colors.platform
	default:
		return colors.telemetry
	}
}

func levelColor(colors palette, level string) func(...any) string {
	switch strings.ToUpper(level) {
	case "ERROR", "FATAL", "CRITICAL", "PANIC":
		return colors.bad
	case "WARN", "WARNING":
		return colors.warn
	case "DEBUG", "TRACE":
		return colors.dim
	default:
		return colors.good
	}
}

// clock returns the time of day of a timestamp.
func clock(timestamp string) string {
	if t, err := time.Parse(time.RFC3339Nano, timestamp); err == nil {
		return t.UTC().Format("15:04:05.000")
	}
	return fit(printable(timestamp), timeColumns)
}

// shortType fits a type into its column: a type that is too long is shown without its family.
func shortType(kind string) string {
	if shown := printable(kind); ansi.StringWidth(shown) <= typeColumns {
		return shown
	}
	return nameOf(kind)
}

// nameOf returns a type without its family.
func nameOf(kind string) string {
	if _, name, ok := strings.Cut(kind, "."); ok {
		kind = name
	}
	return fit(printable(kind), typeColumns+4)
}

// shortID returns the beginning of a request id, which is enough to distinguish the requests of a run.
func shortID(id string) string {
	if len(id) > requestColumns {
		return id[:requestColumns]
	}
	return id
}

// message is a record in short.
type message struct {
	level, text string
	alarming    bool // reports a loss or a failure
}

func messageOf(kind string, record json.RawMessage) message {
	if len(record) == 0 {
		return message{text: "(no record)"}
	}
	var s string
	if json.Unmarshal(record, &s) == nil && record[0] == '"' {
		return message{text: strings.TrimRight(s, "\r\n")}
	}
	if strings.HasPrefix(kind, "platform.") {
		if m, ok := platformMessage(strings.TrimPrefix(kind, "platform."), record); ok {
			return m
		}
	}
	if kind == kindStats {
		if m, ok := statsMessage(record); ok {
			return m
		}
	}
	return jsonMessage(record)
}

// jsonMessage shows the level and the message of a structured log first, then its other members in their order.
func jsonMessage(record json.RawMessage) message {
	members, ok := membersInOrder(record)
	if !ok {
		return message{text: string(record)}
	}
	var m message
	rest := make([]string, 0, len(members))
	for _, member := range members {
		value := string(member.value)
		var s string
		if json.Unmarshal(member.value, &s) == nil && s != "" && !strings.ContainsAny(s, ` "=`) {
			value = s
		}
		switch strings.ToLower(member.name) {
		case "timestamp", "time", "requestid", "awsrequestid": // shown in their own columns
		case "level", "severity":
			m.level = strings.Trim(value, `"`)
		case "message", "msg":
			if s != "" {
				value = s
			}
			m.text = strings.TrimSpace(value + " " + m.text)
		default:
			rest = append(rest, member.name+"="+value)
		}
	}
	m.text = strings.TrimSpace(m.text + " " + strings.Join(rest, " "))
	return m
}

type member struct {
	name  string
	value json.RawMessage
}

// membersInOrder returns the members of a JSON object in their order.
func membersInOrder(raw json.RawMessage) ([]member, bool) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var members []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		m := member{name: fmt.Sprint(name)}
		if err := decoder.Decode(&m.value); err != nil {
			return nil, false
		}
		members = append(members, m)
	}
	return members, true
}
