package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/audit"
)

// shownFindings bounds how many instances are told one by one; --json has all.
const shownFindings = 10

const findingColumns = 80

// writeText writes the report for a person, within 80 columns.
func (r *AuditReport) writeText(w io.Writer, ink ink) error {
	var b strings.Builder
	row := func(label string, cells ...string) {
		b.WriteString("  " + ink.dim(pad(label, labelColumns)) + strings.Join(cells, "   ") + "\n")
	}
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
		row("", plural(r.Foreign, "piece")+" of others, not counted")
	}
	row("instances", count(uint64(r.Instances), "in all"), count(uint64(r.FromStart), "from their beginning"), //nolint:gosec // as above
		count(uint64(r.ToEnd), "to their end")) //nolint:gosec // as above
	missing := count(r.Missing, "undeclared")
	if r.Missing > 0 {
		missing = ink.bad(missing)
	}
	row("missing", missing, count(r.Dropped, "declared dropped"))
	row("duplicated", groupedUint(r.Duplicated))
	if d := r.Delay; d != nil {
		row("delay", "p50 "+delayText(d.P50Ms), "p90 "+delayText(d.P90Ms), "p99 "+delayText(d.P99Ms), "max "+delayText(d.MaxMs))
	}
	r.writeFindings(&b, ink)
	b.WriteString("\n  " + r.verdict(ink) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *AuditReport) writeFindings(b *strings.Builder, ink ink) {
	for _, f := range r.Findings[:min(len(r.Findings), shownFindings)] {
		fmt.Fprintf(b, "\n  %s %s\n", ink.strong(printable(f.Instance)), ink.dim(fit(printable(f.Function), findingColumns-len(f.Instance)-3)))
		line := func(paint func(...any) string, label string, n uint64, what string) {
			if n > 0 {
				number := pad(groupedUint(n), 8)
				b.WriteString("    " + paint(pad(label, labelColumns-2)) + number + " " + fit(what, findingColumns-labelColumns-3-len(number)) + "\n")
			}
		}
		line(ink.bad, "missing", f.MissingCount, rangesText(f.Missing))
		line(ink.dim, "dropped", f.DroppedCount, dropsText(f.Declared))
		line(ink.dim, "duplicated", f.DuplicatedCount, rangesText(f.Duplicated))
	}
	if more := len(r.Findings) - shownFindings; more > 0 {
		fmt.Fprintf(b, "\n  %s: --json has them all\n", plural(more, "more instance"))
	}
}

// rangesText is numbers for a person: as many ranges as fit on a line.
func rangesText(ranges audit.Ranges) string {
	const columns = 40
	var b strings.Builder
	for i, r := range ranges {
		text := fmt.Sprint(r.First)
		if r.Last > r.First {
			text = fmt.Sprintf("%d-%d", r.First, r.Last)
		}
		if i > 0 {
			if b.Len()+len(text) > columns {
				return fmt.Sprintf("%s and %s", b.String(), plural(len(ranges)-i, "more range"))
			}
			b.WriteString(", ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// dropsText sums up drops by their reasons, in the order in which the stream declares them.
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

// verdict is the report in one sentence.
func (r *AuditReport) verdict(ink ink) string {
	switch {
	case r.Missing == 1:
		return ink.bad("1 event is missing, and nothing declares it.")
	case !r.Account.Complete:
		return ink.bad(groupedUint(r.Missing) + " events are missing, and nothing declares them.")
	case r.Unreadable > 0:
		return ink.bad(plural(r.Unreadable, "piece") + " could not be read. Of what could, nothing is missing.")
	case r.Events == 0:
		return ink.warn("There is no event of the extension in it.")
	case r.Dropped > 0:
		return ink.warn("Nothing is missing but what the stream declares dropped.")
	}
	return ink.good("Nothing is missing.")
}

// delayText is milliseconds for a person.
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
	if n > 1<<62 { // a number that nobody counted to
		return fmt.Sprint(n)
	}
	return grouped(int64(n)) //nolint:gosec // it was compared
}
