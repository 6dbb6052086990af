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
	maxFolded             = 12 // lines of one message on a terminal
	statusInterval        = 500 * time.Millisecond
)

// tailer shows the events of a stream.
type tailer struct {
	*app
	flags   *tailFlags
	keep    *filter
	colors  palette
	live    bool       // standard output is a terminal
	columns func() int // of the terminal; nil without one

	mu        sync.Mutex // guards the fields below: the reader and the ticker both write
	err       error      // first error of a write; nothing is written afterwards
	status    *tailStatus
	groups    *invocationGroups // nil without --by-invocation
	day       string            // of the last event shown
	functions int               // columns of functions' names
	troubled  bool              // trouble was reported
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
					t.showGroups(t.groups.removeEnded(now))
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
		t.showGroups(t.groups.removeAll())
		t.eraseStatus()
	})
	if failure := t.writeError(); failure != nil { // before ctx's error: the write error has cancelled it
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

// write erases the status line and writes to standard output.
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
	reported := false // an unreadable piece since the last event: text of another writer has an error on each line
	for line, err := range record.Unpack(r.Data) {
		if err != nil {
			if !reported && t.keep.matchesForeign(r.Data) {
				t.showForeign(r, err)
			}
			reported = true
			if errors.Is(err, record.ErrForeign) && len(line.Raw) == 0 || t.err != nil {
				return
			}
			continue
		}
		reported = false
		if t.status != nil {
			t.status.event(&line, r.Arrival)
		}
		t.showEvent(&line)
		if t.err != nil {
			return
		}
	}
}

// showEvent shows an event if it passes the filter. A group gets its REPORT even if the REPORT does not pass.
func (t *tailer) showEvent(line *record.Line) {
	m := messageOf(line.Type, line.Record)
	matches, now := t.keep.matches(line, &m), time.Now()
	if (matches || t.keep.matchesSource(line)) && t.groups.add(line, &m, matches, now) {
		t.showGroups(t.groups.removeOverflow(now))
		return
	}
	if !matches {
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

// encoded returns an event as JSON: the bytes in the stream, or for the format cloudwatch the parsed event.
func encoded(line *record.Line, indented bool) []byte {
	raw := line.Raw
	if line.Format == record.CloudWatch {
		raw, _ = json.Marshal(line) // cannot fail: strings, numbers and parsed JSON
	}
	if !indented {
		return slices.Concat(bytes.TrimSpace(raw), []byte{'\n'}) // do not append to raw: the next event follows it in the record
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		b.Write(raw)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// showForeign shows a record that cannot be read.
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
	value, _ := json.Marshal(struct { // cannot fail: strings and numbers
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

// render writes an event for a person: time, function, request and message. A margin is put before each of its lines, and
// replaces function and request.
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
	if line.Type != "function" && line.Type != "" { // most events are logs of the function
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

// renderDay writes the date if it differs from that of the event before.
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

// functionName fits the name of a function into its column, which grows with longer names.
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

// fold wraps text that starts at a column to the terminal's width. It cuts a very long text.
func (t *tailer) fold(text string, at, indent int) string {
	lines := strings.Split(fold(text, t.width(), at, indent), "\n")
	if len(lines) > maxFolded {
		rest := fmt.Sprintf("… %s in all: -o ndjson shows all", plural(len(text), "byte"))
		lines = append(lines[:maxFolded], strings.Repeat(" ", indent)+rest)
	}
	return strings.Join(lines, "\n")
}

// trouble reports once why the stream cannot be read, and once that it can be again.
func (t *tailer) trouble(err error) {
	switch {
	case t.status != nil && err != nil:
		t.status.trouble = err.Error() + "; retrying"
	case t.status != nil:
		t.status.trouble = ""
	case err == nil:
		t.progress("reading again")
	case !t.troubled:
		t.progress("%v; retrying", err)
	}
	t.troubled = err != nil
}

func (t *tailer) polled(p session.Poll) {
	if t.status != nil {
		t.status.polled(p)
	}
}

// showGroups shows groups.
func (t *tailer) showGroups(ended []*invocationGroup) {
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

// functionColor returns the colour of a function, which depends on its name only.
func (p palette) functionColor(name string) func(...any) string {
	hash := fnv.New32a()
	_, _ = io.WriteString(hash, name)
	return p.functions[int(hash.Sum32()%uint32(len(p.functions)))] //nolint:gosec // a small number
}
