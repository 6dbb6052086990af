package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"time"

	"kinesis-telemetry-extension/internal/awake"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// Note takes facts into account, all at once: nothing is decided between two of them.
func (d *Dispatcher) Note(facts ...flush.Fact) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteLocked(facts...)
}

func (d *Dispatcher) noteLocked(facts ...flush.Fact) {
	for _, fact := range facts {
		d.policy.Note(time.Now(), d.bufferedLocked(), fact)
	}
	close(d.noted)
	d.noted = make(chan struct{})
	d.nudge()
}

// bufferedLocked says what waits, in the policy's words. A loss that is not declared yet waits, too.
func (d *Dispatcher) bufferedLocked() flush.Buffered {
	switch {
	case d.queue.len() > 0:
		return flush.Buffered{Bytes: d.queue.bytes, Oldest: time.UnixMilli(d.queue.front().at)}
	case len(d.account.undeclared) > 0:
		return flush.Buffered{Bytes: eventOverhead, Oldest: time.Now()}
	}
	return flush.Buffered{}
}

// AwaitEnd waits for the end of the invocation that was noted last, for as long as the policy wants, which may be not at
// all, and until ctx is done. It tells whether the end was seen and everything is to be shipped now.
func (d *Dispatcher) AwaitEnd(ctx context.Context) (seen bool) {
	for {
		d.mu.Lock()
		until, seen := d.policy.Await(time.Now())
		noted := d.noted
		d.mu.Unlock()
		if until.IsZero() {
			return seen
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-noted:
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
		timer.Stop()
	}
}

// Ship ships what the occasion is for, until nothing of it is left, or the stream fails or rests, or its time or ctx is over. Behind
// it nothing is in flight. What is called off is buffered again, and where its answer was lost it will be a duplicate that
// is recognisable.
func (d *Dispatcher) Ship(ctx context.Context, why flush.Occasion) {
	d.mu.Lock()
	until, patience := d.policy.Bounds(time.Now(), why)
	d.mu.Unlock()
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	d.acquire(ctx, patience)
	defer func() { <-d.sending }()
	for ctx.Err() == nil && d.fly(ctx, why) {
	}
	forget(d.release())
}

// acquire gets the right to ship. A flight of the background that has it for longer than patience (0: for as long as ctx
// allows) is called off, and ends at once then.
func (d *Dispatcher) acquire(ctx context.Context, patience time.Duration) {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	select {
	case d.sending <- struct{}{}:
		return
	case <-ctx.Done():
	}
	d.mu.Lock()
	d.abort()
	d.mu.Unlock()
	d.sending <- struct{}{}
}

// fly sends one batch. It tells whether to go on.
func (d *Dispatcher) fly(ctx context.Context, why flush.Occasion) (more bool) {
	probe, ok := d.load(why)
	if !ok {
		return false
	}
	put := d.stream.Put
	if probe {
		put = d.stream.Probe
	}
	began := time.Now()
	during, span := awake.WithTimeout(ctx, flush.FlightTimeout)
	result := put(during, d.records)
	inTime := during.Err() == nil || ctx.Err() != nil
	flight := flush.Flight{Frozen: span.End(), CalledOff: why == flush.Background && ctx.Err() != nil, Random: d.options.Random()}
	flight.Took = time.Since(began)
	var trouble *kinesis.Error
	if errors.As(result.Err, &trouble) {
		flight.Invalid = trouble.Kind == kinesis.KindInvalid
	}
	flight.Silent = inTime && !trouble.Answered()
	more, log := d.settle(&result, flight)
	log()
	return more
}

// load takes events off the queue and packs them, where the policy wants something shipped, and tells whether that is to be
// a probe.
func (d *Dispatcher) load(why flush.Occasion) (probe, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	load, ok := d.policy.Take(now, d.bufferedLocked(), why)
	if !ok {
		return false, false
	}
	d.queue.unpop(d.flight) // none, unless a flight ended in a panic
	d.declareLocked()
	if now.After(d.statsAt) {
		d.sayStatsLocked()
	}
	d.packer.Reset()
	n, cost := 0, 0
	for n < d.queue.len() && d.packer.Add(&d.queue.events[d.queue.head+n].Event) {
		cost += d.queue.events[d.queue.head+n].cost()
		n++
		if load.Bytes > 0 && cost > load.Bytes {
			break
		}
	}
	d.flight = append(d.flight[:0], d.queue.events[d.queue.head:d.queue.head+n]...)
	d.flightCost = cost
	d.queue.pop(n)

	d.records = d.records[:0]
	for _, packed := range d.packer.Records() {
		key := packed.Key
		if d.options.PartitionKey == ByRandom {
			key = drawKey()
		}
		d.records = append(d.records, kinesis.Record{PartitionKey: key, Data: packed.Data})
	}
	return load.Probe, true
}

// settle writes down how each event of the flight ended; those that are to be sent again go back to the front. It tells
// whether to go on, and returns what is to be logged: not under the lock, since a log line may block.
func (d *Dispatcher) settle(result *kinesis.Result, flight flush.Flight) (more bool, log func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := d.flight[:0]
	for i := range d.flight {
		switch r := d.packer.RecordOf(i); result.Outcomes[r] {
		case kinesis.Sent:
			d.account.Sent++
			d.endedLocked(&d.flight[i])
		case kinesis.Rejected:
			d.dropLocked(&d.flight[i], reasonRejected)
		case kinesis.Unsent:
			again = append(again, d.flight[i])
		}
	}
	flight.Bytes, flight.Progress = d.flightCost, d.countRecordsLocked(result) > 0
	flight.Failed, flight.Partial = len(again) > 0, result.Faltered
	d.queue.unpop(again)
	clear(d.flight) // lets go of the POST bodies
	d.flight, d.flightCost = d.flight[:0], 0
	d.noteLocked(flight)
	return !flight.Failed, d.troubleLocked(result.Err, flight.Failed)
}

// countRecordsLocked adds a flight to the figures and returns how many of its records Kinesis took.
func (d *Dispatcher) countRecordsLocked(result *kinesis.Result) (sent int) {
	a := &d.account
	for r, outcome := range result.Outcomes {
		if outcome == kinesis.Sent {
			sent++
			a.Bytes += uint64(len(d.records[r].Data) + len(d.records[r].PartitionKey))
		}
	}
	a.Records += uint64(sent)
	a.Flushes++
	a.Requests += uint64(result.Requests)
	a.Retried += uint64(result.Retried)
	return sent
}

// troubleLocked returns what logs the trouble with the stream: one line for each kind, however often it comes and its text
// differs.
func (d *Dispatcher) troubleLocked(err error, waits bool) (log func()) {
	recovered := d.failing && err == nil
	d.failing = err != nil
	kind, held := "unknown", d.queue.len()
	var trouble *kinesis.Error
	if errors.As(err, &trouble) {
		kind = trouble.Kind.String()
	}
	switch {
	case recovered:
		return func() { d.options.Log.Info("the stream takes records again") }
	case err == nil || d.said[kind]:
		return func() {}
	}
	d.said[kind] = true
	what := "telemetry is buffered, it cannot be delivered: "
	if !waits {
		what = "telemetry is dropped: "
	}
	return func() { d.options.Log.Warn(what+err.Error(), "held", held) }
}

// drawKey returns a random partition key of the length of randomKey.
func drawKey() string {
	var key [len(randomKey) / 2]byte
	_, _ = rand.Read(key[:])
	return hex.EncodeToString(key[:])
}

func draw() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.NativeEndian.Uint64(b[:])>>11) / (1 << 53)
}

// shipInBackground ships what is due, when it is.
func (d *Dispatcher) shipInBackground(background context.Context) {
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		ctx, cancel := context.WithCancel(background)
		d.mu.Lock()
		wait, ever := d.policy.Next(time.Now(), d.bufferedLocked())
		d.abort = cancel
		d.mu.Unlock()
		if !ever {
			wait = math.MaxInt64
		}
		timer.Reset(wait)
		select {
		case <-background.Done():
		case <-d.wake:
		case <-timer.C:
			d.Ship(ctx, flush.Background)
		}
		cancel()
		if background.Err() != nil {
			return
		}
	}
}

// nudge wakes the background shipper when it may have something to do.
func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
