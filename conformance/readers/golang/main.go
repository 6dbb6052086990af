// Command golang reads the cases of the format cloudwatch with aws-lambda-go, and the other cases with gzip with compress/gzip.
//
// aws-lambda-go's parser returns no events and no error for ndjson with gzip. So a consumer of a stream with COMPRESSION=gzip must not use
// it.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

const awsLambdaGo = "Go aws-lambda-go"

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	cases, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, path := range cases {
		c, err := load(path)
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(c.name, "cloudwatch-"):
			err = c.cloudwatch()
		case strings.HasSuffix(c.name, "-gzip"):
			err = c.gzip()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// testCase has the records of a case, their partition keys and the expected events.
type testCase struct {
	name    string
	records [][]byte
	keys    []string
	events  [][]byte
}

func load(path string) (testCase, error) {
	c := testCase{name: filepath.Base(path)}
	expected, err := os.ReadFile(filepath.Join(path, "events.ndjson"))
	if err != nil {
		return c, err
	}
	for line := range bytes.Lines(expected) {
		c.events = append(c.events, bytes.TrimSuffix(line, []byte("\n")))
	}
	keys, err := os.ReadFile(filepath.Join(path, "keys.txt"))
	if err != nil {
		return c, err
	}
	c.keys = strings.Fields(string(keys))
	files, err := filepath.Glob(filepath.Join(path, "records", "*.bin"))
	if err != nil {
		return c, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return c, err
		}
		c.records = append(c.records, data)
	}
	return c, nil
}

// compare fails unless a reader has read the expected events. It prints a line if it has.
func (c *testCase) compare(reader, how string, got [][]byte) error {
	for i := range min(len(got), len(c.events)) {
		if !bytes.Equal(got[i], c.events[i]) {
			return fmt.Errorf("%s: event %d differs\nread     %.1000s\nexpected %.1000s", reader, i+1, got[i], c.events[i])
		}
	}
	if len(got) != len(c.events) {
		return fmt.Errorf("%s: %d events of %d", reader, len(got), len(c.events))
	}
	fmt.Printf("%-34s %-16s %-14s %d events of %d, equal\n", reader, c.name, how, len(got), len(c.events))
	return nil
}

// cloudwatch reads the records as a Lambda function does, from the event of an event source mapping.
func (c *testCase) cloudwatch() error {
	var lambda struct {
		Records []map[string]any `json:"Records"`
	}
	for i, data := range c.records {
		lambda.Records = append(lambda.Records, map[string]any{
			"eventSource": "aws:kinesis",
			"kinesis": map[string]any{
				"partitionKey": c.keys[i], "data": base64.StdEncoding.EncodeToString(data), "approximateArrivalTimestamp": 1700000000.125,
			},
		})
	}
	encoded, err := json.Marshal(lambda)
	if err != nil {
		return err
	}
	var event events.KinesisEvent
	if err := json.Unmarshal(encoded, &event); err != nil {
		return err
	}
	type logEvent struct {
		ID        string `json:"id"`
		Timestamp int64  `json:"timestamp"`
		Message   string `json:"message"`
	}
	var read, expected []logEvent
	for _, r := range event.Records {
		raw := events.CloudwatchLogsRawData{Data: base64.StdEncoding.EncodeToString(r.Kinesis.Data)}
		parsed, err := raw.Parse()
		if err != nil {
			return fmt.Errorf("%s: %w", awsLambdaGo, err)
		}
		if parsed.MessageType != "DATA_MESSAGE" || parsed.Owner == "" || parsed.LogGroup == "" || parsed.LogStream == "" ||
			len(parsed.SubscriptionFilters) != 1 {
			return fmt.Errorf("%s: the envelope %+v", awsLambdaGo, parsed)
		}
		for _, e := range parsed.LogEvents {
			read = append(read, logEvent{e.ID, e.Timestamp, e.Message})
		}
	}
	for _, line := range c.events {
		var e logEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		expected = append(expected, e)
	}
	c.events = nil
	if c.events, err = encode(expected); err != nil {
		return err
	}
	got, err := encode(read)
	if err != nil {
		return err
	}
	return c.compare(awsLambdaGo, "", got)
}

func encode[T any](values []T) (lines [][]byte, err error) {
	for _, v := range values {
		line, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// gzip reads each record, and all records concatenated as Firehose writes them into one object.
func (c *testCase) gzip() error {
	const reader = "Go compress/gzip"
	var each []byte
	for _, data := range c.records {
		plain, err := gunzip(data)
		if err != nil {
			return err
		}
		each = append(each, plain...)
	}
	concatenated, err := gunzip(bytes.Join(c.records, nil))
	if err != nil {
		return err
	}
	for _, read := range []struct {
		how  string
		data []byte
	}{{"", each}, {"concatenated", concatenated}} {
		got, err := values(read.data)
		if err == nil {
			err = c.compare(reader, read.how, got)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// values splits concatenated JSON values.
func values(data []byte) (all [][]byte, err error) {
	for d := json.NewDecoder(bytes.NewReader(data)); ; {
		var value json.RawMessage
		if err := d.Decode(&value); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, value)
	}
}
