package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/session"
)

// An audit ignores records that arrived before --since, or at --until or later. Events before the first one of an
// instance do not count as missing.
func TestAuditWindow(t *testing.T) {
	server, err := kinesislocal.Start(kinesislocal.Options{Region: testRegion})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if err := server.CreateStream("s", 2); err != nil {
		t.Fatal(err)
	}
	setEnviron(t, map[string]string{"KINESIS_TELEMETRY_STREAM": "s"})
	client := awskinesis.New(awskinesis.Options{
		Region: testRegion, BaseEndpoint: aws.String(server.URL()), Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""),
	})
	// part writes a record with these numbers. It returns a time between its arrival and that of the next record.
	part := func(first, last int) time.Time {
		t.Helper()
		var lines strings.Builder
		for seq := first; seq <= last; seq++ {
			fmt.Fprintf(&lines, `{"time":%q,"type":"function","record":"x","seq":%d,"source":{"function":"f","instance":"%032d"}}`+"\n",
				time.Now().Add(-3*time.Second).UTC().Format(time.RFC3339Nano), seq, 7)
		}
		_, err := client.PutRecord(t.Context(), &awskinesis.PutRecordInput{
			StreamName: aws.String("s"), PartitionKey: aws.String(fmt.Sprint(first)), Data: []byte(lines.String()),
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		defer time.Sleep(50 * time.Millisecond)
		return time.Now()
	}
	afterFirst := part(0, 4)
	afterSecond := part(5, 9)
	part(12, 19)

	for _, test := range []struct {
		name   string
		args   []string
		status int
		events int
		misses int
	}{
		{name: "all", args: []string{"s"}, status: statusIncomplete, events: 18, misses: 2},
		{name: "all of the default stream", args: []string{"--since", "1h"}, status: statusIncomplete, events: 18, misses: 2},
		{name: "since", args: []string{"s", "--since", afterFirst.Format(time.RFC3339Nano)}, status: statusIncomplete, events: 13, misses: 2},
		{name: "until", args: []string{"s", "--until", afterSecond.Format(time.RFC3339Nano)}, events: 10},
		{
			name: "both", events: 5,
			args: []string{"s", "--since", afterFirst.Format(time.RFC3339Nano), "--until", afterSecond.Format(time.RFC3339Nano)},
		},
		{name: "since the last", args: []string{"s", "--since", afterSecond.Format(time.RFC3339Nano)}, events: 8},
		{
			name: "since the last, whole", args: []string{"s", "--from-start", "--since", afterSecond.Format(time.RFC3339Nano)},
			status: statusIncomplete, events: 8, misses: 12,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr := runKtel(t, append([]string{"audit", "--json", "--endpoint-url", server.URL()}, test.args...)...)
			if status != test.status || stderr != "" {
				t.Fatalf("status %d, %s", status, stderr)
			}
			var got AuditReport
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if int(got.Events) != test.events || int(got.Missing) != test.misses || got.Instances != 1 || got.Bytes == 0 {
				t.Errorf("%s", stdout)
			}
			if d := got.Delay; d == nil || d.P50Ms < 2900 || d.MaxMs > 60_000 {
				t.Errorf("delay %+v", d)
			}
		})
	}
}

// --since counts a duration back from Kinesis's time, even if the local clock is wrong.
func TestSinceOtherClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Minute, time.Minute} {
		for _, test := range []struct {
			command string
			flags   []string
			events  func(stdout string) bool
		}{
			{"tail", []string{"--no-follow", "-o", "ndjson"}, func(stdout string) bool { return strings.Count(stdout, "\n") == 2 }},
			{"audit", []string{"--json"}, func(stdout string) bool { return strings.Contains(stdout, `"events": 2,`) }},
		} {
			t.Run(fmt.Sprint(test.command, ahead), func(t *testing.T) {
				t.Parallel()
				url := startKinesis(t, kinesislocal.Options{Now: func() time.Time { return time.Now().Add(ahead) }}).URL()
				putRecords(t, url, event(0, "checkout", "function", requestA, `"x"`), event(1, "checkout", "function", requestA, `"x"`))
				args := append([]string{test.command, "orders", "--endpoint-url", url, "--since", "30s"}, test.flags...)
				status, stdout, stderr := runKtel(t, args...)
				if status != 0 || !test.events(stdout) {
					t.Errorf("status %d, %s%s", status, stdout, stderr)
				}
			})
		}
	}
}

// The progress of an audit goes from the start of its window to the end. A shard that was read completely does not
// delay it.
func TestBacklogReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backlog{behind: make(map[string]time.Duration), now: time.Now, until: time.Now().Add(-2 * time.Hour)}
		poll := func(shard string, behind time.Duration, ended bool) {
			b.polled(session.Poll{Shard: shard, Behind: behind, Ended: ended})
		}
		want := func(done, whole time.Duration) {
			t.Helper()
			if got := b.reading(); got.done != int64(done) || got.whole != int64(whole) {
				t.Errorf("%v of %v, want %v of %v", time.Duration(got.done), time.Duration(got.whole), done, whole)
			}
		}
		poll("a", 6*time.Hour, false)
		poll("b", 4*time.Hour, false)
		want(0, 4*time.Hour)
		poll("a", 5*time.Hour, true)
		want(2*time.Hour, 4*time.Hour)
		poll("b", time.Hour, false)
		want(4*time.Hour, 4*time.Hour)
	})
}

// Trouble with reading the stream is reported once, and so is its end.
func TestBacklogTrouble(t *testing.T) {
	var out strings.Builder
	b := &backlog{notes: &out}
	for range 2 {
		for _, err := range []error{errors.New("throttled"), errors.New("throttled"), nil} {
			b.trouble(err)
		}
	}
	const once = "ktel: throttled; retrying\nktel: reading again\n"
	if out.String() != once+once {
		t.Errorf("%s", out.String())
	}
}

// A report fits the terminal, and shows more ranges on a wider one.
func TestAuditTextFits(t *testing.T) {
	var some audit.Ranges
	for n := range uint64(200) {
		some = append(some, audit.Range{First: 1_000_000 + 10*n, Last: 1_000_003 + 10*n})
	}
	report := AuditReport{CompletenessReport: &audit.CompletenessReport{
		Events: 123_456_789, Missing: 800, Dropped: 12_345_678, Duplicated: 12_345, Instances: 100_000, FromStart: 99_999, ToEnd: 98_765,
		Own: map[string]uint64{"kinesis-telemetry.stats": 98_765}, Unnumbered: 1234,
		Delay: &audit.Delay{P50Ms: 1234, P90Ms: 12_345, P99Ms: 123_456, MaxMs: 12_345_678},
		Findings: []audit.Finding{{
			Instance: strings.Repeat("0f", 16), Function: strings.Repeat("checkout-", 7) + "7",
			Missing: some, MissingCount: 800, DroppedCount: 12_345_678,
			Declared: []audit.Drop{{Reason: "buffer_full", Count: 12_345_678}, {Reason: "rejected", Count: 1}, {Reason: "too_large", Count: 1}},
		}},
	}, Foreign: 1, Bytes: 123_456_789_012}
	rangesByColumns := map[int]int{}
	for _, columns := range []int{60, 80, 200} {
		var out strings.Builder
		if err := report.writeText(&out, newPalette(true), columns); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if width := ansi.StringWidth(strings.TrimSuffix(line, "\n")); width > columns {
				t.Errorf("%d columns of %d: %q", width, columns, line)
			}
		}
		rangesByColumns[columns] = strings.Count(out.String(), "-100")
		if !strings.Contains(out.String(), " more") || strings.Contains(out.String(), "…") {
			t.Errorf("%s", out.String())
		}
	}
	if rangesByColumns[60] > rangesByColumns[80] || rangesByColumns[80] >= rangesByColumns[200] {
		t.Errorf("ranges shown by columns: %v", rangesByColumns)
	}
}

// Without a terminal, progress is reported every ten seconds. A short reading reports none.
func TestProgressElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		start := time.Now()
		now := func() reading {
			n := int64(time.Since(start).Seconds())
			return reading{done: n, whole: 40, bytes: n * 1e6}
		}
		show := func(d time.Duration) {
			p := newProgress(&out)
			start = time.Now()
			p.start(now)
			time.Sleep(d)
			p.end()
		}
		if show(9 * time.Second); out.Len() > 0 {
			t.Errorf("after nine seconds: %s", out.String())
		}
		show(21 * time.Second)
		const want = "ktel: 10.0 MB read, 1.0 MB a second, 25%, 30s left\nktel: 20.0 MB read, 1.0 MB a second, 50%, 20s left\n"
		if out.String() != want {
			t.Errorf("%s, want %s", out.String(), want)
		}
	})
}

// Progress shows the rate, and the time left if the size is known.
func TestReadingAfter(t *testing.T) {
	for _, test := range []struct {
		reading reading
		want    string
	}{
		{reading{}, "0 bytes read, 0 bytes a second"},
		{reading{done: 5e9, whole: -1, bytes: 5e9}, "5.0 GB read, 500.0 MB a second"},
		{reading{done: 5e9, whole: 20e9, bytes: 5e9}, "5.0 GB read, 500.0 MB a second, 25%, 30s left"},
		{reading{done: int64(time.Hour), whole: int64(3 * time.Hour), bytes: 70}, "70 bytes read, 7 bytes a second, 33%, 20s left"},
		{reading{done: -1, whole: 5, bytes: 1}, "1 byte read, 0 bytes a second"},
	} {
		if got := test.reading.after(10 * time.Second); got != test.want {
			t.Errorf("%+v: %s, want %s", test.reading, got, test.want)
		}
	}
}
