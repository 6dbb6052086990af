package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// seqs returns what each batch holds, in their order.
func (d *Dispatcher) seqs() (all [][]uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for b := range d.list.all() {
		var seqs []uint64
		for line := range d.eachLine(b) {
			seqs = append(seqs, seqOf(line, b.source))
		}
		all = append(all, seqs)
	}
	return all
}

func receiveFor(d *Dispatcher, requests ...string) {
	for _, request := range requests {
		e := logEvent(1, 10)
		e.RequestID = request
		d.Receive([]Event{e}, time.Time{}, false)
	}
}

// A batch that comes back is filled on, unless its key has a newer one: order is kept.
func TestFilledOnAfterAFlight(t *testing.T) {
	o := options()
	o.PartitionKey = ByRequest
	stream := &fakeStream{}
	d := New(o, stream)
	defer d.Close(false)
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		receiveFor(d, "a")
		return answerAll(kinesis.Unsent, errors.New("no answer"))(ctx, records)
	})
	receiveFor(d, "a", "b")
	d.sendFlight(t.Context(), flush.AtShutdown)
	receiveFor(d, "a", "b")
	if got, want := fmt.Sprint(d.seqs()), "[[0] [1 4] [2 3]]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// As many keys as may be open are filled on, and the one that was not used for the longest time is not.
func TestOpenBatches(t *testing.T) {
	for _, keys := range []int{maxOpen, maxOpen + 1} {
		o := options()
		o.PartitionKey, o.Flush.BufferBytes = ByRequest, 1<<20
		d := New(o, discardStream{})
		var requests []string
		for n := range keys {
			requests = append(requests, fmt.Sprint(n))
		}
		receiveFor(d, requests...)
		receiveFor(d, requests[1], requests[0])
		all := d.seqs()
		if first := slices.Equal(all[0], []uint64{0, uint64(keys) + 1}); first != (keys == maxOpen) || len(all[1]) != 2 {
			t.Errorf("%d keys: %d", keys, all)
		}
		d.Close(false)
	}
}

// A batch of the format json has no more events than a request has records.
func TestLinesOfABatch(t *testing.T) {
	for format, want := range map[record.Format][]int{record.NDJSON: {501}, record.JSON: {500, 1}} {
		o := options()
		o.Format, o.Flush.RecordBytes, o.Flush.BufferBytes = format, 1<<20, 16<<20
		d := New(o, discardStream{})
		for range 501 {
			receiveFor(d, "")
		}
		var got []int
		for _, seqs := range d.seqs() {
			got = append(got, len(seqs))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: batches of %d events, want %d", format, got, want)
		}
		d.Close(false)
	}
}

// A type that is written with escapes is the type all the same.
func TestTypesOfLines(t *testing.T) {
	for line, want := range map[string]Class{
		`{"time":"t","type":"platform.report","record":{}}`:        Platform,
		`{"time":"t","type":"\u0070latform.report","record":{}}`:   Platform,
		`{"time":"t","type":"platform\u002ereport","record":{}}`:   Platform,
		`{"type":"platform.report","time":"t","record":{}}`:        Platform,
		`{"time":"t","type":"kinesis-telemetry.stats"}`:            diagnostic,
		`{"time":"t","type":"function","record":"platform.start"}`: Log,
		`{"time":"t`: Log,
	} {
		if got := classOf([]byte(line)); got != want {
			t.Errorf("%s: class %v, want %v", line, got, want)
		}
	}
}
