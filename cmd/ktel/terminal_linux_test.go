package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"
)

// onTerminal starts ktel on a terminal with these columns. screen returns the output so far.
func onTerminal(t *testing.T, columns uint16, env []string, args ...string) (process *exec.Cmd, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("ktel") // testscript's link to this test program
	if err != nil {
		t.Fatal(err)
	}
	process = exec.Command(program, args...)
	process.Stdout, process.Stderr, process.Env = slave, slave, append(os.Environ(), env...)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var (
		mu  sync.Mutex
		got bytes.Buffer
	)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			mu.Lock()
			got.Write(buffer[:n])
			mu.Unlock()
			if err != nil { // EIO: the process has ended
				return
			}
		}
	}()
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
		<-done
		master.Close()
	})
	return process, func() string {
		mu.Lock()
		defer mu.Unlock()
		return got.String()
	}
}

// On a terminal, tail wraps lines to the width, draws a status line and erases it at the end, and obeys NO_COLOR.
func TestTailOnTerminal(t *testing.T) {
	_, url := streamOfEvents(t)
	words := strings.TrimSpace(strings.Repeat("a line of words that are not cut ", 5))
	putRecords(t, url, event(8, "checkout", "function", requestA, `{"level":"INFO","message":"`+words+`"}`))
	for _, columns := range []uint16{60, 200} {
		for _, env := range [][]string{{"TERM=xterm"}, {"TERM=xterm", "NO_COLOR=1"}} {
			t.Run(fmt.Sprint(columns, env), func(t *testing.T) {
				t.Parallel()
				tailOnTerminal(t, url, columns, env, words)
			})
		}
	}
}

func tailOnTerminal(t *testing.T, url string, columns uint16, env []string, words string) {
	t.Helper()
	process, screen := onTerminal(t, columns, env, "tail", "orders", "--since", "1h", "--endpoint-url", url)
	waitUntil(t, "the status line", func() bool { return strings.Contains(screen(), " events/s ") && strings.Contains(screen(), "words") })
	time.Sleep(2 * statusInterval)
	process.Process.Signal(os.Interrupt)
	waitUntil(t, "the end", func() bool { return strings.Contains(screen(), "ktel: interrupted") })
	err := process.Wait()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != statusInterrupted { //nolint:errorlint // Wait's own
		t.Errorf("tail ended with %v", err)
	}
	all := screen()
	left := "" // on the screen when tail has ended
	for line := range strings.SplitSeq(strings.ReplaceAll(all, "\r\n", "\n"), "\n") {
		for part := range strings.SplitSeq(line, "\r"+ansi.EraseLineRight) {
			if width := ansi.StringWidth(part); width > int(columns) || strings.Contains(part, "events/s") && width >= int(columns) {
				t.Errorf("%d columns: %d in %q", columns, width, part)
			}
		}
		left += line[strings.LastIndex(line, "\r")+1:] + "\n"
	}
	if strings.Contains(left, "events/s") || !strings.Contains(all, "events/s") {
		t.Errorf("the status line is still there: %q", left)
	}
	if colored := strings.Contains(all, "\x1b[3"); colored != (len(env) == 1) {
		t.Errorf("%q: colours: %v", env, colored)
	}
	if plain := strings.Join(strings.Fields(ansi.Strip(left)), " "); !strings.Contains(plain, words) {
		t.Errorf("%d columns: %s", columns, plain)
	}
}

// Help is wrapped once, for the width of the terminal: every line of a paragraph is full, except its last one.
func TestHelpOnTerminal(t *testing.T) {
	for _, verb := range []string{"tail", "run", "demo", "doctor", "publish"} {
		process, screen := onTerminal(t, 60, []string{"TERM=xterm"}, verb, "--help")
		process.Wait()
		waitUntil(t, "the end of the help", func() bool { return strings.Contains(screen(), "Examples:") })
		help, _, _ := strings.Cut(strings.ReplaceAll(screen(), "\r\n", "\n"), "\nExamples:")
		paragraph, _, _ := strings.Cut(help, "\n\n")
		lines := strings.Split(paragraph, "\n")
		for i, line := range lines[:len(lines)-1] {
			next, _, _ := strings.Cut(lines[i+1], " ")
			if len(line)+1+len(next) <= 60 {
				t.Errorf("%s: %q has room for %q", verb, line, next)
			}
		}
		for line := range strings.Lines(help) {
			if ansi.StringWidth(strings.TrimSuffix(line, "\n")) > 60 && !strings.HasPrefix(line, "  ktel") {
				t.Errorf("%s: %q", verb, line)
			}
		}
	}
}

// A terminal gets no DEL and no C1 control characters, which JSON may contain unescaped. Other readers get them.
func TestDecodeOnTerminal(t *testing.T) {
	const words = "\u009b31m red \u007f \u202e é 漢"
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, event(1, "checkout", "function", requestA, `"`+words+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	process, screen := onTerminal(t, 200, []string{"TERM=xterm"}, "decode", path)
	process.Wait()
	waitUntil(t, "the event", func() bool { return strings.Contains(screen(), "}}") })
	if got := screen(); strings.ContainsAny(got, "\u009b\u007f\u202e") || !strings.Contains(got, `\u009b31m red \u007f \u202e é 漢`) {
		t.Errorf("%q", got)
	}
	if _, piped, _ := runKtel(t, "decode", path); !strings.Contains(piped, words) {
		t.Errorf("%q", piped)
	}
}
