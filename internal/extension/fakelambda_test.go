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

// lambda is Lambda's local APIs for one extension, a stream, and the life of an extension that uses both. It emulates no
// phases, no freeze and no telemetry of its own: tests post that.
type lambda struct {
	*testing.T
	api    *httptest.Server
	stream *kinesislocal.Server
	client *http.Client  // of the telemetry: one connection
	asked  chan struct{} // one for each call of next
	events chan string   // what next answers, a status before it

	mu      sync.Mutex
	calls   []string            // what was called, with the body
	answers map[string][]string // what a call answers first, a status before it
	port    int                 // that was subscribed
	said    []string            // by the extension's log
	panics  string              // how a line begins that makes the log panic
}

// newLambda makes the APIs and the stream. answers are what the calls named register, telemetry and error answer first.
func newLambda(t *testing.T, answers map[string][]string) *lambda {
	t.Helper()
	l := &lambda{
		T: t, asked: make(chan struct{}, 100), events: make(chan string), answers: answers,
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

func (l *lambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
		l.asked <- struct{}{}
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

// note takes a line of the extension's log.
func (l *lambda) note(r slog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panics != "" && strings.HasPrefix(r.Message, l.panics) {
		panic("a mistake of ours")
	}
	l.said = append(l.said, r.Level.String()+" "+r.Message)
}

// life is a run of the extension.
type life struct {
	*lambda
	ended chan error
}

// begin runs the extension with these variables, beside those that it needs.
func (l *lambda) begin(ctx context.Context, variables ...string) *life {
	cfg, mistakes := config.Load(slices.Concat([]string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(l.api.URL, "http://"), "AWS_REGION=eu-west-1",
		"AWS_ACCESS_KEY_ID=ASIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=token",
		"KINESIS_TELEMETRY_ENDPOINT_URL=" + l.stream.URL(), "KINESIS_TELEMETRY_SPILL_DIR=", "KINESIS_TELEMETRY_FLUSH_TIMEOUT=10s",
	}, variables))
	f := &life{lambda: l, ended: make(chan error, 1)}
	go func() { f.ended <- Run(ctx, "kinesis-telemetry-extension", cfg, mistakes, slog.New(logTo(l.note))) }()
	return f
}

// patience is how long a test waits for what must come. It is only ever used up by a mistake.
const patience = 20 * time.Second

// next waits until the extension asks for the next event.
func (f *life) next() {
	f.Helper()
	select {
	case <-f.asked:
	case err := <-f.ended:
		f.Fatalf("the extension has ended: %v; it said %q", err, f.lines())
	case <-time.After(patience):
		f.Fatalf("the extension does not ask for the next event; it said %q", f.lines())
	}
}

// answer answers next.
func (f *life) answer(event string) {
	f.Helper()
	select {
	case f.events <- event:
	case <-time.After(patience):
		f.Fatal("nobody asks for the next event")
	}
}

// invoke sends INVOKE.
func (f *life) invoke(id string) {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"INVOKE","deadlineMs":%d,"requestId":%q}`, time.Now().Add(time.Minute).UnixMilli(), id))
}

// shutdown sends a SHUTDOWN that ends so long from now at the latest, and returns what Run does.
func (f *life) shutdown(reason string, budget time.Duration) error {
	f.Helper()
	f.answer(fmt.Sprintf(`200 {"eventType":"SHUTDOWN","deadlineMs":%d,"shutdownReason":%q}`, time.Now().Add(budget).UnixMilli(), reason))
	return f.end()
}

// spindown sends the usual SHUTDOWN, with as much time as is ever believed: a machine that is busy is not what is tested.
func (f *life) spindown() {
	f.Helper()
	if err := f.shutdown("spindown", patience); err != nil {
		f.Error(err)
	}
}

// end waits for the end of Run.
func (f *life) end() error {
	f.Helper()
	select {
	case err := <-f.ended:
		return err
	case <-time.After(patience):
		f.Fatalf("the extension does not end; it said %q", f.lines())
		return nil
	}
}

// post posts telemetry to the port that was subscribed, and returns when it is received. A POST is answered before it is worked
// on, but the next one on its connection is answered after that.
func (f *life) post(events ...string) {
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
			f.Errorf("a POST was answered %d", response.StatusCode)
		}
	}
}

// lines are what the extension's log said.
func (l *lambda) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// called are the calls of the APIs.
func (l *lambda) called() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// delivered are the lines on the stream.
func (l *lambda) delivered() (lines []record.Line) {
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

// until waits until something is so.
func (l *lambda) until(what string, is func() bool) {
	l.Helper()
	for over := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			l.Fatalf("not so after %s: %s; the extension said %q", patience, what, l.lines())
		}
	}
}

// expect compares what happened, one after the other.
func (l *lambda) expect(what string, got []string, want ...string) {
	l.Helper()
	if !slices.Equal(got, want) {
		l.Errorf("%s:\n%q, want\n%q", what, got, want)
	}
}

// deliveredTypes are the types of the lines on the stream, with the invocation where they have one.
func (l *lambda) deliveredTypes() (types []string) {
	for _, line := range l.delivered() {
		types = append(types, strings.TrimSpace(line.Type+" "+line.RequestID))
	}
	return types
}
