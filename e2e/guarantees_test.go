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

// row is the result of a scenario in one mode.
type row struct {
	emitted, delivered, duplicated, lost, truncated int
	held                                            time.Duration
	report                                          audit.Report
	logged                                          []string // log lines of the extension
}

// run runs a scenario: thirty invocations, with the fault from the eighth to the twenty-second.
func (s *scenario) run(t *testing.T, mode string) row {
	su := setup{
		settings: map[string]string{
			"KINESIS_TELEMETRY_DELIVERY": mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s",
			"KINESIS_TELEMETRY_MAX_DELAY": "400ms", // two seconds then have as many flushes as a minute of real traffic
		},
		kinesis:   kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		extension: s.extension,
	}
	if s.change != nil {
		s.change(&su)
	}
	r := newTrial(t, su)
	var c scenarioRun
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
		if s.rule != nil && n == 22 && !s.toTheEnd {
			r.kinesis.SetFaults(nil)
			r.faulty.Store(false)
		}
		c.invoke(r, traffic)
		time.Sleep(50 * time.Millisecond) // the traffic
	}
	if s.afterTraffic != nil {
		s.afterTraffic(r, &c)
	}
	if err := r.env.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for _, stored := range r.kinesis.Records(r.stream) {
		r.audit.AddRecord(stored.PartitionKey, stored.Data)
	}
	r.checkOrder()
	report := r.audit.Report()
	return row{
		report.Emitted, report.Delivered, len(report.Duplicated), len(report.Lost), r.countTruncated(),
		c.held, report, r.output.lines(),
	}
}

// checkOrder checks that each instance numbers its events in the order of their emission.
func (r *trial) checkOrder() {
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
			same := line.Format == record.CloudWatch || bytes.Equal(e.Record, line.Record) // it has the record as text
			return same && strings.HasPrefix(string(e.Raw), `{"time":"`+line.Time+`"`)
		})
		if next < 0 {
			r.Errorf("event %d is out of order, or was not emitted: %s %.100s", line.Seq, line.Time, line.Record)
			return
		}
		left = left[next+1:]
	}
}

// checkPromises checks the promises of the scenario.
func (s *scenario) checkPromises(t *testing.T, got row) {
	t.Helper()
	report := got.report
	if len(report.Altered) != s.truncated || got.truncated != s.truncated || len(report.Malformed) > 0 {
		t.Errorf("altered %v, malformed %v", report.Altered, report.Malformed)
	}
	if least := 30 * 13; !s.silent && got.emitted < least {
		t.Errorf("%d events were emitted, want at least %d", got.emitted, least)
	}
	// Only retried events may come after younger ones.
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
		said := fmt.Sprintf("undelivered %d events, 0 of them saved", got.lost+1) // and the stats event
		if got.lost == 0 || len(got.logged) == 0 || !strings.Contains(got.logged[len(got.logged)-1], said) {
			t.Errorf("lost %d; the extension logged %q", got.lost, got.logged)
		}
	}
	if got.held > busy(3*time.Second) && !s.holdsVary {
		t.Errorf("held %s in total", got.held)
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
	if s.countsVary {
		emitted = "more than 400"
	}
	if s.lost == all {
		delivered, lost = fmt.Sprint(got.delivered), "the rest, reported at SHUTDOWN"
		if s.rule == nil {
			lost = "all, reported at SHUTDOWN"
		}
	}
	if s.lost == all && s.rule != nil {
		delivered = "before the fault"
	}
	return fmt.Sprintf("%s %s | %s | %s | %s | %.0f |\n", s.begin(mode), emitted, delivered, duplicates, lost, got.held.Seconds()*1000)
}

// begin returns the beginning of a line.
func (s *scenario) begin(mode string) string { return fmt.Sprintf("| %s | `%s` |", s.name, mode) }

const guaranteesHead = `# Guarantees

Generated: ` + "`CHAOS=1 go test ./e2e -run TestGuarantees -args -update`" + `. CI runs every row again and compares.

Each row is one Lambda execution environment on this machine, with the real extension and a real function: thirty invocations, 50 ms
apart, with thirteen events each. A fault of the stream or of a proxy lasts from the eighth invocation to the twenty-second, or to the
end. The test compares the emitted events with those on the stream, byte for byte. In every row ` + "`seq`" + ` numbers
the events in the order in which Lambda posted them, and the stream has them in that order, except for retries.

- **delivered**: "all" means every emitted event. "Truncated": the record has only the beginning of an event that is too large.
- **duplicates**: "possible" if an answer was lost or came too late: the event was stored twice, with the same
  ` + "`instance`" + ` and ` + "`seq`" + `.
- **lost**: events are lost only if the stream accepts nothing, or is unreachable, until the environment is destroyed. If the extension
  itself is killed, Lambda may post events to a dead process. No process received these events, so they do not count.
- **held**: milliseconds that all invocations together waited for the extension after the function's end. Only
  this column may differ from run to run.

A long freeze is 7 s in real time, longer than each of the extension's timeouts. With a dead connection it is equivalent to ten minutes.
A function of 300 MB has a sixth of a CPU: here the test stops the extension for 20 of each 24 ms, even if it is idle.

| fault | mode | emitted | delivered | duplicates | lost | held, ms |
|---|---|---|---|---|---|---|
`

// The chaos suite runs every scenario in every mode, and compares the results with docs/guarantees.md.
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
				for was := range strings.Lines(string(committed)) { // keep the rows that are skipped here
					if strings.HasPrefix(was, s.begin(mode)) {
						*line = was
					}
				}
				t.Run(s.name+" "+mode, func(t *testing.T) {
					t.Parallel()
					got := s.run(t, mode)
					s.checkPromises(t, got)
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
		t.Errorf("docs/guarantees.md differs from the results; new lines: %v", maps.Collect(maps.All(isLines)))
	}
}
