// Package listener is the Telemetry Listener: it receives the POSTs of Lambda's Telemetry API and splits each body into events
// without changing their bytes. It answers each POST with 200, whatever its body, after the receiver has its events.
package listener

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// MaxBody is how much of one POST is read, in bytes. Lambda posts up to twice the subscription's maxBytes and some metadata,
	// which is a little more than 2 MiB for this extension. Of a longer body, the events that are complete within MaxBody are kept.
	// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
	MaxBody = 8 << 20
	// keepBody is the largest buffer that is kept for the next body, in bytes. Lambda's bodies fit in it.
	keepBody = 3 << 20
	// firstRead is the smallest buffer that is allocated for a body, in bytes.
	firstRead = 4 << 10
	// maxHeader bounds the header of a POST, in bytes. Lambda's have a few hundred.
	maxHeader = 16 << 10
)

// Batch is the content of one POST. It is valid only during the call of receive.
type Batch struct {
	Events []Event
	// PartialEvent reports that another event has started to arrive, in pieces, and that its end has not arrived yet.
	PartialEvent bool
	// Truncated reports that the body ended early or was longer than MaxBody.
	Truncated bool
}

// Listener is an HTTP server on its own port.
type Listener struct {
	server  *http.Server
	port    int
	receive func(Batch)
	guard   func()
	serving sync.WaitGroup
	buffer  chan []byte // capacity 1: the buffer for the next body; parallel POSTs allocate their own
	seed    maphash.Seed
	closed  atomic.Bool // POSTs are refused

	mu         sync.Mutex // held while a POST is processed; guards the fields below
	splitter   Splitter
	events     []Event
	lastBodies [2]fingerprint // of the last two POSTs
}

// fingerprint identifies a body.
type fingerprint struct {
	length int
	hash   uint64
}

// Listen binds a free port on all interfaces, because Lambda posts to sandbox.localdomain, which is not 127.0.0.1, and starts to
// serve. limit is [Splitter.Limit]. Listen calls receive for one POST at a time, after the whole body is read and before the POST
// is answered. receive must not block on I/O. guard is deferred around all work on a POST; it may recover from a panic.
func Listen(limit int, receive func(Batch), guard func()) (*Listener, error) {
	socket, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, fmt.Errorf("open a port for telemetry: %w", err)
	}
	l := &Listener{
		port:     socket.Addr().(*net.TCPAddr).Port,
		receive:  receive,
		guard:    guard,
		buffer:   make(chan []byte, 1),
		seed:     maphash.MakeSeed(),
		splitter: Splitter{Limit: limit},
	}
	// No timeouts: the environment may freeze during a POST, and a timeout would count the frozen time.
	l.server = &http.Server{Handler: http.HandlerFunc(l.serve), MaxHeaderBytes: maxHeader}
	l.serving.Go(func() { _ = l.server.Serve(socket) }) // returns when Shutdown closes the socket
	return l, nil
}

// Port returns the port that the listener is bound to.
func (l *Listener) Port() int { return l.port }

// Shutdown stops accepting POSTs and waits for those in progress. When ctx is done, it only waits for the POST that is being
// processed and closes the connections of the others. Last, it passes on a partial event, if there is one, as malformed. receive is
// not called after Shutdown returns.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	l.closed.Store(true)
	if err != nil {
		err = errors.Join(err, l.server.Close())
	}
	l.serving.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest := l.splitter.Finish(nil); len(rest) > 0 {
		l.receive(Batch{Events: rest})
	}
	return err
}

// serve answers a POST after the receiver has its events. Lambda repeats an unanswered POST, and sends the next POST after the
// answer, so the order of events does not depend on connections. serve refuses no body, not even a malformed one: Lambda would
// repeat it again and again.
func (l *Listener) serve(w http.ResponseWriter, r *http.Request) {
	defer l.guard()
	var body []byte
	select {
	case body = <-l.buffer:
	default:
	}
	body, whole := read(body, r)
	if !l.process(body, whole) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if cap(body) > keepBody {
		return
	}
	select {
	case l.buffer <- body:
	default:
	}
}

// process splits a body and passes its events to receive. It ignores a body that Lambda has posted before. It returns false after
// Shutdown.
func (l *Listener) process(body []byte, whole bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return false
	}
	// Lambda repeats a POST if a freeze swallowed the answer.
	posted := fingerprint{len(body), maphash.Bytes(l.seed, body)}
	if slices.Contains(l.lastBodies[:], posted) {
		return true
	}
	joining := l.splitter.hasPartial()
	batch := Batch{Truncated: !whole}
	batch.Events = l.splitter.Split(l.events[:0], body, whole)
	isMiddlePiece := joining && len(batch.Events) == 0 // middle pieces of one event may be identical
	if whole && !isMiddlePiece {
		l.lastBodies = [2]fingerprint{posted, l.lastBodies[0]}
	}
	batch.PartialEvent = l.splitter.hasPartial()
	l.receive(batch)
	clear(batch.Events) // releases the body
	l.events = batch.Events
	return true
}

// read reads a body into buffer, up to MaxBody, and reports whether the body is whole. If buffer is too small, it grows with the
// received bytes, at most to the length in the header. If the body breaks off, read returns the received part: if Lambda repeats the
// POST, a duplicate is better than a loss.
func read(buffer []byte, r *http.Request) (body []byte, whole bool) {
	body = buffer[:0]
	for {
		if len(body) == cap(body) {
			missing := max(r.ContentLength-int64(len(body)), 0) + 1 // one more, to see whether the body is longer
			body = slices.Grow(body, int(min(missing, int64(max(len(body), firstRead)))))
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > MaxBody:
			return body[:MaxBody], false
		case err != nil:
			return body, errors.Is(err, io.EOF)
		}
	}
}
