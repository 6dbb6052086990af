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

// readPayloads reads the events of a file; "-" is standard input. Every error is a usage error.
func readPayloads(name string, stdin io.Reader) ([]json.RawMessage, error) {
	data, name, err := readInput(name, stdin)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--events: %v", err))
	}
	payloads, err := parsePayloads(data)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--events: %s: %v", name, err),
			"a file of events is a JSON array, or one JSON value per line")
	}
	return payloads, nil
}

// readEvent parses an event from JSON, or from a file that is named after an @; @- is standard input.
func readEvent(text string, stdin io.Reader) ([]byte, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if !isFile {
		if !json.Valid([]byte(text)) {
			return nil, usageError(fmt.Sprintf("--event is not JSON: %s", fit(printable(text), 40)),
				`quote a JSON string: --event '"hello"'; name a file after an @: --event @event.json`)
		}
		return []byte(text), nil
	}
	values, name, err := readValues(name, stdin)
	if err != nil {
		return nil, usageError(fmt.Sprintf("--event: %v", err))
	}
	if len(values) != 1 {
		return nil, usageError(fmt.Sprintf("--event: %s has %d JSON values, not one", name, len(values)), "--events FILE accepts several")
	}
	if len(values[0]) > maxPayload {
		return nil, usageError(fmt.Sprintf("--event: %s has %d bytes; Lambda accepts %d", name, len(values[0]), maxPayload))
	}
	return values[0], nil
}

// readValues reads the JSON values of a file; "-" is standard input. It also returns the name to show.
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

// parsePayloads splits data into events: the elements of one JSON array, or a sequence of JSON values.
// An error contains the line.
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
		return nil, errors.New("it contains no event")
	}
	for i, value := range values {
		if len(value) > maxPayload {
			return nil, fmt.Errorf("event %d has %d bytes; Lambda accepts %d", i+1, len(value), maxPayload)
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

// lineOfError returns the number, from 1, of the line in which data stops being JSON.
func lineOfError(data []byte, err error) int {
	offset := len(bytes.TrimRight(data, " \t\r\n")) // io.ErrUnexpectedEOF: where the data ends
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = min(int(syntax.Offset), len(data))
		if offset > 0 && data[offset-1] == '\n' { // the line ends too early: the error is in it, not in the next one
			offset--
		}
	}
	return 1 + bytes.Count(data[:offset], []byte{'\n'})
}
