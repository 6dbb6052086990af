//go:build unix

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// hub delivers the events of one generation to its subscribers. emit encodes an event once in each encoding and appends
// it to the queue of every subscriber that wants it. One lock guards all queues, so all subscribers see the same order.
// A sender per subscriber empties its queue. Until the init phase ends, the hub keeps all events for later subscribers.
type hub struct {
	cfg    *Config
	dial   func(*subscription, *TelemetryFaults) destination
	ctx    context.Context //nolint:containedctx // the lifetime of the senders
	cancel context.CancelFunc
	wg     sync.WaitGroup // the senders

	mu             sync.Mutex // guards the fields below and the subscribers' queues; no code blocks while it is locked
	arena          arena
	lastInvocation int // number of the last invocation that began, -1 before the first
	subs           []*subscriber
	closed         bool
	replay         []replayedEvent // the events of the init phase; nil after the phase
	replayBytes    int             // size of replay
	frozen         bool
	thawed         chan struct{} // closed while not frozen
	frozenAt       time.Time     // start of the current freeze
	frozenTotal    time.Duration // time spent in earlier freezes
}

// encodings has one event in the encoding of each kind of subscriber. The zero event means that this kind does not get it.
type encodings struct {
	text   event // Telemetry API; lines as strings
	object event // Telemetry API since schema 2022-12-13; lines in JSON as objects
	logs   event // Logs API
}

// replayedEvent is an event of the init phase, kept for later subscribers.
type replayedEvent struct {
	category category
	forms    encodings
}

func newHub(cfg *Config) *hub {
	h := &hub{cfg: cfg, dial: newDestination, thawed: make(chan struct{}), replay: []replayedEvent{}, lastInvocation: -1}
	close(h.thawed)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// clock returns the time since processStart without the time spent frozen. The caller has locked mu.
func (h *hub) clock(now time.Time) time.Duration {
	if h.frozen {
		now = h.frozenAt
	}
	return now.Sub(processStart) - h.frozenTotal
}

// processStart is the zero of all clocks; only differences count.
var processStart = time.Now()

// latestInvocation stands for the number of the last invocation that began.
const latestInvocation = -2

// platform emits a platform event that belongs to no particular invocation.
func (h *hub) platform(typ string, record any) { h.platformFor(latestInvocation, typ, record) }

// platformFor emits a platform event of an invocation.
func (h *hub) platformFor(invocation int, typ string, record any) {
	h.emit(func(at time.Time) {
		ev := h.arena.platform(at, typ, record)
		if h.applyLoss(typ, invocation, len(ev.record()), at) {
			return
		}
		f := encodings{text: ev, object: ev}
		if rec := logsRecord(record); rec != nil && h.hasLogsSubscriber(true) {
			f.logs = h.arena.platform(at, typ, rec)
		}
		h.add(categoryPlatform, f, at)
	})
}

// logsAPIOnly emits a platform event that only the Logs API has. Without a subscriber to the Logs API it emits nothing.
func (h *hub) logsAPIOnly(invocation int, typ string, record any) {
	h.emit(func(at time.Time) {
		if !h.hasLogsSubscriber(false) {
			return
		}
		ev := h.arena.platform(at, typ, record)
		if !h.applyLoss(typ, invocation, len(ev.record()), at) {
			h.add(categoryPlatform, encodings{logs: ev}, at)
		}
	})
}

// hasLogsSubscriber reports whether the Logs API has a subscriber or, if late is set, can still get one.
func (h *hub) hasLogsSubscriber(late bool) bool {
	return (late && h.replay != nil) || slices.ContainsFunc(h.subs, func(s *subscriber) bool { return s.sub.logs })
}

// applyLoss reports whether the fault loses an event. If it does, applyLoss adds the platform.logsDropped that the
// fault may request.
func (h *hub) applyLoss(typ string, invocation, size int, at time.Time) bool {
	if invocation == latestInvocation {
		invocation = h.lastInvocation
	}
	faults := &h.cfg.Telemetry
	if faults.Lose == nil || !faults.Lose(typ, invocation) {
		return false
	}
	if faults.EmitLogsDropped {
		ev := h.arena.platform(at, typeLogsDropped, logsDroppedRecord{Reason: telemetryDroppedReason, DroppedRecords: 1, DroppedBytes: size})
		h.add(categoryPlatform, encodings{ev, ev, ev}, at)
	}
	return true
}

// beginInvocation records that an invocation begins.
func (h *hub) beginInvocation(invocation int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastInvocation = max(h.lastInvocation, invocation)
}

// lines emits lines of a process's output. It does not keep the slices.
func (h *hub) lines(c category, lines [][]byte) {
	h.emit(func(at time.Time) {
		for _, line := range lines {
			h.addLine(c, line, at)
		}
	})
}

// emit runs add with mu locked, wakes the senders, and then reports dropped events with mu unlocked.
func (h *hub) emit(add func(at time.Time)) {
	at := time.Now().UTC()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	add(at)
	var dropped [][]event
	for i, s := range h.subs {
		s.wakeIfNeeded()
		if len(s.newlyDropped) > 0 {
			if dropped == nil {
				dropped = make([][]event, len(h.subs))
			}
			dropped[i], s.newlyDropped = s.newlyDropped, nil
		}
	}
	subs := h.subs // only subscribe changes it, and it copies the slice
	h.mu.Unlock()
	for i, events := range dropped {
		subs[i].report(events, h.cfg.OnEvent)
	}
}

func (h *hub) addLine(c category, line []byte, at time.Time) {
	text := bytes.TrimSuffix(line, []byte("\n"))
	if h.applyLoss(string(c), latestInvocation, len(text), at) {
		return
	}
	var asText, asObject bool
	isObject := h.cfg.Function.LogFormat == JSON && isJSONObject(text)
	if h.replay != nil {
		asText, asObject = true, isObject
	}
	for _, s := range h.subs {
		if s.sub.wants(c) {
			object := isObject && s.objects()
			asObject, asText = asObject || object, asText || !object
		}
	}
	var textEvent, objectEvent event
	if asText {
		textEvent = h.arena.line(at, string(c), text, false)
	}
	if asObject {
		objectEvent = h.arena.line(at, string(c), text, true)
	} else {
		objectEvent = textEvent
	}
	h.add(c, encodings{text: textEvent, object: objectEvent, logs: textEvent}, at)
}

func (h *hub) add(c category, f encodings, at time.Time) {
	clock := h.clock(at)
	if h.replay != nil && h.replayBytes < h.cfg.Telemetry.QueueBytes {
		h.replay = append(h.replay, replayedEvent{c, f})
		h.replayBytes += len(f.text.raw) + len(f.object.raw)
	}
	for _, s := range h.subs {
		s.offer(c, f, clock)
	}
}

// subscribe adds a subscriber, queues all events emitted so far for it, and starts its sender. gone is done when the
// subscriber's process has exited.
//
// A further subscription of the same extension adds to the first. AWS does not document this. But OpenTelemetry's
// collector subscribes to two ports in one process, needs the events of both, and works on Lambda. The guide also says
// that "duplicate subscribe requests do not result in duplicate subscriptions" (page runtimes-logs-api). Two guesses
// remain: that a duplicate is a request for the same destination, and that it leaves the first subscription unchanged.
// Managed Instances refuse a second subscription (Lambda's emulator).
func (h *hub) subscribe(name string, sub *subscription, gone context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.replay == nil {
		return errSubscriptionsClosed
	}
	s := newSubscriber(h, name, sub, gone)
	for _, other := range h.subs {
		switch {
		case other.name != name:
			continue
		case h.cfg.InitType == ManagedInstances:
			return errSecondSubscription
		case other.sub.logs != sub.logs:
			return errOtherAPI
		case other.sub.address() == sub.address():
			return errSubscribedAlready
		}
		s.callbackMu = other.callbackMu
	}
	s.dest = h.dial(sub, &h.cfg.Telemetry)
	clock := h.clock(time.Now())
	for _, r := range h.replay {
		s.offer(r.category, r.forms, clock)
	}
	h.subs = append(slices.Clip(h.subs), s)
	h.wg.Go(s.run)
	return nil
}

// The errors of subscribe.
var (
	errSubscriptionsClosed = errors.New("subscriptions are closed: the init phase is over")
	errSubscribedAlready   = errors.New("the extension has already subscribed with this destination")
	errOtherAPI            = errors.New("the extension is already subscribed to the other API, Telemetry or Logs")
	errSecondSubscription  = errors.New("the extension is already subscribed; on Managed Instances it can subscribe only once")
)

// closeSubscriptions ends the time for subscribing: the init phase is over.
func (h *hub) closeSubscriptions() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.replay, h.replayBytes = nil, 0
}

func (h *hub) acceptsSubscriptions() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.replay != nil && !h.closed
}

// subscribersOf returns the subscribers of an extension, in the order in which they subscribed.
func (h *hub) subscribersOf(name string) []*subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.subs), func(s *subscriber) bool { return s.name != name })
}

// freeze stops the timers and prevents senders from starting a POST.
func (h *hub) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.frozen {
		h.frozen, h.frozenAt, h.thawed = true, time.Now(), make(chan struct{})
	}
}

func (h *hub) thaw() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frozen {
		h.frozen = false
		h.frozenTotal += time.Since(h.frozenAt)
		close(h.thawed)
		for _, s := range h.subs {
			s.wakeUp()
		}
	}
}

// flush waits until every subscriber's queue is delivered or its process has exited, or until ctx is done.
func (h *hub) flush(ctx context.Context) {
	h.mu.Lock()
	var waits []chan struct{}
	for _, s := range h.subs {
		done := make(chan struct{})
		s.flushWaiters = append(s.flushWaiters, done)
		waits = append(waits, done)
		s.wakeUp()
	}
	subs := h.subs
	h.mu.Unlock()
	for i, done := range waits {
		select {
		case <-done:
		case <-subs[i].processDone.Done():
		case <-ctx.Done():
			return
		}
	}
}

// close ends all senders and waits for them.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.wg.Wait()
}
