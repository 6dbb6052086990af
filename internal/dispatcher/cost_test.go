package dispatcher

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// loadedDispatcher is a Dispatcher that holds events, and does nothing by itself.
type loadedDispatcher struct {
	*Dispatcher
	posted []Event
	posts  int
}

const perPost = 100

func newLoaded(events int, class Class, key PartitionKey) *loadedDispatcher {
	o := options()
	o.PartitionKey = key
	o.Flush.RecordBytes, o.MaxRecordBytes, o.RequestBytes, o.Flush.BufferBytes = 100_000, 1<<20, 1<<20, 256<<20
	h := &loadedDispatcher{Dispatcher: New(o, discardStream{})}
	h.sending <- struct{}{}
	for n := range perPost {
		e := logEvent(n, 300)
		if class == Platform {
			e.Raw = fmt.Appendf(nil, `{"time":"t","type":"platform.report","record":"%0300d"}`, n)
		}
		e.Class = class
		h.posted = append(h.posted, e)
	}
	for range events / perPost {
		h.post()
	}
	return h
}

func (h *loadedDispatcher) end() {
	<-h.sending
	h.Close(false)
}

// post has four events of each request.
func (h *loadedDispatcher) post() {
	h.posts++
	if h.options.PartitionKey == ByRequest {
		for i := range h.posted {
			h.posted[i].RequestID = fmt.Sprintf("%032d", h.posts*perPost+i/4)
		}
	}
	h.Receive(h.posted, time.Time{}, false)
}

// fly boards the oldest batches, and lands them.
func (h *loadedDispatcher) fly(batches int, outcome kinesis.Outcome) {
	h.mu.Lock()
	h.parts = h.parts[:0]
	for b := h.list.next; b != &h.list.batch && len(h.flight) < batches; b = b.next {
		h.addToFlightLocked(b)
	}
	h.mu.Unlock()
	h.encode()
	h.settle(&kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{outcome}, len(h.encoder.records))}, flush.Flight{})
}

// costCases are what may cost more where more is held. Each turn is about as many events.
var costCases = []struct {
	name  string
	class Class
	key   PartitionKey
	full  bool
	turn  func(*loadedDispatcher)
}{
	{"sent", Log, ByEnvironment, false, func(h *loadedDispatcher) { h.post(); h.post(); h.fly(1, kinesis.Sent) }},
	{"unsent", Log, ByEnvironment, false, func(h *loadedDispatcher) { h.fly(2, kinesis.Unsent) }},
	{"logs overflow", Log, ByEnvironment, true, (*loadedDispatcher).post},
	{"platform events overflow", Platform, ByEnvironment, true, (*loadedDispatcher).post},
	{"sent by request", Log, ByRequest, false, func(h *loadedDispatcher) { h.post(); h.fly(25, kinesis.Sent) }},
	{"unsent by request", Log, ByRequest, false, func(h *loadedDispatcher) { h.fly(25, kinesis.Unsent) }},
	{"logs overflow by request", Log, ByRequest, true, (*loadedDispatcher).post},
	{"platform events overflow by request", Platform, ByRequest, true, (*loadedDispatcher).post},
}

// What an event costs does not depend on how many are held, in a buffer of 256 MiB that is full or not.
func TestCostOfManyBuffered(t *testing.T) {
	if testing.Short() {
		t.Skip("it holds very many events")
	}
	held := 100_000
	if os.Getenv("BUDGETS") != "" {
		held = 500_000
	}
	for _, test := range costCases {
		t.Run(test.name, func(t *testing.T) {
			cost := func(events int) (least time.Duration) {
				h := newLoaded(events, test.class, test.key)
				defer h.end()
				if test.full {
					h.mu.Lock()
					h.options.Flush.BufferBytes = h.pages.count * h.pages.size
					h.mu.Unlock()
				}
				const turns = 50
				for range 20 {
					began := time.Now()
					for range turns {
						test.turn(h)
					}
					if took := time.Since(began) / turns; least == 0 || took < least {
						least = took
					}
				}
				check(t, h.Dispatcher)
				return least
			}
			few, many := cost(500), cost(held)
			t.Logf("%v with 500 events, %v with %d", few, many, held)
			if many > 8*few { // memory that no cache has makes it twice as much; what grows with the number would make it a hundred times
				t.Error("it grows")
			}
		})
	}
}

// A log that joins a batch in front of those that were searched for logs is dropped before an event of the platform's.
func TestLogsInFrontAreFound(t *testing.T) {
	o := options()
	o.PartitionKey = ByRequest
	d := New(o, discardStream{})
	defer d.Close(false)
	receive := func(e Event, request string) {
		e.RequestID = request
		d.Receive([]Event{e}, time.Time{}, false)
	}
	receive(platformEvent(), "a")
	receive(logEvent(1, 10), "b")
	receive(logEvent(2, 10), "c")
	receive(platformEvent(), "d")
	shed := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dropOldestLocked()
	}
	shed()
	shed()
	receive(logEvent(3, 10), "a")
	shed()
	if s := check(t, d); s.Buffered != 2 || s.Dropped != 3 {
		t.Errorf("%+v", s)
	}
	shed()
	receive(logEvent(4, 10), "e")
	shed()
	if s := check(t, d); s.Buffered != 1 || s.Dropped != 5 {
		t.Errorf("%+v", s)
	}
}

func BenchmarkHeld(b *testing.B) {
	for _, test := range costCases {
		for _, events := range []int{500, 500_000} {
			b.Run(fmt.Sprintf("%s/%d", test.name, events), func(b *testing.B) {
				h := newLoaded(events, test.class, test.key)
				defer h.end()
				if test.full {
					h.mu.Lock()
					h.options.Flush.BufferBytes = h.pages.count * h.pages.size
					h.mu.Unlock()
				}
				b.ReportAllocs()
				for b.Loop() {
					test.turn(h)
				}
			})
		}
	}
}

// A record that may be larger than the buffer does not make an overflow drop all that is held.
func TestOverflowOfLargeRecords(t *testing.T) {
	o := options()
	o.Flush.RecordBytes, o.MaxRecordBytes, o.RequestBytes, o.Flush.BufferBytes = 10<<20, 10<<20, 10<<20, 1<<20
	d := New(o, discardStream{})
	defer d.Close(false)
	for range 1 << 20 / 1000 * 3 {
		d.Receive([]Event{logEvent(1, 900)}, time.Time{}, false)
	}
	if s := check(t, d); d.bytes < o.Flush.BufferBytes/2 {
		t.Errorf("%d bytes are held, %+v", d.bytes, s)
	}
}
