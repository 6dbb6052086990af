package dispatcher

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/awake"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// Note passes facts to the policy in one step: it makes no decision between two of them.
func (d *Dispatcher) Note(facts ...flush.Fact) {
	if len(facts) == 0 {
		return
	}
	d.mu.Lock()
	defer d.unlock()
	for _, fact := range facts {
		if _, invoked := fact.(flush.Invoked); invoked {
			d.checkJournalLocked()
		}
	}
	d.noteLocked(facts...)
}

func (d *Dispatcher) noteLocked(facts ...flush.Fact) {
	for _, fact := range facts {
		d.policy.Note(time.Now(), d.bufferedLocked(), fact)
	}
	close(d.noted)
	d.noted = make(chan struct{})
	d.wakeShipper()
}

// bufferedLocked describes the buffer for the policy. An undeclared loss counts as a byte if the stream accepts records.
func (d *Dispatcher) bufferedLocked() flush.Buffered {
	waiting := d.bytes - d.flightBytes
	if pages := d.pages.count * d.pages.size; pages > d.options.Flush.BufferBytes/4*3 {
		waiting = max(waiting, pages-d.flightBytes) // many partition keys leave pages half empty
	}
	for b := range d.list.all() {
		if !b.inFlight {
			return flush.Buffered{Bytes: waiting, Oldest: time.UnixMilli(b.at)}
		}
	}
	if len(d.account.undeclared) > 0 && d.accepting {
		return flush.Buffered{Bytes: 1, Oldest: time.Now()}
	}
	return flush.Buffered{}
}

// AwaitEnd waits for the end of the current invocation until the policy gives up or ctx is done. The policy may give up
// at once. seen reports whether the end was seen; the caller ships everything then.
func (d *Dispatcher) AwaitEnd(ctx context.Context) (seen bool) {
	for {
		d.mu.Lock()
		until, seen := d.policy.AwaitEnd(time.Now())
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

// Ship ships batches on an occasion. It stops when the occasion has no more batches, the stream fails, a backoff starts,
// or the time is over. No flight is in progress when Ship returns. A batch whose flight was canceled is buffered again.
// If only the answer was lost, the events of the batch arrive twice, under the same numbers.
func (d *Dispatcher) Ship(ctx context.Context, why flush.Occasion) {
	d.mu.Lock()
	until, patience := d.policy.Bounds(time.Now(), why)
	d.mu.Unlock()
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	if why == flush.AtShutdown {
		d.awaitAdopted(ctx)
	}
	d.acquire(ctx, patience)
	defer func() { <-d.sending }()
	for ctx.Err() == nil && d.sendFlight(ctx, why) {
	}
}

// acquire takes the right to ship. It waits at most patience for a background flight to end (0: as long as ctx allows).
// Then it cancels the flight, which ends at once.
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
	d.cancelFlight()
	d.mu.Unlock()
	d.sending <- struct{}{}
}

// sendFlight sends one flight. It reports whether the caller may send another.
func (d *Dispatcher) sendFlight(ctx context.Context, why flush.Occasion) (more bool) {
	probe, ok := d.loadFlight(why)
	if !ok {
		return false
	}
	put := d.stream.Put
	if probe {
		put = d.stream.Probe
	}
	d.encode()
	began := time.Now()
	during, timeout := awake.WithTimeout(ctx, flush.FlightTimeout)
	var result kinesis.Result
	if len(d.encoder.records) > 0 { // else no line of its batches could be read
		result = put(during, d.encoder.records)
	}
	inTime := during.Err() == nil || ctx.Err() != nil
	flight := flush.Flight{Frozen: timeout.Stop(), Canceled: why == flush.Background && ctx.Err() != nil, Random: d.options.Random()}
	flight.Took = time.Since(began)
	var putErr *kinesis.Error
	if errors.As(result.Err, &putErr) {
		flight.Invalid = putErr.Kind == kinesis.KindInvalid
	}
	flight.Unanswered = inTime && !putErr.Answered()
	more, log := d.settle(&result, flight)
	log()
	return more
}

// loadFlight adds batches to the flight if the policy starts one: at most a request, and half of the buffer. probe
// reports whether the flight is a probe.
func (d *Dispatcher) loadFlight(why flush.Occasion) (probe, ok bool) {
	d.mu.Lock()
	defer d.unlock()
	now := time.Now()
	load, ok := d.policy.StartFlight(now, d.bufferedLocked(), why)
	if !ok {
		return false, false
	}
	d.endFlightLocked()     // has an effect only after a panic in a flight
	d.ensureJournalLocked() // before the flight, since it may move pages
	if d.accepting {
		d.declareLocked()
	}
	if now.After(d.statsAt) {
		d.emitStatsLocked()
	}
	if why == flush.AtShutdown && d.policy.LogsLast(d.bufferedLocked()) {
		d.moveLogsLastLocked()
	}
	d.parts = d.parts[:0]
	limit := d.options.RequestBytes
	if load.Bytes > 0 {
		limit = min(limit, load.Bytes)
	}
	size, records, pages := 0, 0, 0
	for b := d.list.next; b != &d.list.batch; b = b.next {
		if b.unread {
			before := b.prev
			d.readLocked(b) // may replace the batch
			b = before
			continue
		}
		n := d.recordsOf(b)
		need := d.recordBytes(b.key, b.lines, b.size) + (n-1)*len(b.key)
		// Logs in flight cannot be dropped. A flight of the whole buffer would leave only platform events to drop.
		full := pages+len(b.pages) > d.options.Flush.BufferBytes/d.pages.size/2
		if len(d.flight) > 0 && (full || size+need > limit || records+n > kinesis.MaxRequestRecords) {
			break
		}
		size += need
		records += n
		pages += len(b.pages)
		d.addToFlightLocked(b)
	}
	d.journalLocked()
	return load.Probe, true
}

// addToFlightLocked adds a batch to the flight.
func (d *Dispatcher) addToFlightLocked(b *batch) {
	b.inFlight, b.reopen = true, slices.Contains(d.open, b)
	d.closeLocked(b)
	d.flight = append(d.flight, b)
	d.flightBytes += b.size
	b.from = len(d.parts)
	for piece := range d.pieces(b) {
		d.parts = append(d.parts, piece)
	}
	b.to = len(d.parts)
}

// recordsOf returns the number of records of a batch.
func (d *Dispatcher) recordsOf(b *batch) int {
	if d.options.Format == record.JSON {
		return b.lines
	}
	return 1
}

// moveLogsLastLocked moves the logs after all other lines. The other lines report what happened, and which events were
// lost.
func (d *Dispatcher) moveLogsLastLocked() {
	words := &d.list.batch
	limit := d.options.Flush.BufferBytes / d.pages.size
	for b := range d.list.all() {
		if d.pages.count > limit+limit/8 {
			break // with many partition keys each copy takes a page
		}
		if b.inFlight || b.unread || b.logs == b.lines {
			continue
		}
		d.closeLocked(b)
		if b.unsealed { // the header counts all lines until the journal has stateLogsOnly
			d.sealLocked(b)
			b.unsealed = false
		}
		if b.logs == 0 {
			d.list.remove(b)
			d.list.insert(b, words)
			words = b
			continue
		}
		before := d.bytes
		d.copyLinesLocked(b, func(need int) *batch {
			if words == &d.list.batch || words.key != b.key || words.source != b.source || !d.fitsLocked(words, need) {
				words = d.addLocked(b.key, b.source, b.logStream, words)
			}
			return words
		}, func(_ int, line []byte) bool { return classOf(line) != Log })
		b.size -= d.bytes - before
		d.bytes = before
		d.events -= b.lines - b.logs
		b.lines, b.logsOnly, b.declares = b.logs, true, false
		d.journal.pending = append(d.journal.pending, pendingState{page: b.pages[0], state: stateLogsOnly})
	}
	d.logsFrom = nil
}

// settle ends each event of the flight by its outcome. Unsent events stay in their place. It reports whether the caller
// may send another flight. log logs the flight's error: the caller calls it without the lock, since a log line may
// block.
func (d *Dispatcher) settle(result *kinesis.Result, flight flush.Flight) (more bool, log func()) {
	d.mu.Lock()
	defer d.unlock()
	flight.Bytes, flight.Progress = d.flightBytes, d.countRecordsLocked(result) > 0
	outcomes := result.Outcomes
	for _, b := range d.flight {
		n := d.recordsOf(b)
		flight.Failed = d.settleBatchLocked(b, outcomes[:n]) || flight.Failed
		outcomes = outcomes[n:]
	}
	d.endFlightLocked()
	flight.Partial = result.AttemptFailed
	d.accepting = flight.Progress || d.accepting && len(result.Outcomes) == 0
	d.noteLocked(flight)
	d.journalLocked()
	if flight.Canceled && flight.Unanswered { // by the extension itself: the stream may be well
		return !flight.Failed, func() {}
	}
	return !flight.Failed, d.logErrorLocked(result.Err, flight.Failed)
}

// settleBatchLocked ends a batch, or the lines of it that were sent or rejected. outcomes has one element for each
// record of the batch. It reports whether lines are left to send.
func (d *Dispatcher) settleBatchLocked(b *batch, outcomes []kinesis.Outcome) (unsent bool) {
	if first := outcomes[0]; !slices.ContainsFunc(outcomes, func(o kinesis.Outcome) bool { return o != first }) {
		switch first {
		case kinesis.Sent:
			d.account.Sent += uint64(b.lines)
			d.removeLocked(b, true)
		case kinesis.Rejected:
			d.dropBatchLocked(b, reasonRejected)
		case kinesis.Unsent:
			return true
		}
		return false
	}
	var rest *batch
	lost := loss{Reason: reasonRejected, Instance: b.source.Instance()}
	d.copyLinesLocked(b, func(int) *batch {
		if rest == nil {
			rest = d.addLocked(b.key, b.source, b.logStream, b)
		}
		return rest
	}, func(n int, line []byte) bool {
		switch outcomes[n] {
		case kinesis.Sent:
			d.account.Sent++
		case kinesis.Rejected:
			lost.add(1, seqOf(line, b.source), seqOf(line, b.source))
			d.redeclareLocked(line)
		case kinesis.Unsent:
			return true
		}
		return false
	})
	d.removeLocked(b, false)
	d.countLossLocked(lost)
	return rest != nil
}

// endFlightLocked ends the flight. Batches that are left are buffered again, and the newest batch of a partition key is
// open again.
func (d *Dispatcher) endFlightLocked() {
	for _, b := range d.flight {
		if b.inFlight = false; b.reopen && len(b.pages) > 0 && b.source == d.source {
			d.reopenLocked(b)
		}
	}
	clear(d.flight)
	d.flight, d.flightBytes, d.logsFrom = d.flight[:0], 0, nil
}

// countRecordsLocked adds a flight to the stats and returns how many of its records Kinesis accepted.
func (d *Dispatcher) countRecordsLocked(result *kinesis.Result) (sent int) {
	a := &d.account
	for r, outcome := range result.Outcomes {
		if outcome == kinesis.Sent {
			sent++
			a.Bytes += uint64(d.encoder.records[r].Size())
		}
	}
	a.Records += uint64(sent)
	a.Flushes++
	a.Requests += uint64(result.Requests)
	a.Retried += uint64(result.Retried)
	return sent
}

// logErrorLocked returns a function that logs a flight's error. Each kind of error is logged once, even if its text
// differs later. If buffered is set, events stay buffered; otherwise, they are dropped.
func (d *Dispatcher) logErrorLocked(err error, buffered bool) (log func()) {
	recovered := d.failing && err == nil
	d.failing = err != nil
	kind, events := "unknown", d.events
	var putErr *kinesis.Error
	if errors.As(err, &putErr) {
		kind = putErr.Kind.String()
	}
	switch {
	case recovered:
		return func() { d.options.Log.Info("the stream accepts records again") }
	case err == nil || d.logged[kind]:
		return func() {}
	}
	d.logged[kind] = true
	message := "telemetry is buffered, cannot be delivered: "
	if !buffered {
		message = "telemetry is dropped: "
	}
	return func() { d.options.Log.Warn(message+err.Error(), "held", events) }
}

// shipInBackground ships full records and late events while the environment runs.
func (d *Dispatcher) shipInBackground(background context.Context) {
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		ctx, cancel := context.WithCancel(background)
		d.mu.Lock()
		now := time.Now()
		wait, ever := d.policy.NextFlight(now, d.bufferedLocked())
		d.nextLook = now.Add(wait).Round(0)
		if !ever {
			wait, d.nextLook = math.MaxInt64, time.Time{}
		}
		d.cancelFlight = cancel
		d.mu.Unlock()
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

// wakeShipper makes the background shipper ask the policy again.
func (d *Dispatcher) wakeShipper() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
