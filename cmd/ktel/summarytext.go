//go:build unix

package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// writeText writes the summary for a person, in at most 80 columns. In fewer, cells that do not fit go into the next line.
func (s *Summary) writeText(w io.Writer, colors palette, columns int) error {
	t := rows{colors: colors, columns: columns}
	b, row := &t.Builder, t.row
	count := func(n int, what string, problem bool) string {
		text := grouped(int64(n)) + " " + what
		if problem && n > 0 {
			return colors.bad(text)
		}
		return text
	}
	row("invocations", count(s.Invocations.Total, "in all", false), count(s.Invocations.Succeeded, "succeeded", false),
		count(s.Invocations.Failed, "failed", false))
	if s.Audited {
		e := s.Events
		row("events", count(e.Emitted, "emitted", false), count(e.Delivered, "delivered", false),
			count(e.Lost, "lost", true), count(e.Duplicated, "duplicated", true))
		var more []string
		for _, c := range []struct {
			n    int
			what string
			bad  bool
		}{
			{e.Altered, "altered", true},
			{e.Conflicts, "with a reused seq", true},
			{e.Malformed, "unreadable", true},
			{int(e.Missing), "seqs missing", true}, //nolint:gosec // counted on this machine, far below the limit
			{e.Unknown, "of other writers", false},
			{e.OutOfOrder, "out of order", false},
			{e.Own, "of the extension's own", false},
		} {
			if c.n > 0 {
				more = append(more, count(c.n, c.what, c.bad))
			}
		}
		for cells := range slices.Chunk(more, 3) { // as many as fit
			row("", cells...)
		}
		s.writeStream(row)
	}
	if len(s.Extensions) > 0 && s.Invocations.Total > 0 {
		row("held back", fmt.Sprintf("p50 %.1f ms", s.HeldBack.P50Ms), fmt.Sprintf("max %.1f ms", s.HeldBack.MaxMs),
			fmt.Sprintf("%s ms billed in all", grouped(s.HeldBack.BilledMs)))
	}
	s.writeExtensions(row)
	if len(s.Problems) > 0 {
		b.WriteByte('\n')
		s.writeProblems(b, colors, columns)
	}
	b.WriteString("\n  " + s.verdict(colors) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) writeStream(row func(string, ...string)) {
	st := s.Stream
	holds := []string{plural(st.Records, "record"), plural(int(st.Bytes), "byte")}
	if st.Throttled > 0 {
		holds = append(holds, grouped(st.Throttled)+" throttled")
	}
	row("stream", holds...)
	// What Kinesis bills, and what it would bill with one record per event.
	provisioned := grouped(int64(st.PayloadUnits)) + " PUT payload units of 25 KB"
	onDemand := grouped(int64(st.OnDemandKB)) + " KB on-demand"
	columns := max(len(provisioned), len(onDemand))
	const single = " with one record per event"
	row("billed as", pad(provisioned, columns), grouped(int64(st.PayloadUnitsOnePerEvent))+single)
	row("or", pad(onDemand, columns), grouped(int64(st.OnDemandKBOnePerEvent))+single)
	if st.GzipBytes > 0 && st.GzipBytes < st.Bytes {
		row("gzip", grouped(st.GzipBytes)+" bytes with KINESIS_TELEMETRY_COMPRESSION=gzip")
	}
}

func (s *Summary) writeExtensions(row func(string, ...string)) {
	for _, e := range s.Extensions {
		cells := []string{
			fmt.Sprintf("registered %.1f ms", e.RegisteredMs), fmt.Sprintf("ready %.1f ms after exec", e.ReadyMs),
			fmt.Sprintf("peak memory %.1f MB", float64(e.PeakMemory)/1e6),
		}
		label := kindExtension
		if len(s.Extensions) > 1 {
			row(label, printable(e.Name))
			label = ""
		}
		row(label, cells...)
		if e.Processes > 1 {
			row("", fmt.Sprintf("started %d times: the environment was reset", e.Processes))
		}
		if e.Killed {
			row("", "killed: it did not exit in time")
		}
	}
}

func (s *Summary) writeProblems(b *strings.Builder, colors palette, columns int) {
	for _, p := range s.Problems {
		seq := ""
		if p.Seq != nil {
			seq = strconv.FormatUint(*p.Seq, 10)
		}
		text := p.Excerpt
		if p.Reason != "" {
			text = p.Reason + ": " + text
		}
		line := fmt.Sprintf("  %s %s %s %4s %s", colors.bad(pad(p.Kind, 11)), pad(clock(p.Time), timeColumns),
			pad(shortType(p.Type), typeColumns), seq, fit(printable(text), 24))
		b.WriteString(ansi.Truncate(line, columnsOr(columns, 80), "…") + "\n")
	}
}

// verdict sums up the summary in one sentence.
func (s *Summary) verdict(colors palette) string {
	switch e := s.Events; {
	case s.InitError != "":
		return colors.bad("The environment did not start.")
	case !s.Audited:
		return "Nothing was audited: the telemetry extension was left out."
	case s.Disabled:
		return colors.warn("Nothing was audited: the extension's settings turn it off.")
	case s.Idle != "":
		return colors.bad("The extension never subscribed and got no event.")
	case s.Complete:
		return colors.good("Every event arrived, once and unaltered.")
	case e.Lost > 0:
		return colors.bad(fmt.Sprintf("%s of %s events did not arrive.", grouped(int64(e.Lost)), grouped(int64(e.Emitted))))
	default:
		return colors.bad("Every event arrived, but not all of them once and unaltered.")
	}
}
