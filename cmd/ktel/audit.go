package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/input"
	"kinesis-telemetry-extension/record"
)

const auditLong = `audit says what is missing of the telemetry in files or standard input, whatever
'ktel decode' reads. It goes by the events' numbers: seq counts 0, 1, 2 … within
source.instance, and in the format cloudwatch the id of a log event has both.

  missing     a number below the highest of its instance, which never came
  dropped     missing, and declared by a kinesis-telemetry.dropped event: the
              extension knew. Such an event gives a count and a range of
              numbers; it explains so many of those that are missing in it
  duplicated  arrived again, as Kinesis may deliver. Keep either

An instance begins with its number 0, if that is there. Else the input begins
in the middle of its life, and its first number is no gap (--from-start: it is
one). What an instance lost behind its last event shows where that is a
kinesis-telemetry.stats, which comes last when an environment is shut down in
order. Of others, which still run or were killed, it cannot be told.

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
	json      bool
	fromStart bool
}

func (a *app) auditCommand() *cobra.Command {
	f := &auditFlags{}
	cmd := &cobra.Command{
		Use:   "audit [flags] [FILE...]",
		Short: "Say what is missing of the telemetry in a stream or in files",
		Long:  auditLong + auditStatuses,
		Example: `  aws s3 cp s3://BUCKET/telemetry/2026/11/23/object.json.gz - | ktel audit
  ktel audit --json telemetry/*.gz`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return a.audit(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "print the findings as JSON")
	flags.BoolVar(&f.fromStart, "from-start", false, "the input has every instance from its number 0: what lacks before its first one is missing")
	return cmd
}

// shownUnreadable bounds how many pieces that cannot be read are told one by one.
const shownUnreadable = 20

// AuditReport is the outcome of an audit. Its JSON is what --json prints.
type AuditReport struct {
	// Complete: nothing is missing but what was declared, and everything could be read.
	Complete bool `json:"complete"`
	*audit.Account
	// Unreadable counts the pieces that are broken, Foreign those that others have written.
	Unreadable int   `json:"unreadable"`
	Foreign    int   `json:"foreign"`
	Bytes      int64 `json:"bytes"`
}

func (a *app) audit(ctx context.Context, f *auditFlags, args []string) error {
	in, err := a.openable(args, "audit")
	if err != nil {
		return err
	}
	report, err := a.count(in.events(ctx), f, in.reading)
	if err != nil {
		return cannot(err)
	}
	report.Bytes = in.read.Load()
	if f.json {
		err = writeJSON(a.stdout, report)
	} else {
		err = report.writeText(a.stdout, a.inkFor(a.stdout))
	}
	switch {
	case err != nil:
		return cannot(fmt.Errorf("write the findings: %w", err))
	case !report.Complete:
		return &failure{status: statusIncomplete}
	}
	return nil
}

// reading is how far the files are read.
func (in *inputs) reading() reading {
	n := in.read.Load()
	return reading{n, in.size, bytesText(n) + " read"}
}

// count judges events. It says what cannot be read, and how far it is.
func (a *app) count(events iter.Seq2[input.Event, error], f *auditFlags, now func() reading) (*AuditReport, error) {
	report := &AuditReport{}
	numbers := audit.Completeness{FromStart: f.fromStart}
	defer a.showProgress(a.stderr, now)()
	for event, err := range events {
		piece, ok := errors.AsType[*input.UnreadableError](err)
		switch {
		case ok && errors.Is(err, record.ErrForeign):
			report.Foreign++
		case ok:
			if report.Unreadable++; report.Unreadable <= shownUnreadable {
				a.cannotRead(piece)
			}
		case err != nil:
			return nil, err
		default:
			numbers.Add(&event.Line, event.Arrived)
		}
	}
	report.Account = numbers.Account()
	report.Complete = report.Account.Complete && report.Unreadable == 0
	return report, nil
}
