package kinesis

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// oracleReply reads a reply with encoding/json.
func oracleReply(reply []byte) ([]entry, bool) {
	var top map[string]json.RawMessage
	var records []map[string]json.RawMessage
	if json.Unmarshal(reply, &top) != nil || top["Records"] == nil || json.Unmarshal(top["Records"], &records) != nil || records == nil {
		return nil, false
	}
	entries := []entry{}
	for _, r := range records {
		var sequence, code, message *string
		if r == nil { // null
			return nil, false
		}
		for name, to := range map[string]**string{"SequenceNumber": &sequence, "ErrorCode": &code, "ErrorMessage": &message} {
			if value, ok := r[name]; ok && json.Unmarshal(value, to) != nil {
				return nil, false
			}
		}
		e := entry{stored: sequence != nil && *sequence != ""}
		if code != nil {
			e.code = *code
		}
		if message != nil {
			e.message = []byte(*message)
		}
		entries = append(entries, e)
	}
	return entries, true
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		`{"FailedRecordCount":0,"Records":[{"SequenceNumber":"4954","ShardId":"shardId-000000000000"}]}`,
		`{"EncryptionType":"KMS","FailedRecordCount":1,"Records":[{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate \"exceeded\" \u00e9"},{"SequenceNumber":"1","New":{"a":[1,-2.5e+3,true,false,null,"x"]}}]}`,
		`{"Records":[{"ErrorCode":null,"SequenceNumber":"1"}]}`, `{"Records":[]} `, `{"Records":null}`, `{"Records":[{}]}`,
		`{"Records":[{"SequenceNumber":"1"},null]}`, `{"\u0052ecords":[{"ErrorCod\u0065":"X"}]}`, `{"records":[]}`,
		`{"Records":[{"SequenceNumber":7}]}`, `{"Records":[{"SequenceNumber":"1"}`, `{"Records":[{"SequenceNumber":"1"}]}{}`,
		`{"Records":[{"SequenceNumber":"1"}],"Records":[]}`, `{"a":01,"Records":[]}`, `{"a":1.,"Records":[]}`, `{"a":-,"Records":[]}`,
		`{"Records":[{"ErrorCode":"\ud800\udc00\ud800"}]}`, "{\"Records\":[{\"ErrorCode\":\"\xff\"}]}", `{"Records":[],}`, `{"Records":[{"a":"\x"}]}`, ``, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		got, err := parseReply(reply, make([]entry, 1))
		want, ok := oracleReply(reply)
		if err != nil && ok && strings.Count(string(reply), "[")+strings.Count(string(reply), "{") > maxDepth {
			return // the one difference that is meant
		}
		if (err == nil) != ok {
			t.Fatalf("%q: %v, encoding/json takes it: %t", reply, err, ok)
		}
		if err != nil {
			return
		}
		same := slices.EqualFunc(got, want, func(g, w entry) bool {
			return g.stored == w.stored && g.code == w.code && unquote(g.message) == string(w.message)
		})
		if !same {
			t.Errorf("%q:\n got %v\nwant %v", reply, got, want)
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
