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

const decodeLong = `decode prints the events of records as ndjson: one a line, as they stood in the
record; of the format cloudwatch, what was read of them. It takes files, or
standard input, and tells by their bytes what is in them:

    data of a record    in any format and compression, also many in a row
    base64 of it        one record a line, or with tabs between
    JSON                as 'aws kinesis get-records' prints it, or as a Lambda
                        function gets it from a Kinesis stream
    S3 objects          as Firehose writes them: members, frames, lines

What it cannot read is a line on standard error, and the rest goes on. Files of
any size are streamed. A record may be 64 MiB, and above 32 MiB 1,000 times what
it is compressed.

`

const decodeStatuses = `Exit status:
    0  everything was read
    1  something could not be read
    2  the command line, or a file that it names, is wrong
    4  decode could not do its work
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

// maxErrors is how many errors in a row are told of a file: one that has more is something else.
const maxErrors = 1000

func (a *app) decode(ctx context.Context, files []string) error {
	in, err := a.openInputs(files, "decode")
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	_, terminal := terminalWidth(a.stdout)
	in.beforeRead = out.Flush // a reader that waits for the next event has all before it
	in.maxErrorsInARow = maxErrors
	unreadable := 0
	for event, err := range in.events(ctx) {
		if piece, ok := errors.AsType[*input.UnreadableError](err); ok {
			unreadable++
			_ = out.Flush() // in the order of the input; its error comes again
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

// cannotRead says which piece of an input cannot be read, and why, to what leads to standard error.
func (a *app) cannotRead(to io.Writer, piece *input.UnreadableError) {
	columns, _ := terminalWidth(a.stderr)
	text := fold(printable(piece.Error()), columns, len("ktel: error: "), 2)
	_, _ = fmt.Fprintf(to, "ktel: %s %s\n", a.paletteFor(a.stderr).bad("error:"), text)
}

// writeEvent writes an event on one line. Between its tokens JSON of others may have line ends. A terminal gets no control characters.
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
