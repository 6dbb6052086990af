//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Type and reason of the event that reports dropped events. The reason is the text of the guide's sample.
const (
	typeLogsDropped        = "platform.logsDropped"
	telemetryDroppedReason = "Some logs were dropped because the downstream consumer is slower than the logs production rate"
)

// Backoff between attempts to deliver one batch. Lambda retries with backoff (guide, page telemetry-api); AWS does not
// document the times.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
)

// subscriber is one subscription of an extension: a bounded queue, filled by the hub and emptied by a sender goroutine.
type subscriber struct {
	hub         *hub
	name        string
	sub         *subscription
	processDone context.Context //nolint:containedctx // done when the extension's process has exited
	dest        destination
	wake        chan struct{} // capacity 1: makes the sender check the queue

	// Guarded by hub.mu.
	queue          []queued // queue[head:] are the buffered events
	head           int
	bytes          int // of queue[head:]
	droppedRecords int // since the last platform.logsDropped
	droppedBytes   int
	newlyDropped   []event         // dropped in the current emit, not reported yet
	flushWaiters   []chan struct{} // closed when the queue is empty
	shutdownSent   bool            // the extension has been sent SHUTDOWN
	timerSet       bool            // the sender waits for a timer
	inFlight       *batch
	accepted       bool  // the extension has accepted a batch
	lastErr        error // of the last failed attempt, until a batch is accepted
	attempts       int   // failed ones, until a batch is accepted

	callbackMu *sync.Mutex // serializes an extension's calls of OnEvent; never locked together with hub.mu
}

// queued is an event in a queue.
type queued struct {
	event
	at        time.Duration // on the hub's clock
	remainder bool          // the rest of an event that was cut: it is sent at once
	reported  bool          // OnEvent was called
}

// batch is the content of one POST.
type batch struct {
	body     []byte
	events   []event // to be reported to OnEvent and OnAccepted
	reported bool    // OnEvent was called; guarded by hub.mu
}

func newSubscriber(h *hub, name string, sub *subscription, gone context.Context) *subscriber {
	return &subscriber{hub: h, name: name, sub: sub, processDone: gone, wake: make(chan struct{}, 1), callbackMu: &sync.Mutex{}}
}

// objects reports whether this subscriber gets JSON lines as objects: since schema 2022-12-13 of the Telemetry API.
func (s *subscriber) objects() bool { return !s.sub.logs && s.sub.schema != schema20220701 }

// offer appends an event in the subscription's encoding, if the subscription wants it. The caller has locked hub.mu.
func (s *subscriber) offer(c category, f encodings, clock time.Duration) {
	ev := f.text
	switch {
	case !s.sub.wants(c):
		return
	case s.sub.logs:
		ev = f.logs
		if s.sub.schema == schema20200815 && ev.typ == "platform.runtimeDone" {
			return
		}
	case s.objects():
		ev = f.object
	}
	if ev.raw != nil {
		s.enqueue(ev, clock)
	}
}

// enqueue appends ev, or drops it if the queue is full. The caller has locked hub.mu.
func (s *subscriber) enqueue(ev event, clock time.Duration) {
	if s.bytes+len(ev.raw) > s.hub.cfg.Telemetry.QueueBytes && s.head < len(s.queue) {
		s.droppedRecords++
		s.droppedBytes += len(ev.record())
		if s.hub.cfg.OnEvent != nil {
			s.newlyDropped = append(s.newlyDropped, ev)
		}
		return
	}
	if s.head > 0 && len(s.queue) == cap(s.queue) { // move the queue to the front instead of growing it
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.queue = append(s.queue, queued{event: ev, at: clock})
	s.bytes += len(ev.raw)
}

func (s *subscriber) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wakeIfNeeded wakes the sender for the first event, to start its timer, and for a full batch. The caller has locked
// hub.mu.
func (s *subscriber) wakeIfNeeded() {
	if n := len(s.queue) - s.head; n > 0 && s.inFlight == nil && (!s.timerSet || n >= s.sub.items || s.bytes >= s.sub.bytes) {
		s.wakeUp()
	}
}

// nextBatch returns the next batch. If none is ready, it returns nil and the time after which to call it again; a negative
// time means after wake. The caller has locked hub.mu.
func (s *subscriber) nextBatch(now time.Time) (*batch, time.Duration) {
	n := len(s.queue) - s.head
	s.timerSet = false
	if n == 0 {
		for _, done := range s.flushWaiters {
			close(done)
		}
		s.flushWaiters = nil
		return nil, -1
	}
	if s.hub.frozen {
		return nil, -1
	}
	if n < s.sub.items && s.bytes < s.sub.bytes && len(s.flushWaiters) == 0 && !s.queue[s.head].remainder {
		if wait := s.sub.timeout - (s.hub.clock(now) - s.queue[s.head].at); wait > 0 {
			s.timerSet = true
			return nil, wait
		}
	}
	return s.buildBatch(), 0
}

// buildBatch moves events from the queue into a batch until it has maxItems events or maxBytes bytes. It cuts a last event
// that alone exceeds maxBytes.
func (s *subscriber) buildBatch() *batch {
	b := &batch{}
	size, end := 0, s.head
	for end < len(s.queue) && end-s.head < s.sub.items && size < s.sub.bytes {
		size += len(s.queue[end].raw)
		end++
	}
	b.body = make([]byte, 0, size+end-s.head+2)
	for i := s.head; i < end; i++ {
		q := &s.queue[i]
		if !q.remainder && !q.reported {
			b.events = append(b.events, q.event)
		}
		raw := q.raw
		s.bytes -= len(raw)
		if len(raw) > s.sub.bytes && !s.sub.tcp { // the batch's last event, because it fills the batch
			var rest event
			raw, rest = q.cut(s.sub.bytes)
			b.body = s.dest.append(b.body, raw)
			*q = queued{event: rest, at: q.at, remainder: true}
			s.bytes += len(rest.raw)
			s.head = i
			break
		}
		b.body = s.dest.append(b.body, raw)
		*q = queued{}
		s.head = i + 1
	}
	b.body = s.dest.finish(b.body)
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	}
	if s.droppedRecords > 0 && s.sub.wants(categoryPlatform) {
		s.queueLogsDropped()
	}
	s.inFlight = b
	return b
}

// queueLogsDropped queues a platform.logsDropped, even if the queue is full.
func (s *subscriber) queueLogsDropped() {
	at := time.Now().UTC()
	reason := telemetryDroppedReason
	if s.sub.logs {
		reason = logsAPIDroppedReason
	}
	ev := s.hub.arena.platform(at, typeLogsDropped,
		logsDroppedRecord{Reason: reason, DroppedRecords: s.droppedRecords, DroppedBytes: s.droppedBytes})
	s.droppedRecords, s.droppedBytes = 0, 0
	s.queue = append(s.queue, queued{event: ev, at: s.hub.clock(at)})
	s.bytes += len(ev.raw)
}

// run is the sender. It delivers one batch after the other, with one POST in flight, until the process exits or the
// generation ends.
func (s *subscriber) run() {
	ctx, cancel := context.WithCancel(s.hub.ctx)
	defer cancel()
	defer context.AfterFunc(s.processDone, cancel)()
	defer context.AfterFunc(ctx, s.dest.close)() // interrupts a write to a TCP connection
	defer s.dest.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.hub.mu.Lock()
		s.inFlight = nil
		b, wait := s.nextBatch(time.Now())
		s.hub.mu.Unlock()
		if b != nil {
			s.deliver(ctx, b)
			continue
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// deliver sends b until the extension accepts it. It starts no attempt while the environment is frozen.
func (s *subscriber) deliver(ctx context.Context, b *batch) {
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		s.hub.mu.Lock()
		thawed := s.hub.thawed
		s.hub.mu.Unlock()
		select {
		case <-thawed:
		case <-ctx.Done():
			return
		}
		err := s.dest.send(ctx, b.body)
		s.recordAttempt(err)
		if err == nil {
			s.reportBatch(b, true)
			return
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		s.reportBatch(b, false)
	}
}

func (s *subscriber) recordAttempt(err error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	switch {
	case err == nil:
		s.accepted = true
	case !s.accepted && (!s.shutdownSent || s.lastErr == nil): // after SHUTDOWN the extension closes its listener
		s.lastErr = err
		s.attempts++
	}
}

// neverAccepted returns a text about a subscriber that never accepted a batch, with the reason. It returns "" if one was
// accepted or none was sent.
func (s *subscriber) neverAccepted() string {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.accepted || s.lastErr == nil {
		return ""
	}
	text := fmt.Sprintf("extension %s subscribed with %s and never accepted a POST; attempts: %d, last error: %v",
		s.name, s.sub.address(), s.attempts, s.lastErr)
	if errors.Is(s.lastErr, syscall.ECONNREFUSED) {
		text += " (nothing listens there: the listener must be up before the subscription, on " + subscriberHost + " or on all addresses)"
	}
	return text
}

// reportBatch calls OnEvent for the events of b, once, and OnAccepted if they were accepted. After SHUTDOWN, only accepted
// events count.
func (s *subscriber) reportBatch(b *batch, accepted bool) {
	s.hub.mu.Lock()
	count := !b.reported && (accepted || !s.shutdownSent)
	b.reported = b.reported || count
	s.hub.mu.Unlock()
	if count {
		s.report(b.events, s.hub.cfg.OnEvent)
	}
	if accepted {
		s.report(b.events, s.hub.cfg.OnAccepted)
	}
}

func (s *subscriber) report(events []event, onEvent func(string, Event)) {
	if onEvent == nil || len(events) == 0 {
		return
	}
	s.callbackMu.Lock()
	defer s.callbackMu.Unlock()
	for _, ev := range events {
		onEvent(s.name, ev.public())
	}
}

// markShutdownSent records that the extension is sent SHUTDOWN, after a flush. If the flush timed out, it reports the
// events that were not delivered, because the process had the chance to accept them. Later events count when they are
// accepted.
func (s *subscriber) markShutdownSent() {
	s.hub.mu.Lock()
	s.shutdownSent = true
	var events []event
	if len(s.flushWaiters) > 0 { // the flush timed out
		if b := s.inFlight; b != nil && !b.reported {
			b.reported = true
			events = append(events, b.events...)
		}
		for i := s.head; i < len(s.queue); i++ {
			if q := &s.queue[i]; !q.remainder && !q.reported {
				events = append(events, q.event)
				q.reported = true
			}
		}
	}
	s.hub.mu.Unlock()
	s.report(events, s.hub.cfg.OnEvent)
}

// inject posts body beside the events.
func (s *subscriber) inject(body []byte) (int, error) {
	ctx, cancel := context.WithCancel(s.hub.ctx)
	defer cancel()
	defer context.AfterFunc(s.processDone, cancel)()
	return s.dest.inject(ctx, body)
}
