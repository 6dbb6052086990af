package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands of the scripts in testdata/script.

// awaitTime is far longer than any wait takes.
const awaitTime = 2 * time.Minute

// await PATTERN [REGEXP] waits until a file exists, and one of its lines matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await PATTERN [REGEXP]")
	}
	for end := time.Now().Add(awaitTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		found, _ := filepath.Glob(ts.MkAbs(args[0]))
		for _, file := range found {
			if len(args) == 1 {
				return
			}
			if content, err := os.ReadFile(file); err == nil && regexp.MustCompile("(?m)"+args[1]).Match(content) {
				return
			}
		}
	}
	ts.Fatalf("%s did not appear", args[0])
}

// status N COMMAND [ARG...] runs a command that ends with status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	var want int
	if _, err := fmt.Sscan(args[0], &want); err != nil || neg {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// usageerror [ARG...] runs ktel, which must report one usage error and print no result.
func usageerror(ts *testscript.TestScript, neg bool, args []string) {
	status(ts, neg, append([]string{"2", "ktel"}, args...))
	if stdout := ts.ReadFile("stdout"); stdout != "" {
		ts.Fatalf("standard output: %s", stdout)
	}
	if stderr := ts.ReadFile("stderr"); strings.Count(stderr, "error:") != 1 {
		ts.Fatalf("standard error: %s", stderr)
	}
}

// programsDir is the directory in which buildPrograms has built the programs; empty before.
var programsDir string

// buildPrograms builds the extension and the sample function once for all tests.
var buildPrograms = sync.OnceValues(func() (dir string, err error) {
	if programsDir, err = os.MkdirTemp("", "ktel-test-"); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", programsDir, "../../examples/hello", "../kinesis-telemetry-extension")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", build, err, output)
	}
	return programsDir, nil
})

// programs puts the extension and the sample function, hello, into the work directory.
// They are hard links: a process that runs one has a program below the work directory.
func programs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: programs")
	}
	dir, err := buildPrograms()
	ts.Check(err)
	for _, name := range []string{"kinesis-telemetry-extension", "hello"} {
		ts.Check(os.Link(filepath.Join(dir, name), filepath.Join(ts.Getenv("WORK"), name)))
	}
}

// readenv NAME FILE sets a variable to the content of a file.
func readenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: readenv NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// requestids N LINES passes if stdout has LINES lines of each of N invocations, and each event has its request id, as a
// member and in the record.
func requestids(ts *testscript.TestScript, neg bool, args []string) {
	var invocations, lines int
	if _, err := fmt.Sscan(strings.Join(args, " "), &invocations, &lines); err != nil || neg {
		ts.Fatalf("usage: requestids N LINES")
	}
	got := map[string]int{}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var event struct {
			Type      string
			RequestID string
			Record    json.RawMessage
		}
		ts.Check(json.Unmarshal([]byte(line), &event))
		if event.Type != "function" {
			continue
		}
		got[event.RequestID]++
		if event.RequestID == "" || !strings.Contains(string(event.Record), event.RequestID) {
			ts.Fatalf("the event does not have its request id: %s", line)
		}
	}
	for id, n := range got {
		if n != lines {
			ts.Fatalf("%d lines of invocation %s, want %d", n, id, lines)
		}
	}
	if len(got) != invocations {
		ts.Fatalf("lines of %d invocations, want %d", len(got), invocations)
	}
}

// columns N FILE fails if a line of the file, such as stdout, is wider than N columns.
func columns(ts *testscript.TestScript, neg bool, args []string) {
	var limit int
	if _, err := fmt.Sscan(args[0], &limit); err != nil || neg {
		ts.Fatalf("usage: columns N FILE")
	}
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.TrimSuffix(line, "\n")
		if n := len([]rune(line)); n > limit {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}

// processes passes if a process runs a program below the work directory.
func processes(ts *testscript.TestScript, neg bool, _ []string) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	ts.Check(err)
	found := ""
	for _, link := range links {
		if program, err := os.Readlink(link); err == nil && strings.HasPrefix(program, ts.Getenv("WORK")) {
			found += " " + program
		}
	}
	if neg && found != "" {
		ts.Fatalf("still running:%s", found)
	}
	if !neg && found == "" {
		ts.Fatalf("no process is running")
	}
}
