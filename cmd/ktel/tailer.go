package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/session"
	"kinesis-telemetry-extension/record"
)

const (
	maxFunctionColumns    = 24
	narrowFunctionColumns = 14
	maxFolded             = 12 // lines of a message on a terminal
	statusInterval        = 500 * time.Millisecond
)

// tailer shows what a stream brings.
type tailer struct {
	*app
	flags   *tailFlags
	keep    *filter
	colors  palette
	live    bool       // standard output is a terminal
	columns func() int // of the terminal; nil: there is none

	mu        sync.Mutex // guards all below: records and the clock both write
	err       error      // of writing: nothing is written after it
	status    *tailStatus
	groups    *invocationGroups // nil: no grouping
	day       string            // of the last event shown
	functions int               // columns of their names
	troubled  bool              // which was said
}

// run reads the stream until its end.
func (t *tailer) run(ctx context.Context, stream *session.Stream, o session.ReadOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if t.flags.byInvocation {
		t.groups = newInvocationGroups()
	}
	if _, terminal := terminalWidth(t.stderr); terminal && t.live {
		t.status = newTailStatus(time.Now())
	}
	o.OnPoll = func(p session.Poll) { t.locked(func() { t.polled(p) }) }
	o.OnTrouble = func(err error) { t.locked(func() { t.trouble(err) }) }
	var clock sync.WaitGroup
	clock.Go(func() {
		ticker := time.NewTicker(statusInterval)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				t.locked(func() {
					t.showEnded(t.groups.ended(now))
					t.drawStatus(now)
				})
				if err := t.writeError(); err != nil {
					cancel(err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	err := stream.Read(ctx, o, func(r session.Record) error {
		t.locked(func() { t.showRecord(&r) })
		return t.writeError()
	})
	cancel(nil)
	clock.Wait()
	t.locked(func() {
		t.showEnded(t.groups.all())
		t.eraseStatus()
	})
	if failure := t.writeError(); failure != nil { // whatever ctx says: it was cancelled for this
		return cannot(fmt.Errorf("write the events: %w", failure))
	}
	return err
}

func (t *tailer) locked(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do()
}

func (t *tailer) writeError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// write writes to standard output, over the last line.
func (t *tailer) write(text []byte) {
	if t.err != nil {
		return
	}
	t.eraseStatus()
	_, t.err = t.stdout.Write(text)
}

// showRecord shows the events of a record.
func (t *tailer) showRecord(r *session.Record) {
	if t.status != nil {
		t.status.record(r, time.Now())
	}
	if t.flags.output == outputRaw {
		t.write(r.Data)
		return
	}
	told := false // of what cannot be read, since the last event: a text of others has an error for each of its lines
	for line, err := range record.Unpack(r.Data) {
		if err != nil {
			if !told && t.keep.matchesForeign(r.Data) {
				t.showForeign(r, err)
			}
			told = true
			if errors.Is(err, record.ErrForeign) && len(line.Raw) == 0 || t.err != nil {
				return
			}
			continue
		}
		told = false
		if t.status != nil {
			t.status.event(&line, r.Arrival)
		}
		t.showEvent(&line)
		if t.err != nil {
			return
		}
	}
}

// showEvent shows one showEvent, if it is chosen. An invocation has its REPORT whatever is chosen.
func (t *tailer) showEvent(line *record.Line) {
	m := messageOf(line.Type, line.Record)
	chosen, now := t.keep.matches(line, &m), time.Now()
	if (chosen || t.keep.matchesSource(line)) && t.groups.add(line, &m, chosen, now) {
		t.showEnded(t.groups.overflow(now))
		return
	}
	if !chosen {
		return
	}
	switch t.flags.output {
	case outputNDJSON, outputJSON:
		t.writeEncoded(line)
		return
	}
	var b strings.Builder
	t.render(&b, line, &m, "")
	t.write([]byte(b.String()))
}

// writeEncoded writes an event as JSON. A terminal gets no control characters.
func (t *tailer) writeEncoded(line *record.Line) {
	text := encoded(line, t.flags.output == outputJSON)
	if t.columns != nil {
		text = []byte(escaped(string(text)))
	}
	t.write(text)
}

// encoded is an event as JSON: its bytes in the stream, but of the format cloudwatch what was read of them.
func encoded(line *record.Line, indented bool) []byte {
	raw := line.Raw
	if line.Format == record.CloudWatch {
		raw, _ = json.Marshal(line) // strings, numbers, and JSON that was read
	}
	if !indented {
		return slices.Concat(bytes.TrimSpace(raw), []byte{'\n'}) // raw lies in the record, before the next event
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		b.Write(raw)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// showForeign shows what cannot be read.
func (t *tailer) showForeign(r *session.Record, err error) {
	reason := strings.TrimPrefix(err.Error(), record.ErrForeign.Error()+": ")
	if t.flags.output == outputText {
		head := "no event"
		if errors.Is(err, record.ErrForeign) {
			head = typeForeign
		}
		text := fmt.Sprintf("%s %s %s: %s", r.Shard, r.SequenceNumber, plural(len(r.Data), "byte"), printable(reason))
		t.write([]byte(t.colors.warn(head) + " " + t.fold(text, len(head)+1, 2) + "\n"))
		return
	}
	value, _ := json.Marshal(struct { // strings and numbers
		Type           string    `json:"type"`
		Shard          string    `json:"shardId"`
		SequenceNumber string    `json:"sequenceNumber"`
		PartitionKey   string    `json:"partitionKey"`
		Arrived        time.Time `json:"arrived"`
		Bytes          int       `json:"bytes"`
		Reason         string    `json:"reason"`
		Data           string    `json:"data"`
	}{typeForeign, r.Shard, r.SequenceNumber, r.PartitionKey, r.Arrival.UTC(), len(r.Data), reason, base64.StdEncoding.EncodeToString(r.Data)})
	t.writeEncoded(&record.Line{Raw: value})
}

// render writes an event for a person: time, function, request, and what it says. margin stands before each of its lines, and in place of
// function and request.
func (t *tailer) render(b *strings.Builder, line *record.Line, m *message, margin string) {
	t.renderDay(b, line.Time)
	columns := t.width()
	moment := pad(clock(line.Time), timeColumns)
	if columns > 0 && columns < narrowColumns && len(clock(line.Time)) == timeColumns {
		moment = moment[:secondColumns]
	}
	head, shown := margin+moment+" ", margin+t.colors.dim(moment)+" "
	if margin == "" {
		name := t.functionName(line.Source.Function, columns)
		request := pad(fit(printable(shortID(line.RequestID)), requestColumns), requestColumns)
		head += name + " " + request + " "
		shown += t.colors.functionColor(line.Source.Function)(name) + " " + t.colors.dim(request) + " "
	}
	b.WriteString(shown)
	if line.Type != "function" && line.Type != "" { // most events are the function's own
		kind := nameOf(line.Type)
		head += kind + " "
		b.WriteString(typeColor(t.colors, line.Type)(kind) + " ")
	}
	if m.level != "" {
		level := pad(fit(printable(m.level), 5), 5)
		head += level + " "
		b.WriteString(levelColor(t.colors, m.level)(level) + " ")
	}
	text := t.fold(printable(m.text), ansi.StringWidth(head), len(margin)+2)
	if m.alarming {
		text = t.colors.bad(text)
	}
	b.WriteString(text + "\n")
}

// renderDay writes the date, where it is another than that of the last event.
func (t *tailer) renderDay(b *strings.Builder, timestamp string) {
	moment, err := time.Parse(time.RFC3339Nano, timestamp)
	if err != nil {
		return
	}
	if day := moment.UTC().Format(time.DateOnly); day != t.day {
		t.day = day
		b.WriteString(t.colors.dim(day+" UTC") + "\n")
	}
}

// functionName fits the name of a function into its column, which grows with the names.
func (t *tailer) functionName(name string, columns int) string {
	limit := maxFunctionColumns
	if columns > 0 && columns < narrowColumns {
		limit = narrowFunctionColumns
	}
	name = printable(name)
	t.functions = max(t.functions, min(limit, ansi.StringWidth(name)))
	if columns == 0 {
		return pad(name, t.functions)
	}
	return pad(fit(name, t.functions), t.functions)
}

func (t *tailer) width() int {
	if t.columns == nil {
		return 0
	}
	return t.columns()
}

// fold breaks text that begins in a column, so that the terminal has no line to break. A very long one is cut.
func (t *tailer) fold(text string, at, indent int) string {
	lines := strings.Split(fold(text, t.width(), at, indent), "\n")
	if len(lines) > maxFolded {
		rest := fmt.Sprintf("… %s in all: -o ndjson shows them", plural(len(text), "byte"))
		lines = append(lines[:maxFolded], strings.Repeat(" ", indent)+rest)
	}
	return strings.Join(lines, "\n")
}

// trouble says once what keeps the stream from being read, and when that is over.
func (t *tailer) trouble(err error) {
	switch {
	case t.status != nil && err != nil:
		t.status.trouble = err.Error() + "; trying again"
	case t.status != nil:
		t.status.trouble = ""
	case err == nil:
		t.progress("reading again")
	case !t.troubled:
		t.progress("%v; trying again", err)
	}
	t.troubled = err != nil
}

func (t *tailer) polled(p session.Poll) {
	if t.status != nil {
		t.status.polled(p)
	}
}

// showEnded writes invocations.
func (t *tailer) showEnded(ended []*invocationGroup) {
	for _, i := range ended {
		var b strings.Builder
		t.renderInvocation(&b, i)
		t.write([]byte(b.String()))
	}
}

func (t *tailer) drawStatus(now time.Time) {
	if t.status == nil || t.err != nil {
		return
	}
	columns, _ := terminalWidth(t.stderr)
	t.status.drawn = true
	_, _ = io.WriteString(t.stderr, "\r"+ansi.EraseLineRight+t.colors.dim(fit(printable(t.status.text(now)), columns-1)))
}

func (t *tailer) eraseStatus() {
	if t.status != nil && t.status.drawn {
		t.status.drawn = false
		_, _ = io.WriteString(t.stderr, "\r"+ansi.EraseLineRight)
	}
}

// x is the colour of a function, the same in every terminal.
func (p palette) functionColor(name string) func(...any) string {
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, name)
	return p.functions[int(hash.Sum32()%uint32(len(p.functions)))] //nolint:gosec // a few
}
