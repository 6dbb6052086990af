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

// eventsTo writes each event for other programs, unchanged and one per line. It skips lines that are not events: the
// summary counts them.
func eventsTo(out io.Writer) showLine {
	return func(line *audit.Line) error {
		var err error
		if line.Err == nil {
			_, err = fmt.Fprintf(out, "%s\n", line.Raw)
		}
		return err
	}
}

// processOutput passes on the output of the processes of an environment. Without verbose it hides the function's lines,
// which arrive on the stream, and the INFO lines of the audited extension, which the summary covers.
type processOutput struct {
	out      io.Writer
	colors   palette
	function string // names of the processes: lines start with them
	audited  string
	verbose  bool

	mu   sync.Mutex
	last string // the last line of the audited extension above INFO
}

// subscriptionClosed is Lambda's error for a subscription after init.
const subscriptionClosed = "Telemetry.SubscriptionClosed"

// Write expects whole lines. Each starts with the [name] of the process that printed it.
func (p *processOutput) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(data) {
		name, text, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		audited := name == "["+p.audited+"]"
		notable := !strings.HasPrefix(text, "level=INFO ")
		if audited && notable {
			p.last = text
			// The extension subscribes in init. If init is over, the environment did not start, and the summary reports
			// that.
			notable = !strings.Contains(text, subscriptionClosed)
		}
		known := name == "["+p.function+"]" || (audited && !notable)
		if known && !p.verbose {
			continue
		}
		// A failed write must not stop the processes.
		_, _ = fmt.Fprintf(p.out, "%s %s\n", p.colors.dim(printable(name)), printable(text))
	}
	return len(data), nil
}

// lastMessage returns the last line of the audited extension above INFO.
func (p *processOutput) lastMessage() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
