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

	"github.com/charmbracelet/x/ansi"
	"github.com/fatih/color"
	"golang.org/x/term"
)

// Values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// palette colours text, or leaves it plain.
type palette struct {
	dim, good, bad, warn, platform, function, extension, telemetry, strong func(...any) string

	functions []func(...any) string // each function has one of these
}

// paletteFor decides whether w gets colours: https://no-color.org
func (a *app) paletteFor(w io.Writer) palette {
	switch a.color {
	case colorAlways:
		return newPalette(true)
	case colorNever:
		return newPalette(false)
	}
	_, terminal := terminalWidth(w)
	return newPalette(terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func newPalette(colored bool) palette {
	paint := func(attributes ...color.Attribute) func(...any) string {
		c := color.New(attributes...)
		if colored { // the package's own default only considers standard output
			c.EnableColor()
		} else {
			c.DisableColor()
		}
		return c.SprintFunc()
	}
	return palette{
		dim: paint(color.Faint), good: paint(color.FgGreen, color.Bold), bad: paint(color.FgRed, color.Bold),
		warn: paint(color.FgYellow), platform: paint(color.FgBlue), function: paint(color.FgGreen),
		extension: paint(color.FgMagenta), telemetry: paint(color.FgCyan), strong: paint(color.Bold),
		functions: []func(...any) string{
			paint(color.FgGreen), paint(color.FgYellow), paint(color.FgBlue), paint(color.FgMagenta), paint(color.FgCyan),
			paint(color.FgHiGreen), paint(color.FgHiYellow), paint(color.FgHiBlue), paint(color.FgHiMagenta), paint(color.FgHiCyan),
		},
	}
}

// terminalWidth returns the number of columns if w is a terminal, and false if it is not.
func terminalWidth(w io.Writer) (int, bool) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) { //nolint:gosec // a descriptor
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd())) //nolint:gosec // as above
	if err != nil || columns == 0 {                 // the terminal does not report its size
		return 80, true
	}
	return columns, true
}

// printable makes text safe for one line of a terminal: it escapes characters that are not printable.
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

// writeJSON writes a value as JSON for programs. Characters that printable would escape are escaped as JSON.
func writeJSON(w io.Writer, value any) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // keep commands as they are typed
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(w, escaped(b.String()))
	return err
}

// escaped escapes the control characters in JSON that a terminal may obey and that encoders may leave. The value stays
// the same.
func escaped(text string) string {
	var safe strings.Builder
	for _, r := range text {
		if r < 0x7f || unicode.IsPrint(r) { // the only ASCII control characters in JSON are white space
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&safe, `\u%04x`, unit)
		}
	}
	return safe.String()
}

// fit shortens text to the columns, between two words if it can, and marks the cut; 0 columns are no limit.
func fit(s string, columns int) string {
	if columns <= 0 || len(s) <= columns || ansi.StringWidth(s) <= columns {
		return s
	}
	cut := ansi.Truncate(s, columns, "…")
	kept := strings.TrimSuffix(cut, "…")
	if strings.HasPrefix(s[len(kept):], " ") {
		return cut
	}
	if space := strings.LastIndexByte(kept, ' '); space >= len(kept)/2 { // a long word is cut
		return strings.TrimRight(kept[:space], " ") + " …"
	}
	return cut
}

// fold wraps text that starts at a column. It breaks lines between words if it can, and indents all but the first.
// 0 columns are no limit.
func fold(s string, columns, at, indent int) string {
	if columns <= 0 || at+ansi.StringWidth(s) <= columns {
		return s
	}
	margin, rest, line := "\n"+strings.Repeat(" ", indent), s, ""
	word, _, _ := strings.Cut(s, " ")
	// If not even the first word fits into the rest of the line, the text starts in the next line.
	if room := columns - at; room >= ansi.StringWidth(word) || room >= columns-indent {
		line, _, _ = strings.Cut(ansi.Wrap(s, room, " "), "\n")
		rest = strings.TrimLeft(strings.TrimPrefix(s, line), " ")
	}
	if rest == "" {
		return line
	}
	return line + margin + strings.ReplaceAll(ansi.Wrap(rest, max(1, columns-indent), " "), "\n", margin)
}

// columnsOr returns the columns of a terminal, or the default if they are 0.
func columnsOr(columns, def int) int {
	if columns > 0 {
		return columns
	}
	return def
}

// pad pads text with spaces to the columns.
func pad(s string, columns int) string {
	return s + strings.Repeat(" ", max(0, columns-ansi.StringWidth(s)))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(int64(n)) + " " + what + "s"
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
