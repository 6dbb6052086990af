package sandbox

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// An extension can listen on sandbox.localdomain, like OpenTelemetry's collector: as root, and as an ordinary user if
// the kernel allows user namespaces. The machine's hosts file is unchanged, and no temporary file remains.
func TestHostNames(t *testing.T) {
	before, err := os.ReadFile(hostsFile)
	if err != nil {
		t.Skip(err)
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	c := newCollector(t)
	requireHostNames(t)
	cfg := testConfig(t, c, "",
		plan{Listen: "sandbox.localdomain", Subscribe: subscribeAll}, plan{Listen: "sandbox", Subscribe: subscribeAll})
	e := start(t, cfg)
	if user := e.spawner.mounts.hosts != ""; user != (os.Getuid() != 0) && !hasHostNames(before) {
		t.Errorf("user namespace: %t", user)
	}
	invoke(t, e, task{Lines: 1})
	shutdown(t, e)
	for _, name := range []string{"x0", "x1"} {
		if lines := ofType(c.checkDelivered(name), "function"); len(lines) != 1 {
			t.Errorf("%s got %d lines", name, len(lines))
		}
	}
	for _, p := range e.Processes() {
		if p.MaxRSS == 0 || p.ExitCode > 0 {
			t.Errorf("%+v", p)
		}
	}
	after, err := os.ReadFile(hostsFile)
	remaining, _ := filepath.Glob(filepath.Join(tmp, "sandbox-hosts-*"))
	if err != nil || string(after) != string(before) || len(remaining) > 0 {
		t.Errorf("%v, hosts file %q, remaining files %q", err, after, remaining)
	}
}

// requireHostNames skips a test if this machine cannot mount a hosts file.
func requireHostNames(t *testing.T) {
	t.Helper()
	s := newSpawner(nil)
	s.close()
	requireOrSkip(t, "names", s.mounts.hostsErr)
}

func requireOrSkip(t *testing.T, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("no %s: %v", what, err)
	default:
		t.Skipf("no %s: %v", what, err)
	}
}

// Layers are mounted at /opt, a later one over an earlier one, and this machine's files there stay visible.
func TestLayers(t *testing.T) {
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "a 'b':c")
	if err := os.Mkdir(second, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{first + "/one": "first", first + "/both": "first", second + "/both": "second"} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSpawner([]string{first, second})
	defer s.close()
	requireOrSkip(t, "layers", s.mounts.layersErr)
	run := func(args ...string) string {
		var text strings.Builder
		p, err := startProcess(s, processSpec{name: "x", path: args[0], args: args[1:], env: os.Environ()}, func(lines [][]byte) {
			for _, line := range lines {
				text.Write(line)
			}
		}, func(*process) {})
		if err != nil {
			t.Fatal(err)
		}
		<-p.exited.Done()
		return text.String()
	}
	if got := run("cat", layersTarget+"/one", layersTarget+"/both"); got != "first\nsecond\n" {
		t.Errorf("%q", got)
	}
	ours, err := os.ReadDir(layersTarget)
	if err != nil {
		t.Fatal(err)
	}
	seen := strings.Fields(run("ls", "-A", layersTarget))
	for _, entry := range ours {
		if !slices.Contains(seen, entry.Name()) || entry.Name() == "both" {
			t.Errorf("%s has %s, in the namespace %q", layersTarget, entry.Name(), seen)
		}
	}
}

// If the layers cannot be mounted, the host names still resolve, and an error whose output mentions /opt explains it.
func TestLayersHint(t *testing.T) {
	requireHostNames(t)
	s := newSpawner([]string{filepath.Join(t.TempDir(), "gone")})
	s.close()
	if s.mounts.hostsErr != nil || s.mounts.layersErr == nil {
		t.Fatalf("names: %v, layers: %v", s.mounts.hostsErr, s.mounts.layersErr)
	}
	for line, want := range map[string]bool{"/opt/x/index.js: No such file or directory": true, "no stream": false} {
		text := (&process{layersErr: s.mounts.layersErr, head: []string{line}}).printedText()
		if strings.Contains(text, "The layers are not at /opt") != want {
			t.Errorf("%s: %s", line, text)
		}
	}
}

// TestHostNames and TestLayers pass as an ordinary user.
func TestMountsWithoutRoot(t *testing.T) {
	const nobody = 65534
	if os.Getuid() != 0 {
		t.Skip("this user is ordinary: TestHostNames and TestLayers have run as it")
	}
	dir, err := os.MkdirTemp("", "nobody-") // only its owner can read the parent of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	program := filepath.Join(dir, "test")
	f, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, self)
	if err := errors.Join(err, f.Close(), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run=^Test(HostNames|Layers)$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	printed, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, printed)
	case strings.Contains(string(printed), "--- SKIP"):
		t.Skipf("%s", printed)
	}
}

// If the host names do not resolve, an error whose output mentions one explains how to fix it.
func TestHostNamesHint(t *testing.T) {
	why := errors.New("no namespaces")
	const line = "lookup sandbox.localdomain: no such host"
	for _, tc := range []struct {
		err  error
		line string
		want bool
	}{{why, line, true}, {nil, line, false}, {why, "no stream", false}} {
		text := (&process{hostsErr: tc.err, head: []string{tc.line}}).printedText()
		if strings.Contains(text, "no namespaces") != tc.want || strings.Contains(text, "/etc/hosts") != tc.want {
			t.Errorf("%+v: %s", tc, text)
		}
	}
}

func TestHasHostNames(t *testing.T) {
	for hosts, want := range map[string]bool{
		"127.0.0.1 localhost\n":                               false,
		"127.0.0.1 localhost # sandbox.localdomain\n":         false,
		"sandbox.localdomain\n":                               false,
		"127.0.0.1 a\n127.0.0.1\tsandbox sandbox.localdomain": true,
	} {
		if got := hasHostNames([]byte(hosts)); got != want {
			t.Errorf("%q: %t", hosts, got)
		}
	}
}

// A program that wrap starts through a shell has the kernel's launch errors.
func TestLaunchErrorsBehindShell(t *testing.T) {
	dir := t.TempDir()
	m := mounts{hosts: "any"}
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		want    error
	}{
		"script":         {"#!/bin/sh\n", 0o755, nil},
		"no interpreter": {"echo\n", 0o755, syscall.ENOEXEC},
		"short":          {"#", 0o755, syscall.ENOEXEC},
		"not executable": {"#!/bin/sh\n", 0o644, syscall.EACCES},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tc.content), tc.mode); err != nil {
			t.Fatal(err)
		}
		if err := m.check(path); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
