package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/audit"
)

// shownFindings limits how many instances are shown one by one. --json has all of them.
const shownFindings = 10

// writeText writes the report for a person, in 80 columns without a terminal.
func (r *AuditReport) writeText(w io.Writer, colors palette, columns int) error {
	b := &rows{colors: colors, columns: columnsOr(columns, 80)}
	row := b.row
	count := func(n uint64, what string) string { return groupedUint(n) + " " + what }
	cells := []string{count(r.Events, "in all"), bytesText(r.Bytes)}
	var own uint64
	for _, n := range r.Own {
		own += n
	}
	for _, c := range []struct {
		n    uint64
		what string
	}{{own, "of the extension's own"}, {r.Unnumbered, "of CloudWatch's own"}} {
		if c.n > 0 {
			cells = append(cells, count(c.n, c.what))
		}
	}
	row("events", cells...)
	if r.Foreign > 0 {
		row("", plural(r.Foreign, "piece")+" written by others, not counted")
	}
	row("instances", grouped(int64(r.Instances))+" in all", grouped(int64(r.FromStart))+" from their start",
		grouped(int64(r.ToEnd))+" to their end")
	missing := count(r.Missing, "undeclared")
	if r.Missing > 0 {
		missing = colors.bad(missing)
	}
	row("missing", missing, count(r.Dropped, "declared dropped"))
	row("duplicated", groupedUint(r.Duplicated))
	if d := r.Delay; d != nil {
		row("delay", "p50 "+delayText(d.P50Ms), "p90 "+delayText(d.P90Ms), "p99 "+delayText(d.P99Ms), "max "+delayText(d.MaxMs))
	}
	r.writeFindings(b)
	b.WriteString("\n  " + fold(r.verdict(colors), b.columns, 2, 2) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *AuditReport) writeFindings(b *rows) {
	const indent = 4
	for _, f := range r.Findings[:min(len(r.Findings), shownFindings)] {
		name := b.colors.strong(printable(f.Instance)) + " " + b.colors.dim(printable(f.Function))
		b.WriteString("\n  " + fold(name, b.columns, 2, 2) + "\n")
		digits := len(groupedUint(max(f.MissingCount, f.DroppedCount, f.DuplicatedCount)))
		at := indent + labelColumns - 2 + digits + 3
		line := func(paint func(...any) string, label string, n uint64, what string) {
			if n > 0 {
				head := strings.Repeat(" ", indent) + paint(pad(label, labelColumns-2))
				b.WriteString(head + pad(groupedUint(n), digits) + "   " + fold(what, b.columns, at, at) + "\n")
			}
		}
		line(b.colors.bad, "missing", f.MissingCount, rangesText(f.Missing, b.columns-at))
		line(b.colors.dim, "dropped", f.DroppedCount, dropsText(f.Declared))
		line(b.colors.dim, "duplicated", f.DuplicatedCount, rangesText(f.Duplicated, b.columns-at))
	}
	if more := len(r.Findings) - shownFindings; more > 0 {
		b.WriteString("\n  " + plural(more, "more instance") + ": --json has them all\n")
	}
}

// rangesText writes as many ranges as fit into the columns.
func rangesText(ranges audit.Ranges, columns int) string {
	const more = len(" and 999 more ranges")
	var b strings.Builder
	for i, r := range ranges {
		text := fmt.Sprint(r.First)
		if r.Last > r.First {
			text = fmt.Sprintf("%d-%d", r.First, r.Last)
		}
		if i > 0 {
			if b.Len()+len(", ")+len(text)+more > columns {
				return fmt.Sprintf("%s and %s", b.String(), plural(len(ranges)-i, "more range"))
			}
			b.WriteString(", ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// dropsText sums drops by reason, in the order in which the stream declares them.
func dropsText(drops []audit.Drop) string {
	var reasons []string
	sums := map[string]uint64{}
	for _, d := range drops {
		if sums[d.Reason] == 0 {
			reasons = append(reasons, d.Reason)
		}
		sums[d.Reason] += d.Count
	}
	for i, reason := range reasons {
		reasons[i] = groupedUint(sums[reason]) + " " + printable(reason)
	}
	return "declared: " + strings.Join(reasons, ", ")
}

// verdict sums up the report in one sentence.
func (r *AuditReport) verdict(colors palette) string {
	switch {
	case r.Missing == 1:
		return colors.bad("1 event is missing and not declared dropped.")
	case !r.CompletenessReport.Complete:
		return colors.bad(groupedUint(r.Missing) + " events are missing and not declared dropped.")
	case r.Unreadable > 0:
		return colors.bad(plural(r.Unreadable, "piece") + " could not be read. Nothing is missing from the rest.")
	case r.Events == 0:
		return colors.warn("The input has no events of the extension.")
	case r.Dropped > 0:
		return colors.warn("Nothing is missing except events that the stream declares dropped.")
	}
	return colors.good("Nothing is missing.")
}

// delayText writes milliseconds for a person.
func delayText(ms float64) string {
	switch d := time.Duration(ms * float64(time.Millisecond)); {
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", ms)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

func groupedUint(n uint64) string {
	if n > 1<<62 { // not a real count
		return fmt.Sprint(n)
	}
	return grouped(int64(n)) //nolint:gosec // compared above
}
