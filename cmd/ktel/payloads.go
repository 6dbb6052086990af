//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxPayload is Lambda's limit for the event of a synchronous invocation:
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxPayload = 6 << 20

// readPayloads reads the events of a file; "-" is standard input. All that is wrong with them is wrong usage.
func readPayloads(name string, stdin io.Reader) ([]json.RawMessage, error) {
	data, name, err := readInput(name, stdin)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--events: %v", err))
	}
	payloads, err := parsePayloads(data)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--events: %s: %v", name, err),
			"a file of events is a JSON array, or one JSON value a line")
	}
	return payloads, nil
}

// readEvent takes an event as JSON, or behind an @ the name of a file with one; @- is standard input.
func readEvent(text string, stdin io.Reader) ([]byte, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		if !json.Valid([]byte(text)) {
			return nil, usageError(fmt.Sprintf("--event is not JSON: %s", fit(printable(text), 40)),
				`a JSON text has its own quotes: --event '"hello"'; a file has an @: --event @event.json`)
		}
		return []byte(text), nil
	}
	values, name, err := readValues(name, stdin)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--event: %v", err))
	}
	if len(values) != 1 {
		return nil, usageError(fmt.Sprintf("--event: %s has %d JSON values, not one", name, len(values)), "--events FILE takes several")
	}
	if len(values[0]) > maxPayload {
		return nil, usageError(fmt.Sprintf("--event: %s has %d bytes; Lambda takes %d", name, len(values[0]), maxPayload))
	}
	return values[0], nil
}

// readValues reads the JSON values of a file; "-" is standard input. It returns the name for people, too.
func readValues(name string, stdin io.Reader) ([]json.RawMessage, string, error) {
	data, name, err := readInput(name, stdin)
	if err != nil {
		return nil, name, err
	}
	values, err := parseValues(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return values, name, err
}

func readInput(name string, stdin io.Reader) (data []byte, shown string, err error) {
	if name == "-" {
		data, err = io.ReadAll(stdin)
		return data, "standard input", err
	}
	data, err = os.ReadFile(name)
	return data, name, err
}

// parsePayloads splits data into events: the elements of one JSON array, or a sequence of JSON values. An error names
// the line.
func parsePayloads(data []byte) ([]json.RawMessage, error) {
	values, err := parseValues(data)
	if err != nil {
		return nil, err
	}
	if len(values) == 1 && values[0][0] == '[' {
		var elements []json.RawMessage
		if err := json.Unmarshal(values[0], &elements); err != nil {
			return nil, fmt.Errorf("read the array: %w", err)
		}
		values = elements
	}
	if len(values) == 0 {
		return nil, errors.New("there is no event in it")
	}
	for i, value := range values {
		if len(value) > maxPayload {
			return nil, fmt.Errorf("event %d has %d bytes; Lambda takes %d", i+1, len(value), maxPayload)
		}
	}
	return values, nil
}

func parseValues(data []byte) ([]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var values []json.RawMessage
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", lineOfError(data, err), err)
		}
		values = append(values, value)
	}
}

// lineOfError is the line, from 1, in which data stopped being JSON.
func lineOfError(data []byte, err error) int {
	offset := len(bytes.TrimRight(data, " \t\r\n")) // io.ErrUnexpectedEOF: where the data ends
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = min(int(syntax.Offset), len(data))
		if offset > 0 && data[offset-1] == '\n' { // a line that ends too early: the fault is there, not after it
			offset--
		}
	}
	return 1 + bytes.Count(data[:offset], []byte{'\n'})
}
