package main_test

import (
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/sandbox"
)

// What lies between the extension and Kinesis. Each function that takes an Extension changes it so
// that it meets that.

const endpointURL = "KINESIS_TELEMETRY_ENDPOINT_URL"

// between stands between the extension and Kinesis.
type between struct {
	*httptest.Server
	kinesis  http.Handler
	requests atomic.Int32
}

// newBetween starts it; handle may call pass.
func newBetween(r *trial, handle func(b *between, w http.ResponseWriter, req *http.Request)) *between {
	b := &between{kinesis: r.kinesis}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b.requests.Add(1)
		handle(b, w, req)
	}))
	r.Cleanup(b.Close)
	return b
}

// pass has the request carried out.
func (b *between) pass(w http.ResponseWriter, r *http.Request) { b.kinesis.ServeHTTP(w, r) }

// zipped zips the answer.
func zipped(b *between, w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	b.pass(answer, r)
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(answer.Code)
	z := gzip.NewWriter(w)
	_, _ = io.Copy(z, answer.Body)
	_ = z.Close()
}

// path passes connections on to a server, at so many bytes a second in sum on the way there.
type path struct {
	rate    int // 0: no limit
	to      string
	running sync.WaitGroup

	mu   sync.Mutex // guards all below
	open []net.Conn
	free time.Time // when the path is free again
}

func newPath(t *testing.T, rate int, to string) *path {
	p := &path{rate: rate, to: to}
	t.Cleanup(func() {
		p.mu.Lock()
		for _, conn := range p.open {
			conn.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// slow is a path of so many bytes a second.
func slow(rate int) func(*trial, *sandbox.Extension) {
	return func(r *trial, x *sandbox.Extension) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.Fatal(err)
		}
		p := newPath(r.T, rate, r.address())
		p.running.Go(func() {
			for {
				from, err := listener.Accept()
				if err != nil {
					return
				}
				p.connect(from)
			}
		})
		r.Cleanup(func() { listener.Close() })
		x.Env[endpointURL] = "http://" + listener.Addr().String()
	}
}

func (p *path) connect(from net.Conn) {
	onward, err := net.Dial("tcp", p.to)
	if err != nil {
		from.Close()
		return
	}
	_ = from.(*net.TCPConn).SetReadBuffer(64 << 10) // what is under way waits at the sender
	p.mu.Lock()
	p.open = append(p.open, from, onward)
	p.mu.Unlock()
	p.running.Go(func() {
		defer onward.Close()
		p.carry(onward, from)
	})
	p.running.Go(func() {
		defer from.Close()
		_, _ = io.Copy(from, onward)
	})
}

func (p *path) carry(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if p.rate > 0 {
			time.Sleep(p.reserve(n))
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// reserve returns how long n bytes have to wait.
func (p *path) reserve(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return time.Until(p.free)
}

// address is Kinesis's.
func (r *trial) address() string { return strings.TrimPrefix(r.kinesis.URL(), "http://") }
