package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"kinesis-telemetry-extension/internal/session"
)

// Exit statuses; the help text of ktel lists them.
const (
	statusComplete    = 0
	statusIncomplete  = 1
	statusUsage       = 2
	statusFunction    = 3
	statusFailed      = 4
	statusInterrupted = 130 // as a shell counts SIGINT
	statusPipe        = 141 // as a shell counts SIGPIPE: the reader of the output has gone
)

// failure is an error with an exit status, and hints for the user.
type failure struct {
	status int
	err    error // nil: it was reported already
	hints  []string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func usageError(message string, hints ...string) error {
	return &failure{status: statusUsage, err: errors.New(message), hints: hints}
}

// cannot returns a failure of ktel itself, not of the command line.
func cannot(err error, hints ...string) error {
	return &failure{status: statusFailed, err: err, hints: hints}
}

func statusOf(err error) int {
	if err == nil {
		return statusComplete
	}
	if errors.Is(err, context.Canceled) {
		return statusInterrupted
	}
	if isClosedPipe(err) {
		return statusPipe
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	return statusFailed
}

// explain writes the error and its hints to standard error.
func (a *app) explain(err error) {
	colors := a.paletteFor(a.stderr)
	columns, _ := terminalWidth(a.stderr)
	write := func(label, text string) {
		_, _ = fmt.Fprintf(a.stderr, "ktel: %s %s\n", label, fold(printable(text), columns, len("ktel: error: "), 2))
	}
	if errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(a.stderr, "ktel: interrupted")
		return
	}
	f, ok := errors.AsType[*failure](err)
	if (ok && f.err == nil) || isClosedPipe(err) {
		return
	}
	lines := strings.Split(err.Error(), "\n") // the output of a process may follow the first line
	write(colors.bad("error:"), lines[0])
	for _, line := range lines[1:] {
		_, _ = fmt.Fprintf(a.stderr, "  %s\n", printable(strings.TrimSpace(line)))
	}
	var hints []string
	if ok {
		hints = f.hints
	} else if advised, is := errors.AsType[*session.Error](err); is {
		hints = advised.Hints
	}
	for _, hint := range hints {
		write(colors.dim("hint:"), hint)
	}
}
