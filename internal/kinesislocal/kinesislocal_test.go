package kinesislocal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"go.uber.org/goleak"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

func start(t testing.TB, o kinesislocal.Options) *kinesislocal.Server {
	t.Helper()
	if o.Credentials == nil {
		o.Credentials = map[string]string{accessKey: secretKey}
	}
	s, err := kinesislocal.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// withStream starts a server with a stream "s", and returns it and a client of the SDK.
func withStream(t testing.TB, o kinesislocal.Options, shards int) (*kinesislocal.Server, *awskinesis.Client) {
	t.Helper()
	s := start(t, o)
	if err := s.CreateStream("s", shards); err != nil {
		t.Fatal(err)
	}
	return s, client(t, s)
}

// roundTripper changes a signed request.
type roundTripper struct {
	next   http.RoundTripper
	change func(*http.Request)
}

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	rt.change(r)
	return rt.next.RoundTrip(r)
}

// hideWriterTo works around a bug of smithy-go v1.28.9. It closes the request's body when the reply begins, and WriteTo of a
// closed body returns io.EOF instead of nil. net/http, which still checks that the body is not longer than its length, then
// closes the connection during the reply: "use of closed network connection".
func hideWriterTo(r *http.Request) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
}

func client(t testing.TB, s *kinesislocal.Server, change ...func(*awskinesis.Options)) *awskinesis.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return awskinesis.New(awskinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.URL()), Retryer: aws.NopRetryer{},
		HTTPClient:  &http.Client{Transport: roundTripper{transport, hideWriterTo}},
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	}, change...)
}

func putInput(n int, data string) *awskinesis.PutRecordsInput {
	in := &awskinesis.PutRecordsInput{StreamName: aws.String("s")}
	for i := range n {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{
			PartitionKey: aws.String(fmt.Sprintf("key-%d", i)), Data: []byte(fmt.Sprintf("%s-%d", data, i)),
		})
	}
	return in
}

// readAll reads a whole stream, shard by shard, in pages of limit records.
func readAll(t *testing.T, c *awskinesis.Client, stream string, limit int32) []types.Record {
	t.Helper()
	ctx := t.Context()
	list, err := c.ListShards(ctx, &awskinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	var all []types.Record
	for _, sh := range list.Shards {
		it, err := c.GetShardIterator(ctx, &awskinesis.GetShardIteratorInput{
			StreamName: &stream, ShardId: sh.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		for next := it.ShardIterator; ; {
			got, err := c.GetRecords(ctx, &awskinesis.GetRecordsInput{ShardIterator: next, Limit: &limit})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, got.Records...)
			if len(got.Records) == 0 {
				break
			}
			next = got.NextShardIterator
		}
	}
	return all
}

// wantCode checks an API error's code, and its HTTP status unless that is 0.
func wantCode(t *testing.T, err error, code string, status int) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("got error %v, want %s", err, code)
	}
	var response interface{ HTTPStatusCode() int }
	if status != 0 && (!errors.As(err, &response) || response.HTTPStatusCode() != status) {
		t.Fatalf("got error %v, want status %d", err, status)
	}
}

func signed(t testing.TB, url, operation, body string) *http.Request {
	t.Helper()
	return signedAt(t, time.Now(), url, operation, body)
}

// signedAt returns a request with any body, signed by the SDK's signer.
func signedAt(t testing.TB, at time.Time, url, operation, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey},
		r, hex.EncodeToString(sum[:]), "kinesis", "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type answer struct {
	status  int
	code    string // __type
	message string
	header  http.Header
	body    []byte
}

// send sends a request without the SDK's client.
func send(t testing.TB, r *http.Request) answer {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: body}
	if res.StatusCode != http.StatusOK && len(body) > 0 {
		var e struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatalf("error body %q: %v", body, err)
		}
		a.code, a.message = e.Type, e.Message
	}
	return a
}

// The SDK's client writes records to all shards and reads them back, and OnRecord gets each of them.
func TestRoundTrip(t *testing.T) {
	var called []kinesislocal.Record
	s, c := withStream(t, kinesislocal.Options{OnRecord: func(stream string, r kinesislocal.Record) {
		if stream != "s" {
			t.Errorf("OnRecord for stream %q", stream)
		}
		called = append(called, r)
	}}, 4)
	in := putInput(500, "data\x00\xff")
	out, err := c.PutRecords(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if *out.FailedRecordCount != 0 || len(out.Records) != 500 || out.EncryptionType != types.EncryptionTypeNone {
		t.Fatalf("got %d failed, %d results, encryption %s", *out.FailedRecordCount, len(out.Records), out.EncryptionType)
	}
	want := map[string][]byte{}
	last := map[string]string{}
	for i, r := range out.Records {
		if len(*r.SequenceNumber) != 56 || *r.SequenceNumber <= last[*r.ShardId] {
			t.Fatalf("sequence number %s after %s in %s", *r.SequenceNumber, last[*r.ShardId], *r.ShardId)
		}
		last[*r.ShardId] = *r.SequenceNumber
		want[*in.Records[i].PartitionKey] = in.Records[i].Data
	}
	if len(last) != 4 {
		t.Errorf("500 keys went to %d of 4 shards", len(last))
	}
	got := readAll(t, c, "s", 70)
	if len(got) != 500 {
		t.Fatalf("read %d records of 500", len(got))
	}
	for _, r := range got {
		if !bytes.Equal(r.Data, want[*r.PartitionKey]) {
			t.Fatalf("key %s: read %q, wrote %q", *r.PartitionKey, r.Data, want[*r.PartitionKey])
		}
		if age := time.Since(*r.ApproximateArrivalTimestamp); age < -time.Second || age > time.Minute {
			t.Fatalf("arrived %v ago", age)
		}
	}
	stored := s.Records("s")
	if len(stored) != 500 || len(called) != 500 {
		t.Fatalf("Records has %d, OnRecord was called %d times", len(stored), len(called))
	}
	for i, r := range stored {
		if called[i].SequenceNumber != r.SequenceNumber || r.PartitionKey != *in.Records[i].PartitionKey {
			t.Fatalf("record %d is %+v, OnRecord had %+v", i, r, called[i])
		}
	}
}
