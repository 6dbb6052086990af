package main_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// between stands between the extension and Kinesis.
type between struct {
	*httptest.Server
	kinesis  atomic.Value // http.Handler
	requests atomic.Int32
}

// newBetween starts it; handle may call pass.
func newBetween(t *testing.T, handle func(b *between, w http.ResponseWriter, r *http.Request)) *between {
	b := new(between)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		handle(b, w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

// pass has the request carried out.
func (b *between) pass(w http.ResponseWriter, r *http.Request) {
	if kinesis, ok := b.kinesis.Load().(http.Handler); ok {
		kinesis.ServeHTTP(w, r)
		return
	}
	http.Error(w, "", http.StatusServiceUnavailable)
}

// What lies between the function and Kinesis changes answers, bounds requests, and is configured by hand.
func TestBetween(t *testing.T) {
	zipped := func(b *between, w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		b.pass(answer, r)
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(answer.Code)
		z := gzip.NewWriter(w)
		_, _ = io.Copy(z, answer.Body)
		_ = z.Close()
	}
	bounded := func(b *between, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) > 200_000 {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		b.pass(w, r)
	}
	for _, test := range []struct {
		name     string
		handle   func(b *between, w http.ResponseWriter, r *http.Request)
		settings func(url string) map[string]string
		says     string // instead of delivering
	}{
		{"zips the answers", zipped, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, ""},
		{"takes 200 KB", bounded, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, ""},
		{"is a proxy with a newline", (*between).pass, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": "http://kinesis.invalid", "HTTP_PROXY": " \"" + url + "\"\n"}
		}, ""},
		{"is a proxy with a % in its password", (*between).pass, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": "http://kinesis.invalid", "HTTP_PROXY": strings.Replace(url, "://", "://user:SECRET%zz@", 1)}
		}, "HTTP_PROXY"},
		{"is a proxy that refuses", func(_ *between, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": "https://kinesis.invalid", "HTTPS_PROXY": url}
		}, "does not connect to kinesis.invalid:443"},
		{"is a firewall", func(_ *between, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<html>blocked \x1b[31m")
		}, func(url string) map[string]string {
			return map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url}
		}, "a proxy or a firewall between"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBetween(t, test.handle)
			r := newTrial(t, setup{settings: test.settings(b.URL)})
			b.kinesis.Store(http.Handler(r.kinesis))
			for range 5 {
				r.invoke(mixed)
			}
			r.invoke(`{"text":300,"bytes":1000}`)
			report := r.end()
			printed := strings.Join(r.output.lines(), "\n")
			if strings.Contains(printed, "SECRET") || strings.Contains(printed, "\x1b") {
				t.Errorf("it says %q", printed)
			}
			if test.says == "" {
				r.complete(report, 365)
				if b.requests.Load() == 0 {
					t.Error("nothing came by")
				}
				return
			}
			if report.Delivered > 0 || strings.Count(printed, test.says) != 1 {
				t.Errorf("%d events delivered; it says %q", report.Delivered, printed)
			}
		})
	}
}

// slowPath passes connections on to a server, at so many bytes a second in sum on the way there.
type slowPath struct {
	rate    int
	to      chan string // the server's address, once it is known
	running sync.WaitGroup

	mu   sync.Mutex // guards all below
	open []net.Conn
	free time.Time // when the path is free again
}

// newSlowPath returns it and its URL.
func newSlowPath(t *testing.T, rate int) (*slowPath, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPath{rate: rate, to: make(chan string, 1)}
	p.running.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			p.connect(from)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.mu.Lock()
		for _, conn := range p.open {
			conn.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p, "http://" + listener.Addr().String()
}

func (p *slowPath) connect(from net.Conn) {
	to := <-p.to
	p.to <- to
	onward, err := net.Dial("tcp", to)
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

func (p *slowPath) carry(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		if now := time.Now(); p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
		wait := time.Until(p.free)
		p.mu.Unlock()
		time.Sleep(wait)
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// slowTrial is in a function that is large enough for requests of 5 MiB.
func slowTrial(t *testing.T, rate int) *trial {
	t.Helper()
	path, url := newSlowPath(t, rate)
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_ENDPOINT_URL": url, "KINESIS_TELEMETRY_BUFFER_BYTES": "67108864", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
		kinesis:  kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
	})
	path.to <- strings.TrimPrefix(r.kinesis.URL(), "http://")
	return r
}

// At SHUTDOWN a slow path carries what fits into Lambda's two seconds, at 3 MB/s about 4 MB. Requests that are too large for
// that carry nothing.
func TestBudgetSlowShutdown(t *testing.T) {
	budgets(t)
	r := slowTrial(t, 3_000_000)
	r.invoke(`{"text":6000,"bytes":1000,"duration":"10ms"}`)
	if report := r.end(); report.Delivered < 1500 {
		t.Errorf("%d of %d events delivered", report.Delivered, report.Emitted)
	}
}

// A backlog gets through a slow path. It takes a minute, with CHAOS=1.
func TestSlowSoak(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set")
	}
	for _, rate := range []int{500_000, 1_000_000} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			t.Parallel()
			r := slowTrial(t, rate)
			began := time.Now()
			r.invoke(`{"text":12000,"bytes":1000,"duration":"100ms"}`)
			for time.Since(began) < time.Minute {
				r.invoke(`{"text":1,"duration":"1s"}`)
			}
			report := r.end()
			t.Logf("%d of %d events delivered, %d twice", report.Delivered, report.Emitted, len(report.Duplicated))
			if len(report.Lost) > 0 || len(report.Duplicated) > 0 {
				t.Errorf("%d are lost", len(report.Lost))
			}
		})
	}
}
