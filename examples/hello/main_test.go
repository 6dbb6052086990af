package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// The function prints the lines that its event requests, and runs for the requested time.
func TestHandlePrintsRequestedLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "id"})
		start := time.Now()
		_, err := function{out: &out}.handle(ctx, request{Text: 3, JSON: 1, Bytes: 100, Duration: "40ms", Error: "no!"})
		if err == nil || err.Error() != "no!" {
			t.Errorf("error %v, want no!", err)
		}
		if took := time.Since(start); took != 40*time.Millisecond {
			t.Errorf("took %v, want 40ms", took)
		}
		answer, err := function{out: &out}.handle(ctx, request{})
		if answer.RequestID != "id" || answer.Lines != 0 || err != nil {
			t.Errorf("empty event: %+v, %v", answer, err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		var parsed []map[string]any
		for _, line := range lines {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil {
				parsed = append(parsed, fields)
			} else if len(line) != 100 {
				t.Errorf("text line of %d bytes, want 100", len(line))
			}
		}
		if len(lines) != 4 || len(parsed) != 1 || parsed[0]["requestId"] != "id" || len(parsed[0]["message"].(string)) != 100 {
			t.Errorf("printed:\n%s", out.String())
		}
	})
}

// The function rejects an invalid event and prints nothing.
func TestHandleRejectsInvalidEvents(t *testing.T) {
	for _, r := range []request{
		{Text: -1},
		{JSON: maxLines + 1},
		{Bytes: maxBytes + 1},
		{Duration: "soon"},
		{Duration: "-1s"},
	} {
		var out bytes.Buffer
		if _, err := (function{out: &out}).handle(t.Context(), r); err == nil || out.Len() > 0 {
			t.Errorf("%+v: error %v, printed %q", r, err, out.String())
		}
	}
}
