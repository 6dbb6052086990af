package kinesis

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kinesis-telemetry-extension/internal/awake"
)

const (
	handshakeTimeout = 3 * time.Second

	// maxIdle is how long a connection may rest and be used again.
	maxIdle = 4 * time.Second

	maxReply  = 4 << 20   // a reply has some 100 bytes a record, with error messages some 300
	keepReply = 256 << 10 // what of it stays allocated
)

// newTransport makes the transport of requests to AWS.
//
// It speaks HTTP/1.1 alone: one request is in flight at a time, so HTTP/2 has nothing to give; its pings and window
// updates are machinery that runs, or fails to run, around a freeze; and 0.5 MB of binary can be left out.
func newTransport(proxy func(*http.Request) (*url.URL, error), caBundle []byte) (*http.Transport, error) {
	var roots *x509.CertPool // nil: the system's, which are parsed at the first handshake
	if len(caBundle) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(caBundle) {
			return nil, errors.New("CA bundle (AWS_CA_BUNDLE): there is no certificate in it: expected PEM")
		}
	}
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  proxy,
		OnProxyConnectResponse: refusedByProxy,
		DialContext:            newDialer().DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    roots,
			// After each freeze there is a handshake: resuming the session spares the larger part of its computing.
			ClientSessionCache: tls.NewLRUClientSessionCache(2),
		},
		TLSHandshakeTimeout: handshakeTimeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     maxIdle,
		DisableCompression:  true, // sequence numbers do not compress enough to pay for it
		Protocols:           &http1,
	}, nil
}

// roundTripper is what the Client needs of http.Transport.
type roundTripper interface {
	RoundTrip(*http.Request) (*http.Response, error)
	CloseIdleConnections()
}

// instant is a reading of both clocks.
type instant struct {
	wall time.Time     // carries no monotonic reading
	mono time.Duration // since any fixed point
}

// clock reads both clocks against a fixed point.
func clock() func() instant {
	start := time.Now()
	return func() instant {
		now := time.Now()
		return instant{now.Round(0), now.Sub(start)}
	}
}

// rested tells whether a connection that was last used at last may be dead at now: it has been idle for too long by
// either clock, or the clocks moved apart, which is how a freeze and a restore show. Then the peer or a NAT between may
// have forgotten it. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func mayBeDead(last, now instant) bool {
	wall, mono := now.wall.Sub(last.wall), now.mono-last.mono
	return wall > maxIdle || mono > maxIdle || (wall-mono).Abs() > awake.MaxDrift
}

// errEncoding marks a reply that nobody can read.
var errEncoding = errors.New("the reply is encoded")

// errStale marks the failure of a connection that had served before and died without a byte of an answer.
var errStale = errors.New("the idle connection was dead")

// post sends the body once and reads the reply, which lies in buf. It calls progress when it has connected, and as often as a
// part of the body is on its way.
//
// Nothing is sent twice behind the caller's back: http.Transport repeats a POST only if it has a GetBody, or a header
// Idempotency-Key, and the request has neither. What dies on a reused connection is reported as errStale instead.
func post(ctx context.Context, rt roundTripper, req *http.Request, body, buf []byte, progress func()) (*http.Response, []byte, error) {
	var connected, reused, answered atomic.Bool // the hooks run in the transport's goroutines too
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				progress()
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			connected.Store(true)
			reused.Store(info.Reused)
		},
		GotFirstResponseByte: func() { answered.Store(true) },
	})
	req = req.WithContext(ctx)
	req.Body = &requestBody{data: body, progress: progress}
	defer req.Body.Close()
	resp, err := rt.RoundTrip(req)
	switch {
	case err == nil:
	case !connected.Load():
		return nil, buf, connectError{err}
	case reused.Load() && !answered.Load() && ctx.Err() == nil:
		return nil, buf, errors.Join(errStale, err)
	default:
		return nil, buf, err
	}
	defer resp.Body.Close()
	buf, err = readReply(buf[:0], resp)
	return resp, buf, err
}

// lentBody is a request's body in a buffer that will be used again. The transport may go on reading a body after
// RoundTrip has returned (an answer before the end of the request, a timeout); once it is closed nothing more is read of the
// buffer.
type requestBody struct {
	progress func()

	mu   sync.Mutex
	data []byte // guarded by mu
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.progress() // who comes for more has sent what he had
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = nil
	return nil
}

// readReply reads at most maxReply bytes into buf. Some proxies compress what they were asked not to.
func readReply(buf []byte, resp *http.Response) ([]byte, error) {
	var r io.Reader = resp.Body
	var err error
	switch encoding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(r)
	default:
		if resp.StatusCode != http.StatusOK {
			return buf, nil // the status says enough
		}
		return buf, fmt.Errorf("%w as %q", errEncoding, encoding)
	}
	for err == nil && len(buf) < maxReply {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		var n int
		n, err = r.Read(buf[len(buf):min(cap(buf), maxReply)])
		buf = buf[:len(buf)+n]
	}
	if errors.Is(err, io.EOF) {
		return buf, nil
	}
	if err == nil {
		err = errors.New("it is too long")
	}
	return buf, fmt.Errorf("%w: %w", errReply, err)
}
