package listener

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testListener is a listener that records the elements it receives.
type testListener struct {
	*testing.T
	*Listener
	client http.Client

	mu  sync.Mutex
	got []string // Raw of each element, or its problem
}

func startListener(t *testing.T) *testListener {
	t.Helper()
	r := &testListener{T: t}
	r.client.Transport = &http.Transport{}
	t.Cleanup(r.client.CloseIdleConnections)
	var err error
	if r.Listener, err = Listen(1<<20, r.receiveBatch, func() {}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.shutDown() })
	return r
}

func (r *testListener) receiveBatch(b Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.Truncated {
		r.got = append(r.got, "truncated")
	}
	for _, e := range b.Events {
		switch {
		case e.Raw == nil:
			r.got = append(r.got, malformed)
		case e.Repaired:
			r.got = append(r.got, "repaired "+string(e.Raw))
		default:
			r.got = append(r.got, string(e.Raw))
		}
	}
}

func (r *testListener) elements() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *testListener) url() string { return fmt.Sprintf("http://127.0.0.1:%d/any/path", r.Port()) }

// post posts a body, which must be answered with 200.
func (r *testListener) post(body string) {
	r.Helper()
	response, err := r.client.Post(r.url(), "application/json", strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		r.Errorf("%.100s: status %d", body, response.StatusCode)
	}
}

// shutDown shuts the listener down and returns all received elements.
func (r *testListener) shutDown() []string {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.Error(err)
	}
	return r.elements()
}

// dial opens a connection and sends a text.
func (r *testListener) dial(text string) net.Conn {
	r.Helper()
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.Port()))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { connection.Close() })
	if _, err := io.WriteString(connection, text); err != nil {
		r.Fatal(err)
	}
	return connection
}

// The listener answers 200 to every body, even a malformed one.
func TestAnswers200ToEveryBody(t *testing.T) {
	for _, test := range malformedBodies {
		r := startListener(t)
		r.post(test.body)
		if got := r.shutDown(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Bytes that are not UTF-8 are replaced in their event. A character that is cut into two POSTs is kept.
func TestReplacesInvalidUTF8(t *testing.T) {
	broken := strings.Replace(event(1), "line", "l\xff\xfene", 1)
	long := strings.Replace(event(2), "line", "lé\xffne", 1)
	envelope, rest, _ := strings.Cut(long, "\xa9")
	envelope, rest = envelope[:strings.Index(envelope, recordKey)+len(recordKey)], "\xa9"+rest
	r := startListener(t)
	r.post("[" + broken + "," + event(3) + "," + strings.TrimSuffix(long, rest) + "}]")
	r.post("[" + envelope + rest + "," + event(4) + "]")
	want := []string{
		"repaired " + strings.Replace(event(1), "line", "l\uFFFDne", 1), event(3),
		"repaired " + strings.Replace(event(2), "line", "lé\uFFFDne", 1), event(4),
	}
	if got := r.shutDown(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Bodies up to MaxBody are read whole, with and without a Content-Length. Of a longer body, the complete events within MaxBody arrive.
func TestLargeBodies(t *testing.T) {
	big := `{"time":"t","type":"function","record":"` + strings.Repeat("x", 4<<20) + `"}`
	exact := `[{"time":"t","type":"function","record":"`
	exact += strings.Repeat("x", MaxBody-len(exact)-len(`"}]`)) + `"}]`
	for _, test := range []struct {
		name, body string
		want       []string
	}{
		{"exactly MaxBody", exact, []string{strings.Trim(exact, "[]")}},
		{"one byte more", exact + " ", []string{"truncated", strings.Trim(exact, "[]")}},
		{"far more", "[" + event(1) + "," + big + "," + big + "]", []string{"truncated", event(1), big, malformed}},
	} {
		for _, chunked := range []bool{false, true} {
			r := startListener(t)
			var body io.Reader = strings.NewReader(test.body)
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			response, err := r.client.Post(r.url(), "application/json", body)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := r.shutDown(); response.StatusCode != http.StatusOK || !slices.Equal(got, test.want) {
				t.Errorf("%s, chunked %t: status %d, %d elements, want %d", test.name, chunked, response.StatusCode, len(got), len(test.want))
			}
		}
	}
}

// If a sender disconnects within a body, the received part is kept. A partial event still waits for its next piece, because Lambda
// repeats the POST.
func TestInterruptedBodyKeepsTheReceivedPart(t *testing.T) {
	disconnect := func(r *testListener, body string) {
		connection := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + body)
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, _ := io.ReadAll(connection); !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			t.Errorf("answered %q", answer)
		}
	}
	r := startListener(t)
	disconnect(r, "["+event(1)+","+event(2)[:20])
	if got, want := r.shutDown(), []string{"truncated", event(1), malformed}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r = startListener(t)
	bodies := postBodies(250, []string{longEvent(300), event(1)})
	r.post(bodies[0])
	disconnect(r, bodies[1][:90])
	r.post(bodies[1])
	if got, want := r.shutDown(), []string{"truncated", longEvent(300), event(1)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A POST is answered after receive has its events, because Lambda repeats an unanswered POST.
func TestAnswersAfterReceive(t *testing.T) {
	release, answered := make(chan struct{}), make(chan error)
	l, err := Listen(1<<20, func(Batch) { <-release }, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())
	go func() {
		response, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", l.Port()), "application/json", strings.NewReader("["+event(1)+"]"))
		if err == nil {
			response.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Error("answered before the events were received", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// guard recovers from a panic in receive, and later POSTs are received.
func TestPanicInReceiveIsRecovered(t *testing.T) {
	var received, panicked atomic.Int32
	l, err := Listen(1<<20, func(Batch) {
		received.Add(1)
		panic("a bug")
	}, func() {
		if recover() != nil {
			panicked.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())
	for n := range 3 {
		response, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", l.Port()), "application/json", strings.NewReader("["+event(n)+"]"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	if received.Load() != 3 || panicked.Load() != 3 {
		t.Errorf("received %d, panicked %d", received.Load(), panicked.Load())
	}
}

// Events are received in the order of the POSTs, even if each POST uses its own connection.
func TestOrderAcrossConnections(t *testing.T) {
	r := startListener(t)
	r.client.Transport.(*http.Transport).DisableKeepAlives = true
	filler := `{"time":"t","type":"function","record":[` + strings.TrimSuffix(strings.Repeat("1,", 1<<17), ",") + `]}`
	var want []string
	for n := range 50 {
		body := filler + "," + event(n)
		if n%2 == 1 {
			body = event(n) // small, so that it is split in no time
		}
		r.post("[" + body + "]")
		want = append(want, event(n))
	}
	got := slices.DeleteFunc(r.shutDown(), func(element string) bool { return element == filler })
	outOfOrder := 0
	for i := range got {
		if got[i] != want[i] {
			outOfOrder++
		}
	}
	if outOfOrder > 0 || len(got) != len(want) {
		t.Errorf("%d of %d POSTs were received, %d of them out of order", len(got), len(want), outOfOrder)
	}
}

// If Lambda repeats a POST because the answer was lost, the listener answers it and ignores its events. It compares a body with the
// last two only, because bodies that are equal by chance are further apart.
func TestRepeatedPOSTIsIgnored(t *testing.T) {
	r := startListener(t)
	a, b, c := "[\n"+event(1)+"\n]", "["+event(2)+"]", "["+event(3)+"]"
	for _, body := range []string{a, a, b, a, b, c, a} {
		r.post(body)
	}
	if got, want := r.shutDown(), []string{event(1), event(2), event(3), event(1)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The middle pieces of one event may be identical, and all of them count. A repeated first or last piece is ignored.
func TestIdenticalPiecesAllCount(t *testing.T) {
	r := startListener(t)
	long := longEvent(1000)
	bodies := postBodies(200, []string{event(1), long, event(2)})
	if !slices.Contains(bodies[2:], bodies[1]) {
		t.Fatalf("no pieces are identical: %q", bodies)
	}
	r.post(bodies[0])
	for _, body := range bodies {
		r.post(body)
	}
	r.post(bodies[len(bodies)-1])
	if got, want := r.shutDown(), []string{event(1), long, event(2)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Connections that send nothing, or a part of a POST, do not block other POSTs and allocate little, whatever their Content-Length.
func TestHalfOpenPOSTsDoNotBlockOthers(t *testing.T) {
	r := startListener(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 64 {
		r.dial("")
		r.dial("POST / HTTP/1.1\r\nHost: x\r\n")
		r.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n[", MaxBody))
	}
	for n := range 10 {
		r.post("[" + event(n) + "]")
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
		t.Errorf("%d MiB were allocated for 192 connections that sent nothing", allocated>>20)
	}
	if got := r.elements(); len(got) != 10 {
		t.Errorf("%d of 10 POSTs were received", len(got))
	}
}

// The listener refuses a POST with a header that is too long.
func TestHeaderLimit(t *testing.T) {
	connection := startListener(t).dial("POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n")
	if answer, _ := io.ReadAll(connection); !bytes.HasPrefix(answer, []byte("HTTP/1.1 431")) {
		t.Errorf("answered %q", answer)
	}
}

// Every answered POST is received before Shutdown returns, and receive is not called after that. This also holds if Shutdown times out
// while POSTs are in progress.
func TestShutdown(t *testing.T) {
	for _, timeout := range []time.Duration{time.Minute, 5 * time.Millisecond, 0} {
		var down atomic.Bool
		var received, late, answered atomic.Int32
		receiving, release := make(chan struct{}, 100), make(chan struct{})
		l, err := Listen(1<<20, func(Batch) {
			receiving <- struct{}{}
			<-release // a slow processor
			received.Add(1)
			if down.Load() {
				late.Add(1)
			}
		}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		var senders sync.WaitGroup
		for n := range 8 {
			senders.Go(func() {
				response, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", l.Port()), "application/json", strings.NewReader("["+event(n)+"]"))
				if err != nil {
					return // disconnected, not answered
				}
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					answered.Add(1)
				}
			})
		}
		<-receiving
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		go func() {
			for timeout < time.Minute && !l.closed.Load() { // until Shutdown has given up
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			close(release)
		}()
		err = l.Shutdown(ctx)
		down.Store(true)
		before := received.Load()
		if timeout == time.Minute && err != nil || timeout < time.Minute && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("timeout %s: %v", timeout, err)
		}
		cancel()
		senders.Wait()
		if timeout == time.Minute && answered.Load() != before {
			t.Errorf("%d of %d received POSTs were answered", answered.Load(), before)
		}
		time.Sleep(50 * time.Millisecond)
		if late.Load() > 0 || received.Load() != before || answered.Load() > before || before == 0 {
			t.Errorf("timeout %s: answered %d, received %d before Shutdown returned and %d after that",
				timeout, answered.Load(), before, received.Load()-before)
		}
	}
}

// Shutdown closes connections with an incomplete POST.
func TestShutdownClosesConnections(t *testing.T) {
	r := startListener(t)
	connection := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[")
	r.post("[" + event(1) + "]") // uses a connection that is accepted after the silent one
	r.shutDown()
	if err := connection.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(connection); errors.Is(err, os.ErrDeadlineExceeded) || bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		t.Errorf("answered %q, %v", answer, err)
	}
	if got := r.elements(); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// A POST that waits for its turn during the shutdown is refused, and its events are not received.
func TestPOSTAfterShutdownIsRefused(t *testing.T) {
	r := startListener(t)
	r.shutDown()
	if r.process([]byte("["+event(1)+"]"), true) || len(r.elements()) > 0 {
		t.Errorf("received after Shutdown: %q", r.elements())
	}
}

// If the next piece of an event does not arrive with the next POST, or before Shutdown, the first piece becomes a malformed element, in
// its place among the events.
func TestMissingPieceIsMalformed(t *testing.T) {
	firstPiece := "[" + event(1) + "," + event(2)[:len(event(2))-4] + "}]"
	r := startListener(t)
	r.post(firstPiece)
	if got, want := r.shutDown(), []string{event(1), malformed}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r = startListener(t)
	r.post(firstPiece)
	r.post("[" + event(3) + "," + event(4) + "]")
	if got, want := r.shutDown(), []string{event(1), malformed, event(3), event(4)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkListener(b *testing.B) {
	l, err := Listen(1<<20, func(Batch) {}, func() {})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Shutdown(b.Context())
	body := []byte("[" + strings.Repeat(event(1)+",", 1<<20/len(event(1))) + event(2) + "]")
	url := fmt.Sprintf("http://127.0.0.1:%d/", l.Port())
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		copy(body[len(body)-6:], fmt.Sprintf("%03d", n%1000)) // so that the POST does not count as repeated
		response, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
}
