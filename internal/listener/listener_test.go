package listener

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// start returns a listener, and what it receives.
func start(t testing.TB) (url string, batches chan []string) {
	t.Helper()
	batches = make(chan []string, 100)
	l, err := Listen(func(b Batch) {
		got := []string{fmt.Sprintf("malformed=%d repaired=%t truncated=%t", b.Malformed, b.Repaired, b.Truncated)}
		for _, e := range b.Events {
			got = append(got, string(e.Raw))
		}
		batches <- got
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("http://127.0.0.1:%d/any/path", l.Port()), batches
}

func TestAnswers200WhateverTheBody(t *testing.T) {
	url, batches := start(t)
	for _, test := range oddBodies {
		response, err := http.Post(url, "application/json", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		want := append([]string{fmt.Sprintf("malformed=%d repaired=false truncated=false", test.malformed)}, test.want...)
		if got := <-batches; response.StatusCode != http.StatusOK || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: status %d, got %q, want %q", test.name, response.StatusCode, got, want)
		}
	}
}

func TestReplacesWhatIsNotUTF8(t *testing.T) {
	url, batches := start(t)
	body := "[" + strings.Replace(event(1), "line", "l\xffne", 1) + "," + event(2) + "]"
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	want := []string{"malformed=0 repaired=true truncated=false", strings.Replace(event(1), "line", "l\uFFFDne", 1), event(2)}
	if got := <-batches; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Bodies up to the bound arrive whole, with and without a Content-Length; of longer ones what is whole within it.
func TestLargeBodies(t *testing.T) {
	url, batches := start(t)
	big := `{"time":"t","type":"function","record":"` + strings.Repeat("x", 4<<20) + `"}`
	for _, test := range []struct {
		name, body, want string
		chunked          bool
	}{
		{"5 MiB", "[" + big + "," + strings.Repeat(event(1)+",", 10000) + event(2) + "]", "malformed=0 repaired=false truncated=false", false},
		{"5 MiB in chunks", "[" + big + "," + event(2) + "]", "malformed=0 repaired=false truncated=false", true},
		{"over the bound", "[" + event(1) + "," + big + "," + big + "]", "malformed=1 repaired=false truncated=true", false},
		{"over the bound in chunks", "[" + event(1) + "," + big + "," + big + "]", "malformed=1 repaired=false truncated=true", true},
	} {
		var body io.Reader = strings.NewReader(test.body)
		if test.chunked {
			body = io.MultiReader(body) // hides the length
		}
		response, err := http.Post(url, "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := <-batches; response.StatusCode != http.StatusOK || got[0] != test.want || len(got) < 3 {
			t.Errorf("%s: status %d, %s, %d events", test.name, response.StatusCode, got[0], len(got)-1)
		}
	}
}

// A sender that goes away in the middle of the body: what came is kept.
func TestBodyThatBreaksOff(t *testing.T) {
	url, batches := start(t)
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/any/path")
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(connection, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n[%s,%s", event(1), event(2)[:20])
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(connection)
	connection.Close()
	if got := <-batches; !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) || len(got) != 2 || got[1] != event(1) || !strings.Contains(got[0], "truncated=true") {
		t.Errorf("answered %q, got %q", answer, got)
	}
}

// The answer does not wait for the receiver.
func TestAnswersBeforeTheReceiverIsDone(t *testing.T) {
	release := make(chan struct{})
	l, err := Listen(func(Batch) { <-release }, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())
	defer close(release)
	response, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", l.Port()), "application/json", strings.NewReader("["+event(1)+"]"))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()
}

func BenchmarkListener(b *testing.B) {
	l, err := Listen(func(Batch) {}, func() {})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Shutdown(b.Context())
	body := []byte("[" + strings.Repeat(event(1)+",", 1<<20/len(event(1))) + event(2) + "]")
	url := fmt.Sprintf("http://127.0.0.1:%d/", l.Port())
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		response, err := http.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
}
