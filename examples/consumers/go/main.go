// Command go is a Lambda function that reads the telemetry stream and writes each event once. It reads every format and
// compression.
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

const generationKeys = 50_000 // keys of events in a generation, about 10 MB

func main() {
	c := consumer{
		// With UNREADABLE=skip a record that cannot be read is only logged; otherwise it is also reported to Lambda. README.md
		// explains when to use it.
		reportUnreadable: os.Getenv("UNREADABLE") != "skip",
		write:            post,
		younger:          map[string]bool{},
		log:              slog.New(slog.NewJSONHandler(os.Stdout, nil)),
	}
	lambda.Start(c.handle)
}

// event is an event's bytes in the stream, and its key.
type event struct {
	key string
	raw []byte
}

// post is the function to replace. It writes all events or returns an error. The sink should ignore an event whose key it
// already has. This one POSTs lines {"key":…,"event":…}.
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
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is reused
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("the sink answered %s", response.Status)
	}
	return nil
}

type consumer struct {
	reportUnreadable bool
	write            func(context.Context, []event) error
	log              *slog.Logger
	// The last keys that were written. When the younger generation is full, it replaces the older one.
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
				break // Lambda retries from this record on
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

// unpack returns the new events of a record, and the reason why others cannot be read. The reason never has content of the
// record, which may be secret.
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

// keyOf returns an event's key, which is the same in each copy. In an envelope of CloudWatch Logs it is the id.
func keyOf(line *record.Line) string {
	if line.Format != record.CloudWatch {
		return fmt.Sprintf("%s/%d", line.Source.Instance, line.Seq)
	}
	var logEvent struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(line.Raw, &logEvent) // valid: Unpack has read it
	return logEvent.ID
}

func (c *consumer) remember(written []event) {
	for _, e := range written {
		c.younger[e.key] = true
	}
	if len(c.younger) >= generationKeys {
		c.older, c.younger = c.younger, map[string]bool{}
	}
}
