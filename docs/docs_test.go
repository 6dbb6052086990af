// Package docs has tests of what the documents say.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kinesis-telemetry-extension/internal/config"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The tables of README.md and settings.md have each setting that there is, and no other.
func TestSettings(t *testing.T) {
	const hint = " must be one of " // of the warning for a setting that does not exist, before all that do
	c, _ := config.Load([]string{config.Prefix + "NONE=1"})
	var settings []string
	for _, warning := range c.Warnings {
		if _, all, found := strings.Cut(warning.String(), hint); found {
			settings = strings.Split(all, ", ")
		}
	}
	if len(settings) == 0 {
		t.Fatalf("no warning names the settings: %v", c.Warnings)
	}
	var rows []string
	for _, name := range []string{"../README.md", "settings.md"} {
		for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| .* \\| .* \\|$").FindAllStringSubmatch(read(t, name), -1) {
			rows = append(rows, row[1])
		}
	}
	slices.Sort(rows)
	if !slices.Equal(rows, settings) {
		t.Errorf("the tables have\n%v\nwant\n%v", rows, settings)
	}
}

var (
	code    = regexp.MustCompile("(?ms)^```.*?^```$")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Links within the repository lead to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	var names []string
	for _, pattern := range []string{"../*.md", "../deploy/*.md", "../examples/*/*.md", "*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		names = append(names, found...)
	}
	for _, name := range names {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, name), ""), -1) {
			path, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(match[1], "://") {
				continue
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", name, match[1], err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", name, match[1])
			}
		}
	}
}

// anchors are those that GitHub gives the headings of a document.
func anchors(text string) (all []string) {
	for _, match := range heading.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
	}
	return all
}
