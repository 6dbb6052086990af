package kinesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Each case puts the records a to e. It has the answers of Kinesis, the requests that must arrive, the outcome of each
// record (s sent, u unsent, R rejected), the time that the Put takes if each pause has its full length, and a part of
// the error's text.
func TestRetry(t *testing.T) {
	throughput := "ProvisionedThroughputExceededException"
	reset := fmt.Errorf("read: %w", syscall.ECONNRESET)
	for _, c := range []struct {
		name     string
		script   []step
		requests string
		outcomes string
		pauses   time.Duration
		kind     Kind
		says     string
		change   func(*Config)
	}{
		{name: "all stored", requests: "abcde", outcomes: "sssss"},
		{
			name:     "only the failed records are sent again, in order",
			script:   []step{entries(map[string]string{"b": throughput, "d": throughput})},
			requests: "abcde|bd",
			outcomes: "sssss",
			pauses:   200 * time.Millisecond,
		},
		{
			name:     "internal failure of a record",
			script:   []step{entries(map[string]string{"a": "InternalFailure"})},
			requests: "abcde|a",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{
			name:     "throttled by KMS",
			script:   []step{entries(map[string]string{"e": "KMSThrottlingException"})},
			requests: "abcde|e",
			outcomes: "sssss",
			pauses:   200 * time.Millisecond,
		},
		{
			name:     "unknown code of a record",
			script:   []step{entries(map[string]string{"c": "NobodyKnowsException", "d": throughput})},
			requests: "abcde|cd",
			outcomes: "sssss",
			pauses:   200 * time.Millisecond,
		},
		{
			name:     "unknown code, again and again",
			script:   slices.Repeat([]step{entries(map[string]string{"c": "NobodyKnowsException"})}, 9),
			requests: "abcde|c|c",
			outcomes: "ssuss",
			pauses:   100 * time.Millisecond,
			kind:     KindInvalid,
			says:     "NobodyKnowsException: because",
		},
		{
			name:     "an invalid record",
			script:   []step{entries(map[string]string{"c": "InvalidArgumentException"})},
			requests: "abcde",
			outcomes: "ssRss",
			kind:     KindInvalid,
			says:     "InvalidArgumentException: because",
		},
		{
			name:     "no access to the key, for a record",
			script:   []step{entries(map[string]string{"c": "KMSAccessDeniedException"})},
			requests: "abcde",
			outcomes: "ssuss",
			kind:     KindKMS,
			says:     "kms:GenerateDataKey",
		},
		{
			name:     "two records with different errors",
			script:   []step{entries(map[string]string{"b": "KMSAccessDeniedException", "c": "AccessDeniedException"})},
			requests: "abcde",
			outcomes: "suuss",
			kind:     KindKMS,
			says:     "kms:GenerateDataKey",
		},
		{
			name:     "an empty entry",
			script:   []step{reply(`{"Records":[{"SequenceNumber":"1"},{},{"SequenceNumber":""},{"SequenceNumber":"1"},{"SequenceNumber":"1"}]}`)},
			requests: "abcde|bc",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{
			name:     "pauses double while nothing is stored",
			script:   []step{refuse(500, "InternalFailure"), refuse(503, ""), refuse(502, ""), refuse(500, "X")},
			requests: "abcde|abcde|abcde|abcde|abcde",
			outcomes: "sssss",
			pauses:   750 * time.Millisecond,
		},
		{
			name:     "pauses start again from the shortest once something is stored",
			script:   []step{refuse(500, ""), refuse(500, ""), entries(map[string]string{"a": "InternalFailure"})},
			requests: "abcde|abcde|abcde|a",
			outcomes: "sssss",
			pauses:   200 * time.Millisecond,
		},
		{
			name:     "the request is throttled",
			script:   []step{refuse(400, throughput), refuse(400, "LimitExceededException"), refuse(429, "")},
			requests: "abcde|abcde|abcde|abcde",
			outcomes: "sssss",
			pauses:   1400 * time.Millisecond,
		},
		{
			name:     "reply cut short",
			script:   []step{reply(`{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1"}`)},
			requests: "abcde|abcde",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{
			name:     "too few results",
			script:   []step{reply(`{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1"}]}`)},
			requests: "abcde|abcde",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{
			name:     "too many results",
			script:   []step{reply(`{"Records":[{"SequenceNumber":"1"}` + strings.Repeat(`,{"SequenceNumber":"1"}`, 5) + `]}`)},
			requests: "abcde|abcde",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{
			name:     "endless reply",
			script:   []step{reply(strings.Repeat(" ", maxReply+1))},
			requests: "abcde|abcde",
			outcomes: "sssss",
			pauses:   50 * time.Millisecond,
		},
		{name: "not JSON", script: []step{reply("<html>")}, requests: "abcde|abcde", outcomes: "sssss", pauses: 50 * time.Millisecond},
		{
			name:     "connection reset",
			script:   []step{fail(reset), fail(io.ErrUnexpectedEOF)},
			requests: "abcde|abcde|abcde",
			outcomes: "sssss",
			pauses:   150 * time.Millisecond,
		},
		{name: "no answer", script: []step{hang}, requests: "abcde|abcde", outcomes: "sssss", pauses: 5050 * time.Millisecond},
		{
			name:     "no stream",
			script:   []step{refuse(400, "ResourceNotFoundException")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindNotFound,
			says:     `stream "logs" is not found in region eu-west-1`,
		},
		{
			name:     "no access",
			script:   []step{refuse(400, "AccessDeniedException")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindAccessDenied,
			says:     "kinesis:PutRecords on arn:aws:kinesis:eu-west-1:123456789012:stream/logs",
		},
		{
			name:     "a proxy denies access",
			script:   []step{refuse(403, "")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindService,
			says:     "HTTP status 403",
		},
		{
			name:     "key disabled",
			script:   []step{refuse(400, "KMSDisabledException")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindKMS,
			says:     "KMSDisabledException",
		},
		{
			name:     "not Kinesis",
			script:   []step{refuse(404, "")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindService,
			says:     "is the endpoint URL wrong?",
		},
		{name: "redirect", script: []step{refuse(307, "")}, requests: "abcde", outcomes: "uuuuu", kind: KindService, says: "HTTP status 307"},
		{
			name:     "token expired, and there is no other",
			script:   []step{refuse(400, "ExpiredTokenException")},
			requests: "abcde",
			outcomes: "uuuuu",
			kind:     KindCredentials,
			says:     "ExpiredTokenException",
		},
		{
			name:     "stored records stay stored",
			script:   []step{entries(map[string]string{"c": throughput}), refuse(400, "AccessDeniedException")},
			requests: "abcde|c",
			outcomes: "ssuss",
			pauses:   200 * time.Millisecond,
			kind:     KindAccessDenied,
			says:     "kinesis:PutRecords",
		},
		{
			name:     "one bad record",
			script:   []step{refuseWith("ValidationException", "d")},
			requests: "abcde|e|abcd|ab|c|d",
			outcomes: "sssRs",
			kind:     KindInvalid,
			says:     "ValidationException: because",
		},
		{
			name:     "two bad records",
			script:   []step{refuseWith("SerializationException", "a", "e")},
			requests: "abcde|e|d|abc|a|bc",
			outcomes: "Rsssu",
			kind:     KindInvalid,
			says:     "SerializationException",
		},
		{name: "request too large", script: []step{refuse(413, "")}, requests: "abcde|ab|cd|e", outcomes: "sssss"},
		{
			name:     "every request is refused",
			script:   []step{refuseWith("InvalidArgumentException", "a", "b", "c", "d", "e")},
			requests: "abcde|e|d",
			outcomes: "uuuuu",
			kind:     KindInvalid,
			says:     "InvalidArgumentException",
		},
		{
			name:     "three bad records in front do not block the others",
			script:   []step{refuseWith("ValidationException", "a", "b", "c")},
			requests: "abcde|e|abcd|ab|a|bcd|b|cd|c|d",
			outcomes: "RRRss",
			kind:     KindInvalid,
			says:     "ValidationException",
		},
		{
			name: "a bad record and throttling",
			script: []step{
				refuse(400, "ValidationException"), refuse(400, throughput),
				entries(map[string]string{"b": throughput}), refuseWith("ValidationException", "c"),
			},
			requests: "abcde|e|e|abcd|ab|c|d",
			outcomes: "ssRss",
			pauses:   400 * time.Millisecond,
			kind:     KindInvalid,
			says:     "ValidationException",
		},
		{name: "at most twelve bytes a request", requests: "abc|de", outcomes: "sssss", change: func(c *Config) { c.MaxRequestBytes = 12 }},
		{
			name:     "failed records go before records that were not sent yet",
			script:   []step{entries(map[string]string{"b": throughput})},
			requests: "abc|bde",
			outcomes: "sssss",
			pauses:   200 * time.Millisecond,
			change:   func(c *Config) { c.MaxRequestBytes = 12 },
		},
		{name: "at most nine bytes a request", requests: "ab|cd|e", outcomes: "sssss", change: func(c *Config) { c.MaxRequestBytes = 9 }},
		{
			name:     "at most three bytes a request: each record alone",
			requests: "a|b|c|d|e",
			outcomes: "sssss",
			change:   func(c *Config) { c.MaxRequestBytes = 3 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, f := newFake(t, c.change, c.script...)
				start := time.Now()
				result := client.Put(t.Context(), recordsOf("a", "b", "c", "d", "e"))
				if got := requestsOf(f.seen); got != c.requests {
					t.Errorf("requests %q, want %q", got, c.requests)
				}
				if got := outcomesOf(result); got != c.outcomes {
					t.Errorf("outcomes %s, want %s", got, c.outcomes)
				}
				if got := time.Since(start); got != c.pauses {
					t.Errorf("took %v, want %v", got, c.pauses)
				}
				checkError(t, result.Err, c.says != "", c.kind, c.says)
				checkCounts(t, f, result)
				if cap(client.reply) > keepReply {
					t.Errorf("a reply buffer of %d bytes is kept", cap(client.reply))
				}
			})
		})
	}
}

// A probe ends with the first request of which the stream stores nothing, and not earlier.
func TestProbeStopsWhenNothingIsStored(t *testing.T) {
	refuse := func(*fakeKinesis, *http.Request, []string) (*http.Response, error) {
		return respond(500, nil, `{"__type":"InternalFailureException"}`), nil
	}
	for _, first := range []step{refuse, entries(map[string]string{
		"a": "ProvisionedThroughputExceededException",
		"b": "ProvisionedThroughputExceededException",
	})} {
		c, f := newFake(t, func(c *Config) { c.MaxRequestBytes = len("keya") }, first)
		result := c.Probe(t.Context(), recordsOf("a", "b"))
		if result.Requests != 1 || result.Err == nil || !result.AttemptFailed || len(f.stored) > 0 {
			t.Errorf("%+v", result)
		}
		if result = c.Probe(t.Context(), recordsOf("a", "b")); result.Err != nil || len(f.stored) != 2 {
			t.Errorf("a stream that works again: %+v", result)
		}
	}
}

// Invalid records are rejected without a request.
func TestInvalidRecordsAreRejected(t *testing.T) {
	records := []Record{
		{"key", [][]byte{[]byte("good")}},
		{"key", [][]byte{bytes.Repeat([]byte("x"), 98)}}, // one byte too many with its key
		{"key", [][]byte{bytes.Repeat([]byte("y"), 97)}},
		{"", [][]byte{[]byte("no key")}},
		{strings.Repeat("é", 256), nil}, // 512 bytes
		{strings.Repeat("k", 257), nil},
		{"\xff" + strings.Repeat("k", 90), [][]byte{[]byte("12345678")}}, // U+FFFD takes three bytes
		{strings.Repeat("é", 50), nil},
	}
	c, f := newFake(t, func(c *Config) { c.MaxRecordBytes = 100 })
	result := c.Put(t.Context(), records)
	if got := outcomesOf(result); got != "sRsRRRRs" {
		t.Errorf("outcomes %s", got)
	}
	if len(f.seen) != 1 || len(f.seen[0]) != 3 {
		t.Errorf("requests %q", f.seen)
	}
	for i, says := range map[int]string{0: "", 1: "101 bytes", 3: "characters", 4: "512 bytes", 5: "257", 6: "101 bytes", 7: ""} {
		checkError(t, c.Put(t.Context(), records[i:i+1]).Err, says != "", KindInvalid, says)
	}
}

// A record above the limit of a request is sent alone, and its buffer is freed after the Put.
func TestLargeRecordIsSentAlone(t *testing.T) {
	c, f := newFake(t, func(c *Config) { c.MaxRecordBytes, c.MaxRequestBytes = 10<<20, 1<<20 })
	c.Put(t.Context(), recordsOf("a", strings.Repeat("L", 3<<20), "b"))
	if len(f.seen) != 3 || len(f.seen[1]) != 1 {
		t.Errorf("%d requests", len(f.seen))
	}
}

// A request has at most 500 records.
func TestMaxRequestRecords(t *testing.T) {
	c, f := newFake(t, nil)
	result := c.Put(t.Context(), recordsOf(slices.Repeat([]string{"x"}, 1201)...))
	var sizes []int
	for _, request := range f.seen {
		sizes = append(sizes, len(request))
	}
	if !slices.Equal(sizes, []int{500, 500, 201}) || result.Err != nil {
		t.Errorf("requests of %v: %v", sizes, result.Err)
	}
}

// Put returns when its context is done, and does not start a pause that would outlast it.
func TestPutEndsWithItsContext(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []step
		kind   Kind
		takes  time.Duration
	}{
		// The third pause of 800 ms would outlast the context's second, so it does not start.
		{"throttled", slices.Repeat([]step{refuse(400, "SlowDown")}, 3), KindThrottled, 600 * time.Millisecond},
		{"no answer", []step{hang, hang, hang}, KindNetwork, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := newFake(t, nil, c.script...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				result := client.Put(ctx, recordsOf("a", "b"))
				if took := time.Since(start); took != c.takes || outcomesOf(result) != "uu" {
					t.Errorf("took %v, outcomes %s", took, outcomesOf(result))
				}
				checkError(t, result.Err, true, c.kind, "")
			})
		})
	}
	t.Run("the first request hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, _ := newFake(t, nil, hang)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if result := client.Put(ctx, recordsOf("a", "b")); outcomesOf(result) != "ss" || result.Err != nil {
				t.Errorf("no time was left for a second request: %+v", result)
			}
		})
	})
	t.Run("the last request is cut off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, _ := newFake(t, nil, fail(syscall.ECONNREFUSED), hang)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			result := client.Put(ctx, recordsOf("a"))
			checkError(t, result.Err, true, KindNetwork, "refused") // the cause, not the end of the context
		})
	})
	t.Run("the context is already done", func(t *testing.T) {
		client, f := newFake(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		result := client.Put(ctx, recordsOf("a"))
		if len(f.seen) != 0 || outcomesOf(result) != "u" {
			t.Errorf("%d requests, outcomes %s", len(f.seen), outcomesOf(result))
		}
		checkError(t, result.Err, true, KindDeadline, "no time left to send: context canceled")
	})
	t.Run("no records", func(t *testing.T) {
		client, f := newFake(t, nil)
		if result := client.Put(t.Context(), nil); len(f.seen) != 0 || len(result.Outcomes) != 0 || result.Err != nil {
			t.Errorf("%+v", result)
		}
	})
}

// A record that is refused alone is rejected only if the stream has stored something in the client's life.
func TestNoRejectionBeforeTheFirstStoredRecord(t *testing.T) {
	for name, refused := range map[string]step{
		"the request": refuse(400, "ValidationException"), "the record": entries(map[string]string{"x": "InvalidArgumentException"}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f := newFake(t, nil)
				for i, want := range []string{"u", "u", "u", "s", "R", "s", "R"} {
					f.script = nil
					if want != "s" {
						f.script = slices.Repeat([]step{refused}, 4)
					}
					result := c.Put(t.Context(), recordsOf("x"))
					if outcomesOf(result) != want {
						t.Errorf("Put %d: %s, want %s", i, outcomesOf(result), want)
					}
					checkError(t, result.Err, want != "s", KindInvalid, "because")
				}
			})
		})
	}
}

// Bisection finds up to four bad records at any positions, and the good ones are stored within two Puts.
func TestBisect(t *testing.T) {
	all := strings.Split("abcdefghijkl", "")
	for bad := range 1 << 12 {
		if bits.OnesCount(uint(bad)) > 4 {
			continue
		}
		var badRecords []string
		want := []byte(strings.Repeat("s", len(all)))
		for i, d := range all {
			if bad>>i&1 == 1 {
				badRecords, want[i] = append(badRecords, d), 'R'
			}
		}
		c, f := newFake(t, nil, refuseWith("ValidationException", badRecords...))
		var ended [12]byte
		left := all
		for puts := 0; len(left) > 0 && puts < 3; puts++ {
			f.seen = nil
			result := c.Put(t.Context(), recordsOf(left...))
			var unsent []string
			for i, o := range result.Outcomes {
				if o == Unsent {
					unsent = append(unsent, left[i])
				}
				ended[slices.Index(all, left[i])] = "usR"[o]
			}
			if left = unsent; len(f.seen) > 12*6 {
				t.Errorf("%d requests", len(f.seen))
			}
		}
		if bad>>10 != 3 && string(ended[:]) != string(want) {
			t.Fatalf("bad records %v: outcomes %s", badRecords, &ended)
		}
		// If the first two records that are sent alone are bad, nothing is stored: the stream seems to refuse everything.
		if bad>>10 == 3 && string(ended[:]) != "uuuuuuuuuuuu" {
			t.Fatalf("bad records %v: outcomes %s", badRecords, &ended)
		}
	}
}

// A stream that refuses every request causes no rejection and only three requests, however many records there are.
func TestStreamThatRefusesEverything(t *testing.T) {
	refusing := func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
		return refuse(400, "ValidationException")(f, req, data)
	}
	c, f := newFake(t, nil, slices.Repeat([]step{refusing}, 1000)...)
	for range 3 {
		f.seen = nil
		records := recordsOf(slices.Repeat([]string{"large"}, 400)...)
		records[7].Data = [][]byte{[]byte("x")}
		result := c.Put(t.Context(), records)
		var cause *Error
		if !errors.As(result.Err, &cause) || !cause.Permanent || strings.Trim(outcomesOf(result), "u") != "" || len(f.seen) != 3 {
			t.Errorf("%d requests, outcomes %s: %v", len(f.seen), outcomesOf(result), result.Err)
		}
		if got := f.seen[1]; !slices.Equal(got, []string{"x"}) {
			t.Errorf("sent %q alone, not the smallest record", got)
		}
	}
}

// A request that a proxy refuses as too large is halved, and later requests keep to that size.
func TestRequestTooLargeIsRemembered(t *testing.T) {
	limit := func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
		if len(data) > 3 {
			return respond(413, http.Header{}, "<html>too large</html>"), nil
		}
		return entries(nil)(f, req, data)
	}
	c, f := newFake(t, nil, slices.Repeat([]step{limit}, 100)...)
	for i, want := range []string{"abcdefgh|abcd|ab|cd|ef|gh", "ab|cd|ef|gh", "ab|cd|ef|gh"} {
		f.seen = nil
		if result := c.Put(t.Context(), recordsOf(strings.Split("abcdefgh", "")...)); result.Err != nil || requestsOf(f.seen) != want {
			t.Errorf("Put %d: requests %s, want %s: %v", i, requestsOf(f.seen), want, result.Err)
		}
	}
	f.seen, f.script = nil, []step{refuse(413, "")}
	if result := c.Put(t.Context(), recordsOf("x")); outcomesOf(result) != "R" || requestsOf(f.seen) != "x" {
		t.Errorf("alone: requests %s, outcome %s", requestsOf(f.seen), outcomesOf(result))
	}
}

// A record that is refused with an unknown code is retried. It is rejected after five minutes of such refusals during
// which other records are stored.
func TestUnknownCodeIsRejectedAfterFiveMinutes(t *testing.T) {
	unknown := func(bad ...string) step {
		codes := map[string]string{}
		for _, d := range bad {
			codes[d] = "NobodyKnowsException"
		}
		return entries(codes)
	}
	synctest.Test(t, func(t *testing.T) {
		c, f := newFake(t, nil)
		put := func(data string, answer step, want string) {
			t.Helper()
			f.script = slices.Repeat([]step{answer}, 10)
			result := c.Put(t.Context(), recordsOf(strings.Split(data, "")...))
			if outcomesOf(result) != want {
				t.Errorf("after %v: %s ended %s, want %s", time.Since(f.times[0]), data, outcomesOf(result), want)
			}
			checkError(t, result.Err, strings.Trim(want, "s") != "", KindInvalid, "NobodyKnowsException: because")
			time.Sleep(time.Minute)
		}
		for range 5 {
			put("axb", unknown("x"), "sus")
		}
		put("axb", unknown("x"), "sRs") // after five minutes
		put("axb", unknown("x"), "sus") // the next one
		put("axb", unknown(), "sss")
		for range 5 {
			put("axb", unknown("x"), "sus") // five minutes start again
		}
		put("axyb", unknown("x", "y"), "sRus")
		for range 5 {
			put("ayb", unknown("y"), "sus")
		}
		put("ayb", unknown("y"), "sRs")
		for range 10 {
			put("axb", unknown("a", "x", "b"), "uuu") // the stream refuses everything
		}
		put("x", unknown("x"), "u")
		for range 5 {
			put("axb", unknown("x"), "sus")
		}
		for range 5 {
			put("x", unknown("x"), "u")
		}
		put("xa", unknown("x"), "Rs")
	})
}

// tokens provides credentials A, B, C ..., a new one for each call.
type tokens struct {
	retrieved int
	err       error
}

func (p *tokens) Retrieve(context.Context) (Credentials, error) {
	p.retrieved++
	key := string(rune('A' + p.retrieved - 1))
	return Credentials{AccessKeyID: key, SecretAccessKey: "secret", Expires: time.Now().Add(time.Hour)}, p.err
}

// Expired credentials are replaced once for each accepted request.
func TestExpiredTokenIsReplacedOnce(t *testing.T) {
	expired := refuse(400, "ExpiredTokenException")
	provider := &tokens{}
	c, f := newFake(t, func(c *Config) { c.Credentials = &cache{provider: provider} }, expired, entries(nil), expired, expired)
	if result := c.Put(t.Context(), recordsOf("a")); outcomesOf(result) != "s" || result.Retried != 1 {
		t.Errorf("first: %+v", result)
	}
	result := c.Put(t.Context(), recordsOf("a"))
	if outcomesOf(result) != "u" {
		t.Errorf("second: %+v", result)
	}
	checkError(t, result.Err, true, KindCredentials, "ExpiredToken")
	// An accepted request proves the new credentials, so they are replaced again when they expire.
	c.requestBytes, c.config.MaxRequestBytes, f.script = 4, 4, []step{expired, entries(nil), expired, entries(nil)}
	if result := c.Put(t.Context(), recordsOf("a", "b")); outcomesOf(result) != "ss" || provider.retrieved != 6 {
		t.Errorf("third: %+v after %d credentials", result, provider.retrieved)
	}
	var keys []string
	for _, h := range f.header[:4] {
		_, key, _ := strings.Cut(h.Get("Authorization"), "Credential=")
		keys = append(keys, key[:1])
	}
	if !slices.Equal(keys, []string{"A", "B", "B", "C"}) {
		t.Errorf("signed with %v", keys)
	}
}

// Credentials that the service refused are not used again, even if no others are available.
func TestRefusedCredentialsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := &tokens{}
		expire := func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
			provider.err = errors.New("endpoint is down")
			return refuse(400, "ExpiredTokenException")(f, req, data)
		}
		c, f := newFake(t, func(c *Config) { c.Credentials = &cache{provider: provider} }, expire)
		result := c.Put(expiring(t, time.Second), recordsOf("a"))
		if len(f.seen) != 1 || outcomesOf(result) != "u" {
			t.Errorf("%d requests, outcome %s", len(f.seen), outcomesOf(result))
		}
		checkError(t, result.Err, true, KindCredentials, "endpoint is down")
	})
}

// Without credentials no request is sent, and the error names the cause.
func TestCredentialsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := &tokens{err: errors.New("endpoint is\n down")}
		c, f := newFake(t, func(c *Config) { c.Credentials = provider })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		result := c.Put(ctx, recordsOf("a"))
		if len(f.seen) != 0 || outcomesOf(result) != "u" || provider.retrieved < 3 {
			t.Errorf("%d requests, outcomes %s, %d tries", len(f.seen), outcomesOf(result), provider.retrieved)
		}
		checkError(t, result.Err, true, KindCredentials, "endpoint is down")
	})
}

// The Date of a refusal corrects a clock that is far off. It corrects it again after somebody has set the clock.
func TestClockSkewIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := time.Hour
		strict := func(code string) step {
			return func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
				signed, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
				if err != nil {
					t.Error(err)
				}
				now := time.Now().Add(theirs)
				if signed.Sub(now).Abs() < 5*time.Minute {
					return entries(nil)(f, req, data)
				}
				resp, _ := refuse(403, code)(f, req, data)
				resp.Header.Set("Date", now.UTC().Format(http.TimeFormat))
				return resp, nil
			}
		}
		signature := strict("InvalidSignatureException")
		c, f := newFake(t, nil, signature, signature, signature, strict("AccessDeniedException"), signature)
		put := func(requests int, outcome string) {
			t.Helper()
			f.seen = nil
			if result := c.Put(t.Context(), recordsOf("a")); outcomesOf(result) != outcome || len(f.seen) != requests {
				t.Errorf("%d requests, outcome %s: %v", len(f.seen), outcomesOf(result), result.Err)
			}
		}
		dated := func(off time.Duration, age string) step {
			return func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
				resp, err := refuse(403, "InvalidSignatureException")(f, req, data)
				resp.Header.Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
				resp.Header.Set("Age", age)
				return resp, err
			}
		}
		put(2, "s") // an hour behind
		put(1, "s") // remembered
		f.script = append([]step{dated(theirs, "")}, f.script...)
		put(1, "u") // the clock is not the cause
		theirs = 0  // somebody has set the environment's clock
		put(2, "s")
		for _, nothingLearnt := range []step{refuse(403, "InvalidSignatureException"), dated(-3*time.Minute, ""), dated(-time.Hour, "3600")} {
			f.script = []step{nothingLearnt}
			put(1, "u")
		}
	})
}

// A freeze between signing and sending makes the signature too old, although the clock is right. The request is signed
// again.
func TestSignatureExpiresInAFreeze(t *testing.T) {
	var slept time.Duration
	c, f := newFake(t, nil, func(f *fakeKinesis, req *http.Request, data []string) (*http.Response, error) {
		slept = 10 * time.Minute
		resp, err := refuse(400, "InvalidSignatureException")(f, req, data)
		resp.Header.Set("Date", time.Now().Add(slept).UTC().Format(http.TimeFormat))
		return resp, err
	})
	now := c.clock
	c.clock = func() instant {
		at := now()
		return instant{at.wall.Add(slept), at.mono}
	}
	if result := c.Put(t.Context(), recordsOf("a")); outcomesOf(result) != "s" || len(f.seen) != 2 {
		t.Errorf("%d requests, outcome %s: %v", len(f.seen), outcomesOf(result), result.Err)
	}
}

// Pauses are spread evenly between zero and their bound, which has a cap.
func TestBackoffHasJitter(t *testing.T) {
	seen := map[bool]int{}
	for range 1000 {
		d := jitter(time.Second)
		if none := jitter(0); none != 0 || d < 0 || d > time.Second {
			t.Fatalf("jitter of a second: %v, of zero: %v", d, none)
		}
		seen[d < time.Second/2]++
	}
	if seen[true] < 300 || seen[false] < 300 {
		t.Errorf("%v of 1000 are in the lower half", seen[true])
	}
	if got := BackoffBound(true, 50); got != maxBackoff {
		t.Errorf("the bound after 50 failures is %v", got)
	}
}
