//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// trialFlags are the flags of all commands that run a trial.
type trialFlags struct {
	count    int
	freeze   time.Duration
	delivery string
	output   string
	json     bool
	quiet    bool
	verbose  bool
}

func (f *trialFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	f.output = outputText
	flags.IntVarP(&f.count, "invocations", "n", f.count, "number `N` of invocations")
	flags.DurationVar(&f.freeze, "freeze", f.freeze, "freeze the environment for this `TIME` between two invocations")
	flags.Var(choice{&f.delivery, []string{"sync", "deferred", "adaptive"}}, "delivery",
		"delivery mode of the extension: sync, deferred or adaptive")
	flags.VarP(choice{&f.output, []string{outputText, outputNDJSON}}, "output", "o",
		"text, or ndjson: only the events on standard output, unchanged, one per line; the summary on standard error")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON, and the events to standard error")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "do not show the events")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "also show the output of the processes")
}

func (f *trialFlags) check() error {
	if f.count < 1 {
		return usageError(fmt.Sprintf("--invocations is %d; it must be at least 1", f.count))
	}
	if f.freeze < 0 {
		return usageError(fmt.Sprintf("--freeze is %v; it cannot be negative", f.freeze))
	}
	if f.output == outputNDJSON && f.json {
		return usageError("--output ndjson and --json cannot be combined", "standard output has either the events or the summary")
	}
	if f.output == outputNDJSON && f.quiet {
		return usageError("--output ndjson and --quiet cannot be combined", "--quiet hides the events, which are the output")
	}
	return nil
}

// prepare applies the flags to the trial.
func (a *app) prepare(s *trial, f *trialFlags) {
	s.count, s.gap, s.delivery = f.count, f.freeze, f.delivery
	s.progress = a.progress
	s.output = &processOutput{
		out: a.stderr, colors: a.paletteFor(a.stderr), function: s.function.Name, audited: s.audited, verbose: f.verbose,
	}
	switch {
	case f.output == outputNDJSON:
		s.show = eventsTo(a.stdout)
	case !f.quiet:
		out := a.stdout
		if f.json {
			out = a.stderr
		}
		d := &display{out: out, colors: a.paletteFor(out), columns: func() int { columns, _ := terminalWidth(out); return columns }}
		s.show = d.show
	}
}

// runTrial runs the trial and prints its summary. With functionCounts, a failed invocation is an error.
func (a *app) runTrial(ctx context.Context, s *trial, f *trialFlags, functionCounts bool) error {
	end := func() {}
	if s.show == nil { // otherwise the events show the progress
		end = every(progressElsewhere, func() { a.progress("%d of %s so far", s.answered.Load(), plural(s.count, "invocation")) })
	}
	summary, err := s.run(ctx)
	end()
	if err != nil {
		return err
	}
	out := a.stdout
	if f.output == outputNDJSON {
		out = a.stderr
	} else if s.show != nil && !f.json {
		_, _ = fmt.Fprintln(out)
	}
	if err := a.print(out, &summary, f.json); err != nil {
		return cannot(fmt.Errorf("print the summary: %w", err))
	}
	return verdict(&summary, functionCounts)
}

// verdict turns a summary into the command's error.
func verdict(summary *Summary, functionCounts bool) error {
	f := &failure{}
	switch i := summary.Invocations; {
	case summary.InitError != "":
		f.status, f.err = statusIncomplete, errors.New("the environment did not start: "+summary.InitError)
		f.hints = []string{"--verbose shows the output of the function"}
		if strings.HasPrefix(summary.InitError, "Runtime.ExitError: ") && strings.Contains(summary.InitError, "exit status 0") {
			f.hints = []string{
				"the program exited before it asked for an event: it needs a runtime client for Lambda's Runtime API",
				"run a handler by its name, --handler index.handler, or by its file: 'ktel run -- index.mjs'",
			}
		}
	case summary.Idle != "":
		f.err = errors.New("the telemetry extension never subscribed, so nothing was delivered; its last line:\n" + summary.Idle)
	case functionCounts && i.Failed > 0:
		f.status, f.err = statusFunction, fmt.Errorf("%d of %s failed", i.Failed, plural(i.Total, "invocation"))
	}
	if summary.Audited && !summary.Complete { // lost events take precedence
		f.status = statusIncomplete
	}
	if f.status == statusComplete {
		return nil
	}
	return f
}

func (a *app) print(out io.Writer, summary *Summary, asJSON bool) error {
	if !asJSON {
		columns, _ := terminalWidth(out)
		return summary.writeText(out, a.paletteFor(out), columns)
	}
	return writeJSON(out, summary)
}

// respondTo returns a function that shows each result in one line.
func respondTo(w io.Writer, colors palette, total int) func(invocation) {
	digits := len(fmt.Sprint(total))
	return func(i invocation) {
		columns, terminal := terminalWidth(w)
		r := i.result
		status := colors.good(pad(r.Status, 7))
		if r.Status != succeeded || r.FunctionError != "" {
			status = colors.bad(pad(r.Status, 7))
		}
		head := fmt.Sprintf("%*d/%d %s ", digits, i.number, total, shortID(r.RequestID))
		took := fmt.Sprintf(" %s ms ", decimal(milliseconds(r.Duration-r.Hold)))
		room := 3 * minMessageColumns
		if terminal {
			room = max(minMessageColumns, columns-len(head)-7-len(took))
		}
		_, _ = fmt.Fprintln(w, colors.dim(head)+status+colors.dim(took)+fit(printable(string(r.Payload)), room))
	}
}
