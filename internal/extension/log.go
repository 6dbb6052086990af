package extension

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"kinesis-telemetry-extension/internal/config"
)

const (
	// maxLogLines is how many lines are queued for a slow reader of the log. Further lines are dropped.
	maxLogLines = 64
	// logTimeout is how long the process waits at its end for queued lines to be written.
	logTimeout = 100 * time.Millisecond
)

// Logger is the part of slog.Logger that the extension uses. args are names and values. See Log.
type Logger interface {
	Info(message string, args ...any)
	Warn(message string, args ...any)
	Error(message string, args ...any)
}

// Log is the extension's own log, in the format of slog.TextHandler. Lambda adds the time to each line, so the lines have none.
// Logging never blocks: if nobody reads the log, for example because Lambda's own log is slow, the function must not wait for it.
//
// log/slog would add 100 KB to the binary.
type Log struct {
	level config.LogLevel
	lines lineQueue
}

// NewLog returns a log of lines from level on that writes to w.
func NewLog(w io.Writer, level config.LogLevel) *Log {
	lines := make(lineQueue, maxLogLines)
	go func() { // runs until the process exits, because a blocked write cannot be cancelled
		for l := range lines {
			if l.written != nil {
				close(l.written)
				continue
			}
			_, _ = w.Write(l.text)
		}
	}()
	return &Log{level, lines}
}

// Info implements Logger.
func (l *Log) Info(message string, args ...any) { l.log(config.LogInfo, message, args) }

// Warn implements Logger.
func (l *Log) Warn(message string, args ...any) { l.log(config.LogWarn, message, args) }

// Error implements Logger.
func (l *Log) Error(message string, args ...any) { l.log(config.LogError, message, args) }

// Flush waits until all queued lines are written, up to logTimeout. The process calls it at its end.
func (l *Log) Flush() { l.lines.flush() }

func (l *Log) log(level config.LogLevel, message string, args []any) {
	if level < l.level {
		return
	}
	line := append([]byte("level="), level.String()...)
	line = appendLogValue(append(line, " msg="...), message)
	line = append(line, " extension=kinesis-telemetry-extension"...)
	for i := 0; i+1 < len(args); i += 2 {
		line = fmt.Append(append(line, ' '), args[i], "=")
		line = appendLogValue(line, fmt.Sprint(args[i+1]))
	}
	l.lines.queue(append(line, '\n'))
}

// appendLogValue appends a value. It quotes one that a reader could misread.
func appendLogValue(line []byte, text string) []byte {
	ambiguous := func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r)
	}
	if text == "" || strings.ContainsFunc(text, ambiguous) {
		return strconv.AppendQuote(line, text)
	}
	return append(line, text...)
}

// logLine is a line to write or, if written is set, a marker that reports that all earlier lines are written.
type logLine struct {
	text    []byte
	written chan struct{} // closed when all earlier lines are written
}

type lineQueue chan logLine

// queue queues a line, or drops it if the queue is full.
func (q lineQueue) queue(line []byte) {
	select {
	case q <- logLine{text: line}:
	default:
	}
}

func (q lineQueue) flush() {
	timeout, written := time.After(logTimeout), make(chan struct{})
	select {
	case q <- logLine{written: written}:
	case <-timeout:
		return
	}
	select {
	case <-written:
	case <-timeout:
	}
}
