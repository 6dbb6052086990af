// Package listener is the Telemetry Listener: it takes the POSTs of Lambda's Telemetry API, splits their bodies into events
// whose raw bytes are kept, and answers each POST with 200, whatever its body, when its events are handed on.
package listener

import (
	"bytes"
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
	// maxHeader bounds the header of a POST, bytes. Lambda's have a few hundred.
	maxHeader = 16 << 10
)

// Batch is what one POST held. Its bytes are the receiver's to keep; the Events slice is used again after the call.
type Batch struct {
	Events []Event
	// Bytes is the size of the memory that lives for as long as one of the Events does.
	Bytes int
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
	buffers sync.Pool // of *bytes.Buffer, to read bodies
	seed    maphash.Seed
	closed  atomic.Bool // no POST is taken any more

	mu       sync.Mutex // held while a POST is handed on; guards all below
	splitter Splitter
	events   []Event
	taken    [2]fingerprint // of the last POSTs
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
		buffers:  sync.Pool{New: func() any { return new(bytes.Buffer) }},
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
	if rest := l.splitter.End(nil); len(rest) > 0 {
		l.receive(Batch{Events: rest})
	}
	return err
}

// serve answers when the events are handed on. Lambda posts again what was not answered, and sends the next POST after the answer,
// so that order does not depend on connections. No body, however odd, is refused: Lambda would post it again and again.
func (l *Listener) serve(w http.ResponseWriter, r *http.Request) {
	defer l.guard()
	body, whole := l.read(r)
	if !l.take(body, whole) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// take hands a body on, once. It answers false after Shutdown.
func (l *Listener) take(body []byte, whole bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return false
	}
	// Lambda posts a body again when a freeze took the answer.
	posted := fingerprint{len(body), maphash.Bytes(l.seed, body)}
	if slices.Contains(l.taken[:], posted) {
		return true
	}
	joining := l.splitter.waits()
	batch := Batch{Bytes: len(body), Truncated: !whole}
	batch.Events = l.splitter.Split(l.events[:0], body, whole)
	inTheMiddle := joining && len(batch.Events) == 0 // pieces in the middle of one event may be the same bytes
	if whole && !inTheMiddle {
		l.taken = [2]fingerprint{posted, l.taken[0]}
	}
	if joining && !inTheMiddle {
		batch.Bytes += len(batch.Events[0].Raw) // the joined event has memory of its own
	}
	l.receive(batch)
	clear(batch.Events) // lets go of the body
	l.events = batch.Events
	return true
}

// read reads the body up to MaxBody, and tells whether it is whole. Its memory grows with the bytes that came, whatever the header
// says. A body that breaks off is taken as far as it came: should Lambda send it again, a duplicate is better than a loss.
func (l *Listener) read(r *http.Request) (body []byte, whole bool) {
	buffer := l.buffers.Get().(*bytes.Buffer)
	defer l.buffers.Put(buffer)
	buffer.Reset()
	_, err := buffer.ReadFrom(io.LimitReader(r.Body, MaxBody+1))
	if buffer.Len() > MaxBody {
		buffer.Truncate(MaxBody)
		err = io.ErrShortBuffer
	}
	return bytes.Clone(buffer.Bytes()), err == nil
}
