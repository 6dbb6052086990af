//go:build unix

package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A streamed response is the concatenation of its chunks. Its duration starts at the first byte.
func TestStreamedResponse(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	e := start(t, testConfig(t, c, "stream", plan{Subscribe: subscribeAll}))
	if r := invoke(t, e, task{}); string(r.Payload) != "part 0;part 1;part 2;" {
		t.Errorf("%+v %s", r, r.Payload)
	}
	shutdown(t, e)
	var done runtimeDoneRecord
	record := ofType(c.checkDelivered("x0"), "platform.runtimeDone")[0].Record
	if err := json.Unmarshal(record, &done); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(done.Spans, func(s spanRecord) bool { return s.Name == "responseDuration" })
	if i < 0 || done.Spans[i].DurationMs < 20 {
		t.Errorf("%s", record)
	}
}

// A process may send a request before it is killed, and a loaded machine may read it after the reset. The request must not
// reach the next generation: there, the runtime's next would take an invocation.
func TestRequestOfAnEarlierGeneration(t *testing.T) {
	t.Parallel()
	e := start(t, testConfig(t, newCollector(t), ""))
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(conn)
	get := func(path string) int {
		t.Helper()
		_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: sandbox\r\n\r\n", path)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if status := get(metadataPath); status != http.StatusUnauthorized { // an answer: the first generation has the connection
		t.Errorf("%d", status)
	}
	invoke(t, e, task{Exit: 3})
	if r := invoke(t, e, task{}); r.Status != statusSuccess {
		t.Errorf("%+v", r)
	}
	if status := get("/2018-06-01/runtime/invocation/next"); status != http.StatusInternalServerError {
		t.Errorf("status %d", status)
	}
	shutdown(t, e)
}

// The APIs reject invalid calls with the status and error type of Lambda or its emulator. No process runs in this test.
func TestAPIs(t *testing.T) {
	t.Parallel()
	cfg, err := Config{Function: Function{Command: []string{"true"}}, Extensions: []Extension{{Path: "ext"}, {Path: "idle"}}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e, err := listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := e.newGeneration("init")
	g.registrations[0].state, g.registrations[1].state = stateStarted, stateStarted
	transport := &http.Transport{DisableKeepAlives: true}
	id := ""
	call := func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if id != "" {
			req.Header.Set(headerExtensionID, id)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if got := resp.Header.Get(headerExtensionID); got != "" {
			id = got
		}
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	check := func(wantStatus int, wantBody string) func(int, string) {
		return func(status int, body string) {
			t.Helper()
			if status != wantStatus || !strings.Contains(body, wantBody) {
				t.Errorf("got %d %s, want %d %s", status, body, wantStatus, wantBody)
			}
		}
	}
	const register, next = "/2020-01-01/extension/register", "/2020-01-01/extension/event/next"
	const telemetry, logs = "/2022-07-01/telemetry", "/2020-08-15/logs"
	good := strings.Replace(subscribeAll, "PORT", "4243", 1)
	check(403, "Extension.InvalidExtensionName")(call("POST", register, `{}`))
	check(403, "InvalidRequestFormat")(call("POST", register, `{`, headerExtensionName, "ext"))
	check(403, "InvalidRequestFormat")(call("POST", register, `{"configurationKeys":["a"]}`, headerExtensionName, "ext"))
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["SOMETHING"]}`, headerExtensionName, "ext"))
	check(403, `"Lambda-Extension-Name \"internal\" is not the file name of an extension that has not registered: ext, idle"`)(
		call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "internal"))
	check(403, "Extension.MissingExtensionIdentifier")(call("GET", next, ""))
	check(403, "Extension.MissingExtensionIdentifier")(call("PUT", telemetry, good))
	id = "not-a-uuid"
	check(403, "Extension.InvalidExtensionIdentifier")(call("GET", next, ""))
	id = newUUID()
	check(403, "Extension.UnknownExtensionIdentifier")(call("GET", next, ""))
	check(200, `{"functionName":"function","functionVersion":"$LATEST","handler":"bootstrap"}`)(
		call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "ext"))
	check(403, "Extension.InvalidExtensionState")(call("POST", register, `{}`, headerExtensionName, "ext"))
	g.mu.Lock()
	g.registrations[1].state = stateRegistered // internal extensions register after all external ones
	g.mu.Unlock()
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "internal"))
	check(400, "ValidationError")(call("PUT", telemetry, strings.Replace(good, "4243", "9001", 1)))
	check(200, `"OK"`)(call("PUT", telemetry, good))
	check(200, `"AlreadySubcribed"`)(call("PUT", telemetry, strings.Replace(good, "sandbox.localdomain", "sandbox", 1)))
	check(200, `"OK"`)(call("PUT", telemetry, strings.Replace(good, "4243", "4244", 1)))
	check(400, "Logs.ValidationError")(call("PUT", logs, good))
	check(403, "Logs.AlreadySubscribed")(call("PUT", logs, strings.Replace(good, "2025-01-29", "2021-03-18", 1)))
	check(403, "Extension.MissingHeader")(call("POST", "/2020-01-01/extension/init/error", `{}`))
	check(200, `"accountId":"123456789012"`)(
		call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "internal", headerExtensionFeature, "other, accountId"))
	check(403, "Extension.InvalidExtensionState")(call("POST", register, `{}`, headerExtensionName, "internal"))
	for i := range 7 {
		check(200, "")(call("POST", register, `{}`, headerExtensionName, fmt.Sprint("internal", i)))
	}
	check(403, "Extension.TooManyExtensions")(call("POST", register, `{}`, headerExtensionName, "one more"))
	g.hub.closeSubscriptions()
	check(403, "Telemetry.SubscriptionClosed")(call("PUT", telemetry, good))
	check(403, "Logs.SubscriptionClosed")(call("PUT", logs, good))
	check(400, "InvalidRequestID")(call("POST", "/2018-06-01/runtime/invocation/none/response", ""))
	check(404, "")(call("GET", "/2018-06-01/other", ""))
	g.mu.Lock()
	g.registrationClosed, g.registrations = true, g.registrations[:2]
	g.registrations[1].state = stateStarted
	g.env.cfg.InitType = ManagedInstances
	g.mu.Unlock()
	check(404, "")(call("PUT", logs, good))
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "idle"))
	check(200, "")(call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "idle"))
	check(403, "Extension.RegistrationClosed")(call("POST", register, `{}`, headerExtensionName, "late"))
	if err := e.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
