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
	colors   palette
	function string // their names: lines begin with them
	audited  string
	verbose  bool

	mu   sync.Mutex
	last string // the last line of the audited extension that is not about all being well
}

// subscriptionClosed is the error of a subscription after the end of init.
const subscriptionClosed = "Telemetry.SubscriptionClosed"

// Write takes whole lines, each beginning with the [name] of who printed it.
func (p *processOutput) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(data) {
		name, text, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		audited := name == "["+p.audited+"]"
		news := !strings.HasPrefix(text, "level=INFO ")
		if audited && news {
			p.last = text
			// The extension subscribes in init. Where that is over the environment did not start, which is told.
			news = !strings.Contains(text, subscriptionClosed)
		}
		told := name == "["+p.function+"]" || (audited && !news)
		if told && !p.verbose {
			continue
		}
		// What cannot be written here must not stop the processes.
		_, _ = fmt.Fprintf(p.out, "%s %s\n", p.colors.dim(printable(name)), printable(text))
	}
	return len(data), nil
}

// lastMessage is that line.
func (p *processOutput) lastMessage() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
