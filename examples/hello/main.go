// Command hello is a Lambda function that logs the lines that its event requests, to test their telemetry.
//
// The event is a JSON object. Every member is optional:
//
//	{
//	  "text":     3,        // lines of plain text to print, at most 100,000
//	  "json":     2,        // lines of JSON to print, at most 100,000
//	  "bytes":    200,      // pad each line's message to this size, at most 1 MiB
//	  "duration": "50ms",   // time to run; the lines are spread over it
//	  "error":    "no!",    // fail with this message after the last line
//	  "panic":    true,     // or panic, which ends the process
//	  "deaf":     true      // ignore the function's timeout
//	}
//
// The response is {"lines": 5, "requestId": "…"}.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

const (
	maxLines = 100_000
	maxBytes = 1 << 20
)

// request is the event.
type request struct {
	Text     int    `json:"text"`
	JSON     int    `json:"json"`
	Bytes    int    `json:"bytes"`
	Duration string `json:"duration"`
	Error    string `json:"error"`
	Panic    bool   `json:"panic"`
	Deaf     bool   `json:"deaf"`
}

type response struct {
	Lines     int    `json:"lines"`
	RequestID string `json:"requestId"`
}

func main() {
	f := function{out: os.Stdout}
	lambda.Start(f.handle)
}

// function prints to out. Each line is one Write, so that concurrent invocations do not mix their lines.
type function struct{ out io.Writer }

func (f function) handle(ctx context.Context, r request) (response, error) {
	if r.Text < 0 || r.Text > maxLines || r.JSON < 0 || r.JSON > maxLines || r.Bytes < 0 || r.Bytes > maxBytes {
		return response{}, errors.New("text and json must be 0 to 100000, bytes 0 to 1048576")
	}
	duration, err := parseDuration(r.Duration)
	if err != nil {
		return response{}, err
	}
	if r.Deaf {
		ctx = context.WithoutCancel(ctx)
	}
	answer := response{Lines: r.Text + r.JSON}
	log := slog.New(slog.NewJSONHandler(f.out, &slog.HandlerOptions{
		Level: slog.LevelDebug, ReplaceAttr: lambdacontext.ReplaceAttr,
	}))
	if invocation, ok := lambdacontext.FromContext(ctx); ok {
		answer.RequestID = invocation.AwsRequestID
		log = log.With("requestId", answer.RequestID)
	}
	start := time.Now()
	for n := range answer.Lines {
		if err := f.print(ctx, log, r, n); err != nil {
			return response{}, err
		}
		due := duration * time.Duration(n+1) / time.Duration(answer.Lines)
		if err := wait(ctx, due-time.Since(start)); err != nil {
			return response{}, err
		}
	}
	if err := wait(ctx, duration-time.Since(start)); err != nil {
		return response{}, err
	}
	if r.Panic {
		panic("the event asks for a panic")
	}
	if r.Error != "" {
		return response{}, errors.New(r.Error)
	}
	return answer, nil
}

// print prints line n: text and JSON alternate while both have lines left.
func (f function) print(ctx context.Context, log *slog.Logger, r request, n int) error {
	both := 2 * min(r.Text, r.JSON)
	text := r.Text > r.JSON
	if n < both {
		text = n%2 == 0
	}
	if text {
		message := fmt.Sprintf("line %d of %d", n+1, r.Text+r.JSON)
		if _, err := fmt.Fprintln(f.out, fill(message, r.Bytes)); err != nil {
			return fmt.Errorf("print a line: %w", err)
		}
		return nil
	}
	levels := [...]slog.Level{slog.LevelInfo, slog.LevelInfo, slog.LevelDebug, slog.LevelWarn, slog.LevelInfo, slog.LevelError}
	messages := [...]string{"order received", "payment authorized", "cache miss", "stock is low", "order shipped", "mail not sent"}
	i := n / 2 % len(levels)
	log.Log(ctx, levels[i], fill(messages[i], r.Bytes), "order", 1000+n)
	return nil
}

func fill(message string, size int) string {
	if missing := size - len(message) - 1; missing > 0 {
		return message + " " + strings.Repeat(".", missing)
	}
	return message
}

func parseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("duration %q must be a duration such as 50ms", s)
	}
	return d, nil
}

// wait sleeps. It fails if the invocation's context ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
