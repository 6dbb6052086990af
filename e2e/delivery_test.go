package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

const mixed = `{"text":5,"json":5,"bytes":120,"duration":"10ms"}`

// Every event arrives unaltered, in each mode, format and log format.
func TestEveryEventArrives(t *testing.T) {
	concurrent(t)
	for _, delivery := range []string{"sync", "deferred", "adaptive"} {
		for _, logs := range []sandbox.LogFormat{sandbox.Text, sandbox.JSON} {
			for _, format := range []string{"ndjson", "json"} {
				t.Run(fmt.Sprint(delivery, " ", logs, " ", format), func(t *testing.T) {
					t.Parallel()
					r := newTrial(t, setup{
						settings: map[string]string{
							"KINESIS_TELEMETRY_DELIVERY": delivery,
							"KINESIS_TELEMETRY_FORMAT":   format,
							"KINESIS_TELEMETRY_EVENTS":   "platform,function,extension",
						},
						sandbox: func(c *sandbox.Config) { c.Function.LogFormat = logs },
					})
					for range 5 {
						r.invoke(mixed)
					}
					if delivery == "sync" {
						if n := countType(r, "function"); n != 50 {
							t.Errorf("sync: %d of 50 log lines are on the stream after the last invocation", n)
						}
					}
					report := r.end()
					r.checkComplete(report, 5*(10+3)+3)
					if lines := r.output.lines(); len(lines) > 0 {
						t.Errorf("a healthy environment must log nothing, logged %q", lines)
					}
					if report.Own["kinesis-telemetry.stats"] != 1 {
						t.Errorf("own events: %v", report.Own)
					}
				})
			}
		}
	}
}

func countType(r *trial, kind string) (n int) {
	for _, line := range eventsOf(r) {
		if line.Type == kind {
			n++
		}
	}
	return n
}

func linesOf(r *trial) (lines []record.Line) {
	r.Helper()
	for _, stored := range r.kinesis.Records(r.stream) {
		for line, err := range record.Unpack(stored.Data) {
			if err != nil {
				r.Fatal(err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// eventsOf returns the lines on the stream without the copies of events that were sent again.
func eventsOf(r *trial) (events []record.Line) {
	r.Helper()
	type number struct {
		instance string
		seq      uint64
	}
	seen := map[number]bool{}
	for _, line := range linesOf(r) {
		if id := (number{line.Source.Instance, line.Seq}); !seen[id] {
			seen[id] = true
			events = append(events, line)
		}
	}
	return events
}

// The extension adds the members of FORMAT.md, and no others.
func TestEventHasTheMembersOfTheFormat(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{settings: map[string]string{"KINESIS_TELEMETRY_TAGS": "team=shop", "KINESIS_TELEMETRY_EVENTS": "function"}})
	first, second := r.invoke(`{"text":2}`), r.invoke(`{"text":1,"json":1}`)
	report := r.end()
	var got []string
	for _, line := range eventsOf(r) {
		s := line.Source
		if s.Function != "hello" || s.Version != "$LATEST" || s.Account != "123456789012" || s.Region != "us-east-1" || s.Tags["team"] != "shop" {
			t.Errorf("source %+v", s)
		}
		got = append(got, fmt.Sprint(line.Seq, " ", line.Type, " ", line.RequestID))
	}
	want := []string{
		"0 function " + first.RequestID, "1 function " + first.RequestID,
		"2 function " + second.RequestID, "3 function " + second.RequestID, "4 kinesis-telemetry.stats ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(report.Gaps) > 0 {
		t.Errorf("event types that are not selected got numbers: %v", report.Gaps)
	}
}

// Each record has the partition key that the user chose, and all its events belong to that key. A member of a log line that only
// looks like a tenant causes no loss.
func TestPartitionKeys(t *testing.T) {
	concurrent(t)
	tooLong := strings.Repeat("x", 257) // a key has at most 256 characters
	or := func(key string, line record.Line) string {
		if key == "" {
			return line.Source.Instance
		}
		return key
	}
	const isolated = "isolated" // by tenant: the environment serves only one
	for name, keyOf := range map[string]func(line record.Line, message string) string{
		"environment": func(line record.Line, _ string) string { return line.Source.Instance },
		"request":     func(line record.Line, _ string) string { return or(line.RequestID, line) },
		"function":    func(record.Line, string) string { return "hello" },
		"random":      nil,
		"tenant": func(line record.Line, message string) string {
			if message == "green" {
				return "green"
			}
			return line.Source.Instance
		},
		isolated: func(line record.Line, _ string) string {
			if line.RequestID == "" && line.Type != "function" { // of init, and the extension's own
				return line.Source.Instance
			}
			return "blue"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			setting, options := name, []sandbox.InvokeOption(nil)
			if name == isolated {
				setting, options = "tenant", []sandbox.InvokeOption{sandbox.WithTenant("blue")}
			}
			r := newTrial(t, setup{
				settings: map[string]string{"KINESIS_TELEMETRY_PARTITION_KEY": setting},
				sandbox:  func(c *sandbox.Config) { c.NoFreeze = true },
			})
			r.invoke(mixed, options...)
			for _, tenant := range []string{"green", tooLong, ""} {
				body := fmt.Sprintf(`[{"time":"2026-11-23T18:00:00.000Z","type":"function","record":{"message":%q,"tenantId":%[1]q}}]`, tenant)
				if status, _, err := r.env.Inject(extensionName, []byte(body)); err != nil || status != http.StatusOK {
					t.Errorf("status %d, %v", status, err)
				}
			}
			r.invoke(mixed, options...)
			report := r.end()
			if len(report.Lost)+len(report.Gaps) > 0 || report.Own["kinesis-telemetry.dropped"] > 0 {
				t.Errorf("lost %v, gaps %v", report.Lost, report.Gaps)
			}
			keys := map[string]bool{}
			for _, stored := range r.kinesis.Records(stream) {
				keys[stored.PartitionKey] = true
				for line, err := range record.Unpack(stored.Data) {
					if err != nil {
						t.Fatal(err)
					}
					var log struct{ Message string }
					_ = json.Unmarshal(line.Record, &log) // a line of text has no message
					if keyOf != nil && stored.PartitionKey != keyOf(line, log.Message) {
						t.Errorf("%s %.40s has the key %.40q, not %q", line.Type, line.Record, stored.PartitionKey, keyOf(line, log.Message))
					}
				}
			}
			if keyOf == nil && len(keys) < 2 {
				t.Errorf("random keys: %v", keys)
			}
		})
	}
}

// 20 invocations log 5,000 lines each in 200 ms: no event is lost, and memory stays bounded.
func TestLoadLosesNoEvent(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{
		// sync ships most before SHUTDOWN, which does not last longer on a busy machine.
		settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "25s"},
		kinesis:  kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
	})
	for range 20 {
		r.invoke(`{"text":5000,"bytes":150,"duration":"200ms"}`)
	}
	report := r.end()
	r.checkComplete(report, 20*5000)
	for _, line := range linesOf(r) {
		if line.Type == "platform.logsDropped" {
			t.Errorf("the platform dropped events: %s", line.Record)
		}
	}
	const bound = 64 << 20
	rss := r.extensions()[0].MaxRSS
	t.Logf("%d events in %d records; peak memory of the extension %.1f MB", report.Emitted, report.Records, float64(rss)/1e6)
	if rss > bound {
		t.Errorf("the extension took %d bytes of memory, more than %d", rss, bound)
	}
}

// unlimited is a Kinesis without the limits of shards, with faults.
func unlimited(seed uint64, rules ...kinesislocal.Rule) kinesislocal.Options {
	return kinesislocal.Options{
		ShardBytesPerSecond:   -1,
		ShardRecordsPerSecond: -1,
		Faults:                &kinesislocal.Faults{Seed: seed, Rules: rules},
	}
}

// 30 % of records are throttled and 20 % of requests fail with 500: no event is lost or duplicated.
func TestThrottledAndFailing(t *testing.T) {
	concurrent(t)
	for _, delivery := range []string{"sync", "deferred"} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_RECORD_BYTES": "2000", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "10s",
				},
				shards: 2,
				kinesis: unlimited(7,
					kinesislocal.Rule{From: 1, Count: 1, ErrorType: "InternalFailureException"}, // few requests are sent: at least one fails
					kinesislocal.Rule{Probability: 0.2, ErrorType: "InternalFailureException"},
					kinesislocal.Rule{RecordError: &kinesislocal.RecordError{Probability: 0.3}},
				),
			})
			for range 15 {
				r.invoke(`{"text":60,"bytes":100}`)
			}
			for range 3 { // time for retries: SHUTDOWN has little
				r.invoke(`{"duration":"1s"}`)
			}
			r.kinesis.SetFaults(nil) // SHUTDOWN has little time for retries
			report := r.end()
			report.OutOfOrder = 0 // retries come later; seq gives the order
			r.checkComplete(report, 15*60)
			if stats := r.kinesis.Stats().Operations["PutRecords"]; len(stats.Outcomes) < 2 || len(stats.Records) < 2 {
				t.Errorf("no request failed: %+v", stats)
			}
		})
	}
}

// Lost answers cause duplicates, each recognisable by its first instance and seq. No event is lost.
func TestLostAnswersCauseOnlyDuplicates(t *testing.T) {
	concurrent(t)
	for name, rule := range map[string]kinesislocal.Rule{
		"reset":     {Probability: 0.3, StoreThenReset: true},
		"truncated": {Probability: 0.3, TruncateReply: true},
		"too few":   {Probability: 0.3, ResultDelta: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_RECORD_BYTES": "2000"},
				kinesis:  unlimited(3, rule),
			})
			for range 12 {
				r.invoke(`{"text":20,"bytes":100}`)
			}
			report := r.end()
			if len(report.Lost)+len(report.Gaps)+len(report.Altered) > 0 || len(report.Duplicated) == 0 {
				t.Errorf("lost %d, gaps %v, altered %d; duplicated %d", len(report.Lost), report.Gaps, len(report.Altered), len(report.Duplicated))
			}
			seen := map[string]string{}
			for _, line := range linesOf(r) {
				id, content := fmt.Sprint(line.Source.Instance, line.Seq), string(line.Record)+line.Time
				if before, again := seen[id]; again && before != content {
					t.Errorf("%s was used twice: %s and %s", id, before, content)
				}
				seen[id] = content
			}
		})
	}
}

// The extension answers 200 to every malformed POST, and the neighbours of malformed events arrive.
func TestNeighboursOfMalformedEventsArrive(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{sandbox: func(c *sandbox.Config) { c.NoFreeze = true }})
	r.invoke(`{"text":1}`)
	for n, body := range []string{
		`[{"time":"t","type":"platform.brandNew","record":{"a":1}},NEIGHBOUR]`,
		`[{"time":"t","type":"function","record":null},NEIGHBOUR]`,
		`[{},{"type":7},null,3,NEIGHBOUR]`,
		"[{\"time\":\"t\",\"type\":\"function\",\"record\":\"\xff\xfe\"},NEIGHBOUR]",
		`[NEIGHBOUR,{"time":"t","type":"function","record":"cut}]`,
		`[{"time":"t","type":"function","record":rest of it"},NEIGHBOUR]`,
		`[NEIGHBOUR,{"time":"t`,
	} {
		neighbour := fmt.Sprintf(`{"time":"2026-11-23T18:00:00.000Z","type":"function","record":"neighbour %d"}`, n)
		status, _, err := r.env.Inject(extensionName, []byte(strings.ReplaceAll(body, "NEIGHBOUR", neighbour)))
		if err != nil || status != http.StatusOK {
			t.Errorf("%s: status %d, %v", body, status, err)
		}
	}
	for _, body := range []string{``, `[]`, `null`, `{}`, `hello`, strings.Repeat("[", 100_000)} {
		if status, _, err := r.env.Inject(extensionName, []byte(body)); err != nil || status != http.StatusOK {
			t.Errorf("%.20q: status %d, %v", body, status, err)
		}
	}
	r.invoke(`{"text":1}`)
	report := r.end()
	if len(report.Lost)+len(report.Malformed) > 0 {
		t.Errorf("lost %v, malformed %v", report.Lost, report.Malformed)
	}
	missing, declared := uint64(0), uint64(0)
	for _, gap := range report.Gaps {
		missing += gap.Last - gap.First + 1
	}
	for _, line := range eventsOf(r) {
		if line.Type != "kinesis-telemetry.dropped" {
			continue
		}
		var dropped struct {
			Reason string
			Count  uint64
		}
		if unmarshal(t, line.Record, &dropped); dropped.Reason == "malformed" {
			declared += dropped.Count
		}
	}
	if missing != declared || missing != 9 {
		t.Errorf("%d events are missing, and %d are declared as malformed, want 9: %v", missing, declared, report.Gaps)
	}
	text := ""
	for _, stored := range r.kinesis.Records(stream) {
		if !json.Valid([]byte("[" + strings.ReplaceAll(strings.TrimSpace(string(stored.Data)), "\n", ",") + "]")) {
			t.Errorf("a record is not JSON lines: %q", stored.Data)
		}
		text += string(stored.Data)
	}
	for n := range 7 {
		if !strings.Contains(text, fmt.Sprintf(`"neighbour %d"`, n)) {
			t.Errorf("neighbour %d is missing", n)
		}
	}
	if !strings.Contains(text, `"platform.brandNew"`) || !strings.Contains(text, `"record":null`) {
		t.Error("an unknown type or a null record is missing")
	}
	odd := 0
	for _, line := range r.output.lines() {
		if strings.Contains(line, "not an event") {
			odd++
		}
	}
	if odd != 1 {
		t.Errorf("%d log lines about malformed events, want 1", odd)
	}
}

// An event above the Telemetry API's 1 MiB arrives in pieces. If it fits into a record, it is delivered unaltered. Otherwise its
// beginning is delivered, or its loss is declared. All other events arrive, including runtimeDone.
func TestEventAboveMaxBytes(t *testing.T) {
	concurrent(t)
	for _, test := range []struct {
		name     string
		logs     sandbox.LogFormat
		maxKiB   int
		settings map[string]string
	}{
		{"text, whole", sandbox.Text, 10240, map[string]string{"KINESIS_TELEMETRY_MAX_RECORD_BYTES": "10485760"}},
		{"JSON, whole", sandbox.JSON, 10240, map[string]string{"KINESIS_TELEMETRY_MAX_RECORD_BYTES": "10485760"}},
		{"text, truncated", sandbox.Text, 1024, nil},
		{"JSON, truncated", sandbox.JSON, 1024, map[string]string{"KINESIS_TELEMETRY_FORMAT": "json"}},
		{"JSON, dropped", sandbox.JSON, 1024, map[string]string{"KINESIS_TELEMETRY_OVERSIZE": "drop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: test.settings, maxKiB: test.maxKiB, kinesis: kinesislocal.Options{ShardBytesPerSecond: -1},
				sandbox: func(c *sandbox.Config) { c.Function.LogFormat = test.logs },
			})
			r.invoke(`{"text":2,"json":2,"bytes":1048576,"duration":"20ms"}`)
			if result := r.invoke(`{"text":3}`); result.Hold > 5*time.Second {
				t.Errorf("held %s: the end of the invocation was lost with the cut event", result.Hold)
			}
			report := r.end()
			if len(report.Gaps) > 0 && test.name != "JSON, dropped" || r.duplicates(&report)+len(report.Malformed) > 0 {
				t.Errorf("gaps %v, duplicated %v, malformed %v", report.Gaps, report.Duplicated, report.Malformed)
			}
			if test.maxKiB > 1024 {
				r.checkComplete(report, 3+2*3+4+3)
				return
			}
			large := 0 // 4, or fewer if a starved function takes a second for one line: the sandbox takes its beginning as a line
			for _, e := range r.emitted {
				if len(e.Record) > 1<<20 {
					large++
				}
			}
			if large == 0 || len(report.Lost) != large || report.Delivered < 3+2*3+3 {
				t.Errorf("delivered %d; %d large events, lost: %v", report.Delivered, large, report.Lost)
			}
			if test.name == "JSON, dropped" {
				if report.Own["kinesis-telemetry.dropped"] == 0 {
					t.Error("no event declares the loss")
				}
				return
			}
			if n := r.countTruncated(); n != large {
				t.Errorf("%d truncated events, want %d", n, large)
			}
			if lines := r.output.lines(); len(lines) > 0 {
				t.Errorf("a healthy environment must log nothing, logged %q", lines)
			}
		})
	}
}

// countTruncated counts the truncated events, and checks that each is the beginning of an emitted event.
func (r *trial) countTruncated() (n int) {
	r.Helper()
	for _, line := range eventsOf(r) {
		if line.Truncated == 0 {
			continue
		}
		n++
		var beginning string
		unmarshal(r.T, line.Record, &beginning)
		if !slices.ContainsFunc(r.emitted, func(e sandbox.Event) bool {
			return len(e.Record) == line.Truncated && strings.HasPrefix(string(e.Record), beginning)
		}) || len(beginning) < 1<<19 {
			r.Errorf("%d bytes of %d: %.100s is not the beginning of a record", len(beginning), line.Truncated, beginning)
		}
	}
	return n
}

// create creates the stream with a record limit.
func (r *trial) create(maxKiB int) {
	r.Helper()
	client := awskinesis.New(awskinesis.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(r.kinesis.URL()),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secret, ""),
	})
	input := &awskinesis.CreateStreamInput{StreamName: &r.stream, ShardCount: aws.Int32(1), MaxRecordSizeInKiB: aws.Int32(int32(maxKiB))}
	if _, err := client.CreateStream(r.Context(), input); err != nil {
		r.Fatal(err)
	}
}

// Under SnapStart the credentials come only from the container endpoint.
func TestSnapStart(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{sandbox: func(c *sandbox.Config) { c.InitType = sandbox.SnapStart }})
	for range 3 {
		r.invoke(mixed)
	}
	report := r.end()
	r.checkComplete(report, 3*13)
}

// On Managed Instances there is no INVOKE, and several requests run at once.
func TestManagedInstances(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_MAX_DELAY": "300ms"},
		sandbox: func(c *sandbox.Config) {
			c.InitType = sandbox.ManagedInstances
			c.Function.Concurrency = 4
		},
	})
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 5 {
				if result, err := r.env.Invoke(t.Context(), []byte(mixed)); err != nil || result.Status != "success" {
					t.Errorf("%v %+v", err, result)
				}
			}
		})
	}
	work.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for (countType(r, "function") < 200 || countType(r, "platform.report") < 20) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond) // never frozen: all events leave within MAX_DELAY, without another invocation
	}
	if n := countType(r, "function"); n != 200 {
		t.Errorf("%d of 200 lines arrived before the shutdown", n)
	}
	report := r.end()
	r.checkComplete(report, 20*12)
	for _, line := range linesOf(r) {
		if line.Type == "function" && line.RequestID != "" && !strings.Contains(string(line.Record), line.RequestID) {
			t.Errorf("a request id was guessed: %+v", line)
		}
	}
}

// SHUTDOWN waits for the late platform.report of the last invocation.
func TestShutdownWaitsForTheLastReport(t *testing.T) {
	concurrent(t)
	for attempt := 0; ; attempt++ { // on a busy machine the report may come later than SHUTDOWN waits
		r := newTrial(t, setup{sandbox: func(c *sandbox.Config) { c.ReportDelay = 40 * time.Millisecond; c.NoFreeze = true }})
		r.invoke(mixed)
		r.checkComplete(r.end(), 13)
		switch {
		case countType(r, "platform.report") == 1:
			return
		case attempt == 3:
			t.Fatal("the last platform.report is missing")
		}
	}
}

// After a timeout or a crash a new process serves the environment, and the events of both processes arrive.
func TestBothProcessesDeliverAfterAReset(t *testing.T) {
	concurrent(t)
	for name, request := range map[string]string{"timeout": `{"text":3,"duration":"1m","deaf":true}`, "crash": `{"text":3,"panic":true}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{sandbox: func(c *sandbox.Config) { c.Function.Timeout, c.Function.Grace = 3*time.Second, 2*busy(0) }})
			r.invoke(mixed)
			if result, err := r.env.Invoke(t.Context(), []byte(request)); err != nil || result.Status == "success" {
				t.Fatalf("%v, %+v", err, result)
			}
			r.invoke(mixed)
			report := r.end()
			if len(r.extensions()) != 2 {
				t.Errorf("%d processes of the extension, want 2", len(r.extensions()))
			}
			r.checkComplete(report, 2*13)
		})
	}
}

// The extension stops waiting for a handler that runs up to its deadline. After it has seen that end, it waits for later ones again.
func TestBudgetSyncAfterAnEndThatCameTooLate(t *testing.T) {
	budgets(t)
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync"},
		sandbox:  func(c *sandbox.Config) { c.Function.Timeout = 3 * time.Second },
	})
	if result := r.invoke(`{"text":1,"duration":"2950ms"}`); result.Hold > 0 {
		t.Fatalf("the extension waited beyond its margin: held %s", result.Hold)
	}
	for range 3 { // the late end arrives while the first of them runs
		r.invoke(`{"text":5,"duration":"100ms"}`)
	}
	if n := countType(r, "function"); n != 16 {
		t.Errorf("%d of 16 log lines are on the stream after the last invocation", n)
	}
	r.checkComplete(r.end(), 16)
}
