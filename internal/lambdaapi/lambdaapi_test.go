package lambdaapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server that returns the given responses in order, each with its status in front. It records the requests.
func serve(t *testing.T, responses ...string) (client *Client, requests *[]string) {
	t.Helper()
	requests = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Host != r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() {
			t.Errorf("Host is %s", r.Host)
		}
		if isJSON := r.Header.Get("Content-Type") == "application/json"; isJSON != (len(body) > 0) {
			t.Errorf("Content-Type is %q, the body is %q", r.Header.Get("Content-Type"), body)
		}
		name := r.Header.Get(headerName) + r.Header.Get(headerIdentifier) + r.Header.Get(headerErrorType)
		*requests = append(*requests, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, name, body))
		w.Header().Set(headerIdentifier, "the-id")
		var status int
		response := responses[len(*requests)-1]
		fmt.Sscan(response, &status)
		w.WriteHeader(status)
		fmt.Fprint(w, strings.TrimPrefix(response, fmt.Sprint(status)))
	}))
	t.Cleanup(server.Close)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be used
	return New(strings.TrimPrefix(server.URL, "http://")), requests
}

// Each call sends the documented request and decodes the response.
func TestCalls(t *testing.T) {
	client, requests := serve(t,
		`200 {"functionName":"f","functionVersion":"7","handler":"h","accountId":"123456789012"}`,
		`200 "OK"`,
		`200 {"eventType":"INVOKE","deadlineMs":1764000000123,"requestId":"r","invokedFunctionArn":"arn","tracing":{"type":"X"},"new":[1]}`,
		`200 {"eventType":"SHUTDOWN","deadlineMs":0,"shutdownReason":"SPINDOWN"}`,
	)
	registration, err := client.Register(t.Context(), "name", Invoke, Shutdown)
	if err != nil || registration != (Registration{"f", "7", "123456789012"}) {
		t.Fatal(registration, err)
	}
	if err := client.Subscribe(t.Context(), 4711, Buffering{10000, 1 << 20, 25 * time.Millisecond}, Platform, Function); err != nil {
		t.Fatal(err)
	}
	invoke, err := client.Next(t.Context())
	if err != nil || invoke != (Event{Type: Invoke, Deadline: time.UnixMilli(1764000000123), RequestID: "r"}) {
		t.Fatal(invoke, err)
	}
	shutdown, err := client.Next(t.Context())
	if err != nil || shutdown != (Event{Type: Shutdown, ShutdownReason: "spindown"}) {
		t.Fatal(shutdown, err)
	}
	want := []string{
		`POST /2020-01-01/extension/register name {"events":["INVOKE","SHUTDOWN"]}`,
		`PUT /2022-07-01/telemetry the-id {"schemaVersion":"2025-01-29","types":["platform","function"],` +
			`"buffering":{"maxItems":10000,"maxBytes":1048576,"timeoutMs":25},` +
			`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4711"}}`,
		`GET /2020-01-01/extension/event/next the-id `,
		`GET /2020-01-01/extension/event/next the-id `,
	}
	if strings.Join(*requests, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(*requests, "\n"), strings.Join(want, "\n"))
	}
}

// A line break in the executable's name, which is the extension's, does not end the header.
func TestLineBreakInName(t *testing.T) {
	client, requests := serve(t, `200 {}`)
	if _, err := client.Register(t.Context(), "a\r\nb: c\n", Shutdown); err != nil {
		t.Fatal(err)
	}
	if want := `POST /2020-01-01/extension/register a  b: c {"events":["SHUTDOWN"]}`; (*requests)[0] != want {
		t.Errorf("got %q, want %q", (*requests)[0], want)
	}
}

// A response with an unexpected status or body is an error that reports the response, never a panic and never a success.
func TestErrorResponses(t *testing.T) {
	for _, test := range []struct {
		response string
		want     StatusError
	}{
		{
			`403 {"errorType":"Extension.InvalidEventType","errorMessage":"no INVOKE here"}`,
			StatusError{"next", 403, "Extension.InvalidEventType", "no INVOKE here"},
		},
		{`202 {"errorType":"Telemetry.NotSupported"}`, StatusError{"next", 202, "Telemetry.NotSupported", ""}},
		{`500 oops`, StatusError{"next", 500, "", "oops"}},
		{`404`, StatusError{"next", 404, "", ""}},
	} {
		client, _ := serve(t, test.response)
		_, err := client.Next(t.Context())
		var status *StatusError
		if !errors.As(err, &status) || *status != test.want {
			t.Errorf("%s: %v", test.response, err)
		}
	}
	client, _ := serve(t, `200 not json`)
	if _, err := client.Next(t.Context()); err == nil {
		t.Error("a response that is not JSON was accepted as an event")
	}
}

// init/error has the error in its header and body, and 202 is its success.
func TestInitError(t *testing.T) {
	client, requests := serve(t, `202 {"status":"OK"}`, `403 {"errorMessage":"no"}`)
	if err := client.InitError(t.Context(), "Extension.X", "a \"quote\""); err != nil {
		t.Error(err)
	}
	const want = `POST /2020-01-01/extension/init/error Extension.X {"errorMessage":"a \"quote\"","errorType":"Extension.X"}`
	if (*requests)[0] != want {
		t.Errorf("got %s, want %s", (*requests)[0], want)
	}
	if err := client.InitError(t.Context(), "Extension.X", ""); err == nil || err.Error() != "init/error returned status 403: no" {
		t.Error(err)
	}
}

// A call without a response ends with its context. The error names the call.
func TestTimeouts(t *testing.T) {
	block := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer server.Close()
	defer close(block)
	client := New(strings.TrimPrefix(server.URL, "http://"))
	for name, call := range map[string]func(context.Context) error{
		"register":   func(ctx context.Context) error { _, err := client.Register(ctx, "name", Invoke); return err },
		"next":       func(ctx context.Context) error { _, err := client.Next(ctx); return err },
		"subscribe":  func(ctx context.Context) error { return client.Subscribe(ctx, 1, Buffering{}, Platform) },
		"init/error": func(ctx context.Context) error { return client.InitError(ctx, "Extension.X", "x") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// Calls share a connection as long as Lambda keeps it in order. A call on a connection that Lambda closed is repeated on a new one,
// unless a part of a response came. Each call gets its own response.
func TestKeptConnection(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	const closing = head + "Connection: close\r\n"
	event := func(id string) string {
		body := `{"requestId":"` + id + `"}`
		return fmt.Sprintf(head+"Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	for name, test := range map[string]struct {
		connections [][]string // the responses of each; after the last one the server closes the connection
		want        string     // the results of calls; "-" is an error
	}{
		"kept":                 {[][]string{{event("1"), event("2"), event("3")}}, "1 2 3"},
		"closed":               {[][]string{{event("1")}, {event("2")}}, "1 2"},
		"closed after request": {[][]string{{event("1"), ""}, {event("2")}}, "1 2"},
		"end announced":        {[][]string{{closing + event("1")[len(head):], event("x")}, {event("2")}}, "1 2"},
		"cut off":              {[][]string{{event("1"), event("2")[:50]}, {event("3")}}, "1 - 3"},
		"cut off at first":     {[][]string{{""}, {event("2")}}, "- 2"},
		"informational":        {[][]string{{"HTTP/1.1 100 Continue\r\n\r\n" + event("1"), event("2")}}, "1 2"},
		"another protocol":     {[][]string{{"HTTP/1.1 101 Switching Protocols\r\n\r\n" + event("x")}, {event("2")}}, "- 2"},
		"surplus":              {[][]string{{event("1") + event("x"), event("x")}, {event("2")}}, "1 2"},
		"late surplus":         {[][]string{{event("1") + " later " + event("x"), event("x")}, {event("2")}}, "1 2"},
		"too long": {
			[][]string{{head + "Transfer-Encoding: chunked\r\n\r\n100000\r\n" + strings.Repeat(" ", 1<<20)}, {event("2")}}, "- 2",
		},
		"endless header": {[][]string{{head + "A: " + strings.Repeat("a", 2<<20)}, {event("2")}}, "- 2"},
	} {
		t.Run(name, func(t *testing.T) {
			address, sent := serveRaw(t, test.connections)
			client := New(address)
			var got []string
			for range strings.Fields(test.want) {
				event, err := client.Next(t.Context())
				if err != nil {
					event.RequestID = "-"
				}
				got = append(got, event.RequestID)
				sent.Wait()
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// serveRaw answers each request of a connection with the next text. It sends what follows " later " 10 ms later. After a text above
// 1 MiB it leaves the connection open. sent waits for texts that are not yet sent.
func serveRaw(t *testing.T, connections [][]string) (address string, sent *sync.WaitGroup) {
	t.Helper()
	sent = new(sync.WaitGroup)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for _, texts := range connections {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				for _, text := range texts {
					if _, err := http.ReadRequest(reader); err != nil {
						return
					}
					sent.Add(1)
					now, later, _ := strings.Cut(text, " later ")
					_, _ = io.WriteString(conn, now)
					if later != "" {
						time.Sleep(10 * time.Millisecond)
						_, _ = io.WriteString(conn, later)
					}
					sent.Done()
					if len(text) > 1<<20 {
						_, _ = reader.ReadByte() // until the client closes the connection
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), sent
}

// A canceled call sends nothing.
func TestCanceledBefore(t *testing.T) {
	const calls = 100
	client, requests := serve(t, slices.Repeat([]string{`200 {}`}, 2*calls)...)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for range calls {
		if _, err := client.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Next(canceled); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if len(*requests) != calls {
		t.Errorf("%d requests for %d calls", len(*requests), calls)
	}
}

// A late response to an interrupted call is not taken for the response to the next one.
func TestLateResponse(t *testing.T) {
	var calls atomic.Int32
	block := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		call := calls.Add(1)
		if call == 2 {
			<-block
		}
		fmt.Fprintf(w, `{"requestId":"%d"}`, call)
	}))
	defer server.Close()
	client := New(strings.TrimPrefix(server.URL, "http://"))
	if event, err := client.Next(t.Context()); err != nil || event.RequestID != "1" {
		t.Fatal(event, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for calls.Load() < 2 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := client.Next(ctx); !errors.Is(err, context.Canceled) || calls.Load() != 2 {
		t.Fatal(calls.Load(), err)
	}
	close(block)
	if event, err := client.Next(t.Context()); err != nil || event.RequestID != "3" {
		t.Fatal(event, err)
	}
}

// A call may run while Next blocks.
func TestCallBesideNext(t *testing.T) {
	waiting, released := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			close(waiting)
			<-released
		}
		fmt.Fprint(w, `{}`)
	}))
	defer server.Close()
	client := New(strings.TrimPrefix(server.URL, "http://"))
	ended := make(chan error)
	go func() { _, err := client.Next(t.Context()); ended <- err }()
	<-waiting
	if err := client.Subscribe(t.Context(), 1, Buffering{}, Platform); err != nil {
		t.Error(err)
	}
	close(released)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzStatusError(f *testing.F) {
	f.Add([]byte(`{"errorType":"a","errorMessage":"b"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := newStatusError("next", 500, body)
		if len(err.Detail) > max(200, len(body)) || !strings.Contains(err.Error(), "500") {
			t.Errorf("%q became %v", body, err)
		}
		if err.Type != "" && !json.Valid(body) {
			t.Errorf("%q is not JSON, but the error has the type %q", body, err.Type)
		}
	})
}
