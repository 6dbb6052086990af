//go:build unix

package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// destination receives a subscriber's batches over HTTP or TCP. close may be called while send runs.
type destination interface {
	append(body, event []byte) []byte // adds an event to a body
	finish(body []byte) []byte        // completes the body
	send(ctx context.Context, body []byte) error
	inject(ctx context.Context, body []byte) (status int, err error) // sends any bytes; the status is 0 over TCP
	close()
}

// subscriberHost is the address of all subscribers. The host names resolve to it, too.
const subscriberHost = "127.0.0.1"

func newDestination(sub *subscription, faults *TelemetryFaults) destination {
	addr := net.JoinHostPort(subscriberHost, strconv.Itoa(sub.port))
	if sub.tcp {
		return &tcpDestination{addr: addr}
	}
	d := &httpDestination{method: sub.method, url: "http://" + sub.host + sub.path}
	// Every host name is dialed at this address, whether the machine resolves it or not. No proxy: the listener is local.
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	// One connection suffices, because only one POST is in flight. Injected bodies use separate connections: two
	// concurrent requests could leave an unused connection, and a Go server's Shutdown waits for it for seconds.
	d.batches = &http.Transport{MaxIdleConnsPerHost: 1, DisableKeepAlives: faults.NewConnections, DialContext: dial}
	d.injected = &http.Transport{DisableKeepAlives: true, DialContext: dial}
	return d
}

// httpDestination posts JSON arrays.
type httpDestination struct {
	method, url       string
	batches, injected *http.Transport
}

func (d *httpDestination) append(body, event []byte) []byte {
	if len(body) == 0 {
		body = append(body, '[')
	} else {
		body = append(body, ',')
	}
	return append(body, event...)
}

func (d *httpDestination) finish(body []byte) []byte { return append(body, ']') }

// answerGrace is how long send still waits for an answer when the process has exited. The kernel closes the connections of
// an exited process, so send waits that long only if another process holds the connection.
const answerGrace = 5 * time.Second

// send posts one batch. Every answer but 200 is an error, because Lambda then retries the batch. When ctx ends with the
// process, the answer may already be in the socket; that answer still counts.
func (d *httpDestination) send(ctx context.Context, body []byte) error {
	processCtx := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(processCtx, func() { time.AfterFunc(answerGrace, cancel) })()
	status, err := d.post(ctx, d.batches, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the subscriber answered with status %d", status)
	}
	return err
}

func (d *httpDestination) inject(ctx context.Context, body []byte) (int, error) {
	return d.post(ctx, d.injected, body)
}

// post has no timeout: the process may be frozen for hours while the POST is in flight.
func (d *httpDestination) post(ctx context.Context, transport *http.Transport, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, d.method, d.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func (d *httpDestination) close() { d.batches.CloseIdleConnections() }

// tcpDestination writes newline-delimited JSON. TCP has no acknowledgment: written events count as accepted. Events are
// never cut, whatever their size.
type tcpDestination struct {
	addr string

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

func (d *tcpDestination) append(body, event []byte) []byte {
	return append(append(body, event...), '\n')
}

func (d *tcpDestination) finish(body []byte) []byte { return body }

func (d *tcpDestination) send(ctx context.Context, body []byte) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Write(body); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conn = nil
		return errors.Join(err, conn.Close())
	}
	return nil
}

func (d *tcpDestination) connect(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil || d.closed {
		if d.closed {
			return nil, net.ErrClosed
		}
		return d.conn, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	d.conn = conn
	return conn, nil
}

func (d *tcpDestination) inject(ctx context.Context, body []byte) (int, error) {
	return 0, d.send(ctx, body)
}

func (d *tcpDestination) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn != nil {
		_ = d.conn.Close() // the process is exiting or gone: an error does not matter
	}
}
