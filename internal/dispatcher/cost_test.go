package dispatcher

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// loadedDispatcher is a Dispatcher with many buffered events, whose background ships nothing.
type loadedDispatcher struct {
	*Dispatcher
	posted []Event
	posts  int
}

const perPost = 100 // events

// newLoaded returns a Dispatcher that has received events of a class.
func newLoaded(events int, class Class, key PartitionKey) *loadedDispatcher {
	o := options()
	o.PartitionKey = key
	o.Flush.RecordBytes, o.MaxRecordBytes, o.RequestBytes, o.Flush.BufferBytes = 100_000, 1<<20, 1<<20, 256<<20
	d := &loadedDispatcher{Dispatcher: New(o, discardStream{})}
	d.sending <- struct{}{}
	for n := range perPost {
		e := logEvent(n, 300)
		if class == Platform {
			e.Raw = fmt.Appendf(nil, `{"time":"t","type":"platform.report","record":"%0300d"}`, n)
		}
		e.Class = class
		d.posted = append(d.posted, e)
	}
	for range events / perPost {
		d.post()
	}
	return d
}

func (d *loadedDispatcher) end() {
	<-d.sending
	d.Close(false)
}

// post receives another POST. With the key ByRequest it has four events of each request.
func (d *loadedDispatcher) post() {
	d.posts++
	if d.options.PartitionKey == ByRequest {
		for i := range d.posted {
			d.posted[i].RequestID = fmt.Sprintf("%032d", d.posts*perPost+i/4)
		}
	}
	d.Receive(d.posted, time.Time{}, false)
}

// sendOldest sends the oldest batches and settles them, all with one outcome.
func (d *loadedDispatcher) sendOldest(batches int, outcome kinesis.Outcome) {
	d.mu.Lock()
	d.parts = d.parts[:0]
	for b := d.list.next; b != &d.list.batch && len(d.flight) < batches; b = b.next {
		d.addToFlightLocked(b)
	}
	d.mu.Unlock()
	d.encode()
	d.settle(&kinesis.Result{Outcomes: slices.Repeat([]kinesis.Outcome{outcome}, len(d.encoder.records))}, flush.Flight{})
}

type costCase struct {
	name  string
	class Class
	key   PartitionKey
	full  bool // the buffer
	turn  func(*loadedDispatcher)
}

func (c *costCase) load(events int) *loadedDispatcher {
	d := newLoaded(events, c.class, c.key)
	if c.full {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.options.Flush.BufferBytes = d.pages.count * d.pages.size
	}
	return d
}

// costCases are the operations whose cost might grow with the number of buffered events. A turn of each case has about
// the same number of events.
var costCases = []costCase{
	{"sent", Log, ByEnvironment, false, func(d *loadedDispatcher) { d.post(); d.post(); d.sendOldest(1, kinesis.Sent) }},
	{"unsent", Log, ByEnvironment, false, func(d *loadedDispatcher) { d.sendOldest(2, kinesis.Unsent) }},
	{"logs overflow", Log, ByEnvironment, true, (*loadedDispatcher).post},
	{"platform events overflow", Platform, ByEnvironment, true, (*loadedDispatcher).post},
	{"sent by request", Log, ByRequest, false, func(d *loadedDispatcher) { d.post(); d.sendOldest(25, kinesis.Sent) }},
	{"unsent by request", Log, ByRequest, false, func(d *loadedDispatcher) { d.sendOldest(25, kinesis.Unsent) }},
	{"logs overflow by request", Log, ByRequest, true, (*loadedDispatcher).post},
	{"platform events overflow by request", Platform, ByRequest, true, (*loadedDispatcher).post},
}

// The cost of an event does not depend on the number of buffered events, in a buffer of 256 MiB that is full or not. With
// BUDGETS each turn begins with empty caches, as after a function's handler. Otherwise the buffer of few events stays in
// the CPU's caches, and the one of many costs up to 2.5 times as much.
func TestCostOfManyBuffered(t *testing.T) {
	if testing.Short() {
		t.Skip("it buffers very many events")
	}
	const few, turns, attempts = 500, 60, 4
	many, bound, emptyCaches := 100_000, 8.0, func() {}
	if os.Getenv("BUDGETS") != "" {
		many, bound = 500_000, 1.25
		other := make([]byte, 64<<20)
		order := rand.Perm(len(other) / 64) // the CPU recognises a scan
		emptyCaches = func() {
			for _, line := range order {
				other[line*64]++
			}
		}
	}
	for _, test := range costCases {
		t.Run(test.name, func(t *testing.T) {
			loaded := [...]*loadedDispatcher{test.load(few), test.load(many)}
			defer loaded[0].end()
			defer loaded[1].end()
			for attempt := 1; ; attempt++ { // a retry helps on a noisy machine, not with a slow program
				var took [len(loaded)][]time.Duration
				for range turns {
					for i, d := range loaded {
						emptyCaches()
						began := time.Now()
						test.turn(d)
						took[i] = append(took[i], time.Since(began))
					}
				}
				slices.Sort(took[0])
				slices.Sort(took[1])
				one, other := took[0][turns/4], took[1][turns/4]
				ratio := float64(other) / float64(one)
				t.Logf("%v with %d events, %v with %d: %.2f times of %.2f", one, few, other, many, ratio, bound)
				if ratio <= bound {
					break
				}
				if attempt == attempts {
					t.Fatal("the cost of an event grows with the number of buffered events")
				}
			}
			for _, d := range loaded {
				check(t, d.Dispatcher)
			}
		})
	}
}

// A log that joins a batch before the ones already searched for logs is dropped before a platform event.
func TestLogsInEarlierBatchesAreFound(t *testing.T) {
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

// The cost of an event with few and with many buffered events.
func BenchmarkManyBuffered(b *testing.B) {
	for _, test := range costCases {
		for _, events := range []int{500, 500_000} {
			b.Run(fmt.Sprintf("%s/%d", test.name, events), func(b *testing.B) {
				d := test.load(events)
				defer d.end()
				b.ReportAllocs()
				for b.Loop() {
					test.turn(d)
				}
			})
		}
	}
}

// Even if records may be larger than the buffer, an overflow does not drop the whole buffer.
func TestOverflowOfLargeRecordsKeepsTheRest(t *testing.T) {
	o := options()
	o.Flush.RecordBytes, o.MaxRecordBytes, o.RequestBytes, o.Flush.BufferBytes = 10<<20, 10<<20, 10<<20, 1<<20
	d := New(o, discardStream{})
	defer d.Close(false)
	for range 1 << 20 / 1000 * 3 {
		d.Receive([]Event{logEvent(1, 900)}, time.Time{}, false)
	}
	if s := check(t, d); d.bytes < o.Flush.BufferBytes/2 {
		t.Errorf("%d bytes are buffered, %+v", d.bytes, s)
	}
}
