package kinesis_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

const stream = "logs"

var oracleRecords = []kinesis.Record{
	{PartitionKey: "one", Data: [][]byte{[]byte("{}\n")}},
	{PartitionKey: "\"quoted\" \\ back\tslash\x01", Data: [][]byte{bytes.Repeat([]byte{0, 1, 254, 255}, 1000)}},
	{PartitionKey: "Ünïcödé 😀 <&>\u2028", Data: [][]byte{[]byte("x")}},
	{PartitionKey: "empty"},
}

// capture records requests and passes them to next.
type capture struct {
	next     http.Handler
	requests []*http.Request
	bodies   []map[string]any
}

func (c *capture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var decoded map[string]any
	if json.Unmarshal(body, &decoded) != nil {
		decoded = map[string]any{"not JSON": string(body)}
	}
	c.requests, c.bodies = append(c.requests, r), append(c.bodies, decoded)
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.next.ServeHTTP(w, r)
}

// Both clients send the same records to a server that verifies signatures. The requests are equal except for headers
// that only the SDK sends, and the stored records are equal.
func TestSameRequestsAsTheSDK(t *testing.T) {
	local := kinesislocal.New(kinesislocal.Options{Region: "eu-west-1", Credentials: map[string]string{"AKID": "secret"}})
	defer local.Close()
	if err := local.CreateStream(stream, 2); err != nil {
		t.Fatal(err)
	}
	seen := &capture{next: local}
	server := httptest.NewServer(seen)
	defer server.Close()
	keys := credentials.NewStaticCredentialsProvider("AKID", "secret", "session/token+==")
	const arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/" + stream
	for _, c := range []struct {
		name, stream, account string
		input                 awskinesis.PutRecordsInput
	}{
		{"by name", stream, "", awskinesis.PutRecordsInput{StreamName: aws.String(stream)}},
		{"by ARN", arn, "", awskinesis.PutRecordsInput{StreamARN: aws.String(arn)}},
		{"by ARN, own account", arn, "123456789012", awskinesis.PutRecordsInput{StreamName: aws.String(stream)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, err := kinesis.New(kinesis.Config{
				Stream:      c.stream,
				AccountID:   c.account,
				Region:      "eu-west-1",
				EndpointURL: server.URL,
				Credentials: kinesis.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", SessionToken: "session/token+=="},
			})
			if err != nil {
				t.Fatal(err)
			}
			seen.requests, seen.bodies = nil, nil
			before := len(local.Records(stream))
			if result := ours.Put(t.Context(), oracleRecords); result.Err != nil {
				t.Fatal(result.Err)
			}
			stored := local.Records(stream)[before:]

			theirs := awskinesis.New(awskinesis.Options{
				Region:       "eu-west-1",
				BaseEndpoint: &server.URL,
				Credentials:  keys,
				Retryer:      aws.NopRetryer{},
			})
			c.input.Records = entriesOf(oracleRecords)
			if _, err := theirs.PutRecords(t.Context(), &c.input); err != nil {
				t.Fatal(err)
			}
			compareStored(t, stored, local.Records(stream)[before+len(stored):])
			compareRequests(t, seen)
		})
	}
}

func entriesOf(records []kinesis.Record) []types.PutRecordsRequestEntry {
	var entries []types.PutRecordsRequestEntry
	for _, r := range records {
		entries = append(entries, types.PutRecordsRequestEntry{Data: bytes.Join(r.Data, nil), PartitionKey: aws.String(r.PartitionKey)})
	}
	return entries
}

func compareStored(t *testing.T, ours, theirs []kinesislocal.Record) {
	t.Helper()
	same := slices.EqualFunc(ours, theirs, func(a, b kinesislocal.Record) bool {
		return a.PartitionKey == b.PartitionKey && bytes.Equal(a.Data, b.Data) && a.ShardID == b.ShardID
	})
	if !same || len(ours) != len(oracleRecords) {
		t.Errorf("stored\nours   %v\ntheirs %v", ours, theirs)
	}
}

func compareRequests(t *testing.T, seen *capture) {
	t.Helper()
	if len(seen.requests) != 2 {
		t.Fatalf("%d requests", len(seen.requests))
	}
	if !reflect.DeepEqual(seen.bodies[0], seen.bodies[1]) {
		t.Errorf("bodies\nours   %v\ntheirs %v", seen.bodies[0], seen.bodies[1])
	}
	ours, theirs := seen.requests[0], seen.requests[1]
	if ours.Method != theirs.Method || ours.URL.String() != theirs.URL.String() || ours.Host != theirs.Host {
		t.Errorf("%s %s at %s, the SDK %s %s at %s", ours.Method, ours.URL, ours.Host, theirs.Method, theirs.URL, theirs.Host)
	}
	for name, value := range ours.Header {
		switch name {
		case "Accept-Encoding", "Authorization", "Content-Length", "User-Agent", "X-Amz-Date":
			if theirs.Header.Get(name) == "" {
				t.Errorf("the SDK sends no %s", name)
			}
		default:
			if !slices.Equal(value, theirs.Header[name]) {
				t.Errorf("%s: %q, the SDK %q", name, value, theirs.Header[name])
			}
		}
	}
	for name := range theirs.Header {
		if _, ok := ours.Header[name]; !ok && !slices.Contains([]string{"Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "X-Amz-User-Agent"}, name) {
			t.Errorf("only the SDK sends %s", name)
		}
	}
	if got, want := signedHeaders(ours), signedHeaders(theirs); !slices.Equal(got, want) {
		t.Errorf("signed headers %v, the SDK's %v", got, want)
	}
}

// signedHeaders returns the signed headers, without the SDK's own.
func signedHeaders(r *http.Request) []string {
	_, list, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	return slices.DeleteFunc(strings.Split(list, ";"), func(name string) bool { return strings.HasPrefix(name, "amz-sdk-") })
}

// Both clients report the same refusals: our error has the code of the SDK's error. No record counts as sent that is
// not stored.
func TestSameOutcomesAsTheSDK(t *testing.T) {
	keys := credentials.NewStaticCredentialsProvider("AKID", "secret", "")
	ourKeys := kinesis.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}
	for _, c := range []struct {
		name, stream, secret string
		code                 string
		kind                 kinesis.Kind
	}{
		{"stored", stream, "secret", "", 0},
		{"no such stream", "other", "secret", "ResourceNotFoundException", kinesis.KindNotFound},
		{"wrong secret", stream, "another", "InvalidSignatureException", kinesis.KindCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			local, err := kinesislocal.Start(kinesislocal.Options{Region: "eu-west-1", Credentials: map[string]string{"AKID": c.secret}})
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			if err := local.CreateStream(stream, 2); err != nil {
				t.Fatal(err)
			}
			endpoint := local.URL()
			ours, err := kinesis.New(kinesis.Config{Stream: c.stream, Region: "eu-west-1", EndpointURL: endpoint, Credentials: ourKeys})
			if err != nil {
				t.Fatal(err)
			}
			result := ours.Put(t.Context(), oracleRecords)
			stored := len(local.Records(stream))

			theirs := awskinesis.New(awskinesis.Options{
				Region: "eu-west-1", BaseEndpoint: &endpoint, Credentials: keys, Retryer: aws.NopRetryer{},
			})
			_, err = theirs.PutRecords(t.Context(), &awskinesis.PutRecordsInput{StreamName: &c.stream, Records: entriesOf(oracleRecords)})
			if theirStored := len(local.Records(stream)) - stored; theirStored != stored {
				t.Errorf("stored %d, the SDK %d", stored, theirStored)
			}
			sent := 0
			for _, o := range result.Outcomes {
				if o == kinesis.Sent {
					sent++
				}
			}
			if sent != stored {
				t.Errorf("%d records count as sent, %d are stored", sent, stored)
			}
			compareErrors(t, result.Err, err, c.code, c.kind)
		})
	}
}

func compareErrors(t *testing.T, ours, theirs error, code string, kind kinesis.Kind) {
	t.Helper()
	if code == "" {
		if ours != nil || theirs != nil {
			t.Errorf("ours %v, theirs %v", ours, theirs)
		}
		return
	}
	var refused *kinesis.Error
	var api smithy.APIError
	if !errors.As(theirs, &api) || api.ErrorCode() != code {
		t.Errorf("the SDK: %v", theirs)
	}
	if !errors.As(ours, &refused) || refused.Code != code || refused.Kind != kind ||
		!strings.Contains(refused.Error(), firstLine(api.ErrorMessage())) {
		t.Errorf("ours: %v\nthe SDK: %v", ours, theirs)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
