package kinesislocal_test

import (
	"fmt"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// A server that throttles one record in ten, and that stores the third PutRecords but loses its reply.
func ExampleStart() {
	s, err := kinesislocal.Start(kinesislocal.Options{
		Credentials: map[string]string{"AKIDEXAMPLE": "secret"},
		OnRecord:    func(stream string, r kinesislocal.Record) { fmt.Printf("%s/%s: %s\n", stream, r.ShardID, r.Data) },
		Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{
			{From: 2, Count: 1, StoreThenReset: true},
			{RecordError: &kinesislocal.RecordError{Probability: 0.1}},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	if err := s.CreateStream("telemetry", 2); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(s.URL()) > 0, len(s.Records("telemetry")))
	// Output: true 0
}
