package kinesislocal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

func faulty(rules ...kinesislocal.Rule) *kinesislocal.Faults {
	return &kinesislocal.Faults{Seed: 7, Rules: rules}
}

func outcome(s *kinesislocal.Server, name string) int64 {
	return s.Stats().Operations["PutRecords"].Outcomes[name]
}

// A rule with an error type or a status rejects the request with AWS's error, and stores nothing.
func TestRequestErrors(t *testing.T) {
	s, c := withStream(t, kinesislocal.Options{}, 1)
	for _, test := range []struct {
		rule   kinesislocal.Rule
		status int
		code   string
		as     any
	}{
		{kinesislocal.Rule{ErrorType: "InternalFailureException"}, 500, "InternalFailureException", new(*types.InternalFailureException)},
		{kinesislocal.Rule{ErrorType: "AccessDeniedException", Message: "no"}, 400, "AccessDeniedException", new(*types.AccessDeniedException)},
		{kinesislocal.Rule{ErrorType: "ResourceNotFoundException"}, 400, "ResourceNotFoundException", new(*types.ResourceNotFoundException)},
		{kinesislocal.Rule{ErrorType: "KMSThrottlingException"}, 400, "KMSThrottlingException", new(*types.KMSThrottlingException)},
		{
			kinesislocal.Rule{ErrorType: "ProvisionedThroughputExceededException"},
			400,
			"ProvisionedThroughputExceededException",
			new(*types.ProvisionedThroughputExceededException),
		},
		{kinesislocal.Rule{ErrorType: "ExpiredTokenException", Status: 403}, 403, "ExpiredTokenException", nil},
		{kinesislocal.Rule{ErrorType: "ServiceUnavailable"}, 503, "ServiceUnavailable", nil},
	} {
		s.SetFaults(faulty(test.rule))
		_, err := c.PutRecords(t.Context(), putInput(1, "x"))
		wantCode(t, err, test.code, test.status)
		if test.as != nil && !errors.As(err, test.as) {
			t.Errorf("%v is not a %T", err, test.as)
		}
		if test.rule.Message != "" && !strings.Contains(err.Error(), test.rule.Message) {
			t.Errorf("%v does not say %q", err, test.rule.Message)
		}
		if outcome(s, test.code) != 1 {
			t.Errorf("Stats: %+v", s.Stats())
		}
		if _, err := c.ListStreams(t.Context(), &awskinesis.ListStreamsInput{}); err != nil {
			t.Errorf("a rule for PutRecords applied to ListStreams: %v", err)
		}
	}
	s.SetFaults(faulty(kinesislocal.Rule{Status: 502, Operation: "*"}))
	if a := send(t, signed(t, s.URL(), "ListStreams", "{}")); a.status != 502 || len(a.body) != 0 {
		t.Errorf("status alone: %d %q", a.status, a.body)
	}
	if n := len(s.Records("s")); n != 0 {
		t.Errorf("%d records stored", n)
	}
	s.SetFaults(nil)
	if _, err := c.PutRecords(t.Context(), putInput(1, "x")); err != nil {
		t.Errorf("without faults: %v", err)
	}
}

// The first rule whose window has the request applies.
func TestWindows(t *testing.T) {
	_, c := withStream(t, kinesislocal.Options{Faults: faulty(
		kinesislocal.Rule{From: 2, Count: 2, ErrorType: "InternalFailureException"},
		kinesislocal.Rule{From: 1, Count: 4, Operation: "PutRecords", ErrorType: "AccessDeniedException", Probability: 1},
		kinesislocal.Rule{Operation: "PutRecord", ErrorType: "KMSDisabledException"},
	)}, 1)
	for i, code := range []string{
		"",
		"AccessDeniedException",    // the second rule's window begins
		"InternalFailureException", // the first rule's window begins
		"InternalFailureException",
		"AccessDeniedException", // the first rule's window has ended
		"",                      // both have
	} {
		_, err := c.PutRecords(t.Context(), putInput(1, "x"))
		if code != "" {
			wantCode(t, err, code, 0)
		} else if err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

// run sends 200 requests of 10 records, and returns the outcome of each failed request and of each record.
func run(t *testing.T, f *kinesislocal.Faults) (log []string, s *kinesislocal.Server) {
	t.Helper()
	s, c := withStream(t, kinesislocal.Options{Faults: f, ShardRecordsPerSecond: -1}, 1)
	for range 200 {
		out, err := c.PutRecords(t.Context(), putInput(10, "x"))
		if err != nil {
			log = append(log, "request")
			continue
		}
		failed := 0
		for _, r := range out.Records {
			code := "stored"
			if r.ErrorCode != nil {
				code = *r.ErrorCode
				failed++
			}
			log = append(log, code)
		}
		if failed != int(*out.FailedRecordCount) {
			t.Fatalf("FailedRecordCount %d of %d", *out.FailedRecordCount, failed)
		}
	}
	return log, s
}

// Requests and records fail with the rules' probabilities, and with equal seeds in the same places.
func TestProbabilities(t *testing.T) {
	f := faulty(
		kinesislocal.Rule{Probability: 0.2, ErrorType: "InternalFailureException"},
		kinesislocal.Rule{RecordError: &kinesislocal.RecordError{Probability: 0.3}},
	)
	log, s := run(t, f)
	count := map[string]int{}
	for _, l := range log {
		count[l]++
	}
	if n := count["request"]; n < 25 || n > 55 {
		t.Errorf("%d of 200 requests failed, want about 40", n)
	}
	throttled, stored := count["ProvisionedThroughputExceededException"], count["stored"]
	if share := float64(throttled) / float64(throttled+stored); share < 0.26 || share > 0.34 {
		t.Errorf("%.2f of the records failed, want about 0.3", share)
	}
	if n := len(s.Records("s")); n != stored {
		t.Errorf("%d records stored, %d acknowledged", n, stored)
	}
	if second, _ := run(t, f); !reflect.DeepEqual(log, second) {
		t.Error("the same faults and requests had other outcomes")
	}
	f.Seed++
	if other, _ := run(t, f); reflect.DeepEqual(log, other) {
		t.Error("another seed had the same outcomes")
	}
}

// A rule with a RecordError makes single records fail.
func TestRecordError(t *testing.T) {
	s, c := withStream(t, kinesislocal.Options{Faults: faulty(
		kinesislocal.Rule{Count: 1, RecordError: &kinesislocal.RecordError{Code: "InternalFailure"}},
		kinesislocal.Rule{Operation: "PutRecord", RecordError: &kinesislocal.RecordError{}},
	)}, 1)
	out, err := c.PutRecords(t.Context(), putInput(2, "x"))
	if err != nil || *out.FailedRecordCount != 2 || *out.Records[1].ErrorCode != "InternalFailure" ||
		*out.Records[1].ErrorMessage != "Internal Service Failure." {
		t.Errorf("got %+v, %v", out, err)
	}
	_, err = c.PutRecord(t.Context(), &awskinesis.PutRecordInput{
		StreamName:   aws.String("s"),
		PartitionKey: aws.String("k"),
		Data:         []byte("x"),
	})
	wantCode(t, err, "ProvisionedThroughputExceededException", 400)
	if n := len(s.Records("s")); n != 0 {
		t.Errorf("%d records stored", n)
	}
}

// A rule that loses the reply executes the request or not, and is counted by its name.
func TestConnectionFaults(t *testing.T) {
	for name, test := range map[string]struct {
		rule   kinesislocal.Rule
		stored int
		want   error
	}{
		"Reset":          {kinesislocal.Rule{Reset: true}, 0, syscall.ECONNRESET},
		"StoreThenReset": {kinesislocal.Rule{StoreThenReset: true}, 1, syscall.ECONNRESET},
		"Hang":           {kinesislocal.Rule{Hang: true}, 0, context.Canceled},
		"StoreThenHang":  {kinesislocal.Rule{StoreThenHang: true}, 1, context.Canceled},
		"OK":             {kinesislocal.Rule{ReplyDelay: time.Hour}, 1, context.Canceled},
		"TruncateReply":  {kinesislocal.Rule{TruncateReply: true}, 1, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := withStream(t, kinesislocal.Options{Faults: faulty(test.rule)}, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var waiting sync.WaitGroup
			if errors.Is(test.want, context.Canceled) {
				waiting.Go(func() {
					for ctx.Err() == nil && outcome(s, name) == 0 {
						time.Sleep(time.Millisecond)
					}
					cancel()
				})
			}
			if _, err := c.PutRecords(ctx, putInput(1, "x")); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			cancel() // also ends the wait for a request that failed before it was counted
			waiting.Wait()
			if err := s.Close(); err != nil { // waits for the handler: the counts below are final
				t.Error(err)
			}
			if n := len(s.Records("s")); n != test.stored {
				t.Errorf("%d records stored, want %d", n, test.stored)
			}
			if outcome(s, name) != 1 {
				t.Errorf("Stats: %+v", s.Stats())
			}
		})
	}
}

// Delay and ReplyDelay delay the reply.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kinesislocal.New(kinesislocal.Options{
			Faults: faulty(kinesislocal.Rule{Operation: "*", Delay: 3 * time.Second, ReplyDelay: 4 * time.Second}),
		})
		begin := time.Now()
		w := newRecorder()
		s.ServeHTTP(w, signed(t, "http://localhost", "CreateStream", `{"StreamName":"s","ShardCount":1}`))
		if passed := time.Since(begin); w.status != http.StatusOK || passed != 7*time.Second {
			t.Errorf("status %d after %v, want 7s", w.status, passed)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The request of a client that disconnects during the delay or in the middle of the body is not executed. The test calls the
// handler without a connection: the SDK sends the body apart from the header, so that on a busy machine the client might
// disconnect before the delay has begun.
func TestClientDisconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kinesislocal.New(kinesislocal.Options{Faults: faulty(kinesislocal.Rule{Delay: time.Hour})})
		if err := s.CreateStream("s", 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const body = `{"StreamName":"s","Records":[{"Data":"eA==","PartitionKey":"k"}]}`
		begin := time.Now()
		aborted := aborts(s, signed(t, "http://localhost", "PutRecords", body).WithContext(ctx))
		if passed := time.Since(begin); !aborted || passed != time.Minute {
			t.Errorf("during the delay: aborted %v after %v, want 1m", aborted, passed)
		}
		if !aborts(s, httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrUnexpectedEOF))) {
			t.Error("in the middle of the body: not aborted")
		}
		if outcome(s, "Gone") != 1 || s.Stats().Operations[""].Outcomes["Gone"] != 1 || len(s.Records("s")) != 0 {
			t.Errorf("%d records stored, Stats: %+v", len(s.Records("s")), s.Stats())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// aborts reports whether the handler ends the request without a reply, by the panic of net/http for that.
func aborts(h http.Handler, r *http.Request) (aborted bool) {
	defer func() {
		err, _ := recover().(error)
		aborted = errors.Is(err, http.ErrAbortHandler)
	}()
	h.ServeHTTP(newRecorder(), r)
	return false
}

// recorder is a ResponseWriter without Hijack.
type recorder struct {
	header http.Header
	status int
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }

// CloseAfterReply closes the connection after a complete reply.
func TestCloseAfterReply(t *testing.T) {
	s, _ := withStream(t, kinesislocal.Options{Faults: faulty(kinesislocal.Rule{Operation: "*", From: 1, CloseAfterReply: true})}, 1)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	replies := bufio.NewReader(conn)
	for range 2 {
		r := signed(t, s.URL(), "ListStreams", "{}")
		if err := r.Write(conn); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(replies, r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || res.Close || !strings.Contains(string(body), `"StreamNames":["s"]`) {
			t.Errorf("got %d, close %v, %s, %v", res.StatusCode, res.Close, body, err)
		}
	}
	if _, err := replies.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the reply: %v, want EOF", err)
	}
}

// ResultDelta changes the number of results, not of stored records.
func TestResultDelta(t *testing.T) {
	for delta, want := range map[int]int{-1: 2, 2: 5, -500: 0} {
		s, c := withStream(t, kinesislocal.Options{Faults: faulty(kinesislocal.Rule{ResultDelta: delta})}, 1)
		out, err := c.PutRecords(t.Context(), putInput(3, "x"))
		if err != nil || len(out.Records) != want || len(s.Records("s")) != 3 {
			t.Errorf("delta %d: %v, %v, want %d results", delta, out, err, want)
		}
	}
}

// Close ends hanging requests, and the server then rejects new ones.
func TestCloseEndsHangingRequests(t *testing.T) {
	s, c := withStream(t, kinesislocal.Options{Faults: faulty(kinesislocal.Rule{Hang: true})}, 1)
	failed := make(chan error)
	go func() {
		_, err := c.PutRecords(context.Background(), putInput(1, "x"))
		failed <- err
	}()
	for outcome(s, "Hang") == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the hanging request succeeded")
	}
	w := newRecorder()
	if s.ServeHTTP(w, signed(t, "http://localhost", "ListStreams", "{}")); w.status != http.StatusServiceUnavailable {
		t.Errorf("status %d after Close", w.status)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Faults are written as JSON and read back unchanged. Unknown members and invalid durations are errors.
func TestFaultsAsJSON(t *testing.T) {
	const text = `{"seed":18446744073709551615,"rules":[` +
		`{"from":2,"count":3,"probability":0.25,"status":500,"errorType":"InternalFailureException","message":"m",` +
		`"delay":"250ms","replyDelay":"1s"},` +
		`{"operation":"GetRecords","recordError":{"code":"InternalFailure","probability":0.3},"resultDelta":-1},` +
		`{"storeThenReset":true},{"hang":true},{"reset":true},{"storeThenHang":true},{"truncateReply":true},{"closeAfterReply":true}]}`
	var f kinesislocal.Faults
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
	if r := f.Rules[0]; r.Delay != 250*time.Millisecond || r.ReplyDelay != time.Second || r.From != 2 || f.Rules[1].ResultDelta != -1 {
		t.Errorf("read %+v", f)
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var read kinesislocal.Faults
	if err := json.Unmarshal(b, &read); err != nil || !reflect.DeepEqual(f, read) {
		t.Errorf("%s read back as %+v, %v", b, read, err)
	}
	for _, bad := range []string{`{"rules":[{"hangs":true}]}`, `{"rules":[{"delay":"1 minute"}]}`, `{"rules":[{"delay":5}]}`} {
		if err := json.Unmarshal([]byte(bad), &read); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// Validate and Start reject contradictory rules and values out of range.
func TestValidate(t *testing.T) {
	for _, r := range []kinesislocal.Rule{
		{},
		{Hang: true, Reset: true},
		{Hang: true, Status: 500},
		{Status: 200},
		{Status: 600},
		{Status: 500, Message: "m"},
		{Hang: true, From: -1},
		{Delay: -1},
		{Hang: true, Probability: 1.5},
		{RecordError: &kinesislocal.RecordError{Probability: -0.1}},
		{ResultDelta: 501},
	} {
		if err := faulty(r).Validate(); err == nil {
			t.Errorf("%+v is valid", r)
		}
		if s, err := kinesislocal.Start(kinesislocal.Options{Faults: faulty(r)}); err == nil {
			t.Errorf("Start accepts %+v", r)
			_ = s.Close()
		}
	}
}
