package extension

import (
	"bytes"
	"context"
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// fakeClient is a Kinesis Client that calls a function for Put and Probe.
type fakeClient func(ctx context.Context, records []kinesis.Record) kinesis.Result

func (s fakeClient) Put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

func (s fakeClient) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s(ctx, records)
}

// acceptAll stores every record.
func acceptAll(_ context.Context, records []kinesis.Record) kinesis.Result {
	return kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{kinesis.Sent}, len(records)), Requests: 1}
}

// acceptAfter stores every record after a round trip.
func acceptAfter(roundTrip time.Duration) fakeClient {
	return func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		select {
		case <-time.After(roundTrip):
			return acceptAll(ctx, records)
		case <-ctx.Done():
			return neverAnswer(ctx, records)
		}
	}
}

// neverAnswer blocks until ctx is done, and stores nothing.
func neverAnswer(ctx context.Context, records []kinesis.Record) kinesis.Result {
	<-ctx.Done()
	return kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1, Err: ctx.Err()}
}

// recorder stores every record and keeps its lines.
type recorder struct{ lines []record.Line }

func (s *recorder) put(ctx context.Context, records []kinesis.Record) kinesis.Result {
	for _, r := range records {
		for line := range record.Unpack(bytes.Join(r.Data, nil)) {
			s.lines = append(s.lines, line)
		}
	}
	return acceptAll(ctx, records)
}

// types returns the types of the lines, in order.
func (s *recorder) types() (types []string) {
	for _, line := range s.lines {
		types = append(types, line.Type)
	}
	return types
}
