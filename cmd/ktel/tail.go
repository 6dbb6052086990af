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
It reads all shards and follows resharding. It reads each shard at most once a
second, which leaves capacity for other consumers.

STREAM is a name or an ARN. The default is $KINESIS_TELEMETRY_STREAM, then
telemetry-kinesis-stream. The credentials need kinesis:DescribeStreamSummary,
kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords.

TIME is a duration before now (90s, 5m, 2h, 1d) or a time (15:04, 2006-01-02,
2006-01-02T15:04:05Z), in UTC if it has no zone. tail compares it with the time
at which records arrived at Kinesis: their events may be older.

A record of another writer is shown in one line. In the format cloudwatch the
function's log lines have no request id: --by-invocation does not group them.

`

const tailStatuses = `Exit status:
    0  the stream was read up to the requested end
    2  the command line is wrong
    4  ktel failed
  130  interrupted`

// tailFlags are the flags of 'ktel tail'.
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
				return usageError(fmt.Sprintf("tail takes one stream, not %d", len(args)),
					"use one terminal per stream, or one stream for all functions")
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
	flags.StringVar(&f.since, "since", "", "show records that arrived at `TIME` or later (default: from now on)")
	flags.StringVar(&f.until, "until", "", "show records that arrived before `TIME`, then stop")
	flags.BoolVar(&f.noFollow, "no-follow", false, "stop at the current end of the stream; without --since, show all of it")
	f.add(cmd)
	flags.BoolVar(&f.byInvocation, "by-invocation", false,
		"show the events of an invocation together when it has ended, below a line with its REPORT")
	flags.VarP(choice{&f.output, []string{outputText, outputNDJSON, outputJSON, outputRaw}}, "output", "o",
		"text, ndjson (one event per line), json (indented) or raw (the records' data)")
	flags.StringVar(&f.endpoint, "endpoint-url", "", "`URL` of Kinesis, such as an emulator's")
	flags.StringVar(&f.region, "region", "", "`NAME` of the AWS region")
	return cmd
}

// options checks the flags and returns which part of the stream they select.
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
		return o, usageError("--by-invocation needs -o text", "use jq to group ndjson by .requestId")
	case f.output == outputRaw && f.filterFlags.any():
		return o, usageError("-o raw writes whole records and cannot filter by --function, --request, --level, --type or --grep",
			"-o ndjson writes the events that match")
	}
	return o, nil
}

// timeLayouts are the accepted formats of a time.
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
	for _, layout := range []string{"15:04", time.TimeOnly} { // today
		if t, err := time.Parse(layout, text); err == nil {
			return now.UTC().Truncate(24 * time.Hour).Add(t.Sub(t.Truncate(24 * time.Hour))), nil
		}
	}
	return time.Time{}, usageError(fmt.Sprintf("--%s %q is not a time", flag, text),
		"give a duration before now (90s, 5m, 2h, 1d), or a time in UTC (15:04, 2006-01-02, 2006-01-02T15:04:05Z)")
}

// parseAge parses a duration, which may start with days.
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

// endTailTime is how long an interrupted tail waits for a blocked write. It is a variable because on a loaded machine a test cannot
// distinguish two seconds from an end without a wait.
var endTailTime = 2 * time.Second

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
		return usageError("-o raw writes binary data, which a terminal cannot show", "type ktel tail -o raw > FILE, or pipe it into ktel decode")
	}
	stream, err := session.Open(ctx, f.target(f.stream))
	if err == nil {
		err = stream.WaitActive(ctx)
	}
	if err != nil {
		return err
	}
	options, err := f.options(stream.Now()) // Kinesis's clock sets arrival times
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
	case <-time.After(endTailTime): // the write is blocked, and ends with the process
		return ctx.Err()
	}
}
