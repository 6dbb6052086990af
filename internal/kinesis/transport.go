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

	// maxIdle is how long a connection may be idle and still be reused.
	maxIdle = 4 * time.Second

	maxReply  = 4 << 20   // a reply has about 100 bytes a record, with error messages about 300
	keepReply = 256 << 10 // a larger buffer is freed after a Put
)

// newTransport makes the transport of requests to AWS.
//
// It uses only HTTP/1.1. One request is in flight at a time, so HTTP/2 has no advantage. Its pings and window updates
// would fail around a freeze, and it would add 0.5 MB to the binary.
func newTransport(proxy func(*http.Request) (*url.URL, error), caBundle []byte) (*http.Transport, error) {
	var roots *x509.CertPool // nil: the system's roots, parsed at the first handshake
	if len(caBundle) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(caBundle) {
			return nil, errors.New("CA bundle (AWS_CA_BUNDLE): it contains no certificate: expected PEM")
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
			// Each freeze is followed by a handshake. Resuming the session saves most of its CPU time.
			ClientSessionCache: tls.NewLRUClientSessionCache(2),
		},
		TLSHandshakeTimeout: handshakeTimeout,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     maxIdle,
		DisableCompression:  true, // compressing sequence numbers costs more than it saves
		Protocols:           &http1,
	}, nil
}

// roundTripper is the part of http.Transport that the Client uses.
type roundTripper interface {
	RoundTrip(*http.Request) (*http.Response, error)
	CloseIdleConnections()
}

// instant is a reading of both clocks.
type instant struct {
	wall time.Time     // without a monotonic reading
	mono time.Duration // since a fixed point
}

// clock returns a function that reads both clocks.
func clock() func() instant {
	start := time.Now()
	return func() instant {
		now := time.Now()
		return instant{now.Round(0), now.Sub(start)}
	}
}

// mayBeDead reports whether the peer or a NAT device may have dropped a connection whose last use was at last: it was
// idle for too long by either clock, or the clocks moved apart. After a freeze or a restore, the clocks have moved
// apart.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
func mayBeDead(last, now instant) bool {
	wall, mono := now.wall.Sub(last.wall), now.mono-last.mono
	return wall > maxIdle || mono > maxIdle || (wall-mono).Abs() > awake.MaxDrift
}

// errEncoding marks a reply in an encoding that the Client cannot read.
var errEncoding = errors.New("the reply is encoded")

// errStale marks the failure of a reused connection that died before the first byte of an answer.
var errStale = errors.New("the idle connection was dead")

// post sends the body once and reads the reply into buf. It calls progress when it has connected, and each time the
// transport has sent a part of the body.
//
// The transport never resends the request: http.Transport retries a POST only if the request has a GetBody or a header
// Idempotency-Key, and this request has neither. If a reused connection dies, post returns errStale instead.
func post(ctx context.Context, rt roundTripper, req *http.Request, body io.Reader, buf []byte, progress func()) (
	*http.Response, []byte, error,
) {
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
	req.Body = &requestBody{body: body, progress: progress}
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

// requestBody is a request's body. Its records belong to the caller. The transport may go on reading a body after
// RoundTrip has returned: after an early answer, or after a timeout. After Close, requestBody reads no more records.
type requestBody struct {
	progress func()

	mu   sync.Mutex
	body io.Reader // guarded by mu; nil after Close
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.progress() // the transport asks for more when it has sent the previous part
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.body == nil {
		return 0, io.EOF
	}
	return b.body.Read(p)
}

func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.body = nil
	return nil
}

// readReply reads at most maxReply bytes into buf. It decompresses gzip, which some proxies apply although the request
// rules it out.
func readReply(buf []byte, resp *http.Response) ([]byte, error) {
	var r io.Reader = resp.Body
	var err error
	switch encoding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(r)
	default:
		if resp.StatusCode != http.StatusOK {
			return buf, nil // the status is enough
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
