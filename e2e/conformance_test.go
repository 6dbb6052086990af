package e2e_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/sandbox"
)

// The same function and the same binary deliver to Kinesis endpoints of other projects: AWS's own SDK reads back every emitted event.
// .ci/run installs the endpoints and requires them with CONFORMANCE=required.
func TestConformanceKinesisLocal(t *testing.T) {
	folder := foreign(t, "KINESIS_LOCAL", "the folder of the npm package kinesis-local")
	port, tls := freePort(t), freePort(t)
	conformance(t, port, exec.Command("node", filepath.Join(folder, "main.js")),
		"KINESIS_MOCK_CERT_PATH="+filepath.Join(folder, "server.json"), "LOG_LEVEL=ERROR",
		fmt.Sprint("KINESIS_MOCK_PLAIN_PORT=", port), fmt.Sprint("KINESIS_MOCK_TLS_PORT=", tls))
}

func TestConformanceMoto(t *testing.T) {
	program := foreign(t, "MOTO_SERVER", "the program moto_server")
	port := freePort(t)
	conformance(t, port, exec.Command(program, "-H", "127.0.0.1", "-p", fmt.Sprint(port)))
}

func foreign(t *testing.T, variable, what string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" && os.Getenv("CONFORMANCE") == "required" {
		t.Fatalf("%s must name %s", variable, what)
	}
	if value == "" {
		t.Skipf("%s does not name %s; .ci/run installs it", variable, what)
	}
	return value
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func conformance(t *testing.T, port int, server *exec.Cmd, environ ...string) {
	url := fmt.Sprint("http://127.0.0.1:", port)
	server.Env = append(os.Environ(), environ...)
	var said output
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("log of the server:\n%s", said.text.String())
		}
	})
	keys := sandbox.Credentials{AccessKeyID: "AKIATESTTESTTESTTEST", SecretAccessKey: "secret", SessionToken: "token"}
	client := awskinesis.New(awskinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(url),
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken),
	})
	awaitServer(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	create := &awskinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: aws.Int32(2)}
	if _, err := client.CreateStream(ctx, create); err != nil {
		t.Fatal(err)
	}
	exists := awskinesis.NewStreamExistsWaiter(client)
	if err := exists.Wait(ctx, &awskinesis.DescribeStreamInput{StreamName: aws.String(stream)}, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, delivery := range []string{"sync", "deferred", "adaptive"} {
		for _, logs := range []sandbox.LogFormat{sandbox.Text, sandbox.JSON} {
			t.Run(fmt.Sprint(delivery, " ", logs), func(t *testing.T) {
				var events audit.Audit
				r := newTrial(t, setup{
					settings: map[string]string{
						"KINESIS_TELEMETRY_ENDPOINT_URL": url, "KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "30s",
					},
					sandbox: func(c *sandbox.Config) {
						c.Credentials = keys
						c.Function.LogFormat = logs
						c.ShutdownTimeout = 30 * time.Second // these servers are slow; that is not tested here
						c.OnEvent = func(_ string, e sandbox.Event) { events.AddEmitted(e.Raw) }
					},
				})
				for range 4 {
					r.invoke(`{"text":40,"json":40,"bytes":200}`)
				}
				r.end()
				readBack(t, client, func(key string, data []byte) {
					events.AddRecord(key, data)
				})
				report := events.Report()
				lost := report.Lost
				if len(lost)+len(report.Duplicated)+len(report.Malformed)+len(report.Gaps) > 0 ||
					report.Emitted < 4*83 || report.Delivered != report.Emitted {
					t.Errorf("emitted %d, delivered %d, duplicated %d, malformed %d, gaps %v, lost %v",
						report.Emitted, report.Delivered, len(report.Duplicated), len(report.Malformed), report.Gaps, lost[:min(3, len(lost))])
				}
				t.Logf("emitted %d, delivered %d, in a stream of %d records", report.Emitted, report.Delivered, report.Records)
			})
		}
	}
}

func awaitServer(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		response, err := http.Get(url)
		if err == nil {
			response.Body.Close()
			return
		}
		if time.Now().After(deadline) || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}

// readBack reads the whole stream with AWS's own client.
func readBack(t *testing.T, client *awskinesis.Client, record func(key string, data []byte)) {
	t.Helper()
	shards, err := client.ListShards(t.Context(), &awskinesis.ListShardsInput{StreamName: aws.String(stream)})
	if err != nil {
		t.Fatal(err)
	}
	for _, shard := range shards.Shards {
		iterator, err := client.GetShardIterator(t.Context(), &awskinesis.GetShardIteratorInput{
			StreamName: aws.String(stream), ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})
		if err != nil {
			t.Fatal(err)
		}
		for next, empty := iterator.ShardIterator, 0; next != nil && empty < 2; {
			out, err := client.GetRecords(t.Context(), &awskinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out.Records {
				record(aws.ToString(r.PartitionKey), r.Data)
			}
			if len(out.Records) == 0 {
				empty++
			}
			next = out.NextShardIterator
		}
	}
}
