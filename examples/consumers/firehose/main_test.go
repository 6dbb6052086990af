package main

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"kinesis-telemetry-extension/record"
)

// Records of real events become strings with their JSON text, and the other members do not change. Data that are not an event
// are returned as failed.
func TestRecordsBecomeText(t *testing.T) {
	data, err := os.ReadFile("../../../record/testdata/vectors/kpl.bin")
	if err != nil {
		t.Fatal(err)
	}
	var batch events.KinesisFirehoseEvent
	for line, err := range record.Unpack(data) { // as Firehose deaggregates it
		if err != nil {
			t.Fatal(err)
		}
		batch.Records = append(batch.Records, events.KinesisFirehoseEventRecord{RecordID: line.Time, Data: line.Raw})
	}
	noEvents := []string{"text", "{", `{"record":"r"}`, `[]`, ""}
	for _, no := range noEvents {
		batch.Records = append(batch.Records, events.KinesisFirehoseEventRecord{RecordID: "no event", Data: []byte(no)})
	}
	answer, err := handle(batch)
	if err != nil || len(answer.Records) != len(batch.Records) {
		t.Fatalf("%d records of %d, %v", len(answer.Records), len(batch.Records), err)
	}
	objects := 0
	for i, got := range answer.Records {
		in := batch.Records[i]
		if got.RecordID != in.RecordID {
			t.Fatalf("record %d is %q, want %q", i, got.RecordID, in.RecordID)
		}
		if in.RecordID == "no event" {
			if got.Result != "ProcessingFailed" || string(got.Data) != string(in.Data) {
				t.Errorf("%q: %s, %q", in.Data, got.Result, got.Data)
			}
			continue
		}
		before, after := members(t, in.Data), members(t, got.Data)
		var text string
		if err := json.Unmarshal(after["record"], &text); err != nil || got.Result != "Ok" {
			t.Fatalf("%s: %s, record %s", in.Data, got.Result, after["record"])
		}
		if before["record"][0] == '{' {
			objects++
			after["record"] = json.RawMessage(text)
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s\nbecame\n%s", in.Data, got.Data)
		}
	}
	if strings := len(batch.Records) - len(noEvents) - objects; objects == 0 || strings == 0 {
		t.Errorf("%d records are objects, %d strings: the test needs both", objects, strings)
	}
}

func members(t *testing.T, data []byte) (all map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}
