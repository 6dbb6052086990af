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
	// graceTime is how long after its REPORT an invocation waits for events that another shard brings.
	graceTime = 2 * time.Second
	// reportTimeout is how long an invocation waits for its REPORT: Lambda's longest, and what delivery takes.
	reportTimeout = 16 * time.Minute
	// maxGroupBytes bounds what waits in all: the oldest are shown then as they are.
	maxGroupBytes = 64 << 20
	// eventOverhead is what an event takes besides its text.
	eventOverhead = 500
)

// Types of what begins and ends an invocation.
const (
	typeStart  = "platform.start"
	typeReport = "platform.report"
)

// invocationGroup is an invocation whose events come in.
type invocationGroup struct {
	key      string
	events   []groupedEvent
	bytes    int
	chosen   bool // one of its events is to be shown
	report   *record.Line
	since    time.Time // of its first event here
	reported time.Time
}

type groupedEvent struct {
	line record.Line
	m    message
}

// invocationGroups groups events. Of a nil one nothing is grouped.
type invocationGroups struct {
	open  map[string]*invocationGroup
	order []*invocationGroup
	bytes int
	shown map[string]shownGroup // what comes later is not grouped any more
}

// shownGroup is an invocation that was shown.
type shownGroup struct {
	at   time.Time // when that was
	last string    // time of its REPORT; empty where it had none
}

func newInvocationGroups() *invocationGroups {
	return &invocationGroups{open: make(map[string]*invocationGroup), shown: make(map[string]shownGroup)}
}

// add takes an event that belongs to an invocation. Where it is not chosen only what begins or ends the invocation counts.
func (g *invocationGroups) add(line *record.Line, m *message, chosen bool, now time.Time) bool {
	if g == nil || line.RequestID == "" || !chosen && line.Type != typeStart && line.Type != typeReport {
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
	kept.Raw, kept.Record = nil, nil // they would keep the whole record
	if line.Type == typeReport {
		kept.Record = bytes.Clone(line.Record)
		i.report, i.reported = &kept, now
		size += len(kept.Record)
	}
	if chosen {
		i.chosen = true
		i.events = append(i.events, groupedEvent{kept, *m})
	}
	i.bytes += size
	g.bytes += size
	return true
}

// startAgain makes room for another invocation under the same request id: Lambda runs an asynchronous event again that failed. A copy of a
// start that was seen is none.
func (g *invocationGroups) startAgain(key, at string) {
	if last, ok := g.shown[key]; ok && last.last != "" && last.last < at {
		delete(g.shown, key)
	}
	if i := g.open[key]; i != nil && i.report != nil && i.report.Time < at {
		delete(g.open, key) // it is shown when its time comes
	}
}

// removeAll removes the invocations that are due, and returns those that are to be shown.
func (g *invocationGroups) removeAll(now time.Time, due func(*invocationGroup) bool) []*invocationGroup {
	if g == nil {
		return nil
	}
	var taken []*invocationGroup
	g.order = slices.DeleteFunc(g.order, func(i *invocationGroup) bool {
		if !due(i) {
			return false
		}
		taken = g.remove(taken, i, now)
		return true
	})
	return taken
}

// remove ends an invocation, and appends it if it is to be shown.
func (g *invocationGroups) remove(taken []*invocationGroup, i *invocationGroup, now time.Time) []*invocationGroup {
	g.bytes -= i.bytes
	if current := g.open[i.key]; current == i || current == nil {
		delete(g.open, i.key)
		ended := shownGroup{at: now}
		if i.report != nil {
			ended.last = i.report.Time
		}
		g.shown[i.key] = ended
	}
	if i.chosen {
		taken = append(taken, i)
	}
	return taken
}

// ended are those that have their REPORT, or will not get it. It looks through all of them, and is for the clock.
func (g *invocationGroups) ended(now time.Time) []*invocationGroup {
	if g == nil {
		return nil
	}
	for key, last := range g.shown {
		if now.Sub(last.at) > reportTimeout {
			delete(g.shown, key)
		}
	}
	return g.removeAll(now, func(i *invocationGroup) bool {
		return i.report != nil && now.Sub(i.reported) >= graceTime || now.Sub(i.since) > reportTimeout
	})
}

func (g *invocationGroups) all() []*invocationGroup {
	return g.removeAll(time.Now(), func(*invocationGroup) bool { return true })
}

// overflow are the oldest, where more waits than may. It is called for every event, and looks at none but those.
func (g *invocationGroups) overflow(now time.Time) []*invocationGroup {
	var taken []*invocationGroup
	for g.bytes > maxGroupBytes {
		taken = g.remove(taken, g.order[0], now)
		g.order[0], g.order = nil, g.order[1:]
	}
	return taken
}

// renderInvocation writes an invocation: its REPORT, and under it its events.
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

// summary is the REPORT in one line: duration, billed, memory, cold start, error.
func (i *invocationGroup) summary() message {
	if i.report == nil {
		return message{text: "no REPORT yet"}
	}
	var r platformRecord
	if json.Unmarshal(i.report.Record, &r) != nil { // CloudWatch's line, as it is
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
