package kinesis

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// route is a network path to Kinesis, on fake time.
type route struct {
	rate      int           // bytes a second; 0: unlimited
	roundTrip time.Duration // of a request, and of connecting

	stored map[string]int // how often each record was stored, by the last characters of its data
	sizes  []int          // of the requests that arrived completely, in MiB of data, rounded up
}

// client makes a Client whose requests take the route.
func (r *route) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	r.stored = map[string]int{}
	c := pipedClient(t, change, func(_ int, conn net.Conn) {
		slow := bufio.NewReader(slowReader{conn, r})
		for r.serve(conn, slow) {
		}
	})
	transport := c.transport.(*http.Transport)
	connect := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := after(ctx, true, r.roundTrip); err != nil {
			return nil, err
		}
		return connect(ctx, network, address)
	}
	return c
}

// serve stores the records of a request if it arrives completely.
func (r *route) serve(conn net.Conn, from *bufio.Reader) bool {
	req, err := http.ReadRequest(from)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	size := 0
	records := bytes.Split(body, []byte(`{"Data":"`))[1:]
	for _, record := range records {
		data, _, _ := bytes.Cut(record, []byte(`"`))
		r.stored[string(data[len(data)-8:])]++ // backlog puts a number there
		size += len(data) * 3 / 4
	}
	r.sizes = append(r.sizes, (size+1<<20-1)>>20)
	time.Sleep(r.roundTrip)
	answer := `{"Records":[` + strings.Repeat(`{"SequenceNumber":"1"},`, len(records))
	answer = answer[:len(answer)-1] + "]}"
	_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	return err == nil
}

// slowReader reads at the route's rate.
type slowReader struct {
	io.Reader
	route *route
}

func (r slowReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b[:min(len(b), 16<<10)])
	if r.route.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(r.route.rate))
	}
	return n, err
}

// backlog makes records of 128 KiB, each with its own data.
func backlog(count int) []Record {
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{PartitionKey: "key", Data: [][]byte{fmt.Appendf(nil, "%0*d", 128<<10-len("key"), i)}}
	}
	return records
}

// ship delivers records as the Dispatcher does, in flights of 5 MiB and ten seconds, and returns the time that it took.
func ship(t *testing.T, c *Client, records []Record, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for len(records) > 0 && time.Since(began) < within {
		flight := records[:min(40, len(records))]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		result := c.Put(ctx, flight)
		cancel()
		var left []Record
		for i, o := range result.Outcomes {
			if o != Sent {
				left = append(left, flight[i])
			}
		}
		records = append(left, records[len(flight):]...)
	}
	if len(records) > 0 {
		t.Errorf("%d records are left after %v", len(records), within)
	}
	return time.Since(began)
}

// Shipping over a slow path takes little longer than the bytes need, and stores no record twice.
func TestSlowPathStoresNoRecordTwice(t *testing.T) {
	for _, c := range []struct {
		rate      int
		roundTrip time.Duration
		atMost    time.Duration
	}{
		{500_000, 20 * time.Millisecond, 45 * time.Second}, // 14 MB in base64 take 28 s
		{1_000_000, 20 * time.Millisecond, 20 * time.Second},
		{3_000_000, 20 * time.Millisecond, 7 * time.Second},
		{10_000_000, 200 * time.Millisecond, 5 * time.Second}, // another region
	} {
		t.Run(fmt.Sprintf("%d kB/s, %v", c.rate/1000, c.roundTrip), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &route{rate: c.rate, roundTrip: c.roundTrip}
				records := backlog(80)
				took := ship(t, r.client(t, nil), records, c.atMost)
				twice := 0
				for _, times := range r.stored {
					twice += times - 1
				}
				t.Logf("%d of %d records in %v, %d twice; requests of %v MiB", len(r.stored), len(records), took, twice, r.sizes)
				if twice > 0 {
					t.Errorf("%d records are stored twice", twice)
				}
			})
		})
	}
}

// At SHUTDOWN a slow path transfers as much as fits into the time.
func TestSlowShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &route{rate: 3_000_000, roundTrip: 20 * time.Millisecond}
		c := r.client(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // for 4.5 MB, 3.3 MB of data
		defer cancel()
		c.Put(ctx, backlog(40))
		if len(r.stored) < 16 {
			t.Errorf("%d records of 128 KiB", len(r.stored))
		}
	})
}

// Requests start at 1 MiB and grow up to the limit while the path is fast, unless a round trip takes almost no time.
// They shrink after a timeout.
func TestRequestSizeFollowsTheSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &route{roundTrip: 20 * time.Millisecond}
		c := r.client(t, nil)
		sizes := func(count int, want ...int) {
			t.Helper()
			r.sizes = nil
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if result := c.Put(ctx, backlog(count)); result.Err != nil || !slices.Equal(r.sizes, want) {
				t.Errorf("requests of %v MiB, want %v: %v", r.sizes, want, result.Err)
			}
		}
		for range 5 {
			sizes(3, 1) // small requests say nothing about larger ones
		}
		r.roundTrip = minFastTrip
		sizes(24, 1, 1, 1)
		r.roundTrip = 20 * time.Millisecond
		sizes(136, 1, 2, 4, 5, 5)
		r.roundTrip = 300 * time.Millisecond
		sizes(80, 5, 5)
		r.rate = 500_000 // 14 s for 5 MiB
		if result := c.Put(expiring(t, 10*time.Second), backlog(40)); len(r.stored) == 0 || slices.Contains(result.Outcomes, Sent) {
			t.Errorf("%+v", result)
		}
		sizes(20, 3) // half of 5 MiB
		for range 4 {
			c.Put(expiring(t, time.Second), backlog(20))
		}
		sizes(20, 1, 1, 1) // the minimum
		r.rate, r.roundTrip = 0, 20*time.Millisecond
		sizes(80, 1, 2, 4, 3)
	})
}

func expiring(t *testing.T, timeout time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// A limit below 1 MiB is kept.
func TestLimitBelowOneMiBIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &route{}
		c := r.client(t, func(c *Config) { c.MaxRequestBytes = 256 << 10 })
		c.Put(t.Context(), backlog(8))
		if len(r.sizes) != 4 {
			t.Errorf("%d requests", len(r.sizes))
		}
	})
}

// Connecting counts as progress: a far region needs several round trips for its first answer.
func TestConnectingCountsAsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &route{roundTrip: 300 * time.Millisecond}
		c := r.client(t, nil)
		transport := c.transport.(*http.Transport)
		connect := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if err := after(ctx, true, r.roundTrip); err != nil {
				return nil, err
			}
			httptrace.ContextClientTrace(ctx).ConnectDone(network, address, nil) // as net.Dialer does
			return connect(ctx, network, address)                                // as long again, for a handshake
		}
		if result := c.Put(expiring(t, time.Second), backlog(1)); outcomesOf(result) != "s" || result.Requests != 1 {
			t.Errorf("outcome %s after %d requests: %v", outcomesOf(result), result.Requests, result.Err)
		}
	})
}

// A request that was given up does not arrive later from the kernel's buffers, because it is retried. This test runs in
// real time.
func TestGivenUpRequestIsCutOff(t *testing.T) {
	gaveUp, arrived := make(chan struct{}), make(chan bool)
	c := rawServer(t, func(_ int, conn net.Conn, _ *bufio.Reader) {
		_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		<-gaveUp
		arrived <- takeRequest(bufio.NewReader(conn))
	})
	result := c.Probe(expiring(t, 3*time.Second), backlog(6)) // 1 MB fits into the sender's buffers
	close(gaveUp)
	if outcomesOf(result) != "uuuuuu" || <-arrived {
		t.Errorf("outcomes %s, but the request arrived", outcomesOf(result))
	}
}
