package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	mathrand "math/rand/v2"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
)

const (
	// backgroundTimeout bounds one flight of the background shipper. It only ends attempts that hang; an environment that
	// is about to freeze ends them sooner (Idle).
	backgroundTimeout = 10 * time.Second
	// failuresAllowed is how many flights in a row may ship nothing before the stream is left alone for a while, and
	// maxRest how long that while may grow. An invocation pays for a dead stream so often, and no more.
	failuresAllowed = 2
	minRest         = time.Second
	maxRest         = time.Minute
)

// Resume lets the background shipper work: the environment runs.
func (d *Dispatcher) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = true
	d.nudge()
}

// Suspend lets the background shipper begin nothing new: the environment may soon be frozen.
func (d *Dispatcher) Suspend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = false
}

// Idle waits until nothing is on its way to the stream. When ctx is done before, a flight of the background shipper is
// called off; what it carried is held again, and where its answer was lost it will be a duplicate that is recognisable.
func (d *Dispatcher) Idle(ctx context.Context) {
	select {
	case d.sending <- struct{}{}:
	case <-ctx.Done():
		d.mu.Lock()
		if d.abort != nil {
			d.abort()
		}
		d.mu.Unlock()
		d.sending <- struct{}{} // the flight ends at once now
	}
	<-d.sending
}

// Flush ships what is held, until nothing is, or ctx is done, or the stream fails. While a failing stream rests, it
// returns at once.
func (d *Dispatcher) Flush(ctx context.Context) { d.ship(ctx, inInvocation) }

// Drain is Flush for the last time: it also tries a stream that rests.
func (d *Dispatcher) Drain(ctx context.Context) { d.ship(ctx, atTheEnd) }

// occasion is why something is shipped.
type occasion int

const (
	inBackground occasion = iota // only while the environment runs and the stream does not rest
	inInvocation                 // only while the stream does not rest
	atTheEnd                     // whatever stands against it
)

func (d *Dispatcher) ship(ctx context.Context, why occasion) {
	select {
	case d.sending <- struct{}{}:
		defer func() { <-d.sending }()
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil && d.load(why) {
		result := d.stream.Put(ctx, d.records)
		if !d.settle(&result) {
			return
		}
	}
}

// load takes events off the queue and packs them, and tells whether there is something to ship now.
func (d *Dispatcher) load(why occasion) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why != atTheEnd && time.Now().Before(d.retryAt) || why == inBackground && !d.running {
		return false
	}
	d.declare()
	d.packer.Reset()
	n := 0
	for n < d.queue.len() && d.packer.Add(&d.queue.events[d.queue.head+n].Event) {
		n++
	}
	before := d.queue.bytes
	d.flight = append(d.flight, d.queue.events[d.queue.head:d.queue.head+n]...)
	d.queue.pop(n)
	d.flightCost = before - d.queue.bytes

	d.records = d.records[:0]
	for _, packed := range d.packer.Records() {
		key := packed.Key
		if d.options.PartitionKey == ByRandom {
			key = drawKey()
		}
		d.records = append(d.records, kinesis.Record{PartitionKey: key, Data: packed.Data})
	}
	return n > 0
}

// settle writes down how each event of the flight ended; those that are to be sent again go back to the front. It tells
// whether to go on.
func (d *Dispatcher) settle(result *kinesis.Result) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := d.flight[:0]
	for i := range d.flight {
		switch r := d.packer.RecordOf(i); result.Outcomes[r] {
		case kinesis.Sent:
			d.account.sent++
		case kinesis.Rejected:
			d.drop(&d.flight[i], reasonRejected)
		case kinesis.Unsent:
			again = append(again, d.flight[i])
		}
	}
	sent := d.countRecords(result)
	d.queue.unpop(again)
	clear(d.flight) // lets go of the POST bodies
	d.flight, d.flightCost = d.flight[:0], 0
	d.judge(result.Err, sent > 0)
	return len(again) == 0
}

// countRecords adds a flight to the figures and returns how many of its records Kinesis took.
func (d *Dispatcher) countRecords(result *kinesis.Result) (sent int) {
	a := &d.account
	for r, outcome := range result.Outcomes {
		if outcome == kinesis.Sent {
			sent++
			a.bytes += uint64(len(d.records[r].Data) + len(d.records[r].PartitionKey))
		}
	}
	a.records += uint64(sent)
	a.flushes++
	a.requests += uint64(result.Requests)
	a.retried += uint64(result.Retried)
	return sent
}

// judge decides after a flight whether the stream is left alone for a while, and says once what is wrong with it.
func (d *Dispatcher) judge(err error, progress bool) {
	if err == nil || progress {
		if d.failing && err == nil {
			d.options.Log.Info("the stream takes records again")
		}
		d.failures, d.retryAt = 0, time.Time{}
	} else if d.failures++; d.failures >= failuresAllowed {
		rest := min(minRest<<min(d.failures-failuresAllowed, 10), maxRest)
		rest = rest/2 + mathrand.N(rest/2) // thousands of environments shall not come back at the same moment
		d.retryAt = time.Now().Add(rest)
	}
	d.failing = err != nil
	if kind := kindOf(err); d.failing && !d.said[kind] {
		d.said[kind] = true
		d.options.Log.Warn("telemetry waits: "+err.Error(), "held", d.queue.len())
	}
}

// kindOf names the sort of trouble: one line is written for each, however often it comes and its text differs.
func kindOf(err error) string {
	var trouble *kinesis.Error
	if errors.As(err, &trouble) {
		return trouble.Kind.String()
	}
	return "unknown"
}

// drawKey returns a random partition key of the length of randomKey.
func drawKey() string {
	var key [len(randomKey) / 2]byte
	_, _ = rand.Read(key[:])
	return hex.EncodeToString(key[:])
}

// shipInBackground ships while the environment runs: when a record is full, or an event's MaxDelay is near.
func (d *Dispatcher) shipInBackground(background context.Context) {
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		wait := d.due()
		timer.Reset(wait)
		select {
		case <-background.Done():
			return
		case <-d.wake:
			continue
		case <-timer.C:
		}
		if d.due() > 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(background, backgroundTimeout)
		d.mu.Lock()
		d.abort = cancel
		d.mu.Unlock()
		d.ship(ctx, inBackground)
		d.mu.Lock()
		d.abort = nil
		d.mu.Unlock()
		cancel()
	}
}

// due tells how long from now the background shipper has something to do.
func (d *Dispatcher) due() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running || d.queue.len() == 0 {
		return math.MaxInt64
	}
	wait := time.Duration(0)
	if d.queue.bytes < d.options.RecordBytes {
		wait = d.queue.front().at + d.options.MaxDelay*3/4 - time.Since(d.began) // a quarter is left for the way
	}
	return max(wait, time.Until(d.retryAt), 0)
}

// nudge wakes the background shipper when it may have something to do.
func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
