//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"kinesis-telemetry-extension/internal/audit"
)

// eventsTo writes each event as it stood in its record, one a line, for other programs. What is no event is left out: the
// summary tells it.
func eventsTo(out io.Writer) showLine {
	return func(line *audit.Line) error {
		var err error
		if line.Err == nil {
			_, err = fmt.Fprintf(out, "%s\n", line.Raw)
		}
		return err
	}
}

// processOutput passes on what the processes of an environment print. Without verbose it leaves out the function's
// lines, which arrive on the stream, and what the audited extension says when all is well, which the summary tells.
type processOutput struct {
	out      io.Writer
	ink      ink
	function string // their names: lines begin with them
	audited  string
	verbose  bool

	mu sync.Mutex
}

// Write takes whole lines, each beginning with the [name] of who printed it.
func (p *processOutput) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(data) {
		name, text, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		told := name == "["+p.function+"]" || (name == "["+p.audited+"]" && strings.HasPrefix(text, "level=INFO "))
		if told && !p.verbose {
			continue
		}
		// What cannot be written here must not stop the processes.
		_, _ = fmt.Fprintf(p.out, "%s %s\n", p.ink.dim(printable(name)), printable(text))
	}
	return len(data), nil
}
