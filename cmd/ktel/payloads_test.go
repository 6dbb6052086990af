//go:build unix

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// Events are the elements of an array, or a sequence of values. An error names the line.
func TestParsePayloads(t *testing.T) {
	tests := []struct{ data, want, err string }{
		{data: `{"a":1}`, want: `{"a":1}`},
		{data: "{\n \"a\": 1\n}\n", want: "{\n \"a\": 1\n}"},
		{data: "1\n\n\"x\"\r\nnull\n", want: `1 | "x" | null`},
		{data: "[1, [2],\n{}]\n", want: `1 | [2] | {}`},
		{data: "[1]\n[2]\n", want: `[1] | [2]`},
		{data: "", err: "it contains no event"},
		{data: " [] ", err: "it contains no event"},
		{data: "{}\n{\"a\":}\n{}\n", err: "line 2: invalid character '}'"},
		{data: "{}\n{\"a\": \"b\n\"}\n", err: `line 2: invalid character '\n' in string literal`},
		{data: "[1,\n2,\n", err: "line 2: unexpected EOF"},
		{data: "1\n2\noops\n", err: "line 3: invalid character 'o'"},
	}
	for _, test := range tests {
		payloads, err := parsePayloads([]byte(test.data))
		parts := make([]string, 0, len(payloads))
		for _, payload := range payloads {
			parts = append(parts, string(payload))
		}
		if got := strings.Join(parts, " | "); got != test.want {
			t.Errorf("%q: events %q, want %q", test.data, got, test.want)
		}
		if (err == nil) != (test.err == "") || (err != nil && !strings.HasPrefix(err.Error(), test.err)) {
			t.Errorf("%q: error %v, want %q", test.data, err, test.err)
		}
	}
}

func FuzzParsePayloads(f *testing.F) {
	f.Add([]byte("[1, {}]"))
	f.Add([]byte("{}\n1e400\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		payloads, err := parsePayloads(data)
		if (err == nil) == (len(payloads) == 0) {
			t.Fatalf("%d events and the error %v", len(payloads), err)
		}
		for _, payload := range payloads {
			if !json.Valid(payload) {
				t.Errorf("%q is not JSON", payload)
			}
		}
	})
}
