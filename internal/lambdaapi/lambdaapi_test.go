package lambdaapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve answers each call with the next of the given bodies, a status before each, and keeps what was asked.
func serve(t *testing.T, answers ...string) (client *Client, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = append(*asked, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get(headerName)+r.Header.Get(headerIdentifier), body))
		w.Header().Set(headerIdentifier, "the-id")
		var status int
		answer := answers[len(*asked)-1]
		fmt.Sscan(answer, &status)
		w.WriteHeader(status)
		fmt.Fprint(w, strings.TrimPrefix(answer, fmt.Sprint(status)))
	}))
	t.Cleanup(server.Close)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // must not be asked
	return New(strings.TrimPrefix(server.URL, "http://")), asked
}

func TestLife(t *testing.T) {
	client, asked := serve(t,
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
			`"buffering":{"maxItems":10000,"maxBytes":1048576,"timeoutMs":25},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4711"}}`,
		`GET /2020-01-01/extension/event/next the-id `, `GET /2020-01-01/extension/event/next the-id `,
	}
	if strings.Join(*asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(*asked, "\n"), strings.Join(want, "\n"))
	}
}

// Whatever a call is answered, it is an error that says what came, never a panic and never a success.
func TestOddAnswers(t *testing.T) {
	for _, test := range []struct {
		answer string
		want   StatusError
	}{
		{`403 {"errorType":"Extension.InvalidEventType","errorMessage":"no INVOKE here"}`, StatusError{"next", 403, "Extension.InvalidEventType", "no INVOKE here"}},
		{`202 {"errorType":"Telemetry.NotSupported"}`, StatusError{"next", 202, "Telemetry.NotSupported", ""}},
		{`500 oops`, StatusError{"next", 500, "", "oops"}},
		{`404`, StatusError{"next", 404, "", ""}},
	} {
		client, _ := serve(t, test.answer)
		_, err := client.Next(t.Context())
		var status *StatusError
		if !errors.As(err, &status) || *status != test.want {
			t.Errorf("%s: %v", test.answer, err)
		}
	}
	client, _ := serve(t, `200 not json`)
	if _, err := client.Next(t.Context()); err == nil {
		t.Error("an answer that is not JSON was taken for an event")
	}
}

// A call that is never answered ends with its context, and says which one it was.
func TestNeverAnswered(t *testing.T) {
	hung := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
	defer server.Close()
	defer close(hung)
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

func FuzzStatusError(f *testing.F) {
	f.Add([]byte(`{"errorType":"a","errorMessage":"b"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := newStatusError("next", 500, body)
		if len(err.Detail) > max(200, len(body)) || !strings.Contains(err.Error(), "500") {
			t.Errorf("%q gave %v", body, err)
		}
		if err.Type != "" && !json.Valid(body) {
			t.Errorf("%q has no type %q", body, err.Type)
		}
	})
}
