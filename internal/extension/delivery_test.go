package extension

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// stored is a stream that takes everything.
type stored struct{}

func (stored) Put(_ context.Context, records []kinesis.Record) kinesis.Result {
	result := kinesis.Result{Outcomes: make([]kinesis.Outcome, len(records)), Requests: 1}
	for i := range result.Outcomes {
		result.Outcomes[i] = kinesis.Sent
	}
	return result
}

func (s stored) Probe(ctx context.Context, records []kinesis.Record) kinesis.Result {
	return s.Put(ctx, records)
}

// subscribed is an extension whose environment has begun, with settings such as DELIVERY=sync.
func subscribed(t *testing.T, settings ...string) *Extension {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	for i := range settings {
		settings[i] = config.Prefix + settings[i]
	}
	cfg, _ := config.Load(settings)
	x := &Extension{config: cfg, log: log, invocations: newInvocations(), subscribed: true}
	x.dispatcher = dispatcher.New(dispatcher.Options{
		Source: record.SourceFields{Function: "f"}, Format: cfg.Format, PartitionKey: cfg.PartitionKey,
		RecordBytes: cfg.RecordBytes, MaxRecordBytes: cfg.MaxRecordBytes, RequestBytes: cfg.RequestBytes(), BufferBytes: cfg.BufferBytes,
		Mode: cfg.Delivery, MaxDelay: cfg.MaxDelay, FlushTimeout: cfg.FlushTimeout, Log: log,
	}, stored{})
	t.Cleanup(x.dispatcher.Close)
	var err error
	if x.listener, err = listener.Listen(x.receive); err != nil {
		t.Fatal(err)
	}
	return x
}

// What is held keeps no more memory than the buffer's bound, also where it is little of what was posted.
func TestLittleOfALargeBody(t *testing.T) {
	x := subscribed(t)
	const small = `{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"a line before the large one"}`
	for range 100 {
		body := []byte(`[` + small + `,{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"` + strings.Repeat("x", 1<<20) + `}]`)
		events, malformed := listener.Split(nil, body)
		x.receive(listener.Batch{Events: events, Malformed: malformed, Bytes: len(body)})
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if held := x.dispatcher.Stats().Held; held != 100 || memory.HeapAlloc > 20<<20 {
		t.Errorf("%d events of %d bytes are held, and %d bytes of heap", held, len(small), memory.HeapAlloc)
	}
}

// Where the end of an invocation is seen too late to ship anything, the next ones are not held back for theirs.
func TestLateEnds(t *testing.T) {
	x := subscribed(t, "DELIVERY=sync", "FLUSH_TIMEOUT=1s")
	event := func(kind, id string, at time.Time) listener.Batch {
		return listener.Batch{Events: []listener.Event{{
			Raw: []byte(`{}`), Type: []byte(kind), Time: []byte(at.UTC().Format("2006-01-02T15:04:05.000Z")), RequestID: []byte(id),
		}}}
	}
	waited, clock := "", time.Now().Add(-5*time.Second) // the platform's, of what it tells of late
	for _, id := range []string{"a", "b", "c", "d"} {
		clock = clock.Add(10 * time.Millisecond)
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			x.invoke(t.Context(), lambdaapi.Event{RequestID: id, Deadline: time.Now().Add(time.Minute)})
		}()
		x.receive(event("platform.start", id, clock))
		select {
		case <-returned:
		case <-time.After(300 * time.Millisecond):
			waited += id
		}
		x.receive(event("platform.runtimeDone", id, clock.Add(time.Millisecond)))
		<-returned
	}
	if waited != "ac" {
		t.Errorf("waited for the ends of %q", waited)
	}
}

// A connection on which nothing comes does not take the time of the last flush.
func TestSilentConnectionAtShutdown(t *testing.T) {
	x := subscribed(t)
	x.receive(listener.Batch{Events: []listener.Event{{Raw: []byte(`{"time":"t","type":"function","record":"x"}`), Type: []byte("function")}}})
	conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", x.listener.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	x.shutdown(t.Context(), lambdaapi.Event{ShutdownReason: "spindown", Deadline: time.Now().Add(1500 * time.Millisecond)})
	if s := x.dispatcher.Stats(); s.Sent != 2 || s.Held > 0 { // the line and the figures
		t.Errorf("%+v", s)
	}
}
