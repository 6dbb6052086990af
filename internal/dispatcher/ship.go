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
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/policy"
)

// flightTimeout bounds one flight, awake. It only ends flights that get nowhere: an invocation that is held back for one
// ends it sooner.
const flightTimeout = 10 * time.Second

// Init lets the background shipper work before the first invocation: init may take minutes, and end in a freeze at any
// moment.
func (d *Dispatcher) Init() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exposure = policy.Exposed
	d.nudge()
}

// Invoke begins an invocation and tells what is to be done about it. What the plan ships in the background is begun.
func (d *Dispatcher) Invoke() policy.Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	plan := d.policy.Invoke(time.Now(), d.held())
	d.exposure = policy.Exposed
	if plan.Hold > 0 {
		d.exposure = policy.Safe
	}
	d.urgent = plan.Ship && plan.Hold == 0
	d.nudge()
	return plan
}

// Expose says that Lambda is asked for the next event now, while the function may still run.
func (d *Dispatcher) Expose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.exposure == policy.Safe {
		d.exposure = policy.Exposed
	}
}

// Suspend lets the background shipper begin nothing new: the function has ended, the environment will soon be frozen.
func (d *Dispatcher) Suspend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exposure = policy.Ending
}

// Resume lets the background shipper work: the environment is not frozen, this one never or this one no more.
func (d *Dispatcher) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exposure = policy.Safe
	d.nudge()
}

// Ended takes note that the end of an invocation was seen, and how long its handler took; 0: that is not known.
func (d *Dispatcher) Ended(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy.End(took)
}

// Awaited takes note of whether an invocation's end that was waited for was seen in time to ship anything.
func (d *Dispatcher) Awaited(inTime bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy.Awaited(inTime)
}

// Missed takes note that an invocation's end was waited for in vain.
func (d *Dispatcher) Missed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy.Missed()
}

// HeldBack takes note of how long an invocation waited for the extension after the function's end.
func (d *Dispatcher) HeldBack(held time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heldBack += held
	d.policy.Held(held)
}

// held says what waits, in the policy's words.
func (d *Dispatcher) held() policy.Held {
	if d.queue.len() == 0 {
		return policy.Held{}
	}
	return policy.Held{Bytes: d.queue.bytes, Oldest: time.UnixMilli(d.queue.front().at)}
}

// Idle waits until nothing is on its way to the stream. When ctx is done before, a flight of the background shipper is
// called off; what it carried is held again, and where its answer was lost it will be a duplicate that is recognisable.
func (d *Dispatcher) Idle(ctx context.Context) {
	select {
	case d.sending <- struct{}{}:
	case <-ctx.Done():
		d.callOff()
		d.sending <- struct{}{} // the flight ends at once now
	}
	<-d.sending
}

// callOff ends a flight of the background shipper.
func (d *Dispatcher) callOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.abort != nil {
		d.abort()
	}
}

// Begin ships what is held now, and what is due then; less when ctx is done or the stream fails. What comes meanwhile has a
// time of its own: a handler that logs on and on would be followed line by line.
func (d *Dispatcher) Begin(ctx context.Context) { d.ship(ctx, besideHandler) }

// Flush ships what is held, until nothing is, or ctx is done, or the stream fails. While a failing stream rests, it
// returns at once.
func (d *Dispatcher) Flush(ctx context.Context) { d.ship(ctx, inInvocation) }

// Drain is Flush for the last time: it also tries a stream that rests.
func (d *Dispatcher) Drain(ctx context.Context) { d.ship(ctx, atTheEnd) }

// occasion is why something is shipped.
type occasion int

const (
	inBackground  occasion = iota // what is due, while the environment runs and the stream does not rest
	besideHandler                 // what is held when it begins, and what is due, while the stream does not rest
	inInvocation                  // everything, while the stream does not rest
	atTheEnd                      // everything, whatever stands against it
)

func (d *Dispatcher) ship(ctx context.Context, why occasion) {
	select {
	case d.sending <- struct{}{}:
		defer func() { <-d.sending }()
	case <-ctx.Done():
		d.callOff() // what hung for so long would hold the next invocation back, too
		return
	}
	left := math.MaxInt // events that go in any case; behind them goes what is due
	if why == inBackground || why == besideHandler {
		left = d.count(why)
	}
	for ctx.Err() == nil && (left > 0 || d.due() == 0) {
		n, probing := d.load(why)
		if n == 0 {
			break
		}
		left -= n
		put := d.stream.Put
		if probing {
			put = d.stream.Probe
		}
		began := time.Now()
		during, span := awake.WithTimeout(ctx, flightTimeout)
		result := put(during, d.records)
		frozen := span.End()
		if !d.settle(&result, policy.Flight{Took: time.Since(began), Frozen: frozen}) {
			break
		}
	}
	forget(d.release())
}

// count tells how many events are to go whether they are due or not.
func (d *Dispatcher) count(why occasion) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why == inBackground && !d.urgent {
		return 0
	}
	return d.queue.len()
}

// load takes events off the queue and packs them. It tells how many; 0 where nothing is to be shipped now; and whether that
// is to be a probe.
func (d *Dispatcher) load(why occasion) (n int, probing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if why != atTheEnd && !d.policy.Ready(now) || why == inBackground && d.exposure == policy.Ending {
		return 0, false
	}
	d.urgent = false
	d.declare()
	if now.After(d.statsAt) && d.queue.len() > 0 {
		d.sayStats()
	}
	// What was refused for what it carries is not to be tried alone: only others can show that it is to blame.
	probing = why != atTheEnd && d.policy.Probing() && !d.refused
	d.packer.Reset()
	cost := 0
	for n < d.queue.len() && d.packer.Add(&d.queue.events[d.queue.head+n].Event) {
		cost += d.queue.events[d.queue.head+n].cost()
		n++
		if probing && cost > d.options.RecordBytes {
			break // about one record tells as much as many
		}
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
	return n, probing
}

// settle writes down how each event of the flight ended; those that are to be sent again go back to the front. It tells
// whether to go on.
func (d *Dispatcher) settle(result *kinesis.Result, flight policy.Flight) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	again := d.flight[:0]
	for i := range d.flight {
		switch r := d.packer.RecordOf(i); result.Outcomes[r] {
		case kinesis.Sent:
			d.account.sent++
			d.ended(&d.flight[i])
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
	flight.Progress, flight.Failed, flight.Faltered = sent > 0, len(again) > 0, result.Faltered
	d.policy.Flown(time.Now(), flight, draw())
	var trouble *kinesis.Error
	d.refused = errors.As(result.Err, &trouble) && trouble.Kind == kinesis.KindInvalid
	d.sayTrouble(result.Err, len(again) > 0)
	d.nudge() // what is back in the queue has a time of its own
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

// sayTrouble says once what is wrong with the stream.
func (d *Dispatcher) sayTrouble(err error, waits bool) {
	if d.failing && err == nil {
		d.options.Log.Info("the stream takes records again")
	}
	d.failing = err != nil
	if kind := kindOf(err); d.failing && !d.said[kind] {
		d.said[kind] = true
		what := "telemetry waits: "
		if !waits {
			what = "telemetry is dropped: "
		}
		d.options.Log.Warn(what+err.Error(), "held", d.queue.len())
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

// draw returns a number from [0, 1). It asks the kernel, since environments that were restored from one snapshot share
// the state of math/rand. https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
func draw() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(binary.NativeEndian.Uint64(b[:])>>11) / (1 << 53)
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
		ctx, cancel := context.WithCancel(background)
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
	if d.urgent && d.policy.Ready(time.Now()) && d.exposure != policy.Ending && d.queue.len() > 0 {
		return 0
	}
	if wait, ever := d.policy.Due(time.Now(), d.held(), d.exposure); ever {
		return wait
	}
	return math.MaxInt64
}

// nudge wakes the background shipper when it may have something to do.
func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
