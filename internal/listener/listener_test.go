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

// testListener is a listener and what it hands on.
type testListener struct {
	*testing.T
	*Listener
	client http.Client

	mu  sync.Mutex
	got []string // elements: Raw, or what is odd
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
			r.got = append(r.got, malformedElement)
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

// shutDown shuts the listener down and returns all that it handed on.
func (r *testListener) shutDown() []string {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.Error(err)
	}
	return r.elements()
}

// dial connects and sends a text.
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

func TestAnswers200WhateverTheBody(t *testing.T) {
	for _, test := range oddBodies {
		r := startListener(t)
		r.post(test.body)
		if got := r.shutDown(); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// What is not UTF-8 is replaced in the event that holds it. A character that is cut over two POSTs is whole.
func TestReplacesWhatIsNotUTF8(t *testing.T) {
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

// Bodies up to the bound arrive whole, with and without a Content-Length; of longer ones what is whole within it.
func TestLargeBodies(t *testing.T) {
	big := `{"time":"t","type":"function","record":"` + strings.Repeat("x", 4<<20) + `"}`
	exact := `[{"time":"t","type":"function","record":"`
	exact += strings.Repeat("x", MaxBody-len(exact)-len(`"}]`)) + `"}]`
	for _, test := range []struct {
		name, body string
		want       []string
	}{
		{"exactly the bound", exact, []string{strings.Trim(exact, "[]")}},
		{"a byte more", exact + " ", []string{"truncated", strings.Trim(exact, "[]")}},
		{"over the bound", "[" + event(1) + "," + big + "," + big + "]", []string{"truncated", event(1), big, malformedElement}},
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
				t.Errorf("%s, chunked %t: status %d, %d elements, not %d", test.name, chunked, response.StatusCode, len(got), len(test.want))
			}
		}
	}
}

// A sender that goes away in the middle of the body: what came is kept. A half still waits for its other, which is posted again.
func TestBodyThatBreaksOff(t *testing.T) {
	breakOff := func(r *testListener, body string) {
		connection := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + body)
		if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, _ := io.ReadAll(connection); !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			t.Errorf("answered %q", answer)
		}
	}
	r := startListener(t)
	breakOff(r, "["+event(1)+","+event(2)[:20])
	if got, want := r.shutDown(), []string{"truncated", event(1), malformedElement}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r = startListener(t)
	bodies := postBodies(250, []string{randomLogs{}.long(300), event(1)})
	r.post(bodies[0])
	breakOff(r, bodies[1][:90])
	r.post(bodies[1])
	if got, want := r.shutDown(), []string{"truncated", randomLogs{}.long(300), event(1)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The answer tells that the events were handed on: what is not answered Lambda posts again.
func TestAnswersWhenTheEventsAreHandedOn(t *testing.T) {
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
		t.Error("answered before its events were handed on", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// A bug in what comes behind is the guard's, and does not stop the POSTs after it.
func TestPanicOfTheReceiver(t *testing.T) {
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

// Order is that of the POSTs, whatever connections the sender uses.
func TestOrderWithAConnectionForEachPOST(t *testing.T) {
	r := startListener(t)
	r.client.Transport.(*http.Transport).DisableKeepAlives = true
	filler := `{"time":"t","type":"function","record":[` + strings.TrimSuffix(strings.Repeat("1,", 1<<17), ",") + `]}`
	var want []string
	for n := range 50 {
		body := filler + "," + event(n)
		if n%2 == 1 {
			body = event(n) // read and split at once
		}
		r.post("[" + body + "]")
		want = append(want, event(n))
	}
	got := slices.DeleteFunc(r.shutDown(), func(element string) bool { return element == filler })
	overtaken := 0
	for i := range got {
		if got[i] != want[i] {
			overtaken++
		}
	}
	if overtaken > 0 || len(got) != len(want) {
		t.Errorf("%d of %d POSTs were handed on, %d of them out of order", len(got), len(want), overtaken)
	}
}

// A body that is posted again because its answer was lost is answered and not taken twice. It is one of the last two: bodies that
// are the same by chance lie further apart.
func TestPostedAgain(t *testing.T) {
	r := startListener(t)
	a, b, c := "[\n"+event(1)+"\n]", "["+event(2)+"]", "["+event(3)+"]"
	for _, body := range []string{a, a, b, a, b, c, a} {
		r.post(body)
	}
	if got, want := r.shutDown(), []string{event(1), event(2), event(3), event(1)}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// long is an event of n bytes and more with one and the same character.
func (randomLogs) long(n int) string {
	return `{"time":"2026-11-23T18:00:00.000Z","type":"function","record":"` + strings.Repeat("x", n) + `"}`
}

// The pieces in the middle of one event may be the same bytes. Its first piece and its last are recognised.
func TestPiecesThatAreTheSame(t *testing.T) {
	r := startListener(t)
	long := randomLogs{}.long(1000)
	bodies := postBodies(200, []string{event(1), long, event(2)})
	if !slices.Contains(bodies[2:], bodies[1]) {
		t.Fatalf("no pieces are the same: %q", bodies)
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

// Connections on which nothing comes, or not all, cost nothing but themselves, whatever they announce.
func TestHalfOpenPOSTs(t *testing.T) {
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
		t.Errorf("%d of 10 POSTs were handed on", len(got))
	}
}

func TestHeaderIsBounded(t *testing.T) {
	connection := startListener(t).dial("POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n")
	if answer, _ := io.ReadAll(connection); !bytes.HasPrefix(answer, []byte("HTTP/1.1 431")) {
		t.Errorf("answered %q", answer)
	}
}

// What was answered was handed on before Shutdown returned, and nothing is handed on after it; also when its time is over while
// POSTs are under way.
func TestShutdown(t *testing.T) {
	for _, patience := range []time.Duration{time.Minute, 5 * time.Millisecond, 0} {
		var down atomic.Bool
		var taken, late, answered atomic.Int32
		busy, goOn := make(chan struct{}, 100), make(chan struct{})
		l, err := Listen(1<<20, func(Batch) {
			busy <- struct{}{}
			<-goOn // a slow processor
			taken.Add(1)
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
					return // cut off: not answered
				}
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					answered.Add(1)
				}
			})
		}
		<-busy
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		time.AfterFunc(min(patience, 5*time.Millisecond)+20*time.Millisecond, func() { close(goOn) })
		err = l.Shutdown(ctx)
		down.Store(true)
		handedOn := taken.Load()
		if patience == time.Minute && err != nil || patience < time.Minute && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("within %s: %v", patience, err)
		}
		cancel()
		senders.Wait()
		if patience == time.Minute && answered.Load() != handedOn {
			t.Errorf("%d of the %d POSTs that were handed on were answered", answered.Load(), handedOn)
		}
		time.Sleep(50 * time.Millisecond)
		if late.Load() > 0 || taken.Load() != handedOn || answered.Load() > handedOn || handedOn == 0 {
			t.Errorf("within %s: answered %d, handed on %d, %d after Shutdown", patience, answered.Load(), handedOn, taken.Load()-handedOn)
		}
	}
}

// Connections on which nothing comes do not outlive the listener.
func TestShutdownHangsUp(t *testing.T) {
	r := startListener(t)
	connection := r.dial("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[")
	r.post("[" + event(1) + "]") // over a connection that is accepted after that one
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

// POSTs that wait for their turn when time is over are told that they were not taken, if anything.
func TestPOSTThatIsNotTaken(t *testing.T) {
	r := startListener(t)
	r.shutDown()
	if r.Listener.process([]byte("["+event(1)+"]"), true) || len(r.elements()) > 0 {
		t.Errorf("taken after the end: %q", r.elements())
	}
}

// A half whose other did not come before the end, or with the next POST, has its place among the events.
func TestHalfThatIsAlone(t *testing.T) {
	half := "[" + event(1) + "," + event(2)[:len(event(2))-4] + "}]"
	r := startListener(t)
	r.post(half)
	if got, want := r.shutDown(), []string{event(1), malformedElement}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r = startListener(t)
	r.post(half)
	r.post("[" + event(3) + "," + event(4) + "]")
	if got, want := r.shutDown(), []string{event(1), malformedElement, event(3), event(4)}; !slices.Equal(got, want) {
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
		copy(body[len(body)-6:], fmt.Sprintf("%03d", n%1000)) // not posted again
		response, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
}
