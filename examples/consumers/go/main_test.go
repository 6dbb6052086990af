package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// The number of keys in memory is bounded, and they cover at least the last generation.
func TestRemembersWithinBounds(t *testing.T) {
	written := 0
	c := consumer{
		younger: map[string]bool{}, log: slog.New(slog.DiscardHandler),
		write: func(_ context.Context, list []event) error { written += len(list); return nil },
	}
	handle := func(seq int) {
		batch := events.KinesisEvent{Records: make([]events.KinesisEventRecord, 1)}
		batch.Records[0].Kinesis.Data = fmt.Appendf(nil, `{"time":"","type":"","record":"","seq":%d,"source":{"instance":"i"}}`, seq)
		if answer, err := c.handle(t.Context(), batch); err != nil || len(answer.BatchItemFailures) > 0 {
			t.Fatal(answer, err)
		}
	}
	const events = 5*generationKeys/2 + 1
	for seq := range events {
		handle(seq)
	}
	if kept := len(c.younger) + len(c.older); kept > 2*generationKeys {
		t.Errorf("%d keys in memory, more than two generations", kept)
	}
	for seq := events - generationKeys; seq < events; seq++ {
		handle(seq)
	}
	if written != events {
		t.Errorf("%d events were written, want %d", written, events)
	}
	if handle(0); written != events+1 {
		t.Error("the first event's key is still in memory")
	}
}
