package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/input"
	"kinesis-telemetry-extension/record"
)

const decodeLong = `decode prints the events of records as ndjson: one per line, unchanged, and for
the format cloudwatch as they were parsed. It reads files or standard input, and
detects what they contain:

    data of records     in any format and compression, one or several in a row
    base64 of the data  one record per line, or separated by tabs
    JSON                printed by 'aws kinesis get-records', or the event of a
                        Lambda function that reads a Kinesis stream
    S3 objects          written by Firehose: members, frames, lines

decode reports each piece that it cannot read in a line on standard error, and
continues. It streams files of any size. A record can have up to 64 MiB. A
compressed one can expand to 32 MiB, or to 1,000 times its compressed size.

`

const decodeStatuses = `Exit status:
    0  everything was read
    1  a piece of the input could not be read
    2  the command line, or a file that it names, is wrong
    4  decode failed
  130  interrupted`

func (a *app) decodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "decode [FILE...]",
		Short: "Print the events of records as ndjson",
		Long:  decodeLong + decodeStatuses,
		Example: `  aws kinesis get-records --shard-iterator ITERATOR | ktel decode
  ktel decode telemetry-1-2026-11-23-18-00-00.json.gz | jq -r .record
  pbpaste | ktel decode`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  func(cmd *cobra.Command, args []string) error { return a.decode(cmd.Context(), args) },
	}
}

// maxErrors is how many errors in a row are reported for a file. A file with more is not telemetry.
const maxErrors = 1000

func (a *app) decode(ctx context.Context, files []string) error {
	in, err := a.openInputs(files, "decode")
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	_, terminal := terminalWidth(a.stdout)
	in.beforeRead = out.Flush // before input that may take long, the reader gets all events so far
	in.maxErrorsInARow = maxErrors
	unreadable := 0
	for event, err := range in.events(ctx) {
		if piece, ok := errors.AsType[*input.UnreadableError](err); ok {
			unreadable++
			_ = out.Flush() // keep the order of the input; the next Flush returns the same error
			a.cannotRead(a.stderr, piece)
			continue
		}
		if err == nil {
			err = writeEvent(out, &event.Line, terminal)
		}
		if err != nil {
			return cannot(err)
		}
	}
	if err := out.Flush(); err != nil {
		return cannot(fmt.Errorf("write the events: %w", err))
	}
	if unreadable > 0 {
		return &failure{status: statusIncomplete}
	}
	return nil
}

// cannotRead reports a piece of an input that cannot be read, and why, on a writer that leads to standard error.
func (a *app) cannotRead(to io.Writer, piece *input.UnreadableError) {
	columns, _ := terminalWidth(a.stderr)
	text := fold(printable(piece.Error()), columns, len("ktel: error: "), 2)
	_, _ = fmt.Fprintf(to, "ktel: %s %s\n", a.paletteFor(a.stderr).bad("error:"), text)
}

// writeEvent writes an event on one line: JSON from other sources may have line breaks between its tokens.
// A terminal gets no control characters.
func writeEvent(out *bufio.Writer, event *record.Line, terminal bool) error {
	text := encoded(event, false)
	if content := text[:len(text)-1]; bytes.ContainsAny(content, "\r\n") {
		var line bytes.Buffer
		if err := json.Compact(&line, content); err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
		line.WriteByte('\n')
		text = line.Bytes()
	}
	if terminal {
		text = []byte(escaped(string(text)))
	}
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	return nil
}
