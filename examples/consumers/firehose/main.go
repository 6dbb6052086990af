// Command firehose is a Lambda function that transforms data for Firehose. It converts each event's record to text, because
// a column of an Iceberg table, or a field of an OpenSearch index, has one type. Without the function, the record is a string in
// one event and an object in another. The other members are unchanged.
//
// Each Firehose record must be one event, as with FORMAT=kpl and FORMAT=json.
package main

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() { lambda.Start(handle) }

func handle(batch events.KinesisFirehoseEvent) (answer events.KinesisFirehoseResponse, _ error) {
	for _, r := range batch.Records {
		row := events.KinesisFirehoseResponseRecord{RecordID: r.RecordID, Result: events.KinesisFirehoseTransformedStateOk}
		var err error
		if row.Data, err = transform(r.Data); err != nil {
			// Firehose writes the record unchanged under ErrorOutputPrefix, and continues.
			row.Result, row.Data = events.KinesisFirehoseTransformedStateProcessingFailed, r.Data
		}
		answer.Records = append(answer.Records, row)
	}
	return answer, nil
}

func transform(data []byte) ([]byte, error) {
	var event map[string]json.RawMessage
	if err := json.Unmarshal(data, &event); err != nil {
		return nil, err
	}
	record, ok := event["record"]
	if !ok || event["source"] == nil {
		return nil, errors.New("not an event of the extension")
	}
	if record[0] != '"' {
		text, err := encode(string(record))
		if err != nil {
			return nil, err
		}
		event["record"] = bytes.TrimSuffix(text, []byte("\n"))
	}
	return encode(event) // with a newline, which separates events in objects on S3
}

func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	e := json.NewEncoder(&buffer)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return buffer.Bytes(), err
}
