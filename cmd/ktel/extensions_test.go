//go:build unix

package main

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// zipEntry is a file of a zip that a test writes.
type zipEntry struct {
	name string
	mode fs.FileMode
	text string
}

func writeZip(t *testing.T, entries ...zipEntry) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer.zip")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	for _, entry := range entries {
		header := &zip.FileHeader{Name: entry.name, Method: zip.Deflate}
		header.SetMode(entry.mode)
		w, err := archive.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(entry.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// All files in a layer's extensions/ are extensions. Files in its subfolders are not. Files outside of it are unpacked,
// too.
func TestFindExtensionInZip(t *testing.T) {
	layer := writeZip(t,
		zipEntry{"extensions/", fs.ModeDir | 0o755, ""},
		zipEntry{"extensions/one", 0o755, "#!/bin/sh"},
		zipEntry{"extensions/data/file", 0o644, "data"},
		zipEntry{"lib/two", 0o755, "#!/bin/sh"},
		zipEntry{"extensions/two", fs.ModeSymlink | 0o777, "../lib/two"},
	)
	paths, err := findExtension(layer, t.TempDir())
	if err != nil || len(paths) != 2 || filepath.Base(paths[0]) != "one" || filepath.Base(paths[1]) != "two" {
		t.Fatalf("%q, %v", paths, err)
	}
	if text, err := os.ReadFile(paths[1]); err != nil || string(text) != "#!/bin/sh" {
		t.Errorf("%q, %v", text, err)
	}
}

// unzip refuses entries outside of the layer's folder.
func TestUnzipRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entries []zipEntry
		want    string
	}{
		{[]zipEntry{{"../evil", 0o755, "x"}}, "escapes"},
		{[]zipEntry{{"out", fs.ModeSymlink | 0o777, ".."}, {"out/evil", 0o755, "x"}}, "escapes"},
		{[]zipEntry{{"extensions/one", 0o644, "x"}}, "is not executable"},
		{[]zipEntry{{"one", 0o755, "x"}}, "has no file in extensions/"},
		{[]zipEntry{{"extensions/big", 0o755, strings.Repeat("x", maxLayer+1)}}, "more than Lambda's limit of 250 MB"},
	} {
		dir := t.TempDir()
		_, err := findExtension(writeZip(t, c.entries...), dir)
		if statusOf(err) != statusUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.entries[0].name, err, c.want)
		}
		if found, _ := filepath.Glob(filepath.Join(dir, "evil")); len(found) > 0 {
			t.Errorf("%s was written outside of the layer", c.entries[0].name)
		}
	}
}

// The folder around extensions/ becomes a layer, once. A program elsewhere has no layer.
func TestExtendLayers(t *testing.T) {
	s := &trial{}
	s.extend("/a/extensions/ours", []string{"/b/extensions/one", "/b/extensions/two", "/c/bin/three"})
	if len(s.extensions) != 4 || s.extensions[0].Path != "/a/extensions/ours" || s.audited != "ours" {
		t.Errorf("%+v, audited %q", s.extensions, s.audited)
	}
	if !slices.Equal(s.layers, []string{"/a", "/b"}) {
		t.Errorf("layers %q", s.layers)
	}
}

// sourceFolder returns the folder that the compiler recorded, and "" for the relative paths of -trimpath.
func TestSourceFolder(t *testing.T) {
	dir := t.TempDir()
	for file, want := range map[string]string{
		filepath.Join(dir, "build.go"): dir, filepath.Join(dir, "gone", "build.go"): "", "./build.go": "", modulePath + "/cmd/ktel/build.go": "",
	} {
		if got := sourceFolder(file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
