package kinesis

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// nullTransport reads the body as http.Transport does, and answers that everything is stored.
type nullTransport struct {
	reply   []byte
	copying []byte
}

func newNullTransport(records int) *nullTransport {
	entry := `,{"SequenceNumber":"49664325846193240182530462134563845623489234768234579234","ShardId":"shardId-000000000003"}`
	return &nullTransport{
		reply:   []byte(`{"FailedRecordCount":0,"Records":[` + strings.Repeat(entry, records)[1:] + `]}`),
		copying: make([]byte, 32<<10),
	}
}

func (n *nullTransport) CloseIdleConnections() {}

func (n *nullTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		if _, err := req.Body.Read(n.copying); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
	}
	if err := req.Body.Close(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(n.reply))}, nil
}

// Do lets the SDK's client use the transport.
func (n *nullTransport) Do(req *http.Request) (*http.Response, error) { return n.RoundTrip(req) }

var benchmarks = []struct {
	name         string
	count, bytes int
}{{"1x1KB", 1, 1 << 10}, {"500x1KB", 500, 1 << 10}, {"10x500KB", 10, 500 << 10}}

func benchRecords(count, bytes int) []Record {
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{PartitionKey: fmt.Sprintf("0f4c8a2e-%08d", i), Data: [][]byte{[]byte(strings.Repeat("x", bytes))}}
	}
	return records
}

func nullClient(tb testing.TB, records int) *Client {
	tb.Helper()
	c, err := New(testConfig("logs"))
	if err != nil {
		tb.Fatal(err)
	}
	c.transport = newNullTransport(records)
	c.requestBytes = c.config.MaxRequestBytes // as it is after a few requests
	return c
}

func BenchmarkPutRecords(b *testing.B) {
	for _, m := range benchmarks {
		b.Run(m.name, func(b *testing.B) {
			c, records := nullClient(b, m.count), benchRecords(m.count, m.bytes)
			b.ReportAllocs()
			b.SetBytes(int64(m.count * m.bytes))
			for b.Loop() {
				if result := c.Put(b.Context(), records); result.Err != nil || result.Requests != 1 {
					b.Fatal(result.Requests, result.Err)
				}
			}
		})
	}
}

// BenchmarkPutRecordsSDK measures the SDK's client with the same records.
func BenchmarkPutRecordsSDK(b *testing.B) {
	for _, m := range benchmarks {
		b.Run(m.name, func(b *testing.B) {
			c := awskinesis.New(awskinesis.Options{
				Region: "eu-west-1", HTTPClient: newNullTransport(m.count), Retryer: aws.NopRetryer{},
				Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "token"),
			})
			records := benchRecords(m.count, m.bytes)
			b.ReportAllocs()
			b.SetBytes(int64(m.count * m.bytes))
			for b.Loop() {
				input := &awskinesis.PutRecordsInput{StreamName: aws.String("logs"), Records: make([]types.PutRecordsRequestEntry, len(records))}
				for i := range records {
					input.Records[i] = types.PutRecordsRequestEntry{Data: records[i].Data[0], PartitionKey: &records[i].PartitionKey}
				}
				if _, err := c.PutRecords(b.Context(), input); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The client reuses its buffers: after the first Put, a request allocates much less than its own size.
func TestAllocationBudget(t *testing.T) {
	const runs = 20
	for i, budget := range map[int]uint64{1: 20_000, 2: 20_000} {
		m := benchmarks[i]
		c, records := nullClient(t, m.count), benchRecords(m.count, m.bytes)
		c.Put(t.Context(), records) // the buffers grow once
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if result := c.Put(t.Context(), records); result.Err != nil || result.Requests != 1 {
				t.Fatal(result.Requests, result.Err)
			}
		}
		runtime.ReadMemStats(&after)
		got := (after.TotalAlloc - before.TotalAlloc) / runs
		t.Logf("%s: %d bytes of %d", m.name, got, budget)
		if got > budget {
			t.Errorf("%s allocates %d bytes, the budget is %d", m.name, got, budget)
		}
	}
}
