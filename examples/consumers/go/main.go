// Command go is a Lambda function that reads the telemetry stream and hands each event on once. It reads every format and compression.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"kinesis-telemetry-extension/record"
)

const remembered = 50_000 // keys of events in a generation, about 10 MB

func main() {
	c := consumer{
		// UNREADABLE=skip only logs a record that cannot be read; otherwise Lambda is told of it, too. README.md says which to take.
		reportUnreadable: os.Getenv("UNREADABLE") != "skip",
		write:            post,
		younger:          map[string]bool{},
		log:              slog.New(slog.NewJSONHandler(os.Stdout, nil)),
	}
	lambda.Start(c.handle)
}

// event is what is handed on: the bytes that are in the stream, and their key.
type event struct {
	key string
	raw []byte
}

// post is what you replace. It writes all events, or returns an error. Each has a key: write so that a key that is written again changes
// nothing. This one POSTs lines {"key":…,"event":…}.
func post(ctx context.Context, list []event) error {
	var body bytes.Buffer
	for _, e := range list {
		fmt.Fprintf(&body, `{"key":%q,"event":%s}`+"\n", e.key, e.raw)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("SINK_URL"), &body)
	if err != nil {
		return errors.New("SINK_URL is not a URL")
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return errors.Unwrap(err) // without the URL, which may have a token
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("the sink answered %s", response.Status)
	}
	return nil
}

type consumer struct {
	reportUnreadable bool
	write            func(context.Context, []event) error
	log              *slog.Logger
	// The keys that were written last. The older generation is forgotten when the younger is full.
	younger, older map[string]bool
}

func (c *consumer) handle(ctx context.Context, batch events.KinesisEvent) (answer events.KinesisEventResponse, _ error) {
	answer.BatchItemFailures = []events.KinesisBatchItemFailure{}
	for _, r := range batch.Records {
		failure := events.KinesisBatchItemFailure{ItemIdentifier: r.Kinesis.SequenceNumber}
		fresh, unreadable := c.unpack(r.Kinesis.Data)
		if len(fresh) > 0 {
			if err := c.write(ctx, fresh); err != nil {
				c.log.Error("not written", "eventID", r.EventID, "reason", err.Error())
				answer.BatchItemFailures = append(answer.BatchItemFailures, failure)
				break // Lambda sends this record and all behind it again
			}
			c.remember(fresh)
		}
		if unreadable != "" {
			c.log.Error("not readable", "eventID", r.EventID, "reason", unreadable) // an eventID is shard:sequence-number
			if c.reportUnreadable {
				answer.BatchItemFailures = append(answer.BatchItemFailures, failure)
			}
		}
	}
	return answer, nil
}

// unpack returns the events of a record that are new, and why others cannot be read: never with words of the record, which may be secret.
func (c *consumer) unpack(data []byte) (fresh []event, unreadable string) {
	here := map[string]bool{}
	for line, err := range record.Unpack(data) {
		switch key := keyOf(&line); {
		case errors.Is(err, record.ErrForeign):
			unreadable = "not written by the extension"
		case err != nil:
			unreadable = "broken"
		case !here[key] && !c.younger[key] && !c.older[key]:
			here[key] = true
			fresh = append(fresh, event{key, line.Raw})
		}
	}
	return fresh, unreadable
}

// keyOf names an event wherever and however often it arrives. In an envelope of CloudWatch Logs its id does.
func keyOf(line *record.Line) string {
	if line.Format != record.CloudWatch {
		return fmt.Sprintf("%s/%d", line.Source.Instance, line.Seq)
	}
	var logEvent struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(line.Raw, &logEvent) // Unpack has read it
	return logEvent.ID
}

func (c *consumer) remember(written []event) {
	for _, e := range written {
		c.younger[e.key] = true
	}
	if len(c.younger) >= remembered {
		c.older, c.younger = c.younger, map[string]bool{}
	}
}
