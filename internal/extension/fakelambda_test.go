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

// fakeLambda is Lambda's local APIs for one extension, a stream, and the life of an extension that uses both. It emulates no
// phases, no freeze and no telemetry of its own: tests post that.
type fakeLambda struct {
	*testing.T
	api       *httptest.Server
	stream    *kinesislocal.Server
	client    *http.Client  // of the telemetry: one connection
	nextCalls chan struct{} // one for each call of next
	events    chan string   // what next answers, a status before it

	mu          sync.Mutex
	calls       []string            // what was called, with the body
	answers     map[string][]string // what a call answers first, a status before it
	port        int                 // that was subscribed
	logged      []string            // by the extension's log
	panicPrefix string              // how a line begins that makes the log panic
}

// newFakeLambda makes the APIs and the stream. answers are what the calls named register, telemetry and error answer first.
func newFakeLambda(t *testing.T, answers map[string][]string) *fakeLambda {
	t.Helper()
	l := &fakeLambda{
		T: t, nextCalls: make(chan struct{}, 100), events: make(chan string), answers: answers,
		client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}},
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

// handleLog takes a line of the extension's log.
func (l *fakeLambda) handleLog(r slog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panicPrefix != "" && strings.HasPrefix(r.Message, l.panicPrefix) {
		panic("a mistake of ours")
	}
	l.logged = append(l.logged, r.Level.String()+" "+r.Message)
}

// process is a run of the extension.
type process struct {
	*fakeLambda
	exit chan error
}

// start runs the extension with these variables, beside those that it needs.
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

// testTimeout is how long a test waits for what must come. It is only ever used up by a mistake.
const testTimeout = 20 * time.Second

// awaitNext waits until the extension asks for the awaitNext event.
func (f *process) awaitNext() {
	f.Helper()
	select {
	case <-f.nextCalls:
	case err := <-f.exit:
		f.Fatalf("the extension has ended: %v; it said %q", err, f.logLines())
	case <-time.After(testTimeout):
		f.Fatalf("the extension does not ask for the next event; it said %q", f.logLines())
	}
}

// answer answers next.
func (f *process) answer(event string) {
	f.Helper()
	select {
	case f.events <- event:
	case <-time.After(testTimeout):
		f.Fatal("nobody asks for the next event")
	}
}

// invoke sends INVOKE.
func (f *process) invoke(id string) {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"INVOKE","deadlineMs":%d,"requestId":%q}`, time.Now().Add(time.Minute).UnixMilli(), id))
}

// shutdown sends a SHUTDOWN that ends so long from now at the latest, and returns what Run does.
func (f *process) shutdown(reason string, budget time.Duration) error {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"SHUTDOWN","deadlineMs":%d,"shutdownReason":%q}`, time.Now().Add(budget).UnixMilli(), reason))
	return f.wait()
}

// spindown sends the usual SHUTDOWN, with as much time as is ever believed: a machine that is busy is not what is tested.
func (f *process) spindown() {
	f.Helper()
	if err := f.shutdown("spindown", testTimeout); err != nil {
		f.Error(err)
	}
}

// wait waits for the wait of Run.
func (f *process) wait() error {
	f.Helper()
	select {
	case err := <-f.exit:
		return err
	case <-time.After(testTimeout):
		f.Fatalf("the extension does not end; it said %q", f.logLines())
		return nil
	}
}

// post posts telemetry to the port that was subscribed, and returns when it is received. A POST is answered before it is worked
// on, but the next one on its connection is answered after that.
func (f *process) post(events ...string) {
	f.Helper()
	f.mu.Lock()
	url := fmt.Sprintf("http://127.0.0.1:%d/", f.port)
	f.mu.Unlock()
	for _, body := range []string{strings.Join(events, ","), ""} {
		response, err := f.client.Post(url, "application/json", strings.NewReader("["+body+"]"))
		if err != nil {
			f.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			f.Errorf("a POST returned status %d", response.StatusCode)
		}
	}
}

// logLines are what the extension's log said.
func (l *fakeLambda) logLines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.logged)
}

// apiCalls are the calls of the APIs.
func (l *fakeLambda) apiCalls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// delivered are the lines on the stream.
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

// waitFor waits waitFor something is so.
func (l *fakeLambda) waitFor(what string, is func() bool) {
	l.Helper()
	for over := time.Now().Add(testTimeout); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			l.Fatalf("not so after %s: %s; the extension said %q", testTimeout, what, l.logLines())
		}
	}
}

// expect compares what happened, one after the other.
func (l *fakeLambda) expect(what string, got []string, want ...string) {
	l.Helper()
	if !slices.Equal(got, want) {
		l.Errorf("%s:\n%q, want\n%q", what, got, want)
	}
}

// deliveredTypes are the types of the lines on the stream, with the invocation where they have one.
func (l *fakeLambda) deliveredTypes() (types []string) {
	for _, line := range l.delivered() {
		types = append(types, strings.TrimSpace(line.Type+" "+line.RequestID))
	}
	return types
}
