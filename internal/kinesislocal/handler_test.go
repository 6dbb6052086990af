package kinesislocal_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// wellSigned returns a request for a server that does not recompute signatures.
func wellSigned(operation, body string, now time.Time) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	r.Header.Set("X-Amz-Date", now.UTC().Format("20060102T150405Z"))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=K/"+now.UTC().Format("20060102")+
		"/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=00")
	return r
}

// Any body gets a reply like AWS's, and a successful reply means that all records are stored.
func FuzzHandler(f *testing.F) {
	operations := []string{
		"PutRecords", "PutRecord", "GetRecords", "GetShardIterator", "ListShards", "ListStreams",
		"DescribeStreamSummary", "CreateStream", "DeleteStream", "UnknownOperation",
	}
	cursor := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for i, bodies := range [][]string{
		{
			`{"StreamName":"s","Records":[{"Data":"eA==","PartitionKey":"k"},{"Data":"","PartitionKey":"l","ExplicitHashKey":"7"}]}`,
			`{"StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/s","DryRun":true,"Records":[{"Data":"eA==","PartitionKey":"k"}]}`,
			`{"StreamName":"s","Records":[null,{}]}`, `{"StreamName":"s","Records":{"Data":1}}`, `{`, ``, `[]`, `null`,
		},
		{
			`{"StreamName":"s","Data":"eA==","PartitionKey":"k"}`,
			`{"StreamName":"s","Data":"","PartitionKey":"","ExplicitHashKey":"340282366920938463463374607431768211456"}`,
		},
		{
			`{"ShardIterator":"` + cursor(`{"Kind":"records","Stream":"s","Shard":1,"Next":0,"Issued":"2100-01-01T00:00:00Z"}`) + `"}`,
			`{"ShardIterator":"` + cursor(`{"Kind":"records","Stream":"s","Created":"2026-01-01T00:00:00Z",`+
				`"Shard":9,"Next":1,"Issued":"2100-01-01T00:00:00Z"}`) + `","Limit":1}`,
			`{"ShardIterator":"` + cursor(`{"Kind":"records","Stream":"s","Created":"2026-01-01T00:00:00Z","Shard":-1,"Next":-1}`) + `"}`,
		},
		{
			`{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"49"}`,
			`{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"AT_TIMESTAMP","Timestamp":-1e300}`,
		},
		{
			`{"StreamName":"s","MaxResults":1}`,
			`{"NextToken":"` + cursor(`{"Kind":"shards","Stream":"s","Shard":99,"Issued":"2100-01-01T00:00:00Z"}`) + `"}`,
		},
		{`{"Limit":1,"NextToken":"x"}`},
		{`{"StreamName":"s"}`},
		{`{"StreamName":"n","ShardCount":2}`},
		{`{"StreamName":"s"}`},
		{`{}`},
	} {
		for _, body := range bodies {
			f.Add(uint8(i), body)
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, n uint8, body string) {
		operation := operations[int(n)%len(operations)]
		s := kinesislocal.New(kinesislocal.Options{Now: func() time.Time { return now }, ShardRecordsPerSecond: -1, ShardBytesPerSecond: -1})
		if err := s.CreateStream("s", 2); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, wellSigned(operation, body, now))
		stored := len(s.Records("s"))
		var reply struct {
			Type              string `json:"__type"`
			FailedRecordCount int
			Records           []struct{ SequenceNumber, ShardId string }
		}
		if w.Body.Len() > 0 {
			if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil {
				t.Fatalf("reply %q: %v", w.Body, err)
			}
		}
		want := 0
		switch {
		case w.Code == http.StatusBadRequest && reply.Type != "":
		case w.Code != http.StatusOK:
			t.Fatalf("status %d, %s", w.Code, w.Body)
		case operation == "PutRecord":
			want = 1
		case operation == "PutRecords":
			if want = len(reply.Records); want == 0 || reply.FailedRecordCount != 0 {
				t.Fatalf("success without records: %s", w.Body)
			}
		}
		if stored != want {
			t.Fatalf("%s stored %d records and replied %d %s", operation, stored, w.Code, w.Body)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// With concurrent clients, SetFaults and Stats, each acknowledged record is stored exactly once.
func TestConcurrency(t *testing.T) {
	var called int
	s, c := withStream(t, kinesislocal.Options{ShardRecordsPerSecond: -1, OnRecord: func(string, kinesislocal.Record) { called++ }}, 2)
	stored := make(chan int)
	const clients, requests = 4, 20
	for range clients {
		go func() {
			n := 0
			for range requests {
				if out, err := c.PutRecords(t.Context(), putInput(10, "x")); err == nil {
					n += len(out.Records) - int(*out.FailedRecordCount)
				}
			}
			stored <- n
		}()
	}
	for range 20 {
		s.SetFaults(faulty(kinesislocal.Rule{Probability: 0.5, RecordError: &kinesislocal.RecordError{Probability: 0.5}}))
		_, _ = s.Stats(), s.Records("s")
		time.Sleep(time.Millisecond)
	}
	total := 0
	for range clients {
		total += <-stored
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Records("s")); n != total || called != total {
		t.Errorf("%d records acknowledged, %d stored, OnRecord was called %d times", total, n, called)
	}
	if got := s.Stats().Operations["PutRecords"]; got.Requests != clients*requests || got.Records["OK"].Count != int64(total) {
		t.Errorf("Stats: %+v", got)
	}
}

func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []struct {
		name           string
		records, bytes int
	}{{"500x1KB", 500, 1000}, {"5MiB", 20, 5 << 20 / 20}} {
		b.Run(size.name, func(b *testing.B) {
			s := kinesislocal.New(kinesislocal.Options{
				Credentials: map[string]string{accessKey: secretKey}, ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1,
			})
			record := `{"Data":"` + base64.StdEncoding.EncodeToString(make([]byte, size.bytes-3)) + `","PartitionKey":"key"},`
			body := `{"StreamName":"s","Records":[` + strings.TrimSuffix(strings.Repeat(record, size.records), ",") + `]}`
			r := signed(b, "http://localhost/", "PutRecords", body)
			b.SetBytes(int64(size.records * size.bytes))
			for b.Loop() {
				if len(s.Records("s")) == 0 || len(s.Records("s")) > 10*size.records {
					b.StopTimer()
					s.ServeHTTP(newRecorder(), signed(b, "http://localhost/", "DeleteStream", `{"StreamName":"s"}`))
					if err := s.CreateStream("s", 4); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				r.Body, _ = r.GetBody()
				w := newRecorder()
				if s.ServeHTTP(w, r); w.status != http.StatusOK {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}

// BenchmarkSDK measures PutRecords with the SDK's client.
func BenchmarkSDK(b *testing.B) {
	_, c := withStream(b, kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1}, 4)
	in := &awskinesis.PutRecordsInput{StreamName: aws.String("s")}
	for range 500 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("k"), Data: make([]byte, 1000)})
	}
	b.SetBytes(500 * 1001)
	for b.Loop() {
		if _, err := c.PutRecords(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
