package record_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"kinesis-telemetry-extension/record"
)

// event.schema.json accepts the lines that the extension wrote in a run of ktel, and rejects lines that are not events.
func TestSchema(t *testing.T) {
	var schema map[string]any
	decode(t, readFile(t, "../event.schema.json"), &schema)
	lines := bytes.SplitAfter(bytes.TrimSuffix(readFile(t, "testdata/real.ndjson"), []byte("\n")), []byte("\n"))
	if len(lines) < 30 {
		t.Fatalf("only %d lines", len(lines))
	}
	var m manifest
	readJSON(t, "vectors.json", &m)
	for _, v := range m.Vectors {
		lines = append(lines, v.lines(t, &m)...)
	}
	for _, line := range lines {
		var event any
		decode(t, line, &event)
		if wrong := violations(schema, event, ""); len(wrong) > 0 {
			t.Errorf("%s: %s", line, wrong)
		}
		for read, err := range record.Unpack(line) {
			if err != nil || read.Source.Instance == "" {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	const good = `{"time":"t","type":"function","record":"x","seq":1,"source":{"instance":"a6ccf84e86c2ea85a827f6ab11133759"}}`
	for _, change := range [][2]string{
		{`"time":"t",`, ``},
		{`"function"`, `7`},
		{`"record":"x",`, ``},
		{`"seq":1`, `"seq":-1`},
		{`"seq":1`, `"seq":1.5`},
		{`"seq":1`, `"seq":"1"`},
		{`a6ccf84e`, `a6ccf84`},
		{`"instance"`, `"other"`},
		{`"source":{`, `"source":{"account":"1",`},
		{`"record":"x"`, `"record":{},"truncated":7`},
		{`"function","record":"x"`, `"kinesis-telemetry.stats","record":{}`},
		{
			`"function","record":"x"`,
			`"kinesis-telemetry.dropped","record":{"reason":"x","count":1,"firstSeq":1,"lastSeq":1,` +
				`"instance":"a6ccf84e86c2ea85a827f6ab11133759"}`,
		},
	} {
		var event any
		decode(t, []byte(strings.Replace(good, change[0], change[1], 1)), &event)
		if len(violations(schema, event, "")) == 0 {
			t.Errorf("%s is accepted as an event", strings.Replace(good, change[0], change[1], 1))
		}
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func decode(t testing.TB, text []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// violations implements the keywords of JSON Schema that the schema uses. An unknown keyword is a violation.
func violations(schema map[string]any, value any, at string) (wrong []string) {
	object, isObject := value.(map[string]any)
	text, isText := value.(string)
	number, isNumber := value.(json.Number)
	float, _ := number.Float64()
	violated := func(is bool, keyword string) {
		if is {
			wrong = append(wrong, at+": "+keyword)
		}
	}
	for keyword, arg := range schema {
		switch keyword {
		case "$schema", "title", "description", "then":
		case "type":
			violated(!isA(arg.(string), value), "type")
		case "required":
			for _, name := range arg.([]any) {
				_, there := object[name.(string)]
				violated(isObject && !there, "required "+name.(string))
			}
		case "properties":
			for name, of := range arg.(map[string]any) {
				if member, there := object[name]; there {
					wrong = append(wrong, violations(of.(map[string]any), member, at+"/"+name)...)
				}
			}
		case "additionalProperties":
			known, _ := schema["properties"].(map[string]any)
			for name, member := range object {
				if _, there := known[name]; there {
					continue
				}
				if of, isSchema := arg.(map[string]any); isSchema {
					wrong = append(wrong, violations(of, member, at+"/"+name)...)
				} else {
					violated(arg == false, "additional "+name)
				}
			}
		case "pattern":
			violated(isText && !regexp.MustCompile(arg.(string)).MatchString(text), "pattern")
		case "minLength":
			violated(isText && text == "", "minLength")
		case "minimum", "maximum":
			limit, _ := arg.(json.Number).Float64()
			violated(isNumber && (keyword == "minimum" && float < limit || keyword == "maximum" && float > limit), keyword)
		case "const":
			violated(fmt.Sprint(arg) != fmt.Sprint(value), "const")
		case "enum":
			found := false
			for _, one := range arg.([]any) {
				found = found || one == value
			}
			violated(!found, "enum")
		case "allOf":
			for _, of := range arg.([]any) {
				wrong = append(wrong, violations(of.(map[string]any), value, at)...)
			}
		case "if":
			if len(violations(arg.(map[string]any), value, at)) == 0 {
				wrong = append(wrong, violations(schema["then"].(map[string]any), value, at)...)
			}
		default:
			violated(true, "unknown keyword "+keyword)
		}
	}
	return wrong
}

func isA(kind string, value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return kind == "object"
	case string:
		return kind == "string"
	case json.Number:
		_, err := v.Int64()
		return kind == "number" || kind == "integer" && err == nil
	}
	return false
}
