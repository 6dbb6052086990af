package kinesis

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const oneStored = `{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000000"}]}`

// rawServer calls serve for each connection, with its number from 0, and then closes the connection.
func rawServer(t *testing.T, serve func(n int, conn net.Conn, r *bufio.Reader)) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		open    []net.Conn // guarded by mu
	)
	running.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				serve(n, conn, bufio.NewReader(conn))
			})
		}
	})
	cfg := testConfig("logs")
	cfg.EndpointURL = "http://" + listener.Addr().String()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.jitter = func(time.Duration) time.Duration { return 0 }
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return c
}

// takeRequest reads a complete request and reports whether there was one.
func takeRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

func answerOneStored(conn net.Conn) {
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(oneStored))+"\r\n\r\n"+oneStored)
}

// A connection that dies during a second request is replaced at once, without a pause. The count includes every
// request.
func TestDeadIdleConnectionIsReplacedAtOnce(t *testing.T) {
	for _, how := range []string{"closed after the request was read", "closed before", "reset", "closed in the middle of an answer"} {
		t.Run(how, func(t *testing.T) {
			var requests, connections atomic.Int32
			c := rawServer(t, func(n int, conn net.Conn, r *bufio.Reader) {
				connections.Add(1)
				for i := 0; ; i++ {
					if n == 0 && i == 1 {
						switch how {
						case "closed before":
							return
						case "reset":
							_, _ = r.Peek(1)
							_ = conn.(*net.TCPConn).SetLinger(0)
							return
						}
					}
					if !takeRequest(r) {
						return
					}
					requests.Add(1)
					if n == 0 && i == 1 {
						if how == "closed in the middle of an answer" {
							_, _ = io.WriteString(conn, "HTTP/1.1 20")
						}
						return
					}
					answerOneStored(conn)
				}
			})
			pauses := 0
			c.jitter = func(time.Duration) time.Duration { pauses++; return 0 }
			if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || result.Requests != 1 {
				t.Fatalf("first: %+v", result)
			}
			result := c.Put(t.Context(), recordsOf("a"))
			want := 0
			if how == "closed in the middle of an answer" {
				want = 1 // the connection was alive: this failure has a pause
			}
			if result.Err != nil || outcomesOf(result) != "s" || pauses != want || result.AttemptFailed != (want == 1) {
				t.Fatalf("second: %+v, %d pauses, want %d", result, pauses, want)
			}
			if connections.Load() != 2 {
				t.Errorf("%d connections", connections.Load())
			}
			if how == "closed after the request was read" && (requests.Load() != 3 || result.Requests != 2 || result.Retried != 1) {
				t.Errorf("%d requests in all, the second Put reports %d, %d retried", requests.Load(), result.Requests, result.Retried)
			}
		})
	}
}

// A request that a long freeze cut off is signed again: AWS accepts a signature for five minutes only.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
func TestRetryIsSignedAgain(t *testing.T) {
	var slept atomic.Int64
	var signed [2]string // of the second Put, by connection
	c := rawServer(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if signed[n] = req.Header.Get("X-Amz-Date"); n == 0 && i == 1 {
				slept.Store(int64(10 * time.Minute))
				return
			}
			answerOneStored(conn)
		}
	})
	now := c.clock
	c.clock = func() instant {
		at := now()
		return instant{at.wall.Add(time.Duration(slept.Load())), at.mono}
	}
	c.Put(t.Context(), recordsOf("a"))
	if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || result.Requests != 2 {
		t.Fatalf("%+v", result)
	}
	const layout = "20060102T150405Z"
	first, err1 := time.Parse(layout, signed[0])
	second, err2 := time.Parse(layout, signed[1])
	if err1 != nil || err2 != nil || second.Sub(first) < 10*time.Minute {
		t.Errorf("signed at %q, and 10 minutes later at %q", signed[0], signed[1])
	}
}

// A new connection that dies is a failure with a pause: the transport does not retry the request.
func TestNewConnectionThatDiesIsAFailure(t *testing.T) {
	var requests atomic.Int32
	c := rawServer(t, func(n int, conn net.Conn, r *bufio.Reader) {
		if takeRequest(r) {
			if requests.Add(1); n == 3 {
				answerOneStored(conn)
			}
		}
	})
	pauses := 0
	c.jitter = func(time.Duration) time.Duration { pauses++; return 0 }
	result := c.Put(t.Context(), recordsOf("a"))
	if result.Err != nil || requests.Load() != 4 || result.Requests != 4 || pauses != 3 {
		t.Errorf("%d requests, counted as %d, %d pauses: %v", requests.Load(), result.Requests, pauses, result.Err)
	}
}

// When a server answers before it has read the body, the transport may still read it. That must not affect the next
// request, which reads the same records.
func TestEarlyAnswerDoesNotAffectTheNextRequest(t *testing.T) {
	payload := bytes.Repeat([]byte("z"), 8<<20)
	bodies := make(chan []byte, 100) // decoded after the answer: the client would not wait for that on a loaded machine
	c := rawServer(t, func(n int, conn net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if n < 3 {
			_, _ = io.WriteString(conn, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, req.Body)
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		bodies <- body
		answerOneStored(conn)
	})
	c.config.MaxRecordBytes = 10 << 20
	result := c.Put(t.Context(), []Record{{"key", [][]byte{payload}}})
	if result.Err != nil || len(bodies) != 1 {
		t.Fatalf("%d complete bodies: %v", len(bodies), result.Err)
	}
	if got := decodeRequest(t, <-bodies); len(got.Records) != 1 || !bytes.Equal(got.Records[0].Data, payload) {
		t.Errorf("%d records, or other data", len(got.Records))
	}
}

// readerAfterAnswer is a transport that answers before it has read the body, and goes on reading it.
type readerAfterAnswer struct{ reading sync.WaitGroup }

func (*readerAfterAnswer) CloseIdleConnections() {}

func (r *readerAfterAnswer) RoundTrip(req *http.Request) (*http.Response, error) {
	begun := make(chan struct{})
	r.reading.Go(func() {
		_, _ = io.CopyN(io.Discard, req.Body, 1)
		close(begun)
		_, _ = io.Copy(io.Discard, req.Body)
	})
	<-begun
	return respond(http.StatusServiceUnavailable, http.Header{}, ""), nil
}

// After Put has returned, the transport reads no more of the records: the caller reuses their memory. Here the race
// detector finds a transport that does.
func TestRecordsAreNotReadAfterPut(t *testing.T) {
	c, _ := newFake(t, nil)
	var transport readerAfterAnswer
	c.transport = &transport
	data := bytes.Repeat([]byte("z"), 1<<19)
	for range 10 {
		if result := c.Probe(t.Context(), []Record{{"key", [][]byte{data}}}); result.Requests != 1 || outcomesOf(result) != "u" {
			t.Errorf("%+v", result)
		}
		clear(data)
	}
	transport.reading.Wait()
}

// pipedClient makes a Client whose connections are in memory, for fake time. serve is called for each, with its number
// from 0. It may read from another reader than the connection itself.
func pipedClient(t *testing.T, change func(*Config), serve func(n int, conn net.Conn)) *Client {
	t.Helper()
	cfg := testConfig("logs")
	cfg.EndpointURL = "http://kinesis.test"
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	connections := -1
	var running sync.WaitGroup
	c.transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		connections++
		n := connections
		running.Go(func() {
			defer theirs.Close()
			serve(n, theirs)
		})
		return ours, nil
	}
	t.Cleanup(func() {
		c.transport.CloseIdleConnections()
		running.Wait()
	})
	return c
}

// A request without an answer is given up early enough for a retry over another connection.
func TestHangingServerLeavesTimeForARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipedClient(t, nil, func(n int, conn net.Conn) {
			r := bufio.NewReader(conn)
			takeRequest(r)
			if n == 1 {
				answerOneStored(conn)
			}
			_, _ = r.Peek(1) // until the client is gone
		})
		began := time.Now()
		if result := c.Put(t.Context(), recordsOf("a")); result.Requests != 2 || outcomesOf(result) != "s" {
			t.Errorf("%+v", result)
		}
		if took := time.Since(began); took < maxAttemptTime || took > maxAttemptTime+2*baseBackoff {
			t.Errorf("took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		c.transport.CloseIdleConnections()
		result := c.Put(ctx, recordsOf("a"))
		checkError(t, result.Err, true, KindNetwork, "no answer from kinesis.test")
	})
}

// A slow upload is not cut off in favour of a retry, which would not be faster.
func TestSlowUploadIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipedClient(t, func(c *Config) { c.MaxRecordBytes = 10 << 20 }, func(_ int, conn net.Conn) {
			for r := bufio.NewReader(slowReader{conn, &route{rate: 6_000_000}}); takeRequest(r); {
				answerOneStored(conn)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond) // 7 MB in base64 take 1.2 s
		defer cancel()
		result := c.Put(ctx, []Record{{"key", [][]byte{bytes.Repeat([]byte("z"), 5<<20)}}})
		if outcomesOf(result) != "s" || result.Requests != 1 {
			t.Errorf("outcome %s after %d requests: %v", outcomesOf(result), result.Requests, result.Err)
		}
	})
}

// The error for a refused connection names the endpoint, or the proxy.
func TestConnectionRefused(t *testing.T) {
	cfg := testConfig("logs")
	cfg.EndpointURL = "http://127.0.0.1:1"
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	checkError(t, c.Probe(t.Context(), recordsOf("a")).Err, true, KindNetwork, "no connection to 127.0.0.1:1: ")
	cfg.EndpointURL, cfg.Proxy = "http://kinesis.invalid", http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	checkError(t, c.Probe(t.Context(), recordsOf("a")).Err, true, KindNetwork, "no connection to the proxy")
}

// The first Put uses the connection that Warm opened. A Put after an idle time uses a new one, which resumes the TLS
// session.
func TestFirstPutUsesTheConnectionOfWarm(t *testing.T) {
	var connections atomic.Int32
	var resumed atomic.Bool
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			if r.Header.Get("Authorization") != "" || r.ContentLength > 0 {
				t.Errorf("the request of Warm has a signature or a body: %v", r.Header)
			}
			http.Error(w, "unknown operation", http.StatusNotFound)
			return
		}
		resumed.Store(r.TLS.DidResume)
		_, _ = io.WriteString(w, oneStored)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	cfg := testConfig("logs")
	cfg.EndpointURL = server.URL
	cfg.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.transport.CloseIdleConnections()
	c.Warm(t.Context())
	if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || connections.Load() != 1 {
		t.Errorf("the first Put: %v, over connection %d", result.Err, connections.Load())
	}
	now := c.clock
	c.clock = func() instant {
		later := now()
		return instant{later.wall.Add(5 * time.Second), later.mono + 5*time.Second}
	}
	if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || connections.Load() != 2 || !resumed.Load() {
		t.Errorf("after an idle time: %v, over connection %d, session resumed: %t", result.Err, connections.Load(), resumed.Load())
	}
}

// Warm reports no failure. The next Put does.
func TestWarmReportsNoFailure(t *testing.T) {
	cfg := testConfig("logs")
	cfg.EndpointURL = "http://127.0.0.1:1"
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Warm(t.Context())
	checkError(t, c.Probe(t.Context(), recordsOf("a")).Err, true, KindNetwork, "refused")
}

// The client uses HTTP/1.1, trusts the configured CA bundle, and reports a certificate that it does not trust.
func TestTLS(t *testing.T) {
	var protocol string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol = r.Proto
		if r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("asks for %s", r.Header.Get("Accept-Encoding"))
		}
		_, _ = io.WriteString(w, oneStored)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the refused handshake
	server.StartTLS()
	defer server.Close()
	cfg := testConfig("logs")
	cfg.EndpointURL = server.URL

	cfg.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || protocol != "HTTP/1.1" {
		t.Errorf("over %s: %v", protocol, result.Err)
	}
	c.transport.CloseIdleConnections()

	cfg.CABundle = nil
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	result := c.Put(t.Context(), recordsOf("a"))
	checkError(t, result.Err, true, KindNetwork, "is there a proxy in between? Name its CA in AWS_CA_BUNDLE")
	if result.Requests > permanentRequests {
		t.Errorf("%d requests", result.Requests)
	}
}

// Requests go through the configured proxy.
func TestProxy(t *testing.T) {
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		_, _ = io.WriteString(w, oneStored)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig("logs")
	cfg.EndpointURL, cfg.Proxy = "http://kinesis.invalid/", http.ProxyURL(at)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.transport.CloseIdleConnections()
	if result := c.Put(t.Context(), recordsOf("a")); result.Err != nil || asked != "http://kinesis.invalid/" {
		t.Errorf("the proxy was asked for %q: %v", asked, result.Err)
	}
}

// A connection may be dead after an idle time, or if the clocks moved apart.
func TestMayBeDead(t *testing.T) {
	base := instant{time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC), time.Hour}
	for _, c := range []struct {
		name       string
		wall, mono time.Duration
		want       bool
	}{
		{"at once", 0, 0, false},
		{"shortly after", 3 * time.Second, 3 * time.Second, false},
		{"too long", 5 * time.Second, 5 * time.Second, true},
		{"frozen, the monotonic clock stopped", 2 * time.Second, 10 * time.Millisecond, true},
		{"frozen for hours", 5 * time.Hour, 10 * time.Millisecond, true},
		{"the wall clock stopped", 0, 2 * time.Second, true},
		{"the wall clock was set back", -time.Hour, time.Second, true},
		{"the wall clock was adjusted by a little", 1200 * time.Millisecond, time.Second, false},
	} {
		if got := mayBeDead(base, instant{base.wall.Add(c.wall), base.mono + c.mono}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// The connection is closed before a Put that follows a freeze or an idle time.
func TestConnectionIsClosedAfterAFreeze(t *testing.T) {
	c, f := newFake(t, nil)
	now := instant{time.Now().Round(0), 0}
	c.clock = func() instant { return now }
	c.Put(t.Context(), recordsOf("a"))
	for _, s := range []struct {
		wall, mono time.Duration
		closed     int
	}{
		{time.Second, time.Second, 0},
		{time.Minute, time.Millisecond, 1},
		{time.Second, time.Second, 0},
		{5 * time.Second, 5 * time.Second, 1},
	} {
		now.wall, now.mono, f.closed = now.wall.Add(s.wall), now.mono+s.mono, 0
		if c.Put(t.Context(), recordsOf("a")); f.closed != s.closed {
			t.Errorf("after %v by the wall clock, %v by the monotonic clock: closed %d times, want %d", s.wall, s.mono, f.closed, s.closed)
		}
	}
}
