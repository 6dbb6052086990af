package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/input"
	"kinesis-telemetry-extension/record"
)

const auditLong = `audit finds missing and duplicated events in a stream, in files or on standard
input. It reads all inputs that 'ktel decode' reads. An argument that is not a
file is the name of a stream, which audit reads up to its current end.

audit compares the numbers of the events: seq counts 0, 1, 2 … within each
source.instance. In the format cloudwatch the id of a log event contains both.

  missing     a number below the highest one of its instance did not arrive
  dropped     missing, and declared by a kinesis-telemetry.dropped event: the
              extension dropped it. Such an event has a count and a range, and
              explains that many of the missing numbers in the range
  duplicated  arrived again: Kinesis delivers at least once. Keep either copy

The audit of an instance starts with number 0, if that is there. Otherwise the
input starts in the middle of its life, as with --since, and numbers below its
first one do not count as missing (with --from-start they do). If the last event
is a kinesis-telemetry.stats, the environment was shut down in order, and no
later event can be missing. If an environment still runs or was killed, audit
cannot know whether later events are missing.

Memory use depends on the number of instances and gaps, not of events: 100,000
instances take less than 128 MB. If one machine takes too long to read it all,
use SQL: examples/sql has the same audit for Athena, DuckDB and Flink.

`

const auditStatuses = `Exit status:
    0  no event is missing, except those that were declared dropped
    1  events are missing, or a piece of the input could not be read
    2  the command line, or a file that it names, is wrong
    4  audit failed
  130  interrupted`

type auditFlags struct {
	streamFlags
	json      bool
	fromStart bool
}

func (a *app) auditCommand() *cobra.Command {
	f := &auditFlags{}
	cmd := &cobra.Command{
		Use:   "audit [flags] [STREAM | FILE...]",
		Short: "Find missing and duplicated events in a stream or in files",
		Long:  auditLong + auditStatuses,
		Example: `  ktel audit --since 1h my-stream
  aws s3 cp s3://BUCKET/telemetry/2026/11/23/object.json.gz - | ktel audit
  ktel audit --json telemetry/*.gz`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return a.audit(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.since, "since", "", "read records that arrived at `TIME` or later; see 'ktel tail' (default: all)")
	flags.StringVar(&f.until, "until", "", "read records that arrived before `TIME` (default: now)")
	flags.StringVar(&f.endpoint, "endpoint-url", "", "`URL` of Kinesis, such as an emulator's")
	flags.StringVar(&f.region, "region", "", "`NAME` of the AWS region")
	flags.BoolVar(&f.fromStart, "from-start", false,
		"the input has all instances from their start: numbers below the first one of an instance are missing")
	flags.BoolVar(&f.json, "json", false, "print the findings as JSON")
	return cmd
}

// shownUnreadable limits how many unreadable pieces are reported one by one.
const shownUnreadable = 20

// AuditReport is the result of an audit. --json prints it as JSON.
type AuditReport struct {
	// Complete: no undeclared event is missing, and everything could be read.
	Complete bool `json:"complete"`
	*audit.CompletenessReport
	// Unreadable counts broken pieces, Foreign pieces of other writers.
	Unreadable int   `json:"unreadable"`
	Foreign    int   `json:"foreign"`
	Bytes      int64 `json:"bytes"`
}

func (a *app) audit(ctx context.Context, f *auditFlags, args []string) error {
	name, isStream, err := streamOf(args, &f.streamFlags)
	if err != nil {
		return err
	}
	var from source
	shown := newProgress(a.stderr)
	if isStream {
		from, err = openBacklog(ctx, name, &f.streamFlags, time.Now(), shown)
	} else {
		from, err = a.openInputs(args, "audit")
	}
	if err != nil {
		return err
	}
	shown.start(from.reading)
	report, err := count(from.events(ctx), f.fromStart, func(piece *input.UnreadableError) { a.cannotRead(shown, piece) })
	shown.end()
	if err != nil {
		return err
	}
	report.Bytes = from.reading().bytes
	if f.json {
		err = writeJSON(a.stdout, report)
	} else {
		columns, _ := terminalWidth(a.stdout)
		err = report.writeText(a.stdout, a.paletteFor(a.stdout), columns)
	}
	switch {
	case err != nil:
		return cannot(fmt.Errorf("write the findings: %w", err))
	case !report.Complete:
		return &failure{status: statusIncomplete}
	}
	return nil
}

// source is the input of an audit. A piece that is not an event is an *input.UnreadableError; any other error is the last.
type source interface {
	events(ctx context.Context) iter.Seq2[input.Event, error]
	reading() reading
}

// count audits events. It calls unreadable for the first pieces that cannot be read, as many as a person reads.
func count(events iter.Seq2[input.Event, error], fromStart bool, unreadable func(*input.UnreadableError)) (*AuditReport, error) {
	report := &AuditReport{}
	numbers := audit.Completeness{FromStart: fromStart}
	for event, err := range events {
		piece, ok := errors.AsType[*input.UnreadableError](err)
		switch {
		case ok && errors.Is(err, record.ErrForeign):
			report.Foreign++
		case ok:
			if report.Unreadable++; report.Unreadable <= shownUnreadable {
				unreadable(piece)
			}
		case err != nil:
			return nil, err
		default:
			numbers.Add(&event.Line, event.Arrived)
		}
	}
	report.CompletenessReport = numbers.Report()
	report.Complete = report.CompletenessReport.Complete && report.Unreadable == 0
	return report, nil
}
