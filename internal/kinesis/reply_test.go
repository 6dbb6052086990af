package kinesis

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestParseReply(t *testing.T) {
	const good = `{"EncryptionType":"KMS","FailedRecordCount":1,"Records":[{"ErrorCode":"InternalFailure","ErrorMessage":"a \"b\""},` +
		`{"SequenceNumber":"1","ShardId":"s","New":{"a":[1]}},{"ErrorCode":null,"SequenceNumber":"2"},{},null,{"SequenceNumber":""}]}`
	want := []entry{{Code: "InternalFailure", Message: `a "b"`}, {Stored: true}, {Stored: true}, {}, {}, {}}
	stale := []entry{{Stored: true, Code: "x"}, {Code: "x"}, {Code: "x"}, {Stored: true}, {Stored: true}, {Stored: true}}
	if got, err := parseReply([]byte(good), stale); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{``, `[]`, `{"Records":[{"SequenceNumber":"1"}`, `{"Records":{}}`, `{"Records":[7]}`, `{"Records":[{"ErrorCode":7}]}`, `<html>`} {
		if got, err := parseReply([]byte(bad), nil); !errors.Is(err, errReply) {
			t.Errorf("%q passed for a reply: %+v, %v", bad, got, err)
		}
	}
}

// A reply that was cut short never passes for a whole one.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"FailedRecordCount":0,"Records":[{"SequenceNumber":"4954","ShardId":"shardId-000000000000"}]}`), 7)
	f.Add([]byte(`{"Records":[{"ErrorCode":"\u00e9"}]}`), 1)
	f.Fuzz(func(t *testing.T, reply []byte, cut int) {
		reply = bytes.TrimSpace(reply)
		if _, err := parseReply(reply, make([]entry, 1)); err != nil || cut < 0 || cut >= len(reply) || reply[0] != '{' {
			return
		}
		if got, err := parseReply(reply[:cut], nil); err == nil {
			t.Errorf("%q passed for a reply: %+v", reply[:cut], got)
		}
	})
}

func TestParseError(t *testing.T) {
	for _, c := range []struct{ header, body, code, message string }{
		{"", `{"__type":"ResourceNotFoundException","message":"Stream logs under account 1 not found."}`, "ResourceNotFoundException", "Stream logs under account 1 not found."},
		{"", `{"__type":"com.amazonaws.kinesis.v20131202#ValidationException","Message":"bad"}`, "ValidationException", "bad"},
		{"AccessDeniedException:http://internal.amazon.com/x/", `{"__type":"Other","message":"m"}`, "AccessDeniedException", "m"},
		{"", `{"code":"SlowDown"}`, "SlowDown", ""},
		{"", `{"code":17,"__type":"SlowDown"}`, "SlowDown", ""},
		{"", "<html>\n <b>502</b> Bad \xff Gateway</html>", "", "<html> <b>502</b> Bad � Gateway</html>"},
		{"", "", "", ""},
		{"", `{"__type":"X","message":"` + strings.Repeat("é", 500) + `"}`, "X", strings.Repeat("é", 150) + "…"},
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
