package kinesis

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// parseReply resets reused entries, and refuses replies that are cut short or garbled.
func TestParseReply(t *testing.T) {
	const good = `{"EncryptionType":"KMS","FailedRecordCount":1,"Records":[{"ErrorCode":"InternalFailure","ErrorMessage":"a \"b\""},` +
		`{"SequenceNumber":"1","ShardId":"s","New":{"a":[1]}},{"ErrorCode":null,"SequenceNumber":"2"},{},null,{"SequenceNumber":""}]}`
	want := []entry{{Code: "InternalFailure", Message: `a "b"`}, {Stored: true}, {Stored: true}, {}, {}, {}}
	stale := []entry{{Stored: true, Code: "x"}, {Code: "x"}, {Code: "x"}, {Stored: true}, {Stored: true}, {Stored: true}}
	if got, err := parseReply([]byte(good), stale); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{
		``, `[]`, `{"Records":[{"SequenceNumber":"1"}`, `{"Records":{}}`, `{"Records":[7]}`, `{"Records":[{"ErrorCode":7}]}`, `<html>`,
	} {
		if got, err := parseReply([]byte(bad), nil); !errors.Is(err, errReply) {
			t.Errorf("%q is accepted as a reply: %+v, %v", bad, got, err)
		}
	}
}

// A reply that was cut short is never accepted.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"FailedRecordCount":0,"Records":[{"SequenceNumber":"4954","ShardId":"shardId-000000000000"}]}`), 7)
	f.Add([]byte(`{"Records":[{"ErrorCode":"\u00e9"}]}`), 1)
	f.Fuzz(func(t *testing.T, reply []byte, cut int) {
		reply = bytes.TrimSpace(reply)
		if _, err := parseReply(reply, make([]entry, 1)); err != nil || cut < 0 || cut >= len(reply) || reply[0] != '{' {
			return
		}
		if got, err := parseReply(reply[:cut], nil); err == nil {
			t.Errorf("%q is accepted as a reply: %+v", reply[:cut], got)
		}
	})
}

// The code comes from the header or the body, without namespace and URL. Other text is the message.
func TestParseError(t *testing.T) {
	for _, c := range []struct{ header, body, code, message string }{
		{
			body:    `{"__type":"ResourceNotFoundException","message":"Stream logs under account 1 not found."}`,
			code:    "ResourceNotFoundException",
			message: "Stream logs under account 1 not found.",
		},
		{body: `{"__type":"com.amazonaws.kinesis.v20131202#ValidationException","Message":"bad"}`, code: "ValidationException", message: "bad"},
		{
			header:  "AccessDeniedException:http://internal.amazon.com/x/",
			body:    `{"__type":"Other","message":"m"}`,
			code:    "AccessDeniedException",
			message: "m",
		},
		{body: `{"code":"SlowDown"}`, code: "SlowDown"},
		{body: `{"code":17,"__type":"SlowDown"}`, code: "SlowDown"},
		{body: "<html>\n <b>502</b> Bad \xff Gateway</html>", message: "<html>\n <b>502</b> Bad \xff Gateway</html>"},
		{},
	} {
		header := http.Header{}
		if c.header != "" {
			header.Set("X-Amzn-ErrorType", c.header)
		}
		if code, message := parseError(header, []byte(c.body)); code != c.code || message != c.message {
			t.Errorf("%q: got %q, %q, want %q, %q", c.body, code, message, c.code, c.message)
		}
	}
}

// oneLine replaces line breaks and control characters, and cuts long text.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"as it is":                          "as it is",
		"a\n <b>502</b>\tBad \xff Gateway ": "a <b>502</b> Bad � Gateway",
		"\x1b[31m\x00\u202e\u200b":          "�[31m���",
		strings.Repeat("é", 150):            strings.Repeat("é", 150),
		strings.Repeat("é", 5000):           strings.Repeat("é", 150) + "…",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func zipped(text string) string {
	var b strings.Builder
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// encoded answers like a proxy that compresses although the request rules it out.
func encoded(status int, encoding, body string) step {
	return func(*fakeKinesis, *http.Request, []string) (*http.Response, error) {
		return respond(status, http.Header{"Content-Encoding": {encoding}}, body), nil
	}
}

// Replies in gzip are decompressed. A reply in another encoding is an error, unless its status is enough.
func TestEncodedReplies(t *testing.T) {
	const stored = `{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1"},{"SequenceNumber":"2"}]}`
	denied := `{"__type":"AccessDeniedException","message":"because"}`
	for _, c := range []struct {
		name     string
		script   []step
		outcomes string
		requests int
		kind     Kind
		says     string
	}{
		{"gzip", []step{encoded(200, "gzip", zipped(stored))}, "ss", 1, 0, ""},
		{"x-gzip", []step{encoded(200, "X-GZIP ", zipped(stored))}, "ss", 1, 0, ""},
		{"identity", []step{encoded(200, "identity", stored)}, "ss", 1, 0, ""},
		{"a refusal", []step{encoded(400, "gzip", zipped(denied))}, "uu", 1, KindAccessDenied, "because"},
		{"cut short", []step{encoded(200, "gzip", zipped(stored)[:40])}, "ss", 2, 0, ""},
		{"not gzip at all", []step{encoded(200, "gzip", stored)}, "ss", 2, 0, ""},
		{"endless", []step{encoded(200, "gzip", zipped(strings.Repeat(" ", maxReply+1)))}, "ss", 2, 0, ""},
		{"another encoding", []step{encoded(200, "br", stored)}, "uu", 1, KindNetwork, `encoded as "br"`},
		{"two", []step{encoded(200, "gzip, gzip", stored)}, "uu", 1, KindNetwork, `encoded as "gzip, gzip"`},
		{"a failure in another encoding", []step{encoded(503, "br", "x")}, "ss", 2, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, f := newFake(t, nil, c.script...)
				result := client.Put(t.Context(), recordsOf("a", "b"))
				if outcomesOf(result) != c.outcomes || len(f.seen) != c.requests {
					t.Errorf("outcomes %s after %d requests: %v", outcomesOf(result), len(f.seen), result.Err)
				}
				checkError(t, result.Err, c.says != "", c.kind, c.says)
				// A proxy may change the header, so it is not signed.
				if h := f.header[0]; h.Get("Accept-Encoding") != "identity" || strings.Contains(h.Get("Authorization"), "accept-encoding") {
					t.Errorf("asks for %q, signed %s", h.Get("Accept-Encoding"), h.Get("Authorization"))
				}
			})
		})
	}
}

// The error says why a reply cannot be read.
func TestUnreadableReplies(t *testing.T) {
	for says, answer := range map[string]step{
		"it is too long": reply(strings.Repeat(" ", maxReply+1)), "unexpected EOF": encoded(200, "gzip", zipped("{}")[:12]),
	} {
		c, _ := newFake(t, nil, answer)
		checkError(t, c.Probe(t.Context(), recordsOf("a")).Err, true, KindNetwork, says)
	}
}
