package main_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

const guaranteesFile = "../../docs/guarantees.md"

var update = flag.Bool("update", false, "write docs/guarantees.md instead of comparing with it")

// scenario is one line of the table, before it is run in each mode.
type scenario struct {
	name string
	// rule is the stream's fault, from the eighth invocation to the twenty-second, or for good.
	rule    *kinesislocal.Rule
	forGood bool
	// life is what happens behind the traffic; nil: nothing before SHUTDOWN.
	life    func(r *trial, c *conduct)
	change  func(s *setup)
	traffic string // payload of the invocations, mixed if empty
	silent  bool   // no invocation at all
	// duplicates may come, and what is lost, where it is not nothing. "all" is everything.
	duplicates bool
	lost       string
	// varies: how many events there are depends on when a process ends.
	varies bool
}

// conduct is what a scenario does to its environment.
type conduct struct {
	held time.Duration
	n    int
}

func (c *conduct) invoke(r *trial, payload string) {
	if result := c.disturbed(r, payload); result.Status != "success" {
		r.Errorf("invocation %d: %+v", c.n, result)
	}
}

// disturbed is invoke where it does not matter how the invocation ends.
func (c *conduct) disturbed(r *trial, payload string) sandbox.Result {
	result, err := r.env.Invoke(r.Context(), []byte(payload))
	if err != nil {
		r.Errorf("invocation %d: %v", c.n, err)
	}
	c.n++
	c.held += result.Held
	return result
}

const (
	all       = "all"
	sinceThen = "what was not flushed" // how much that is depends on the moment
)

func fails(errorType string) *kinesislocal.Rule { return &kinesislocal.Rule{ErrorType: errorType} }

func throttles(p float64) *kinesislocal.Rule {
	return &kinesislocal.Rule{RecordError: &kinesislocal.RecordError{Probability: p}}
}

var scenarios = []scenario{
	{name: "nothing goes wrong"},
	{name: "each answer takes 50 ms", rule: &kinesislocal.Rule{ReplyDelay: 50 * time.Millisecond}, forGood: true},
	{name: "10 % of records throttled", rule: throttles(.1)},
	{name: "50 % of records throttled", rule: throttles(.5)},
	{name: "100 % of records throttled for a second", rule: throttles(1)},
	{name: "500 for a second", rule: fails("InternalFailureException")},
	{name: "half of the answers lost", rule: &kinesislocal.Rule{Probability: .5, StoreThenReset: true}, duplicates: true},
	{name: "no answer for a second", rule: &kinesislocal.Rule{Hang: true}},
	{name: "stored, and no answer", rule: &kinesislocal.Rule{StoreThenHang: true}, duplicates: true},
	{name: "connections reset for a second", rule: &kinesislocal.Rule{Reset: true}},
	{name: "answers after 2 s", rule: &kinesislocal.Rule{ReplyDelay: 2 * time.Second}, duplicates: true},
	{name: "the connection is dead after each answer", rule: &kinesislocal.Rule{CloseAfterReply: true}, forGood: true},
	{name: "AccessDenied for a second", rule: fails("AccessDeniedException")},
	{name: "ResourceNotFound for a second", rule: fails("ResourceNotFoundException")},
	{name: "ExpiredToken for a second", rule: fails("ExpiredTokenException")},
	{name: "KMS throttling for a second", rule: fails("KMSThrottlingException")},
	{name: "the clock is 10 minutes off", change: func(s *setup) {
		s.kinesis.Now = func() time.Time { return time.Now().Add(10 * time.Minute) }
	}},
	{name: "a one-shard stream at its limits", duplicates: true, traffic: `{"text":400,"bytes":300,"duration":"10ms"}`, change: func(s *setup) {
		s.kinesis.ShardBytesPerSecond, s.kinesis.ShardRecordsPerSecond = 0, 0 // as Kinesis has them
	}, life: func(r *trial, c *conduct) {
		for range 16 { // the shard needs eight seconds for what was logged, SHUTDOWN has less than two
			c.invoke(r, `{"duration":"500ms"}`)
		}
	}},
	{name: "no answer, for good", rule: &kinesislocal.Rule{Hang: true}, forGood: true, lost: all},
	{name: "100 % of records throttled, for good", rule: throttles(1), forGood: true, lost: all},
	{name: "AccessDenied, for good", rule: fails("AccessDeniedException"), forGood: true, lost: all},
	{name: "the stream does not exist", change: func(s *setup) { s.noStream = true }, lost: all},
	{name: "the name is not resolved", change: func(s *setup) {
		s.settings["KINESIS_TELEMETRY_ENDPOINT_URL"] = "http://kinesis.invalid"
	}, lost: all},

	{name: "SHUTDOWN is the very first event", silent: true},
	{name: "the last platform.report 5 ms after SHUTDOWN", change: reportAfter(5 * time.Millisecond)},
	{name: "the last platform.report 50 ms after SHUTDOWN", change: reportAfter(50 * time.Millisecond)},
	{name: "function timeout, then a second life", life: timesOut, change: shortTimeout, varies: true},
	{name: "no answer, function timeout, then a second life and a stream that works", rule: &kinesislocal.Rule{Hang: true}, forGood: true, life: timesOut, change: shortTimeout, varies: true},
	{name: "AccessDenied, crash, then a second life and a stream that works", rule: fails("AccessDeniedException"), forGood: true, life: crashes, varies: true},
	{name: "crash, then a second life", life: crashes, varies: true},
	{name: "out of memory (the runtime is killed), then a second life", life: killed(sandbox.RuntimeProcess), varies: true},
	{name: "the extension is killed, then a second life", life: killed(sandbox.ExtensionProcess), lost: sinceThen, varies: true},
	{name: "frozen for long in the middle of a request", life: frozen(&kinesislocal.Rule{Count: 1, ReplyDelay: time.Second}), duplicates: true},
	{name: "frozen for long in the middle of a request, and the connection is dead", life: frozen(&kinesislocal.Rule{Count: 1, Delay: time.Second, StoreThenReset: true}), duplicates: true},
}

func shortTimeout(s *setup) {
	s.sandbox = func(c *sandbox.Config) { c.Function.Timeout = 2 * time.Second }
}

func reportAfter(d time.Duration) func(*setup) {
	return func(s *setup) { s.sandbox = func(c *sandbox.Config) { c.ReportDelay = d } }
}

func timesOut(r *trial, c *conduct) {
	c.disturbed(r, `{"text":5,"duration":"5s","deaf":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

func crashes(r *trial, c *conduct) {
	c.disturbed(r, `{"text":5,"panic":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

// killed kills processes of a kind while the function works.
func killed(kind sandbox.ProcessKind) func(*trial, *conduct) {
	return func(r *trial, c *conduct) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.disturbed(r, `{"text":5,"duration":"500ms"}`)
		}()
		time.Sleep(250 * time.Millisecond) // the middle of the invocation is the point
		for _, p := range r.env.Processes() {
			if p.Kind == kind && !p.Exited {
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
					r.Error(err)
				}
			}
		}
		<-ended
		c.invoke(r, mixed)
	}
}

// frozen stops the environment with a request in flight for longer than any of our timeouts.
func frozen(rule *kinesislocal.Rule) func(*trial, *conduct) {
	return func(r *trial, c *conduct) {
		r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*rule}})
		r.stopInMidRequest(7*time.Second, func() { c.invoke(r, `{"text":5,"duration":"1500ms"}`) })
		c.invoke(r, mixed)
	}
}

// row is what came of a scenario in one mode.
type row struct {
	emitted, delivered, duplicated, lost int
	held                                 time.Duration
	report                               audit.Report
	said                                 []string // by the extension
}

// run plays a scenario: thirty invocations, the fault from the eighth to the twenty-second.
func (s *scenario) run(t *testing.T, mode string) row {
	su := setup{
		settings: map[string]string{
			"KINESIS_TELEMETRY_DELIVERY": mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s",
			"KINESIS_TELEMETRY_MAX_DELAY": "400ms", // as many flushes in two seconds as usual in a minute
		},
		kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
	}
	if s.change != nil {
		s.change(&su)
	}
	r := newTrial(t, su)
	var c conduct
	traffic := s.traffic
	if traffic == "" {
		traffic = mixed
	}
	for n := range 30 {
		if s.silent {
			break
		}
		if s.rule != nil && n == 8 {
			r.kinesis.SetFaults(&kinesislocal.Faults{Seed: 1, Rules: []kinesislocal.Rule{*s.rule}})
		}
		if s.rule != nil && n == 22 && !s.forGood {
			r.kinesis.SetFaults(nil)
		}
		c.invoke(r, traffic)
		time.Sleep(50 * time.Millisecond) // the traffic
	}
	if s.life != nil {
		s.life(r, &c)
	}
	if err := r.env.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for _, stored := range r.kinesis.Records(r.stream) {
		r.audit.Record(stored.PartitionKey, stored.Data)
	}
	report := r.audit.Report()
	return row{report.Emitted, report.Delivered, len(report.Duplicated), len(report.Lost), c.held, report, r.output.lines()}
}

// judge demands what the scenario promises.
func (s *scenario) judge(t *testing.T, got row) {
	t.Helper()
	report := got.report
	if len(report.Altered)+len(report.Malformed) > 0 {
		t.Errorf("altered %v, malformed %v", report.Altered, report.Malformed)
	}
	if least := 30 * 13; !s.silent && got.emitted < least {
		t.Errorf("%d events were emitted, less than %d", got.emitted, least)
	}
	if got.duplicated > 0 && !s.duplicates {
		t.Errorf("%d duplicates", got.duplicated)
	}
	if s.lost == "" && (got.lost > 0 || len(report.Gaps) > 0) {
		t.Errorf("lost %d of %d: %v; gaps %v", got.lost, got.emitted, report.Lost[:min(5, got.lost)], report.Gaps)
	}
	if s.lost == all {
		said := fmt.Sprintf("undelivered %d events, 0 of them saved", got.lost+1) // and the figures, which are an event, too
		if got.lost == 0 || len(got.said) == 0 || !strings.Contains(got.said[len(got.said)-1], said) {
			t.Errorf("lost %d; the extension said %q", got.lost, got.said)
		}
	}
	if s.lost == sinceThen && got.lost > 10*13 { // MAX_DELAY is five invocations
		t.Errorf("lost %d of %d events", got.lost, got.emitted)
	}
	if got.held > 3*time.Second {
		t.Errorf("held back %s in sum", got.held)
	}
}

func (s *scenario) line(mode string, got row) string {
	delivered, duplicates, lost := "all", "none", "none"
	if s.duplicates {
		duplicates = "possible"
	}
	emitted := fmt.Sprint(got.emitted)
	if s.varies {
		emitted = "400 and some"
	}
	switch s.lost {
	case all:
		delivered, lost = fmt.Sprint(got.delivered), "the rest, said at SHUTDOWN"
		if s.rule == nil {
			lost = "all, said at SHUTDOWN"
		}
	case sinceThen:
		delivered, lost = "what was flushed", sinceThen
	}
	if s.lost == all && s.rule != nil {
		delivered = "before the fault"
	}
	return fmt.Sprintf("| %s | `%s` | %s | %s | %s | %s | %.0f |\n", s.name, mode, emitted, delivered, duplicates, lost, got.held.Seconds()*1000)
}

const guaranteesHead = `# What is guaranteed

Generated: ` + "`CHAOS=1 go test ./cmd/kinesis-telemetry-extension -run TestGuarantees -args -update`" + `. CI runs every line again and compares.

Each line is a life of a Lambda execution environment with the real extension and a real function in it, on one machine:
thirty invocations, 50 ms apart, thirteen events each. A fault of the stream strikes from the eighth invocation to the
twenty-second, or for good. What is emitted is compared with what is on the stream, byte for byte.

- **delivered**: "all" is every event, whatever happened.
- **duplicates**: "possible" where an answer was lost: the event was stored twice, and carries the same ` + "`instance` and `seq`" + ` both times.
- **lost**: only where a stream takes nothing until the environment is gone for good, or where the extension's own process is
  killed, which gives nobody a chance to save anything.
- **held back**: milliseconds that all invocations together waited for the extension after the function had ended. They
  differ from run to run, and are the only column that may.

"Frozen for long" is 7 s in real time, longer than each of the extension's timeouts, and as ten minutes where the connection is dead.

| what happens | mode | emitted | delivered | duplicates | lost | held back, ms |
|---|---|---|---|---|---|---|
`

// The chaos suite: every scenario in every mode, and the table that says what came of it.
func TestGuarantees(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: the chaos suite takes minutes")
	}
	modes := []string{"adaptive", "sync", "deferred"}
	lines := make([]string, len(scenarios)*len(modes))
	t.Run("scenarios", func(t *testing.T) {
		for i := range scenarios {
			for j, mode := range modes {
				t.Run(scenarios[i].name+" "+mode, func(t *testing.T) {
					t.Parallel()
					s := scenarios[i]
					got := s.run(t, mode)
					s.judge(t, got)
					lines[i*len(modes)+j] = s.line(mode, got)
				})
			}
		}
	})
	text := guaranteesHead + strings.Join(lines, "")
	if *update {
		if err := os.WriteFile(guaranteesFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	committed, err := os.ReadFile(guaranteesFile)
	if err != nil {
		t.Fatal(err)
	}
	timings := regexp.MustCompile(`(?m)\| \d+ \|$`)
	was, is := timings.ReplaceAllString(string(committed), "|"), timings.ReplaceAllString(text, "|")
	if was != is {
		wasLines, isLines := map[string]bool{}, map[string]bool{}
		for line := range strings.Lines(was) {
			wasLines[line] = true
		}
		for line := range strings.Lines(is) {
			if !wasLines[line] {
				isLines[line] = true
			}
		}
		t.Errorf("docs/guarantees.md is not what the suite shows; new lines: %v", maps.Collect(maps.All(isLines)))
	}
}
