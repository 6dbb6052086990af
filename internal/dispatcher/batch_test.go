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

// seqs returns the seqs of each batch, in order.
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

// receiveFor receives a log of each request.
func receiveFor(d *Dispatcher, requests ...string) {
	for _, request := range requests {
		e := logEvent(1, 10)
		e.RequestID = request
		d.Receive([]Event{e}, time.Time{}, false)
	}
}

// After a failed flight a batch is open again, unless its key has a newer batch: order is kept.
func TestBatchIsOpenAgainAfterAFailedFlight(t *testing.T) {
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

// maxOpen partition keys have an open batch. With one more, the least recently used batch is closed.
func TestLeastRecentlyUsedBatchIsClosed(t *testing.T) {
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

// A batch of the format json has no more events than a request may have records.
func TestJSONBatchFitsIntoARequest(t *testing.T) {
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

// The class of a line follows its type, even if the type has escapes.
func TestClassFollowsTheType(t *testing.T) {
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
