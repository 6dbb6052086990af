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

const auditLong = `audit says what is missing of the telemetry in a stream, in files or on standard
input: whatever 'ktel decode' reads. An argument that is no file names a stream,
which is read to where it ends now.

It goes by the events' numbers: seq counts 0, 1, 2 … within source.instance, and
in the format cloudwatch the id of a log event has both.

  missing     a number below the highest of its instance, which never came
  dropped     missing, and declared by a kinesis-telemetry.dropped event: the
              extension knew. Such an event gives a count and a range of
              numbers; it explains so many of those that are missing in it
  duplicated  arrived again, as Kinesis may deliver. Keep either

An instance begins with its number 0, if that is there. Else the input begins in
the middle of its life, as with --since, and what is below its first number is
no gap (--from-start: it is one). What an instance lost behind its last event
shows where that is a kinesis-telemetry.stats, which comes last when an
environment is shut down in order. Of others, which still run or were killed, it
cannot be told.

Memory goes with the instances and their gaps, not with the events: 100,000
instances take less than 128 MB. For more than one machine reads in good time,
SQL finds the same: examples/sql has queries for Athena, DuckDB and Flink.

`

const auditStatuses = `Exit status:
    0  nothing is missing but what was declared
    1  something is missing, or could not be read
    2  the command line, or a file that it names, is wrong
    4  audit could not do its work
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
		Short: "Say what is missing of the telemetry in a stream or in files",
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
	flags.StringVar(&f.since, "since", "", "begin with what arrived in the stream at `TIME`, as 'ktel tail' takes it (default all)")
	flags.StringVar(&f.until, "until", "", "end with what arrived in the stream before `TIME` (default now)")
	flags.StringVar(&f.endpoint, "endpoint-url", "", "Kinesis at `URL`, as of an emulator")
	flags.StringVar(&f.region, "region", "", "AWS region `NAME`")
	flags.BoolVar(&f.fromStart, "from-start", false,
		"the input has all instances from their beginning: what is below the first number of one is missing")
	flags.BoolVar(&f.json, "json", false, "print the findings as JSON")
	return cmd
}

// shownUnreadable bounds how many pieces that cannot be read are told one by one.
const shownUnreadable = 20

// AuditReport is the outcome of an audit. Its JSON is what --json prints.
type AuditReport struct {
	// Complete: nothing is missing but what was declared, and everything could be read.
	Complete bool `json:"complete"`
	*audit.CompletenessReport
	// Unreadable counts the pieces that are broken, Foreign those that others have written.
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

// source is what is audited. A piece that is no event is an *input.UnreadableError; another error is the last.
type source interface {
	events(ctx context.Context) iter.Seq2[input.Event, error]
	reading() reading
}

// count judges events. It reports pieces that cannot be read, but no more than a person reads.
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
