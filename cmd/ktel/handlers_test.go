//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Common loggers work in the handlers of conformance/handlers, and each of their lines arrives with its request id.
func TestConformanceHandlers(t *testing.T) {
	if os.Getenv("CONFORMANCE") != "required" {
		t.Skip("CONFORMANCE=required is not set: this test installs Node.js, and packages for it and for Python")
	}
	handlers, err := filepath.Abs("../../conformance/handlers")
	if err != nil {
		t.Fatal(err)
	}
	script := exec.Command(filepath.Join(handlers, "handlers.sh"))
	var stderr bytes.Buffer
	script.Stderr = &stderr
	printed, err := script.Output()
	t.Logf("%s\n%s%s", script, stderr.Bytes(), printed)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "../kinesis-telemetry-extension").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv(extensionVariable, filepath.Join(dir, extensionName))
	path := os.Getenv("PATH")
	for line := range strings.Lines(string(printed)) {
		fields := strings.Fields(line)
		language, program := fields[0], fields[1]
		t.Run(language, func(t *testing.T) {
			t.Setenv("PATH", filepath.Dir(program)+string(filepath.ListSeparator)+path)
			t.Chdir(t.TempDir())
			file, lines := "app.py", []string{"logging: order 7", "powertools: failed", "powertools: order", "print: order"}
			if language == "node" {
				file, lines = "index.mjs", []string{"console: order 7", "pino: order", "powertools: failed", "powertools: order"}
				if err := os.Symlink(fields[2], "node_modules"); err != nil {
					t.Fatal(err)
				}
			}
			source, err := os.ReadFile(filepath.Join(handlers, file))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, source, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, format := range []string{"text", "json"} {
				checkLines(t, file, format, lines)
			}
		})
	}
}

// checkLines runs a handler three times. Each invocation must log each of these lines, and no others.
func checkLines(t *testing.T, file, format string, want []string) {
	t.Helper()
	status, stdout, stderr := runKtel(t, "run", "-n", "3", "-o", "ndjson", "--event", `{"order":7}`, "--log-format", format, "--", file)
	if status != 0 {
		t.Fatalf("%s: exit status %d: %s", format, status, stderr)
	}
	got := map[string][]string{}
	for line := range strings.Lines(stdout) {
		var event struct {
			Type, RequestID string
			Record          json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		if event.Type != "function" {
			continue
		}
		at := slices.IndexFunc(want, func(text string) bool { return strings.Contains(string(event.Record), text) })
		if at < 0 {
			t.Fatalf("%s: unexpected line: %s", format, line)
		}
		got[event.RequestID] = append(got[event.RequestID], want[at])
	}
	for id, lines := range got {
		if slices.Sort(lines); id == "" || !slices.Equal(lines, want) {
			t.Errorf("%s: request %q has %q, want %q", format, id, lines, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%s: lines of %d requests, want 3", format, len(got))
	}
	t.Logf("%s, %s: %d lines of each of %d requests", file, format, len(want), len(got))
}
