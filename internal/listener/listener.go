// Package listener is the Telemetry Listener: it takes the POSTs of Lambda's Telemetry API, answers each with 200 at
// once whatever its body, and splits the body into events whose raw bytes are kept.
package listener

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"unicode/utf8"
)

// MaxBody is how much of one POST is read, bytes. Lambda posts up to twice the subscription's maxBytes and some
// metadata, 2 MiB and a little with ours; of a longer body the events that are whole within the bound are kept.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
const MaxBody = 8 << 20

// maxPosts bounds how many bodies are held at once before they are handed on. Lambda posts one at a time.
const maxPosts = 4

// Batch is what one POST held. Its bytes are the receiver's to keep; the Events slice is used again after the call.
type Batch struct {
	Events []Event
	// Bytes is the size of the body, which lives for as long as one of the Events does.
	Bytes int
	// Malformed counts the places that hold no event: a value that is not an object, an event that is cut or broken.
	Malformed int
	// Repaired tells that bytes which are not UTF-8 were replaced by U+FFFD.
	Repaired bool
	// Truncated tells that the body ended early or went on beyond MaxBody.
	Truncated bool
}

// Listener is an HTTP server on a port of its own.
type Listener struct {
	server  *http.Server
	port    int
	receive func(Batch)
	guard   func()
	slots   chan struct{}
	serving sync.WaitGroup
	scratch sync.Pool // of *[]Event
}

// Listen binds a free port on all interfaces (Lambda posts to sandbox.localdomain, which is not 127.0.0.1) and serves.
// receive is called for each POST after it was answered, from several goroutines at once, and must not block on I/O. guard
// is deferred around all work on a POST; it may recover from a panic.
func Listen(receive func(Batch), guard func()) (*Listener, error) {
	socket, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, fmt.Errorf("open a port for telemetry: %w", err)
	}
	l := &Listener{
		port:    socket.Addr().(*net.TCPAddr).Port,
		receive: receive,
		guard:   guard,
		slots:   make(chan struct{}, maxPosts),
		scratch: sync.Pool{New: func() any { return new([]Event) }},
	}
	// No timeouts: the environment may freeze in the middle of a POST, and the time in the freezer counts.
	l.server = &http.Server{Handler: http.HandlerFunc(l.serve)}
	l.serving.Go(func() { _ = l.server.Serve(socket) }) // returns when Shutdown closes the socket
	return l, nil
}

// Port is the port that the listener is bound to.
func (l *Listener) Port() int { return l.port }

// Shutdown takes no further POSTs and waits for the ones under way, until ctx is done.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, l.server.Close())
	}
	l.serving.Wait()
	return err
}

// serve answers first and works then: Lambda's next POST does not wait for the splitting, and no body, however odd, is
// refused, since a refused one comes back again and again.
func (l *Listener) serve(w http.ResponseWriter, r *http.Request) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	defer l.guard()

	body, truncated := read(r)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // the sender is gone: what it sent is here all the same

	batch := Batch{Truncated: truncated}
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
		batch.Repaired = true
	}
	events := l.scratch.Get().(*[]Event)
	batch.Bytes = len(body)
	batch.Events, batch.Malformed = Split((*events)[:0], body)
	l.receive(batch)
	clear(batch.Events) // lets go of the body
	*events = batch.Events
	l.scratch.Put(events)
}

// read reads the body up to MaxBody into one piece of its own size, and tells whether it is incomplete. A body that
// breaks off is taken as far as it came: should Lambda send it again, a duplicate is better than a loss.
func read(r *http.Request) (body []byte, truncated bool) {
	if r.ContentLength >= 0 {
		body = make([]byte, min(r.ContentLength, MaxBody))
		n, err := io.ReadFull(r.Body, body)
		return body[:n], err != nil || r.ContentLength > MaxBody
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if len(body) > MaxBody {
		return body[:MaxBody], true
	}
	return body, err != nil
}
