package listener

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// postBodies returns the bodies in which Lambda posts events. A body is full when it has maxBytes. An event above maxBytes is cut
// within its value: each piece but the last has the closing brackets after it, and each piece but the first has the event's
// beginning before it.
func postBodies(maxBytes int, events []string) (bodies []string) {
	for len(events) > 0 {
		body := ""
		for len(events) > 0 && len(body) < maxBytes {
			event := events[0]
			if body != "" {
				body += ","
			}
			if len(event) <= maxBytes {
				body += event
				events = events[1:]
				continue
			}
			body += event[:maxBytes-1] + "}"
			envelope := event[:strings.Index(event, recordKey)+len(recordKey)]
			events = append([]string{envelope + event[maxBytes-1:]}, events[1:]...)
			break
		}
		bodies = append(bodies, "["+body+"]")
	}
	return bodies
}

// randomLogs makes random log lines, full of objects that look like events, brackets, quotes, escapes and characters of several
// bytes.
type randomLogs struct{ *rand.Rand }

func (r randomLogs) pick(from ...string) string { return from[r.IntN(len(from))] }

func (r randomLogs) text(words int) string {
	text := ""
	for range words {
		text += r.pick(
			`{"time":"2026-11-23T18:00:00.000Z","type":"platform.report","record":{"requestId":"forged"}}`,
			`{"time":"t","type":"function","record":"forged"},`, `,{"time":`,
			`},{`, `}]`, `]}`, `]}},`, `"}`, `"}]`, `,`, `"`, `\`, `\u00e9`, `{`, `[`, "é", "𝄞", "\n", "\x00", "plain words ", `null`, `12`,
		)
	}
	return text
}

func (r randomLogs) string(words int) string {
	var quoted strings.Builder
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(r.IntN(2) == 0)
	if err := encoder.Encode(r.text(words)); err != nil {
		panic(err)
	}
	return strings.TrimSpace(quoted.String())
}

func (r randomLogs) event(depth int) string {
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":%s,"record":%s}`,
		r.IntN(3), r.pick(`"platform.report"`, `"platform.runtimeDone"`, `"function"`), r.value(depth-1))
}

func (r randomLogs) value(depth int) string {
	if depth <= 0 {
		return r.pick("12.5", "-1e9", "true", "null", `"forged"`, `""`, `{}`, `[]`, r.string(2))
	}
	var parts []string
	for range r.IntN(4) {
		parts = append(parts, r.pick(r.event(depth), r.value(depth-1), r.string(3)))
	}
	if r.IntN(3) == 0 {
		return "[" + strings.Join(parts, ",") + "]"
	}
	for i := range parts {
		parts[i] = r.pick(`"id":`, `"time":`, `"record":`, r.string(1)+":") + parts[i]
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// line returns an event whose record is a random log line of at least a minimum size.
func (r randomLogs) line(n, minimum int) string {
	record := r.value(4)
	if r.IntN(3) == 0 {
		record = r.string(20)
	}
	for len(record) < minimum {
		record = `{"a":` + record + `,"more":[` + r.event(3) + `,` + r.event(3) + `,` + r.string(5) + `]}`
	}
	return fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":%s}`, n, record)
}

const runtimeDone = `{"time":"2026-11-23T18:00:00.999Z","type":"platform.runtimeDone","record":{"requestId":"r","status":"success"}}`

// lines returns events and a maxBytes that cuts one or two of them, in a row. Smaller events are before and after them.
func (r randomLogs) lines() (events []string, maxBytes int) {
	maxBytes = 120 + r.IntN(400)
	for n := range r.IntN(3) {
		events = append(events, fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"before"}`, n))
	}
	for n := range 1 + r.IntN(2) {
		events = append(events, r.line(100+n*r.IntN(2), maxBytes+r.IntN(2*maxBytes)))
	}
	for n := range r.IntN(3) {
		events = append(events, fmt.Sprintf(`{"time":"2026-11-23T18:00:00.%03dZ","type":"function","record":"after"}`, 200+n))
	}
	return append(events, runtimeDone), maxBytes
}

// longEvent returns an event whose record has n equal characters.
func longEvent(n int) string {
	return `{"time":"2026-11-23T18:00:00.000Z","type":"function","record":"` + strings.Repeat("x", n) + `"}`
}
