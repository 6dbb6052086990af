package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// envelope has the members of a subscription record that are read.
type envelope struct {
	MessageType         string   `json:"messageType"`
	Owner               string   `json:"owner"`
	LogGroup            string   `json:"logGroup"`
	SubscriptionFilters []string `json:"subscriptionFilters"`
}

type logEvent struct {
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

// isEnvelope reports whether a JSON object is a subscription record: its first member is messageType, as in all known records.
func isEnvelope(value []byte) bool {
	rest := members(value)
	name, _, ok := rest.next()
	return ok && string(name) == "messageType"
}

// envelope reads a subscription record. It reads the log events one by one: a decoded list of them may be far larger than the
// data.
func (u *unpacker) envelope(value []byte) {
	if !json.Valid(value) {
		u.emit(&Line{Raw: value}, errors.New("the envelope of CloudWatch Logs is not JSON"))
		return
	}
	var e envelope
	var events object
	for rest := members(value); ; {
		name, member, ok := rest.next()
		if !ok {
			break
		}
		var field any
		switch string(name) {
		case "messageType":
			field = &e.MessageType
		case "owner":
			field = &e.Owner
		case "logGroup":
			field = &e.LogGroup
		case "subscriptionFilters":
			field = &e.SubscriptionFilters
		case "logEvents":
			events = members(member)
			continue
		default:
			continue
		}
		if err := json.Unmarshal(member, field); err != nil {
			u.emit(&Line{Raw: value}, fmt.Errorf("%w: an envelope of CloudWatch Logs, but its %s: %w", ErrForeign, name, err))
			return
		}
	}
	if e.MessageType == "CONTROL_MESSAGE" { // CloudWatch checks that it can write to the stream
		return
	}
	for number := 1; !u.stopped; number++ {
		raw, ok := events.element()
		if !ok {
			return
		}
		line, err := e.line(raw)
		if err != nil {
			err = fmt.Errorf("log event %d of the record: %w", number, err)
		}
		u.emit(&line, err)
	}
}

// line reads one log event.
func (e *envelope) line(raw []byte) (Line, error) {
	line := Line{Raw: raw, Source: SourceFields{Account: e.Owner}}
	line.Source.Function, _ = strings.CutPrefix(e.LogGroup, "/aws/lambda/")
	if line.Source.Function == e.LogGroup {
		line.Source.Function = ""
	}
	var event logEvent
	if err := json.Unmarshal(raw, &event); err != nil {
		return line, err
	}
	at := time.UnixMilli(event.Timestamp).UTC()
	if event.Timestamp != 0 {
		line.Time = at.Format(timeLayout)
	}
	line.readMessage(event.Message)
	if len(e.SubscriptionFilters) != 1 || e.SubscriptionFilters[0] != subscriptionFilter {
		return line, nil
	}
	idTime, seq, instance, ok := parseEventID(event.ID)
	if !ok || idTime != event.Timestamp {
		return line, fmt.Errorf("its id %.60q is not made of its time, seq and instance", event.ID)
	}
	line.Seq, line.Source.Instance = seq, instance
	return line, nil
}

const timeLayout = "2006-01-02T15:04:05.000Z"

// readMessage sets the members that the message has.
func (l *Line) readMessage(message string) {
	if strings.HasPrefix(message, "{") && json.Valid([]byte(message)) {
		parts := split([]byte(message))
		var event Line
		// If the message is a whole event, it has the log event's time. A function's log that only looks like an event does not.
		if parts.kind != nil && parts.record != nil && json.Unmarshal([]byte(message), &event) == nil && event.sameTime(l.Time) {
			l.Time, l.Type, l.Record, l.Truncated = event.Time, event.Type, event.Record, event.Truncated
			return
		}
		l.Type, l.Record = "function", json.RawMessage(message)
		return
	}
	l.Record = encode(message)
	for _, known := range []struct{ begins, kind string }{
		{"INIT_START ", "platform.initStart"},
		{"INIT_REPORT ", "platform.initReport"},
		{"RESTORE_START ", "platform.restoreStart"},
		{"RESTORE_REPORT ", "platform.restoreReport"},
		{"START RequestId: ", "platform.start"},
		{"END RequestId: ", "platform.runtimeDone"},
		{"REPORT RequestId: ", "platform.report"},
		{"EXTENSION\tName: ", "platform.extension"},
		{"TELEMETRY\tName: ", "platform.telemetrySubscription"},
	} {
		if rest, ok := strings.CutPrefix(message, known.begins); ok {
			l.Type = known.kind
			if strings.HasSuffix(known.begins, "RequestId: ") {
				l.RequestID = rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789abcdef-"))]
			}
			return
		}
	}
}

// sameTime reports whether the line's time, in milliseconds, is other. An empty other is a time that cannot be read.
func (l *Line) sameTime(other string) bool {
	quoted := parts{time: encode(l.Time)}
	at := quoted.unixMilli()
	return other == "" && at == 0 || time.UnixMilli(at).UTC().Format(timeLayout) == other
}

// encode returns text as a JSON string, without HTML escapes.
func encode(text string) json.RawMessage {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), newline)
}
