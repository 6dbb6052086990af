// Package listener is the Telemetry Listener: it takes the POSTs of Lambda's Telemetry API, splits their bodies into events
// whose raw bytes are kept, and answers each POST with 200, whatever its body, when its events are handed on.
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
	// MaxBody is how much of one POST is read, bytes. Lambda posts up to twice the subscription's maxBytes and some
	// metadata, 2 MiB and a little with ours; of a longer body the events that are whole within the bound are kept.
	// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
	MaxBody = 8 << 20
	// keepBody is up to which size a buffer is kept for the next body: Lambda's find room in it.
	keepBody  = 3 << 20
	firstRead = 4 << 10
	// maxHeader bounds the header of a POST, bytes. Lambda's have a few hundred.
	maxHeader = 16 << 10
)

// Batch is what one POST held. It is valid during the call.
type Batch struct {
	Events []Event
	// PartialEvent tells that the beginning of another event has come, and its end has not.
	PartialEvent bool
	// Truncated tells that the body ended early or went on beyond MaxBody.
	Truncated bool
}

// Listener is an HTTP server on a port of its own.
type Listener struct {
	server  *http.Server
	port    int
	receive func(Batch)
	guard   func()
	serving sync.WaitGroup
	buffer  chan []byte // capacity 1: where the next body is read; a POST beside another one makes its own
	seed    maphash.Seed
	closed  atomic.Bool // no POST is taken any more

	mu         sync.Mutex // held while a POST is handed on; guards all below
	splitter   Splitter
	events     []Event
	lastBodies [2]fingerprint // of the last POSTs
}

// fingerprint recognises a body.
type fingerprint struct {
	length int
	hash   uint64
}

// Listen binds a free port on all interfaces (Lambda posts to sandbox.localdomain, which is not 127.0.0.1) and serves. limit is
// [Splitter.Limit]. receive is called for one POST after the other, as their bodies are read to the end, and before the POST is
// answered; it must not block on I/O. guard is deferred around all work on a POST; it may recover from a panic.
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
	// No timeouts: the environment may freeze in the middle of a POST, and the time in the freezer counts.
	l.server = &http.Server{Handler: http.HandlerFunc(l.serve), MaxHeaderBytes: maxHeader}
	l.serving.Go(func() { _ = l.server.Serve(socket) }) // returns when Shutdown closes the socket
	return l, nil
}

// Port is the port that the listener is bound to.
func (l *Listener) Port() int { return l.port }

// Shutdown takes no further POSTs and waits for those under way. When ctx is done it only waits for the one that is being handed
// on, and hangs up on the others. It hands on a piece of an event whose other pieces did not come. Then nothing more is handed on.
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

// serve answers when the events are handed on. Lambda posts again what was not answered, and sends the next POST after the answer,
// so that order does not depend on connections. No body, however odd, is refused: Lambda would post it again and again.
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

// process hands a body on, once. It answers false after Shutdown.
func (l *Listener) process(body []byte, whole bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return false
	}
	// Lambda posts a body again when a freeze took the answer.
	posted := fingerprint{len(body), maphash.Bytes(l.seed, body)}
	if slices.Contains(l.lastBodies[:], posted) {
		return true
	}
	joining := l.splitter.hasPartial()
	batch := Batch{Truncated: !whole}
	batch.Events = l.splitter.Split(l.events[:0], body, whole)
	inTheMiddle := joining && len(batch.Events) == 0 // pieces in the middle of one event may be the same bytes
	if whole && !inTheMiddle {
		l.lastBodies = [2]fingerprint{posted, l.lastBodies[0]}
	}
	batch.PartialEvent = l.splitter.hasPartial()
	l.receive(batch)
	clear(batch.Events) // lets go of the body
	l.events = batch.Events
	return true
}

// read reads the body into a buffer, up to MaxBody, and tells whether it is whole. A buffer that is too small grows with the bytes
// that came, to no more than the header says. A body that breaks off is taken as far as it came: should Lambda send it again, a
// duplicate is better than a loss.
func read(buffer []byte, r *http.Request) (body []byte, whole bool) {
	body = buffer[:0]
	for {
		if len(body) == cap(body) {
			missing := max(r.ContentLength-int64(len(body)), 0) + 1 // one more byte would tell that it goes on
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
