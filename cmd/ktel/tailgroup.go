package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"kinesis-telemetry-extension/record"
)

const (
	// graceTime is how long after its REPORT an invocation waits for events from other shards.
	graceTime = 2 * time.Second
	// reportTimeout is how long an invocation waits for its REPORT: Lambda's longest timeout, plus the time of delivery.
	reportTimeout = 16 * time.Minute
	// maxGroupBytes limits the size of all open groups. Above it, the oldest are shown incomplete.
	maxGroupBytes = 64 << 20
	// eventOverhead is the memory of an event without its text.
	eventOverhead = 500
)

// Types of the events that start and end an invocation.
const (
	typeStart  = "platform.start"
	typeReport = "platform.report"
)

// invocationGroup collects the events of an invocation.
type invocationGroup struct {
	key      string
	events   []groupedEvent
	bytes    int
	matched  bool // one of its events passes the filter
	report   *record.Line
	since    time.Time // when its first event arrived here
	reported time.Time
}

type groupedEvent struct {
	line record.Line
	m    message
}

// invocationGroups groups events by invocation. A nil *invocationGroups groups nothing.
type invocationGroups struct {
	open  map[string]*invocationGroup
	order []*invocationGroup
	bytes int
	shown map[string]shownGroup // their later events are not grouped
}

// shownGroup is an invocation that was shown.
type shownGroup struct {
	at         time.Time // when it was shown
	reportTime string    // of its REPORT; empty without one
}

func newInvocationGroups() *invocationGroups {
	return &invocationGroups{open: make(map[string]*invocationGroup), shown: make(map[string]shownGroup)}
}

// add adds an event to its invocation, and reports whether it did. An event that does not pass the filter only
// counts if it starts or ends the invocation.
func (g *invocationGroups) add(line *record.Line, m *message, matches bool, now time.Time) bool {
	if g == nil || line.RequestID == "" || !matches && line.Type != typeStart && line.Type != typeReport {
		return false
	}
	key := line.Source.Function + " " + line.RequestID
	if line.Type == typeStart {
		g.startAgain(key, line.Time)
	}
	i := g.open[key]
	if i == nil {
		if _, late := g.shown[key]; late {
			return false
		}
		i = &invocationGroup{key: key, since: now}
		g.open[key] = i
		g.order = append(g.order, i)
	}
	kept, size := *line, len(m.text)+eventOverhead
	kept.Raw, kept.Record = nil, nil // they would keep the whole record in memory
	if line.Type == typeReport {
		kept.Record = bytes.Clone(line.Record)
		i.report, i.reported = &kept, now
		size += len(kept.Record)
	}
	if matches {
		i.matched = true
		i.events = append(i.events, groupedEvent{kept, *m})
	}
	i.bytes += size
	g.bytes += size
	return true
}

// startAgain opens a new group for the retry of an invocation: Lambda retries a failed asynchronous event under its
// request id. A duplicate of an earlier start opens none.
func (g *invocationGroups) startAgain(key, at string) {
	if shown, ok := g.shown[key]; ok && shown.reportTime != "" && shown.reportTime < at {
		delete(g.shown, key)
	}
	if i := g.open[key]; i != nil && i.report != nil && i.report.Time < at {
		delete(g.open, key) // g.order still has it, to be shown
	}
}

// removeDue removes the groups that are due, and returns those to show.
func (g *invocationGroups) removeDue(now time.Time, due func(*invocationGroup) bool) []*invocationGroup {
	if g == nil {
		return nil
	}
	var toShow []*invocationGroup
	g.order = slices.DeleteFunc(g.order, func(i *invocationGroup) bool {
		if !due(i) {
			return false
		}
		toShow = g.remove(toShow, i, now)
		return true
	})
	return toShow
}

// remove removes a group, and appends it to toShow if one of its events matched.
func (g *invocationGroups) remove(toShow []*invocationGroup, i *invocationGroup, now time.Time) []*invocationGroup {
	g.bytes -= i.bytes
	if current := g.open[i.key]; current == i || current == nil {
		delete(g.open, i.key)
		shown := shownGroup{at: now}
		if i.report != nil {
			shown.reportTime = i.report.Time
		}
		g.shown[i.key] = shown
	}
	if i.matched {
		toShow = append(toShow, i)
	}
	return toShow
}

// removeEnded removes the groups that have their REPORT, or have waited too long for it. It visits all groups, so only the
// ticker calls it.
func (g *invocationGroups) removeEnded(now time.Time) []*invocationGroup {
	if g == nil {
		return nil
	}
	for key, shown := range g.shown {
		if now.Sub(shown.at) > reportTimeout {
			delete(g.shown, key)
		}
	}
	return g.removeDue(now, func(i *invocationGroup) bool {
		return i.report != nil && now.Sub(i.reported) >= graceTime || now.Sub(i.since) > reportTimeout
	})
}

func (g *invocationGroups) removeAll() []*invocationGroup {
	return g.removeDue(time.Now(), func(*invocationGroup) bool { return true })
}

// removeOverflow removes the oldest groups while the size of all is above maxGroupBytes. It is called for every event, and
// visits no others.
func (g *invocationGroups) removeOverflow(now time.Time) []*invocationGroup {
	var toShow []*invocationGroup
	for g.bytes > maxGroupBytes {
		toShow = g.remove(toShow, g.order[0], now)
		g.order[0], g.order = nil, g.order[1:]
	}
	return toShow
}

// renderInvocation writes an invocation: its REPORT, and below it its events.
func (t *tailer) renderInvocation(b *strings.Builder, i *invocationGroup) {
	slices.SortStableFunc(i.events, func(x, y groupedEvent) int {
		if x.line.Source.Instance == y.line.Source.Instance {
			return cmp.Compare(x.line.Seq, y.line.Seq)
		}
		return cmp.Compare(x.line.Time, y.line.Time)
	})
	first := &i.events[0].line
	t.renderDay(b, first.Time)
	name, request := printable(first.Source.Function), printable(first.RequestID)
	m := i.summary()
	text := t.fold(m.text, len(name)+len(request)+2, 2)
	if m.alarming {
		text = t.colors.bad(text)
	}
	b.WriteString(t.colors.functionColor(first.Source.Function)(name) + " " + t.colors.strong(request) + " " + text + "\n")
	for n := range i.events {
		if e := &i.events[n]; e.line.Type != typeReport && e.line.Type != typeStart {
			t.render(b, &e.line, &e.m, "  ")
		}
	}
}

// summary puts the REPORT into one line: duration, billed duration, memory, cold start, error.
func (i *invocationGroup) summary() message {
	if i.report == nil {
		return message{text: "no REPORT yet"}
	}
	var r platformRecord
	if json.Unmarshal(i.report.Record, &r) != nil { // the format cloudwatch has the REPORT as text
		return messageOf(i.report.Type, i.report.Record)
	}
	var parts []string
	metric := func(label string, value *float64, unit string) {
		if value != nil {
			parts = append(parts, label+decimal(*value)+" "+unit)
		}
	}
	metric("", r.Metrics.DurationMs, "ms")
	metric("billed ", r.Metrics.BilledDurationMs, "ms")
	if used, size := r.Metrics.MaxMemoryUsedMB, r.Metrics.MemorySizeMB; used != nil && size != nil {
		parts = append(parts, "memory "+decimal(*used)+" of "+decimal(*size)+" MB")
	} else {
		metric("memory ", used, "MB")
	}
	metric("cold start ", r.Metrics.InitDurationMs, "ms")
	metric("restore ", r.Metrics.RestoreDurationMs, "ms")
	failed := r.Status != "" && r.Status != succeeded
	if failed {
		parts = append(parts, strings.TrimSpace(r.Status+" "+r.ErrorType))
	}
	return message{text: printable(strings.Join(parts, ", ")), alarming: failed}
}
