package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The settings that docs/consume.md recommends are read without a mistake or a warning.
func TestSettingsOfConsumers(t *testing.T) {
	doc, err := os.ReadFile("../../docs/consume.md")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for _, block := range regexp.MustCompile("(?s)\n```env\n(.*?)\n```\n").FindAllSubmatch(doc, -1) {
		all = append(all, strings.Split(string(block[1]), "\n"))
	}
	recipes := strings.Count(string(doc), "```env")
	for _, row := range regexp.MustCompile("(?m)^\\| [^|]*\\(#[^|]*\\| `(\\w+)` \\| (?:`(\\w+)`)?").FindAllSubmatch(doc, -1) {
		settings := []string{Prefix + "FORMAT=" + string(row[1])}
		if len(row[2]) > 0 {
			settings = append(settings, Prefix+"COMPRESSION="+string(row[2]))
		}
		all = append(all, settings)
	}
	const consumers = 9
	if recipes == 0 || len(all) != recipes+consumers {
		t.Fatalf("found %d settings, want those of %d blocks and %d rows", len(all), recipes, consumers)
	}
	for _, settings := range all {
		c, mistakes := Load(append([]string{"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret"}, settings...))
		if len(mistakes)+len(c.Warnings) > 0 {
			t.Errorf("%q: %v, %v", settings, mistakes, c.Warnings)
		}
	}
}
