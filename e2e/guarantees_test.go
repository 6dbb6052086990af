package e2e_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

const guaranteesFile = "../docs/guarantees.md"

var update = flag.Bool("update", false, "write docs/guarantees.md instead of comparing with it")

// row is what came of a scenario in one mode.
type row struct {
	emitted, delivered, duplicated, lost, truncated int
	held                                            time.Duration
	report                                          audit.Report
	said                                            []string // by the extension
}

// run plays a scenario: thirty invocations, the fault from the eighth to the twenty-second.
func (s *scenario) run(t *testing.T, mode string) row {
	su := setup{
		settings: map[string]string{
			"KINESIS_TELEMETRY_DELIVERY": mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s",
			"KINESIS_TELEMETRY_MAX_DELAY": "400ms", // as many flushes in two seconds as usual in a minute
		},
		kinesis:   kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		extension: s.extension,
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
			r.faulty.Store(true)
		}
		if s.rule != nil && n == 22 && !s.forGood {
			r.kinesis.SetFaults(nil)
			r.faulty.Store(false)
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
		r.audit.AddRecord(stored.PartitionKey, stored.Data)
	}
	r.inOrder()
	report := r.audit.Report()
	return row{report.Emitted, report.Delivered, len(report.Duplicated), len(report.Lost), r.truncated(), c.held, report, r.output.lines()}
}

// inOrder demands that each instance numbers its events in the order in which they were emitted.
func (r *trial) inOrder() {
	r.Helper()
	lines := linesOf(r)
	slices.SortStableFunc(lines, func(a, b record.Line) int {
		return cmp.Or(cmp.Compare(a.Source.Instance, b.Source.Instance), cmp.Compare(a.Seq, b.Seq))
	})
	var left []sandbox.Event
	for n, line := range lines {
		if n == 0 || line.Source.Instance != lines[n-1].Source.Instance {
			left = r.emitted
		} else if line.Seq == lines[n-1].Seq { // a duplicate
			continue
		}
		if line.Truncated > 0 || strings.HasPrefix(line.Type, "kinesis-telemetry.") {
			continue
		}
		next := slices.IndexFunc(left, func(e sandbox.Event) bool {
			same := line.Format == record.CloudWatch || bytes.Equal(e.Record, line.Record) // that tells the record in words
			return same && strings.HasPrefix(string(e.Raw), `{"time":"`+line.Time+`"`)
		})
		if next < 0 {
			r.Errorf("event %d is out of order, or was not emitted: %s %.100s", line.Seq, line.Time, line.Record)
			return
		}
		left = left[next+1:]
	}
}

// judge demands what the scenario promises.
func (s *scenario) judge(t *testing.T, got row) {
	t.Helper()
	report := got.report
	if len(report.Altered) != s.truncated || got.truncated != s.truncated || len(report.Malformed) > 0 {
		t.Errorf("altered %v, malformed %v", report.Altered, report.Malformed)
	}
	if least := 30 * 13; !s.silent && got.emitted < least {
		t.Errorf("%d events were emitted, less than %d", got.emitted, least)
	}
	// Only what is sent again may come behind what is younger.
	if throttled := s.rule != nil && s.rule.RecordError != nil; report.OutOfOrder > 0 && !throttled && !s.duplicates {
		t.Errorf("%d events out of order", report.OutOfOrder)
	}
	if got.duplicated > 0 && !s.duplicates {
		t.Errorf("%d duplicates", got.duplicated)
	}
	if s.lost == "" && (got.lost != s.truncated || len(report.Gaps) > 0) {
		t.Errorf("lost %d of %d: %v; gaps %v", got.lost, got.emitted, report.Lost[:min(5, got.lost)], report.Gaps)
	}
	if s.lost == all {
		said := fmt.Sprintf("undelivered %d events, 0 of them saved", got.lost+1) // and the figures, which are an event, too
		if got.lost == 0 || len(got.said) == 0 || !strings.Contains(got.said[len(got.said)-1], said) {
			t.Errorf("lost %d; the extension said %q", got.lost, got.said)
		}
	}
	if got.held > busy(3*time.Second) && !s.slowly {
		t.Errorf("held back %s in sum", got.held)
	}
}

func (s *scenario) line(mode string, got row) string {
	delivered, duplicates, lost := "all", "none", "none"
	if s.duplicates {
		duplicates = "possible"
	}
	if s.truncated > 0 {
		delivered = fmt.Sprintf("all, %d of them truncated", s.truncated)
	}
	emitted := fmt.Sprint(got.emitted)
	if s.varies {
		emitted = "400 and some"
	}
	if s.lost == all {
		delivered, lost = fmt.Sprint(got.delivered), "the rest, said at SHUTDOWN"
		if s.rule == nil {
			lost = "all, said at SHUTDOWN"
		}
	}
	if s.lost == all && s.rule != nil {
		delivered = "before the fault"
	}
	return fmt.Sprintf("%s %s | %s | %s | %s | %.0f |\n", s.begin(mode), emitted, delivered, duplicates, lost, got.held.Seconds()*1000)
}

// begin is the beginning of a line.
func (s *scenario) begin(mode string) string { return fmt.Sprintf("| %s | `%s` |", s.name, mode) }

const guaranteesHead = `# What is guaranteed

Generated: ` + "`CHAOS=1 go test ./e2e -run TestGuarantees -args -update`" + `. CI runs every line again and compares.

Each line is a life of a Lambda execution environment with the real extension and a real function in it, on one machine:
thirty invocations, 50 ms apart, thirteen events each. A fault of the stream or of a proxy strikes from the eighth invocation to
the twenty-second, or for good. What is emitted is compared with what is on the stream, byte for byte. In every line ` + "`seq`" + ` numbers
the events in the order in which Lambda posted them, and the stream has them in that order, but for what was sent again.

- **delivered**: "all" is every event, whatever happened. "Truncated" is the beginning of an event that no record has room for.
- **duplicates**: "possible" where an answer was lost or not waited for: the event was stored twice, and carries the same
  ` + "`instance` and `seq`" + ` both times.
- **lost**: only where a stream takes nothing, or cannot be reached, until the environment is gone for good. Where the extension itself
  is killed, what was posted to a dead process was received by nobody, and is not counted.
- **held back**: milliseconds that all invocations together waited for the extension after the function had ended. They
  differ from run to run, and are the only column that may.

"Frozen for long" is 7 s in real time, longer than each of the extension's timeouts, and as ten minutes where the connection is dead.
A sixth of a CPU is what a function of 300 MB has: the extension is stopped for 20 of each 24 ms, busy or not.

| what happens | mode | emitted | delivered | duplicates | lost | held back, ms |
|---|---|---|---|---|---|---|
`

// The chaos suite: every scenario in every mode, and the table that says what came of it.
func TestGuarantees(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: the chaos suite takes minutes")
	}
	committed, err := os.ReadFile(guaranteesFile)
	if err != nil {
		t.Fatal(err)
	}
	modes := []string{"adaptive", "sync", "deferred"}
	lines := make([]string, len(scenarios)*len(modes))
	t.Run("scenarios", func(t *testing.T) {
		for i, s := range scenarios {
			for j, mode := range modes {
				line := &lines[i*len(modes)+j]
				for was := range strings.Lines(string(committed)) { // what is skipped here stays
					if strings.HasPrefix(was, s.begin(mode)) {
						*line = was
					}
				}
				t.Run(s.name+" "+mode, func(t *testing.T) {
					t.Parallel()
					got := s.run(t, mode)
					s.judge(t, got)
					*line = s.line(mode, got)
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
