package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/session"
)

const defaultStream = "telemetry-kinesis-stream" // as the extension's

// Values of --output.
const (
	outputText   = "text"
	outputNDJSON = "ndjson"
	outputJSON   = "json"
	outputRaw    = "raw"
)

const tailLong = `tail shows the events of a stream as they arrive, from now on or since a time.
It reads every shard, follows reshardings, and asks a shard once a second at
most, which leaves room for other consumers.

STREAM is a name or an ARN; without it KINESIS_TELEMETRY_STREAM counts, then
telemetry-kinesis-stream. The credentials need kinesis:DescribeStreamSummary,
kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords.

TIME is a duration before now (90s, 5m, 2h, 1d) or a time (15:04, 2006-01-02,
2006-01-02T15:04:05Z), in UTC unless it says otherwise. It is compared with when
records arrived at Kinesis: their events may be older.

Records that others have written are one line each. In the format cloudwatch the
function's lines have no request id: with --by-invocation they stand alone.

`

const tailStatuses = `Exit status:
    0  the end that was asked for is reached
    2  the command line is wrong
    4  ktel could not do its work
  130  interrupted`

// tailFlags are what 'ktel tail' is told.
type tailFlags struct {
	streamFlags
	stream       string
	noFollow     bool
	byInvocation bool
	output       string
	filterFlags
}

func (a *app) tailCommand() *cobra.Command {
	f := &tailFlags{output: outputText}
	cmd := &cobra.Command{
		Use:   "tail [flags] [STREAM]",
		Short: "Show the events of a stream as they arrive",
		Long:  tailLong + tailStatuses,
		Example: `  ktel tail --since 5m --function checkout --level warn
  ktel tail my-stream --request 8476a536 --since 1h --no-follow
  ktel tail --by-invocation --endpoint-url http://localhost:4567
  ktel tail --type report -o ndjson | jq .record.metrics`,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(fmt.Sprintf("tail takes one stream, not %d", len(args)), "a terminal for each, or one stream for all functions")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.stream = cmp.Or(os.Getenv("KINESIS_TELEMETRY_STREAM"), defaultStream)
			if len(args) > 0 {
				f.stream = args[0]
			}
			return a.tail(cmd.Context(), f, time.Now())
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.since, "since", "", "begin with what arrived at `TIME`, instead of now")
	flags.StringVar(&f.until, "until", "", "end with what arrived before `TIME`")
	flags.BoolVar(&f.noFollow, "no-follow", false, "end where the stream ends now; without --since all that it holds is shown")
	f.add(cmd)
	flags.BoolVar(&f.byInvocation, "by-invocation", false,
		"show the events of an invocation together, when it has ended, under one line of its REPORT")
	flags.VarP(choice{&f.output, []string{outputText, outputNDJSON, outputJSON, outputRaw}}, "output", "o",
		"text, ndjson (an event a line), json (indented) or raw (the records' data)")
	flags.StringVar(&f.endpoint, "endpoint-url", "", "Kinesis at `URL`, as of an emulator")
	flags.StringVar(&f.region, "region", "", "AWS region `NAME`")
	return cmd
}

// options checks the flags and says what is to be read.
func (f *tailFlags) options(now time.Time) (o session.ReadOptions, err error) {
	if err := f.target(f.stream).Validate(); err != nil {
		return o, usageError(err.Error())
	}
	if o, err = f.window(now); err != nil {
		return o, err
	}
	past := !o.Until.IsZero() && !o.Until.After(now)
	o.Follow = !f.noFollow && !past
	o.All = o.Since.IsZero() && !o.Follow
	switch {
	case f.byInvocation && f.output != outputText:
		return o, usageError("--by-invocation goes with -o text", "'jq' groups ndjson by .requestId")
	case f.output == outputRaw && f.filterFlags.any():
		return o, usageError("-o raw writes whole records: it goes without --function, --request, --level, --type and --grep",
			"-o ndjson writes the events that they choose")
	}
	return o, nil
}

// timeLayouts are how a time can be written.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04",
	"2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly,
}

// parseTime reads a time, or a duration before now.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, ok := parseAge(text); ok {
		return now.Add(-d).Truncate(time.Millisecond), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04", time.TimeOnly} { // of today
		if t, err := time.Parse(layout, text); err == nil {
			return now.UTC().Truncate(24 * time.Hour).Add(t.Sub(t.Truncate(24 * time.Hour))), nil
		}
	}
	return time.Time{}, usageError(fmt.Sprintf("--%s %q is no time", flag, text),
		"a duration before now (90s, 5m, 2h, 1d), or a time in UTC (15:04, 2006-01-02, 2006-01-02T15:04:05Z)")
}

// parseAge reads a duration, which may begin with days.
func parseAge(text string) (time.Duration, bool) {
	number, rest, dated := strings.Cut(text, "d")
	if !dated {
		number, rest = "0", text
	}
	days, err := strconv.ParseUint(number, 10, 16)
	if err != nil || days > 366 {
		return 0, false
	}
	if dated && rest == "" {
		rest = "0s"
	}
	d, err := time.ParseDuration(rest)
	return d + time.Duration(days)*24*time.Hour, err == nil && d >= 0 //nolint:gosec // a year at most
}

// endTailTime is how long an interrupted tail waits for a reader that takes nothing of what it writes.
const endTailTime = 2 * time.Second

func (a *app) tail(ctx context.Context, f *tailFlags, now time.Time) error {
	if _, err := f.options(now); err != nil {
		return err
	}
	keep, err := f.filter()
	if err != nil {
		return err
	}
	columns, terminal := terminalWidth(a.stdout)
	if terminal && f.output == outputRaw {
		return usageError("-o raw writes binary data, which a terminal cannot show", "ktel tail -o raw > FILE, or '| ktel decode'")
	}
	stream, err := session.Open(ctx, f.target(f.stream))
	if err == nil {
		err = stream.WaitActive(ctx)
	}
	if err != nil {
		return err
	}
	options, err := f.options(stream.Now()) // arrivals are of Kinesis's clock
	if err != nil {
		return err
	}
	t := &tailer{app: a, flags: f, keep: keep, colors: a.paletteFor(a.stdout), live: terminal && f.output == outputText}
	if terminal {
		t.columns = func() int { columns, _ = terminalWidth(a.stdout); return columns }
	}
	done := make(chan error, 1)
	go func() { done <- t.run(ctx, stream, options) }()
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err = <-done:
		return err
	case <-time.After(endTailTime): // what writes is stuck, and ends with the process
		return ctx.Err()
	}
}
