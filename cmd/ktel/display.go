package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kinesis-telemetry-extension/internal/audit"
)

// Columns of a shown event, without the message, which takes the rest of the line.
const (
	timeColumns    = 12
	typeColumns    = 20
	requestColumns = 8
	seqColumns     = 5
	messageAt      = timeColumns + typeColumns + requestColumns + seqColumns + 4
	leastMessage   = 20
)

// display shows events for a person to read, each on a line of its own.
type display struct {
	out     io.Writer
	ink     ink
	columns func() int // of the terminal; 0: do not shorten
	headed  bool
}

// show writes the event of a line, or what is wrong with it.
func (d *display) show(line *audit.Line) error {
	var b strings.Builder
	if !d.headed {
		d.headed = true
		b.WriteString(d.ink.dim(pad("time (UTC)", timeColumns)+" "+pad("type", typeColumns)+" "+
			pad("request", requestColumns)+" "+fmt.Sprintf("%*s", seqColumns, "seq")+" message") + "\n")
	}
	d.render(&b, line)
	b.WriteByte('\n')
	_, err := io.WriteString(d.out, b.String())
	return err
}

func (d *display) render(b *strings.Builder, line *audit.Line) {
	seq := ""
	if line.Numbered {
		seq = strconv.FormatUint(line.Seq, 10)
	}
	room := 0
	if columns := d.columns(); columns > 0 {
		room = max(leastMessage, columns-messageAt-max(0, len(seq)-seqColumns))
	}
	if line.Err != nil {
		b.WriteString(d.ink.bad(pad("not an event", messageAt-1)) + " " +
			fit(printable(line.Err.Error()+": "+string(line.Raw)), room))
		return
	}
	kind := line.TypeName()
	b.WriteString(d.ink.dim(pad(clock(line.TimeText()), timeColumns)))
	b.WriteByte(' ')
	b.WriteString(d.paintType(kind)(pad(shortType(kind), typeColumns)))
	b.WriteByte(' ')
	b.WriteString(d.ink.dim(pad(fit(printable(shortID(line.RequestID)), requestColumns), requestColumns)))
	fmt.Fprintf(b, " %*s ", seqColumns, seq)
	m := messageOf(kind, line.Record)
	text := fit(printable(m.text), room)
	if m.level != "" {
		level := pad(fit(printable(m.level), 5), 5)
		rest := 0
		if room > 0 {
			rest = max(1, room-len(level)-1)
		}
		b.WriteString(d.paintLevel(m.level)(level) + " ")
		text = fit(printable(m.text), rest)
	}
	if m.alarming {
		text = d.ink.bad(text)
	}
	b.WriteString(text)
}

func (d *display) paintType(kind string) func(...any) string {
	switch {
	case kind == "function":
		return d.ink.function
	case kind == "extension":
		return d.ink.extension
	case strings.HasPrefix(kind, "platform."):
		return d.ink.platform
	default:
		return d.ink.own
	}
}

func (d *display) paintLevel(level string) func(...any) string {
	switch strings.ToUpper(level) {
	case "ERROR", "FATAL", "CRITICAL", "PANIC":
		return d.ink.bad
	case "WARN", "WARNING":
		return d.ink.warn
	case "DEBUG", "TRACE":
		return d.ink.dim
	default:
		return d.ink.good
	}
}

// clock is the time of day of a timestamp; the date is that of today anyway.
func clock(timestamp string) string {
	if t, err := time.Parse(time.RFC3339Nano, timestamp); err == nil {
		return t.UTC().Format("15:04:05.000")
	}
	return fit(printable(timestamp), timeColumns)
}

// shortType fits a type into its column: what is too long goes without its family.
func shortType(kind string) string {
	kind = printable(kind)
	if utf8.RuneCountInString(kind) > typeColumns {
		if _, name, ok := strings.Cut(kind, "."); ok {
			kind = "…" + name
		}
	}
	return fit(kind, typeColumns)
}

// shortID is the beginning of a request id: enough to tell those of one run apart.
func shortID(id string) string {
	if len(id) > requestColumns {
		return id[:requestColumns]
	}
	return id
}

// message is what a record says, in short.
type message struct {
	level, text string
	alarming    bool // something was lost or failed
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
	return jsonMessage(record)
}

// jsonMessage shows the level and the message of a structured log first, then its other members as they stand.
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
		case "timestamp", "time", "requestid", "awsrequestid": // they have columns of their own
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

// membersInOrder are the members of a JSON object in the order in which they stand there.
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
