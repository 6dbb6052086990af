package extension

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/record"
)

// fakeLambda serves Lambda's local APIs to one extension, and a stream. It emulates no phases, no freeze and no telemetry: tests post
// telemetry themselves.
type fakeLambda struct {
	*testing.T
	api       *httptest.Server
	stream    *kinesislocal.Server
	client    *http.Client  // posts telemetry, over one connection
	nextCalls chan struct{} // receives one value for each call of next
	events    chan string   // the responses to next, each with its status in front

	mu          sync.Mutex
	calls       []string            // each call with its body
	answers     map[string][]string // the first responses to a call, each with its status in front
	port        int                 // of the subscription
	logged      []string            // lines of the extension's log
	panicPrefix string              // the log panics on a line with this prefix; empty: never
}

// newFakeLambda starts the APIs and the stream. answers has the first responses to the calls register, telemetry and error.
func newFakeLambda(t *testing.T, answers map[string][]string) *fakeLambda {
	t.Helper()
	l := &fakeLambda{
		T:         t,
		client:    &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}},
		nextCalls: make(chan struct{}, 100),
		events:    make(chan string),
		answers:   answers,
	}
	t.Cleanup(l.client.CloseIdleConnections)
	l.api = httptest.NewServer(l)
	t.Cleanup(l.api.Close)
	var err error
	if l.stream, err = kinesislocal.Start(kinesislocal.Options{Region: "eu-west-1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.stream.Close() })
	if err := l.stream.CreateStream("telemetry-kinesis-stream", 1); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *fakeLambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	call := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	answer := map[string]string{
		"register":  `200 {"functionName":"f","functionVersion":"7","handler":"h","accountId":"123456789012"}`,
		"telemetry": `200 "OK"`,
		"error":     `202 {"status":"OK"}`,
	}[call]
	l.mu.Lock()
	l.calls = append(l.calls, strings.TrimSpace(call+" "+string(body)))
	if answers := l.answers[call]; len(answers) > 0 {
		answer, l.answers[call] = answers[0], answers[1:]
	}
	if call == "telemetry" {
		var wire struct{ Destination struct{ URI string } }
		_ = json.Unmarshal(body, &wire)
		_, _ = fmt.Sscanf(wire.Destination.URI, "http://sandbox.localdomain:%d", &l.port)
	}
	l.mu.Unlock()
	if call == "next" {
		l.nextCalls <- struct{}{}
		select {
		case answer = <-l.events:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Lambda-Extension-Identifier", "the-id")
	var status int
	fmt.Sscan(answer, &status)
	w.WriteHeader(status)
	fmt.Fprint(w, strings.TrimPrefix(answer, fmt.Sprint(status)))
}

// handleLog records a line of the extension's log.
func (l *fakeLambda) handleLog(r slog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panicPrefix != "" && strings.HasPrefix(r.Message, l.panicPrefix) {
		panic("a bug")
	}
	l.logged = append(l.logged, r.Level.String()+" "+r.Message)
}

// process is one run of the extension.
type process struct {
	*fakeLambda
	exit chan error
}

// start runs the extension with the given variables and those that it always needs.
func (l *fakeLambda) start(ctx context.Context, variables ...string) *process {
	cfg, mistakes := config.Load(slices.Concat([]string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(l.api.URL, "http://"), "AWS_REGION=eu-west-1",
		"AWS_ACCESS_KEY_ID=ASIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=token",
		"KINESIS_TELEMETRY_ENDPOINT_URL=" + l.stream.URL(), "KINESIS_TELEMETRY_SPILL_DIR=", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=10s",
	}, variables))
	f := &process{fakeLambda: l, exit: make(chan error, 1)}
	go func() {
		f.exit <- Run(ctx, "kinesis-telemetry-extension", cfg, mistakes, slog.New(logFunc(l.handleLog)))
	}()
	return f
}

// testShutdown is how much time SHUTDOWN leaves in tests: on a loaded machine, Lambda's two seconds are too short. Then the extension
// gives up a request and sends it again, so events arrive twice.
const testShutdown = testTimeout / 2

// lambdasShutdown has maxShutdown and defaultShutdown as in production.
var lambdasShutdown = [2]time.Duration{maxShutdown, defaultShutdown}

func TestMain(m *testing.M) {
	maxShutdown, defaultShutdown = testShutdown, testShutdown
	m.Run()
}

// useLambdasShutdown gives SHUTDOWN as much time as in production until the test ends. The test must not be parallel.
func useLambdasShutdown(t *testing.T) {
	maxShutdown, defaultShutdown = lambdasShutdown[0], lambdasShutdown[1]
	t.Cleanup(func() { maxShutdown, defaultShutdown = testShutdown, testShutdown })
}

// testTimeout is how long a test waits for an event that must happen. Only a failing test uses it up.
const testTimeout = 20 * time.Second

// awaitNext waits until the extension calls next.
func (f *process) awaitNext() {
	f.Helper()
	select {
	case <-f.nextCalls:
	case err := <-f.exit:
		f.Fatalf("the extension has ended: %v; it logged %q", err, f.logLines())
	case <-time.After(testTimeout):
		f.Fatalf("the extension does not call next; it logged %q", f.logLines())
	}
}

// answer sends the response to next.
func (f *process) answer(event string) {
	f.Helper()
	select {
	case f.events <- event:
	case <-time.After(testTimeout):
		f.Fatal("the extension does not call next")
	}
}

// invoke sends INVOKE.
func (f *process) invoke(id string) {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"INVOKE","deadlineMs":%d,"requestId":%q}`, time.Now().Add(time.Minute).UnixMilli(), id))
}

// shutdown sends a SHUTDOWN whose deadline is budget from now, and returns the result of Run.
func (f *process) shutdown(reason string, budget time.Duration) error {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"SHUTDOWN","deadlineMs":%d,"shutdownReason":%q}`, time.Now().Add(budget).UnixMilli(), reason))
	return f.wait()
}

// spindown sends the usual SHUTDOWN.
func (f *process) spindown() {
	f.Helper()
	if err := f.shutdown("spindown", testShutdown); err != nil {
		f.Error(err)
	}
}

// wait waits until Run returns.
func (f *process) wait() error {
	f.Helper()
	select {
	case err := <-f.exit:
		return err
	case <-time.After(testTimeout):
		f.Fatalf("the extension does not end; it logged %q", f.logLines())
		return nil
	}
}

// post posts telemetry to the subscribed port, and returns when the extension has received it.
func (f *process) post(events ...string) {
	f.Helper()
	f.mu.Lock()
	url := fmt.Sprintf("http://127.0.0.1:%d/", f.port)
	f.mu.Unlock()
	response, err := f.client.Post(url, "application/json", strings.NewReader("["+strings.Join(events, ",")+"]"))
	if err != nil {
		f.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		f.Errorf("a POST returned status %d", response.StatusCode)
	}
}

// logLines returns the lines of the extension's log.
func (l *fakeLambda) logLines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.logged)
}

// apiCalls returns the calls of the APIs.
func (l *fakeLambda) apiCalls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// delivered returns the lines on the stream.
func (l *fakeLambda) delivered() (lines []record.Line) {
	for _, r := range l.stream.Records("telemetry-kinesis-stream") {
		for line, err := range record.Unpack(r.Data) {
			if err != nil {
				l.Error(err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// waitFor waits until a condition is true.
func (l *fakeLambda) waitFor(name string, condition func() bool) {
	l.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatalf("not true after %s: %s; the extension logged %q", testTimeout, name, l.logLines())
		}
	}
}

// expect compares lists.
func (l *fakeLambda) expect(name string, got []string, want ...string) {
	l.Helper()
	if !slices.Equal(got, want) {
		l.Errorf("%s:\n%q, want\n%q", name, got, want)
	}
}

// deliveredTypes returns the type of each line on the stream, with its request id if it has one.
func (l *fakeLambda) deliveredTypes() (types []string) {
	for _, line := range l.delivered() {
		types = append(types, strings.TrimSpace(line.Type+" "+line.RequestID))
	}
	return types
}
