//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/sandbox"
)

// twentyInvocations returns invocations that were held for 1 to 20 ms. The last one failed.
func twentyInvocations() []invocation {
	invocations := make([]invocation, 20)
	for i := range invocations {
		held := time.Duration(20-i) * time.Millisecond
		invocations[i] = invocation{i + 1, sandbox.Result{Status: "success", Hold: held, Duration: held + 500*time.Microsecond}}
	}
	invocations[19].result.Status, invocations[19].result.FunctionError = "error", "Unhandled"
	return invocations
}

func someProcesses() []sandbox.ProcessStats {
	return []sandbox.ProcessStats{
		{Name: "kinesis-telemetry-extension", Kind: sandbox.ExtensionProcess, Register: 6123456, FirstNext: 7945678, MaxRSS: 12_400_000},
		{Name: "hello", Kind: sandbox.RuntimeProcess, MaxRSS: 99_000_000},
	}
}

// The summary of a complete trial counts invocations, events, records, costs and holds.
func TestSummaryText(t *testing.T) {
	report := audit.Report{
		Emitted: 1412, Delivered: 1412, Own: map[string]int{"kinesis-telemetry.stats": 2},
		Records: 21, Bytes: 96431, PayloadUnits: 21, UnitsOnePerEvent: 1414, OnDemandKB: 104, OnDemandKBOnePerEvent: 1414,
	}
	s := summarize(twentyInvocations(), someProcesses(), &report)
	s.Audited = true
	check(t, &s, `
  invocations  20 in all   19 succeeded   1 failed
  events       1,412 emitted   1,412 delivered   0 lost   0 duplicated
               2 of the extension's own
  stream       21 records   96,431 bytes
  billed as    21 PUT payload units of 25 KB   1,414 with one record per event
  or           104 KB on-demand                1,414 with one record per event
  held back    p50 10.0 ms   max 20.0 ms   210 ms billed in all
  extension    registered 6.1 ms   ready 7.9 ms after exec   peak memory 12.4 MB

  Every event arrived, once and unaltered.
`)
	if verdict(&s, false) != nil || statusOf(verdict(&s, true)) != statusFunction {
		t.Errorf("verdict %v, %v", verdict(&s, false), verdict(&s, true))
	}
}

// The summary of an incomplete trial counts and shows each kind of problem.
func TestSummaryTextOfLoss(t *testing.T) {
	seq := uint64(17)
	report := audit.Report{
		Emitted: 12, Delivered: 10, Records: 1, Bytes: 1,
		Lost: []audit.Event{
			{Time: "2026-11-23T18:00:00.123Z", Type: "platform.initRuntimeDone", Excerpt: `{"status":"success","phase":"init"}`},
			{Time: "2026-11-23T18:00:01.123Z", Type: "function", Excerpt: `"a"`},
		},
		Duplicated: []audit.Event{{Time: "2026-11-23T18:00:01.123Z", Type: "function", Excerpt: "\"\x1b[2J\"", Instance: "i", Seq: &seq}},
		Malformed:  []audit.Event{{Excerpt: "{", Reason: "the line is not JSON"}},
		Unknown:    []audit.Event{{Type: "other", Excerpt: "1"}},
		Gaps:       []audit.Gap{{Instance: "i", First: 3, Last: 4}},
		OutOfOrder: 3,
	}
	processes := someProcesses()
	processes = append(processes, processes[0], sandbox.ProcessStats{Name: "beside", Kind: sandbox.ExtensionProcess, Killed: true})
	s := summarize(nil, processes, &report)
	s.Audited, s.Stream.Throttled = true, 1234
	check(t, &s, `
  invocations  0 in all   0 succeeded   0 failed
  events       12 emitted   10 delivered   2 lost   1 duplicated
               1 unreadable   2 seqs missing   1 of other writers
               3 out of order
  stream       1 record   1 byte   1,234 throttled
  billed as    0 PUT payload units of 25 KB   0 with one record per event
  or           0 KB on-demand                 0 with one record per event
  extension    kinesis-telemetry-extension
               registered 6.1 ms   ready 7.9 ms after exec   peak memory 12.4 MB
               started 2 times: the environment was reset
  extension    beside
               registered 0.0 ms   ready 0.0 ms after exec   peak memory 0.0 MB
               killed: it did not exit in time

  lost        18:00:00.123 initRuntimeDone           {"status":"success","ph…
  lost        18:00:01.123 function                  "a"
  duplicated  18:00:01.123 function               17 "\x1b[2J"
  malformed                                          the line is not JSON: {
  unknown                  other                     1

  2 of 12 events did not arrive.
`)
	if statusOf(verdict(&s, true)) != statusIncomplete {
		t.Errorf("verdict %v", verdict(&s, true))
	}
}

func check(t *testing.T, s *Summary, want string) {
	t.Helper()
	var b strings.Builder
	if err := s.writeText(&b, newPalette(false), 0); err != nil {
		t.Fatal(err)
	}
	if got := "\n" + b.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
	for columns, limit := range map[int]int{0: 80, 60: 60, 200: 80} {
		b.Reset()
		if err := s.writeText(&b, newPalette(true), columns); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if ansi.StringWidth(strings.TrimSuffix(line, "\n")) > limit {
				t.Errorf("%d columns: wider than %d: %s", columns, limit, line)
			}
		}
		if words := strings.Fields(ansi.Strip(b.String())); columns == 60 && len(s.Problems) == 0 && !slices.Equal(words, strings.Fields(want)) {
			t.Errorf("60 columns: %s", b.String())
		}
	}
}

// The exit status follows from the summary: lost events take precedence over failed invocations.
func TestVerdict(t *testing.T) {
	tests := []struct {
		name    string
		summary Summary
		counts  bool
		want    int
	}{
		{"all is well", Summary{Audited: true, Complete: true}, true, statusComplete},
		{"nothing to audit", Summary{}, true, statusComplete},
		{"failures that count", Summary{Audited: true, Complete: true, Invocations: InvocationSummary{Failed: 1}}, true, statusFunction},
		{"failures that do not", Summary{Audited: true, Complete: true, Invocations: InvocationSummary{Failed: 1}}, false, statusComplete},
		{"no start", Summary{Audited: true, InitError: "x"}, false, statusIncomplete},
		{"no start, and nothing to audit", Summary{InitError: "x"}, false, statusIncomplete},
		{"no subscription", Summary{Audited: true, Idle: "x", Invocations: InvocationSummary{Failed: 1}}, true, statusIncomplete},
		{"a loss", Summary{Audited: true, Invocations: InvocationSummary{Failed: 1}}, true, statusIncomplete},
	}
	for _, test := range tests {
		if got := statusOf(verdict(&test.summary, test.counts)); got != test.want {
			t.Errorf("%s: status %d, want %d", test.name, got, test.want)
		}
	}
}

// The JSON keeps its names, which programs rely on.
func TestSummaryJSON(t *testing.T) {
	s := summarize(twentyInvocations(), someProcesses(), &audit.Report{Emitted: 2, Delivered: 1, Lost: []audit.Event{{Type: "function"}}})
	s.Audited = true
	var out strings.Builder
	a := &app{stdout: &out}
	if err := a.print(a.stdout, &s, true); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Complete, Audited bool
		Events            struct{ Emitted, Delivered, Lost int }
		HeldBack          struct{ P50Ms, MaxMs float64 }
		Problems          []struct{ Kind, Type string }
	}
	if err := json.Unmarshal([]byte(out.String()), &read); err != nil {
		t.Fatal(err)
	}
	if read.Complete || !read.Audited || read.Events.Lost != 1 || read.HeldBack.MaxMs != 20 || len(read.Problems) != 1 ||
		read.Problems[0].Kind != "lost" || read.Problems[0].Type != "function" {
		t.Errorf("%s", out.String())
	}
}

// A closed output ends a trial with the write error. The collector still audits all records.
func TestCollectorEndsWithItsReader(t *testing.T) {
	broken := errors.New("broken")
	var got error
	d := &display{out: failingWriter{broken}, columns: func() int { return 0 }, colors: newPalette(false)}
	c := newCollector(d.show, func(err error) { got = err })
	for range 3 {
		c.record("key", []byte(`{"type":"x"}`))
	}
	c.finish()
	if r := c.audit.Report(); !errors.Is(got, broken) || r.Records != 3 {
		t.Errorf("error %v, %d records audited", got, r.Records)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Without verbose, the function's lines are hidden, and so are the extension's INFO lines and its error after a failed
// init.
func TestProcessOutput(t *testing.T) {
	const closed = `level=ERROR msg="subscribe returned status 403: Telemetry.SubscriptionClosed"`
	lines := "[app] x\n[beside] y\n[ours] level=INFO msg=all\n[ours] level=ERROR msg=broken\n[ours] " + closed + "\n[beside] " + closed + "\n"
	for verbose, want := range map[bool]string{false: "[beside] y\n[ours] level=ERROR msg=broken\n[beside] " + closed + "\n", true: lines} {
		var out bytes.Buffer
		p := &processOutput{out: &out, colors: newPalette(false), function: "app", audited: "ours", verbose: verbose}
		if _, err := p.Write([]byte(lines)); err != nil || out.String() != want || p.lastMessage() != closed {
			t.Errorf("verbose %v: %v, last %q, got\n%s", verbose, err, p.lastMessage(), out.String())
		}
	}
}

// eventsTo skips lines that are not events, and writes the other events of their record.
func TestEventsTo(t *testing.T) {
	var out bytes.Buffer
	c := newCollector(eventsTo(&out), func(err error) { t.Error(err) })
	c.record("key", []byte(`{"time":"t","type":"function","record":"é"}`+"\nno event\n"+`{"type":"x", "a" : 1}`+"\n"))
	c.record("key", []byte("\x1f\x8b no gzip"))
	c.record("key", []byte(`{"type":"y"}`))
	c.finish()
	const want = `{"time":"t","type":"function","record":"é"}` + "\n" + `{"type":"x", "a" : 1}` + "\n" + `{"type":"y"}` + "\n"
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
	if report := c.audit.Report(); len(report.Malformed) != 2 {
		t.Errorf("malformed %+v", report.Malformed)
	}
}
