package audit_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/record"
)

// arrivals parses a test's events: "i:3-7" are the numbers 3 to 7 of instance i, "i:8 stats" is an own event.
func arrivals(t *testing.T, texts ...string) (lines []record.Line) {
	t.Helper()
	for _, text := range texts {
		var name, kind string
		var first, last uint64
		text, kind, _ = strings.Cut(text, " ")
		name, text, _ = strings.Cut(text, ":")
		if _, err := fmt.Sscanf(text, "%d-%d", &first, &last); err != nil {
			if _, err := fmt.Sscan(text, &first); err != nil {
				t.Fatal(text)
			}
			last = first
		}
		for seq := first; ; seq++ {
			line := record.Line{Time: "2026-11-23T18:00:00.000Z", Type: "function", Seq: seq}
			line.Source = record.SourceFields{Function: "f", Instance: name}
			if kind != "" {
				own, content, _ := strings.Cut(kind, " ")
				line.Type, line.Record = "kinesis-telemetry."+own, json.RawMessage(content)
			}
			lines = append(lines, line)
			if seq == last {
				break
			}
		}
	}
	return lines
}

func dropped(reason string, count, first, last int, instance string) string {
	return fmt.Sprintf(`dropped {"reason":%q,"count":%d,"firstSeq":%d,"lastSeq":%d,"instance":%q}`, reason, count, first, last, instance)
}

// summary returns a report on one line.
func summary(a *audit.CompletenessReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "complete %t; %d events, %d missing, %d dropped, %d duplicated; %d instances, %d from start, %d to end",
		a.Complete, a.Events, a.Missing, a.Dropped, a.Duplicated, a.Instances, a.FromStart, a.ToEnd)
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "; %s missing %v, dropped %d", f.Instance, f.Missing, f.DroppedCount)
		fmt.Fprintf(&b, ", duplicated %d of %v", f.DuplicatedCount, f.Duplicated)
	}
	return b.String()
}

func TestCompleteness(t *testing.T) {
	for _, test := range []struct {
		name      string
		arrived   []string
		fromStart bool
		want      string
	}{
		{
			"no events", nil, false,
			"complete true; 0 events, 0 missing, 0 dropped, 0 duplicated; 0 instances, 0 from start, 0 to end",
		},
		{
			"all events arrive, in any order",
			[]string{"i:7 stats", "i:3-5", "i:0-2", "i:6", "k:4-9"},
			false,
			"complete true; 14 events, 0 missing, 0 dropped, 0 duplicated; 2 instances, 1 from start, 1 to end",
		},
		{
			"gaps",
			[]string{"i:0-2", "i:5-6", "i:10 stats"},
			false,
			"complete false; 6 events, 5 missing, 0 dropped, 0 duplicated; 1 instances, 1 from start, 1 to end; " +
				"i missing [{3 4} {7 9}], dropped 0, duplicated 0 of []",
		},
		{
			"the window begins in the middle of an instance",
			[]string{"i:5-6", "i:8"},
			false,
			"complete false; 3 events, 1 missing, 0 dropped, 0 duplicated; 1 instances, 0 from start, 0 to end; " +
				"i missing [{7 7}], dropped 0, duplicated 0 of []",
		},
		{
			"the same with FromStart",
			[]string{"i:5-6", "i:8"},
			true,
			"complete false; 3 events, 6 missing, 0 dropped, 0 duplicated; 1 instances, 0 from start, 0 to end; " +
				"i missing [{0 4} {7 7}], dropped 0, duplicated 0 of []",
		},
		{
			"copies",
			[]string{"i:0-4", "i:2-3", "i:3", "k:0-1"},
			false,
			"complete true; 10 events, 0 missing, 0 dropped, 3 duplicated; 2 instances, 2 from start, 0 to end; " +
				"i missing [], dropped 0, duplicated 3 of [{2 3}]",
		},
		{
			"all missing numbers are declared",
			[]string{"i:0-2", "i:8", "i:9 " + dropped("buffer_full", 5, 3, 7, "i")},
			false,
			"complete true; 5 events, 0 missing, 5 dropped, 0 duplicated; 1 instances, 1 from start, 0 to end; " +
				"i missing [], dropped 5, duplicated 0 of []",
		},
		{
			"more numbers are missing than declared",
			[]string{"i:0-2", "i:8", "i:9 " + dropped("rejected", 3, 3, 7, "i")},
			false,
			"complete false; 5 events, 2 missing, 3 dropped, 0 duplicated; 1 instances, 1 from start, 0 to end; " +
				"i missing [{6 7}], dropped 3, duplicated 0 of []",
		},
		{
			"two copies of a declaration count once",
			[]string{"i:0-2", "i:8", "i:9 " + dropped("rejected", 2, 3, 7, "i"), "i:9 " + dropped("rejected", 2, 3, 7, "i")},
			false,
			"complete false; 6 events, 3 missing, 2 dropped, 1 duplicated; 1 instances, 1 from start, 0 to end; " +
				"i missing [{5 7}], dropped 2, duplicated 1 of [{9 9}]",
		},
		{
			"a declaration covers numbers before the window and in it",
			[]string{"i:10-12", "i:14", "i:15 " + dropped("buffer_full", 4, 5, 13, "i")},
			false,
			"complete true; 5 events, 0 missing, 4 dropped, 0 duplicated; 1 instances, 0 from start, 0 to end; " +
				"i missing [], dropped 4, duplicated 0 of []",
		},
		{
			"a declaration may cover numbers before the window or in it",
			[]string{"i:100-104", "i:108-110", "i:111 " + dropped("buffer_full", 3, 50, 110, "i")},
			false,
			"complete true; 9 events, 0 missing, 3 dropped, 0 duplicated; 1 instances, 0 from start, 0 to end; " +
				"i missing [], dropped 3, duplicated 0 of []",
		},
		{
			"the next instance declares the losses at this one's end",
			[]string{"old:0-4", "new:0 " + dropped("malformed", 2, 5, 7, "old")},
			false,
			"complete false; 6 events, 1 missing, 2 dropped, 0 duplicated; 2 instances, 2 from start, 0 to end; " +
				"old missing [{7 7}], dropped 2, duplicated 0 of []",
		},
		{
			"an instance is known by a declaration only",
			[]string{"new:0 " + dropped("malformed", 2, 5, 7, "old")},
			false,
			"complete true; 1 events, 0 missing, 2 dropped, 0 duplicated; 2 instances, 1 from start, 0 to end; " +
				"old missing [], dropped 2, duplicated 0 of []",
		},
		{
			"the same with FromStart",
			[]string{"new:0 " + dropped("malformed", 2, 5, 7, "old"), "new:1 " + dropped("rejected", 3, 0, 10, "old")},
			true,
			"complete false; 2 events, 6 missing, 5 dropped, 0 duplicated; 2 instances, 1 from start, 0 to end; " +
				"old missing [{3 4} {7 10}], dropped 5, duplicated 0 of []",
		},
		{
			"declarations of the last flush follow the stats",
			[]string{"i:0", "i:4 " + dropped("rejected", 1, 1, 1, "i"), "i:3 " + dropped("too_large", 1, 1, 1, "i"), "i:2 stats"},
			false,
			"complete true; 4 events, 0 missing, 1 dropped, 0 duplicated; 1 instances, 1 from start, 1 to end; " +
				"i missing [], dropped 1, duplicated 0 of []",
		},
		{
			"an event follows the declarations of the last flush",
			[]string{"i:0", "i:2 stats", "i:3 " + dropped("rejected", 1, 1, 1, "i"), "i:4"},
			false,
			"complete true; 4 events, 0 missing, 1 dropped, 0 duplicated; 1 instances, 1 from start, 0 to end; " +
				"i missing [], dropped 1, duplicated 0 of []",
		},
		{
			"the highest possible number",
			[]string{fmt.Sprintf("i:%d", uint64(math.MaxUint64))},
			false,
			"complete true; 1 events, 0 missing, 0 dropped, 0 duplicated; 1 instances, 0 from start, 0 to end",
		},
		{
			"malformed declarations declare nothing",
			[]string{"i:0", "i:2 " + dropped("rejected", 1, 2, 1, "i"), "i:3 dropped []"},
			false,
			"complete false; 3 events, 1 missing, 0 dropped, 0 duplicated; 1 instances, 1 from start, 0 to end; " +
				"i missing [{1 1}], dropped 0, duplicated 0 of []",
		},
		{
			"the format cloudwatch has 80 bits of an instance",
			[]string{
				"0123456789abcdef0123:0-1", "0123456789abcdef0123:3 " + dropped("rejected", 1, 2, 2, "0123456789abcdef0123456789abcdef"),
			},
			false,
			"complete true; 3 events, 0 missing, 1 dropped, 0 duplicated; 1 instances, 1 from start, 0 to end; " +
				"0123456789abcdef0123456789abcdef missing [], dropped 1, duplicated 0 of []",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := audit.Completeness{FromStart: test.fromStart}
			for _, line := range arrivals(t, test.arrived...) {
				c.Add(&line, time.Time{})
			}
			if got := summary(c.Report()); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

// Events that CloudWatch Logs itself wrote have no number and are counted apart.
func TestCompletenessUnnumbered(t *testing.T) {
	var c audit.Completeness
	c.Add(&record.Line{Time: "2026-11-23T18:00:00.000Z"}, time.Time{})
	if a := c.Report(); a.Unnumbered != 1 || a.Events != 0 || a.Instances != 0 || !a.Complete {
		t.Errorf("%+v", a)
	}
}

// Drops explain as many missing numbers as possible: an exhaustive search finds no better match.
func TestDropsExplainTheMostNumbers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		const last = 11
		texts := []string{"i:0", fmt.Sprintf("i:%d", last)}
		var missing []int
		for seq := 1; seq < last; seq++ {
			if random.IntN(2) == 0 {
				missing = append(missing, seq)
			} else {
				texts = append(texts, fmt.Sprintf("i:%d", seq))
			}
		}
		var drops []audit.Drop
		for n := range random.IntN(4) {
			first := 1 + random.IntN(last-1)
			end := first + random.IntN(last-first)
			count := 1 + random.IntN(4)
			drops = append(drops, audit.Drop{Count: uint64(count), First: uint64(first), Last: uint64(end)})
			texts = append(texts, fmt.Sprintf("k:%d %s", n, dropped("rejected", count, first, end, "i")))
		}
		var c audit.Completeness
		for _, line := range arrivals(t, texts...) {
			c.Add(&line, time.Time{})
		}
		a := c.Report()
		most := mostDeclared(missing, slices.Clone(drops))
		if a.Dropped != uint64(most) || a.Missing != uint64(len(missing)-most) {
			t.Fatalf("missing %v, drops %v: %d declared, want %d; %s", missing, drops, a.Dropped, most, summary(a))
		}
	}
}

func mostDeclared(missing []int, drops []audit.Drop) int {
	if len(missing) == 0 {
		return 0
	}
	most := mostDeclared(missing[1:], drops)
	for i := range drops {
		if d := &drops[i]; d.Count > 0 && d.First <= uint64(missing[0]) && uint64(missing[0]) <= d.Last {
			d.Count--
			most = max(most, 1+mostDeclared(missing[1:], drops))
			d.Count++
		}
	}
	return most
}

func TestDelay(t *testing.T) {
	var c audit.Completeness
	at := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	for i, line := range arrivals(t, "i:0-99") {
		c.Add(&line, at.Add(time.Duration(i+1)*100*time.Millisecond))
		if i == 0 {
			c.Add(&line, at.Add(time.Hour)) // a copy's delay does not count
		}
	}
	d := c.Report().Delay
	within := func(got, want float64) bool { return got >= want && got <= want*1.011 }
	if d == nil || d.Events != 100 || !within(d.P50Ms, 5000) || !within(d.P90Ms, 9000) || !within(d.P99Ms, 9900) || d.MaxMs != 10000 {
		t.Errorf("%+v", d)
	}
	// Clocks differ: this event arrives before its own time.
	var early audit.Completeness
	early.Add(&arrivals(t, "i:0")[0], at.Add(-time.Second))
	if d := early.Report().Delay; d.MaxMs != 0 || d.P50Ms != 0 {
		t.Errorf("%+v", d)
	}
}

// The time to match drops grows with their number, not with its square.
func TestManyDrops(t *testing.T) {
	const n = 100_000
	var c audit.Completeness
	add := func(instance string, seq int, kind, content string) {
		line := record.Line{Type: kind, Seq: uint64(seq), Record: json.RawMessage(content), Source: record.SourceFields{Instance: instance}}
		c.Add(&line, time.Time{})
	}
	for i := range n { // every other number is missing, and a drop that ends much later declares each
		add("i", 2*i, "function", "")
		declaration := fmt.Sprintf(`{"reason":"rejected","count":1,"firstSeq":%d,"lastSeq":%d,"instance":"i"}`, 2*i+1, 2*n)
		add("k", i, "kinesis-telemetry.dropped", declaration)
	}
	add("i", 2*n, "function", "")
	began := time.Now()
	a := c.Report()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("%s", took)
	}
	if !a.Complete || a.Dropped != n {
		t.Errorf("%t, %d dropped", a.Complete, a.Dropped)
	}
}
