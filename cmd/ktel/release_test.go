//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// releasedKtel unpacks the archive of a released ktel for this machine. The archive is in the folder that KTEL_RELEASE names (.ci/run sets
// it). Otherwise the Makefile builds it here, with the build settings of this test, because those of a release would compile all packages
// again.
func releasedKtel(t *testing.T) (ktel, version string) {
	t.Helper()
	name := fmt.Sprintf("ktel-%s-%s.tar.gz", runtime.GOOS, runtime.GOARCH)
	dir, version := os.Getenv("KTEL_RELEASE"), os.Getenv("KTEL_RELEASE_VERSION")
	if dir == "" {
		if testing.Short() {
			t.Skip("this test builds a released ktel")
		}
		makePath, err := exec.LookPath("make")
		if err != nil {
			t.Skip("there is no make")
		}
		dir, version = t.TempDir(), "v1.2.3"
		build := exec.CommandContext(t.Context(), makePath, "-C", "../..", "OUT="+dir, "VERSION="+version,
			"REPRODUCIBLE=go build -buildvcs=false", `BUILD=go build -buildvcs=false -ldflags "-s -w"`, filepath.Join(dir, name))
		if output, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	unpacked := t.TempDir()
	if output, err := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join(dir, name), "-C", unpacked).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if _, err := os.Stat(filepath.Join(unpacked, "LICENSE")); err != nil {
		t.Error(err)
	}
	return filepath.Join(unpacked, "ktel"), version
}

// A released ktel runs the demo and a handler outside of a checkout, and PATH has only the handler's runtime.
func TestRelease(t *testing.T) {
	t.Parallel()
	ktel, version := releasedKtel(t)
	dir, path := t.TempDir(), t.TempDir()
	ended := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), ktel, args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + path, "HOME=" + dir, "TMPDIR=" + dir}
		output, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(output), want) || strings.Contains(string(output), "building") {
			t.Errorf("%s: %v, want %q in\n%s", strings.Join(args, " "), err, want, output)
		}
	}
	const complete = "Every event arrived, once and unaltered."
	ended("ktel "+version+"\n", "version")
	ended(complete, "demo", "-n", "10", "--freeze", "20ms")
	ended(fmt.Sprintf("%q)\n", version), "publish", "--help") // of --release

	// python3 in PATH may be a script that runs other programs.
	program, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Skip("there is no Python for a handler")
	}
	if err := os.Symlink(strings.TrimSpace(string(program)), filepath.Join(path, "python3")); err != nil {
		t.Fatal(err)
	}
	handler := "def handler(event, context):\n    print('order', event['order'])\n"
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(handler), 0o600); err != nil {
		t.Fatal(err)
	}
	ended("order 7", "run", patient, "--handler", "app.handler", "--event", `{"order":7}`)
	ended(complete, "run", patient, "--handler", "app.handler", "--event", `{"order":7}`)

	// --layer-extension and $KTEL_EXTENSION override the extension in the release.
	nothing := filepath.Join(dir, "nothing")
	for _, args := range [][]string{{"--layer-extension", nothing, "--", "./app.py"}, {"--", "./app.py"}} {
		cmd := exec.CommandContext(t.Context(), ktel, append([]string{"run"}, args...)...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + path, "TMPDIR=" + dir}
		if len(args) == 2 {
			cmd.Env = append(cmd.Env, extensionVariable+"="+nothing)
		}
		if output, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(output), "there is no extension "+nothing) {
			t.Errorf("%q: %v\n%s", args, err, output)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "ktel-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
