package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/record"
)

// buildKtel builds ktel with the flags of its own tests, so that all tests share the compiled packages.
func buildKtel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ktel")
	if printed, err := exec.Command("go", "build", "-o", path, "kinesis-telemetry-extension/cmd/ktel").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, printed)
	}
	return path
}

// injected lists the changes that a test made to a stream.
type injected struct {
	missing, duplicated []uint64
	copies              int // of duplicated events, beyond the first
	dropped             int // by the extension itself
	events              int
}

// In each format ktel audit finds exactly the changes to a stream: the removed events, the duplicates, and the number of events that the
// extension dropped because its buffer was full.
func TestAuditFindsWhatWasInjected(t *testing.T) {
	concurrent(t)
	ktel := buildKtel(t)
	for _, f := range formats {
		t.Run(fmt.Sprintf("%s %s", f.format, f.compression), func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_FORMAT": string(f.format), "KINESIS_TELEMETRY_COMPRESSION": string(f.compression),
					"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_RECORD_BYTES": "20000",
					"KINESIS_TELEMETRY_BUFFER_BYTES": strconv.Itoa(1 << 20),
				},
				kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
			})
			r.invoke(`{"text":150,"bytes":200}`)
			r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*throttles(1)}})
			r.invoke(`{"text":4000,"bytes":300}`) // exceeds the buffer
			r.kinesis.SetFaults(nil)
			for range 4 { // with time to ship: SHUTDOWN has little
				r.invoke(`{"text":150,"bytes":200,"duration":"500ms"}`)
			}
			r.end()
			records, done := inject(t, r.kinesis.Records(r.stream))

			done.check(t, "get-records", auditJSON(t, ktel, getRecordsOf(records)))
			if f.format != record.KPL { // kpl does not contain its own length
				done.check(t, "an object of Firehose", auditJSON(t, ktel, slices.Concat(records...)))
			}
			put(t, r.kinesis, "altered", records)
			stream := auditJSON(t, ktel, nil, "--endpoint-url", r.kinesis.URL(), "altered")
			done.check(t, "a stream", stream)
			if d := stream.Delay; d == nil || d.P50Ms <= 0 || d.P50Ms > d.MaxMs {
				t.Errorf("delay %+v", d)
			}
			t.Logf("%d events, %d missing, %d duplicated, %d dropped", done.events, len(done.missing), len(done.duplicated), done.dropped)
		})
	}
}

// inject removes records and adds copies of others. It leaves alone records with declarations, records with events that the extension sent
// twice, and ranges in which the extension itself dropped events: a declaration does not name the exact numbers.
func inject(t *testing.T, stored []kinesislocal.Record) (records [][]byte, done injected) {
	t.Helper()
	var numbers [][]uint64 // of each record
	var untouched []int
	seen := map[uint64]int{}
	last, from, to := uint64(0), uint64(1<<63), uint64(0) // of the declared range
	for i, s := range stored {
		records = append(records, s.Data)
		numbers = append(numbers, nil)
		own := false
		for line, err := range record.Unpack(s.Data) {
			if err != nil {
				t.Fatal(err)
			}
			numbers[i] = append(numbers[i], line.Seq)
			seen[line.Seq]++
			last = max(last, line.Seq)
			own = own || strings.HasPrefix(line.Type, "kinesis-telemetry.")
			if line.Type == "kinesis-telemetry.dropped" {
				var declared struct{ FirstSeq, LastSeq uint64 }
				unmarshal(t, line.Record, &declared)
				from, to = min(from, declared.FirstSeq), max(to, declared.LastSeq)
			}
		}
		if !own {
			untouched = append(untouched, i)
		}
	}
	for seq := range last {
		if seen[seq] == 0 {
			done.dropped++
		}
	}
	untouched = slices.DeleteFunc(untouched, func(i int) bool {
		return slices.ContainsFunc(numbers[i], func(seq uint64) bool { return from <= seq && seq <= to || seen[seq] > 1 })
	})
	if done.dropped == 0 || len(untouched) < 6 {
		t.Fatalf("%d dropped, %d records to choose from", done.dropped, len(untouched))
	}
	gone := []int{untouched[0], untouched[len(untouched)/2], untouched[len(untouched)-1]}
	twice := []int{untouched[1], untouched[len(untouched)-2]}
	var altered [][]byte
	for i, data := range records {
		switch {
		case slices.Contains(gone, i):
			done.missing = append(done.missing, numbers[i]...)
			continue
		case slices.Contains(twice, i):
			for _, seq := range numbers[i] {
				seen[seq]++
			}
			done.events += len(numbers[i])
			altered = slices.Insert(altered, len(altered)/2, data) // out of order
		}
		done.events += len(numbers[i])
		altered = append(altered, data)
	}
	for seq, times := range seen {
		if times > 1 {
			done.duplicated = append(done.duplicated, seq)
			done.copies += times - 1
		}
	}
	slices.Sort(done.missing)
	slices.Sort(done.duplicated)
	return altered, done
}

// audited is the output of ktel audit --json, as another program parses it.
type audited struct {
	Complete                             bool
	Events, Missing, Dropped, Duplicated int
	Instances, FromStart, ToEnd          int
	Unreadable, Foreign                  int
	Delay                                *struct{ P50Ms, MaxMs float64 }
	Findings                             []struct {
		Missing, Duplicated []struct{ First, Last uint64 }
	}
}

func (want *injected) check(t *testing.T, of string, got audited) {
	t.Helper()
	if got.Complete || got.Events != want.events || got.Missing != len(want.missing) || got.Dropped != want.dropped ||
		got.Duplicated != want.copies || got.Instances != 1 || got.ToEnd != 1 || got.Unreadable+got.Foreign > 0 ||
		len(got.Findings) != 1 {
		t.Errorf("%s: %+v, want %d events, %d missing, %d dropped, %d duplicated",
			of, got, want.events, len(want.missing), want.dropped, want.copies)
		return
	}
	var missing, duplicated []uint64
	for _, r := range got.Findings[0].Missing {
		for seq := r.First; seq <= r.Last; seq++ {
			missing = append(missing, seq)
		}
	}
	for _, r := range got.Findings[0].Duplicated {
		for seq := r.First; seq <= r.Last; seq++ {
			duplicated = append(duplicated, seq)
		}
	}
	if !slices.Equal(missing, want.missing) || !slices.Equal(duplicated, want.duplicated) {
		t.Errorf("%s: missing %v, want %v; duplicated %v, want %v", of, missing, want.missing, duplicated, want.duplicated)
	}
}

// auditJSON runs an audit that finds missing events.
func auditJSON(t *testing.T, ktel string, stdin []byte, args ...string) (got audited) {
	t.Helper()
	command := exec.Command(ktel, append([]string{"audit", "--json", "--from-start"}, args...)...)
	command.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_SESSION_TOKEN=")
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || stderr.Len() > 0 {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	unmarshal(t, stdout.Bytes(), &got)
	return got
}

// getRecordsOf returns records in the AWS CLI's output format, as three calls.
func getRecordsOf(records [][]byte) (printed []byte) {
	type entry struct {
		SequenceNumber string
		Data           []byte
	}
	third := len(records)/3 + 1
	number := 0
	for call := range slices.Chunk(records, third) {
		var output struct{ Records []entry }
		for _, data := range call {
			number++
			output.Records = append(output.Records, entry{fmt.Sprint(number), data})
		}
		text, _ := json.MarshalIndent(output, "", "    ")
		printed = append(printed, text...)
	}
	return printed
}

// put writes records to a stream of two shards, in any order.
func put(t *testing.T, server *kinesislocal.Server, stream string, records [][]byte) {
	t.Helper()
	if err := server.CreateStream(stream, 2); err != nil {
		t.Fatal(err)
	}
	client := awskinesis.New(awskinesis.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL()), Credentials: credentials.NewStaticCredentialsProvider(accessKey, secret, ""),
	})
	for i, data := range records {
		_, err := client.PutRecord(t.Context(), &awskinesis.PutRecordInput{
			StreamName:   &stream,
			PartitionKey: aws.String(fmt.Sprint(i)),
			Data:         data,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
