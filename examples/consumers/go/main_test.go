package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// What is remembered is bounded, and reaches back over at least one generation.
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
	const events = 5*remembered/2 + 1
	for seq := range events {
		handle(seq)
	}
	if kept := len(c.younger) + len(c.older); kept > 2*remembered {
		t.Errorf("%d keys are remembered, more than two generations", kept)
	}
	for seq := events - remembered; seq < events; seq++ {
		handle(seq)
	}
	if written != events {
		t.Errorf("%d events were written, want %d", written, events)
	}
	if handle(0); written != events+1 {
		t.Error("an event of long ago is still remembered")
	}
}
