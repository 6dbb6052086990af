package kinesis

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeKinesis replaces the network. It answers each request with the next step of the script. After the last step it
// stores everything.
type fakeKinesis struct {
	t      testing.TB
	script []step
	seen   [][]string // for each request, the data of its records
	times  []time.Time
	header []http.Header
	stored []string
	closed int // calls of CloseIdleConnections
}

// step answers a request whose records have the given data.
type step func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error)

func (f *fakeKinesis) CloseIdleConnections() { f.closed++ }

func (f *fakeKinesis) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil || int64(len(body)) != req.ContentLength {
		f.t.Errorf("body of %d bytes, announced %d: %v", len(body), req.ContentLength, err)
	}
	var data []string
	for _, r := range decodeRequest(f.t, body).Records {
		data = append(data, string(r.Data))
	}
	if len(f.times) > 10_000 {
		panic("requests without end")
	}
	f.seen, f.times, f.header = append(f.seen, data), append(f.times, time.Now()), append(f.header, req.Header)
	next := entries(nil)
	if len(f.script) > 0 {
		next, f.script = f.script[0], f.script[1:]
	}
	resp, err := next(f, req, data)
	if err := req.Body.Close(); err != nil {
		f.t.Error(err)
	}
	return resp, err
}

func respond(status int, header http.Header, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

// entries accepts the request. Records whose data is a key of codes fail with that code, and the others are stored.
func entries(codes map[string]string) step {
	return func(f *fakeKinesis, _ *http.Request, data []string) (*http.Response, error) {
		var b strings.Builder
		failed := 0
		for i, d := range data {
			if i > 0 {
				b.WriteByte(',')
			}
			if code, ok := codes[d]; ok {
				failed++
				fmt.Fprintf(&b, `{"ErrorCode":%q,"ErrorMessage":"because"}`, code)
				continue
			}
			f.stored = append(f.stored, d)
			fmt.Fprintf(&b, `{"SequenceNumber":"%d","ShardId":"shardId-000000000000"}`, len(f.stored))
		}
		return respond(200, nil, fmt.Sprintf(`{"FailedRecordCount":%d,"Records":[%s]}`, failed, &b)), nil
	}
}

func refuse(status int, code string) step {
	return func(*fakeKinesis, *http.Request, []string) (*http.Response, error) {
		return respond(status, http.Header{}, `{"__type":"`+code+`","message":"because"}`), nil
	}
}

// refuseWith refuses every request that contains one of the bad records.
func refuseWith(code string, bad ...string) step {
	return func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
		f.script = append([]step{refuseWith(code, bad...)}, f.script...)
		for _, d := range data {
			if slices.Contains(bad, d) {
				return refuse(400, code)(f, req, data)
			}
		}
		return entries(nil)(f, req, data)
	}
}

func reply(body string) step {
	return func(*fakeKinesis, *http.Request, []string) (*http.Response, error) {
		return respond(200, nil, body), nil
	}
}

func fail(err error) step {
	return func(*fakeKinesis, *http.Request, []string) (*http.Response, error) { return nil, err }
}

// hang sends no answer until the request's context is done.
func hang(_ *fakeKinesis, req *http.Request, _ []string) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func newFake(t testing.TB, change func(*Config), script ...step) (*Client, *fakeKinesis) {
	t.Helper()
	cfg := testConfig("logs")
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeKinesis{t: t, script: script}
	c.transport = f
	c.jitter = func(bound time.Duration) time.Duration { return bound }
	return c, f
}

func recordsOf(data ...string) []Record {
	records := make([]Record, len(data))
	for i, d := range data {
		records[i] = Record{PartitionKey: "key", Data: [][]byte{[]byte(d)}}
	}
	return records
}

func requestsOf(seen [][]string) string {
	var requests []string
	for _, data := range seen {
		requests = append(requests, strings.Join(data, ""))
	}
	return strings.Join(requests, "|")
}

func outcomesOf(r Result) string {
	var b strings.Builder
	for _, o := range r.Outcomes {
		b.WriteByte("usR"[o])
	}
	return b.String()
}

func checkError(t *testing.T, err error, want bool, kind Kind, says string) {
	t.Helper()
	var got *Error
	switch {
	case !want && err != nil:
		t.Errorf("error %v, want none", err)
	case want && (!errors.As(err, &got) || got.Kind != kind || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n")):
		t.Errorf("error %v, want one line of kind %v that says %q", err, kind, says)
	}
}

// checkCounts compares the counts of the result with the requests that arrived.
func checkCounts(t *testing.T, f *fakeKinesis, result Result) {
	t.Helper()
	sent, retried := map[string]int{}, 0
	for _, request := range f.seen {
		for _, d := range request {
			if sent[d]++; sent[d] > 1 {
				retried++
			}
		}
	}
	if result.Requests != len(f.seen) || result.Retried != retried {
		t.Errorf("requests %d, retried %d; want %d, %d", result.Requests, result.Retried, len(f.seen), retried)
	}
}
