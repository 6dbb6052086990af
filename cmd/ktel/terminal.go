package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/fatih/color"
	"golang.org/x/sys/unix"
)

// Values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// ink colours text, or leaves it as it is.
type ink struct {
	dim, good, bad, warn, platform, function, extension, own, strong func(...any) string
}

// inkFor decides whether w gets colours: https://no-color.org
func (a *app) inkFor(w io.Writer) ink {
	switch a.color {
	case colorAlways:
		return newInk(true)
	case colorNever:
		return newInk(false)
	}
	_, terminal := terminalWidth(w)
	return newInk(terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func newInk(colored bool) ink {
	paint := func(attributes ...color.Attribute) func(...any) string {
		c := color.New(attributes...)
		if colored { // not by the package's own guess, which knows only of standard output
			c.EnableColor()
		} else {
			c.DisableColor()
		}
		return c.SprintFunc()
	}
	return ink{
		dim: paint(color.Faint), good: paint(color.FgGreen, color.Bold), bad: paint(color.FgRed, color.Bold),
		warn: paint(color.FgYellow), platform: paint(color.FgBlue), function: paint(color.FgGreen),
		extension: paint(color.FgMagenta), own: paint(color.FgCyan), strong: paint(color.Bold),
	}
}

// terminalWidth is the number of columns of the terminal that w is; false if it is none.
func terminalWidth(w io.Writer) (int, bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	if size.Col == 0 { // a terminal that does not know its size
		return 80, true
	}
	return int(size.Col), true
}

// printable makes text safe for a terminal and for one line: what would move the cursor is spelt out.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	clean := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// writeJSON writes a value for machines. It is JSON with or without them: what printable would spell out is escaped.
func writeJSON(w io.Writer, value any) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // commands stay as they are typed
	if err := encoder.Encode(value); err != nil {
		return err
	}
	var safe strings.Builder
	for _, r := range b.String() {
		if r < 0x7f || unicode.IsPrint(r) { // of ASCII the encoder has escaped all but 7f
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	_, err := io.WriteString(w, safe.String())
	return err
}

// fit shortens text to so many columns and marks the cut; 0 columns are no limit. It counts characters of the East
// Asian scripts, and all that might be, as two.
func fit(s string, columns int) string {
	if columns <= 0 || len(s) <= columns {
		return s
	}
	used, keep := 0, 0 // keep: how many bytes leave room for the mark
	for i, r := range s {
		used += cells(r)
		if used > columns {
			return s[:keep] + "…"
		}
		if used < columns {
			keep = i + len(string(r))
		}
	}
	return s
}

func cells(r rune) int {
	if r >= 0x1100 && r != '…' {
		return 2
	}
	return 1
}

// pad fills text up to so many columns.
func pad(s string, columns int) string {
	used := 0
	for _, r := range s {
		used += cells(r)
	}
	return s + strings.Repeat(" ", max(0, columns-used))
}
