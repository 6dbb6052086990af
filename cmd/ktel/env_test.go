//go:build unix

package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// Later files override earlier ones, and --env overrides all. Quotes, comments and export are understood.
func TestReadEnv(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := []string{
		file("first", "# comment\r\n\r\nA=1\r\nB = spaced \nexport C=\"a = 'b' # c\"\nD='single'\nE=\nF=\"\nG=first"),
		file("second", "G=second\nH=second\n"),
	}
	got, err := readEnv(files, []string{"H=flag", `I="as it stands"`})
	want := map[string]string{
		"A": "1", "B": "spaced", "C": "a = 'b' # c", "D": "single", "E": "", "F": `"`, "G": "second", "H": "flag", "I": `"as it stands"`,
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
