package main

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"kinesis-telemetry-extension/internal/audit"
)

// Each kind of event is shown in one line that fits the terminal.
func TestDisplay(t *testing.T) {
	tests := []struct{ line, want string }{
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function",` +
				`"record":"text\tand \u001b[31m\n","requestId":"8476a536-e9f4","seq":7,"source":{"instance":"i"}}`,
			`18:00:00.123 function             8476a536     7 text\tand \x1b[31m`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function",` +
				`"record":{"timestamp":"x","requestId":"y","user":"a b","n":[1,{"m":2}],` +
				`"level":"ERROR","message":"did not work","s":"plain"},"seq":123456,"source":{"instance":"i"}}`,
			`18:00:00.123 function                      123456 ERROR did not work user="a b" n=[1,{"m":2}] s=plain`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":{"level":30,"msg":7}}`,
			`18:00:00.123 function                            30    7`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.report",` +
				`"record":{"requestId":"r","status":"timeout","errorType":"Sandbox.Timedout",` +
				`"metrics":{"durationMs":3000.127,"billedDurationMs":3001,"initDurationMs":97.3}}}`,
			`18:00:00.123 platform.report                     timeout Sandbox.Timedout 3000.13 ms billed 3001 ms init 97.3 ms`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.telemetrySubscription",` +
				`"record":{"name":"x","state":"Subscribed","types":["platform","function"]}}`,
			`18:00:00.123 telemetrySubscription                Subscribed x platform,function`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.logsDropped",` +
				`"record":{"reason":"too slow","droppedRecords":12,"droppedBytes":3456}}`,
			`18:00:00.123 platform.logsDropped                12 records, 3456 bytes: too slow`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"kinesis-telemetry.stats",` +
				`"record":{"received":34,"sent":33,"dropped":0,"held":1,"records":1,"bytes":9,` +
				`"retriedRecords":2,"requests":1,"flushes":1,"recovered":0,"heldBackMs":12.345},"seq":34,"source":{"instance":"i"}}`,
			`18:00:00.123 stats                            34 34 received 33 sent 1 held 2 records retried held back 12.35 ms`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"kinesis-telemetry.stats","record":{"received":"many"}}`,
			`18:00:00.123 stats                               received=many`,
		},
		{
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.tomorrow","record":{"a":1}}`,
			`18:00:00.123 platform.tomorrow                   a=1`,
		},
		{
			`{"time":7,"type":{},"record":null}`,
			`                                                 null`,
		},
		{`{"type":"x"}`, `             x                                   (no record)`},
		{
			`oops`,
			`not an event                                     the line is not JSON: invalid character 'o' looking for beginning of value: oops`,
		},
	}
	for _, test := range tests {
		var out strings.Builder
		wide := &display{out: &out, colors: newPalette(false), columns: func() int { return 0 }, headerShown: true}
		lines := audit.Lines([]byte(test.line))
		if err := wide.show(&lines[0]); err != nil || out.String() != test.want+"\n" {
			t.Errorf("%s\n got %q, %v\nwant %q", test.line, out.String(), err, test.want+"\n")
		}
		out.Reset()
		for columns, heading := range map[int]string{
			200: "time (UTC)   type ",
			80:  "time (UTC)   type ",
			60:  "UTC      type        request  message",
		} {
			out.Reset()
			d := &display{out: &out, colors: newPalette(false), columns: func() int { return columns }}
			if err := d.show(&lines[0]); err != nil {
				t.Error(err)
			}
			head, line, _ := strings.Cut(strings.TrimSuffix(out.String(), "\n"), "\n")
			if !strings.HasPrefix(head, heading) || ansi.StringWidth(line) > columns || strings.Contains(line, "…telemetry") {
				t.Errorf("%d columns:\n%s\n%s", columns, head, line)
			}
		}
	}
}

// An error is red, and control characters in a message are escaped.
func TestDisplayColors(t *testing.T) {
	var out strings.Builder
	d := &display{out: &out, colors: newPalette(true), columns: func() int { return 80 }}
	lines := audit.Lines([]byte(`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":{"level":"ERROR","message":"\u001b[2J"}}`))
	if err := d.show(&lines[0]); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31;1mERROR\x1b[") || strings.Contains(out.String(), "\x1b[2J") {
		t.Errorf("%q", out.String())
	}
}

func FuzzDisplay(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-23T18:00:00.123Z","type":"function",` +
		`"record":{"level":"INFO","message":"日本語日本語日本語日本語日本語日本語"}}`))
	f.Add([]byte(`{"type":"platform.report","record":{"metrics":{"durationMs":1e300}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, line := range audit.Lines(data) {
			var out strings.Builder
			d := &display{out: &out, colors: newPalette(false), columns: func() int { return 80 }, headerShown: true}
			if err := d.show(&line); err != nil {
				t.Fatal(err)
			}
			shown := strings.TrimSuffix(out.String(), "\n")
			used := ansi.StringWidth(shown)
			if used > 80 || strings.ContainsAny(shown, "\n\r\x1b") {
				t.Errorf("%d columns: %q", used, shown)
			}
		}
	})
}

// fit cuts text at the width, between words if it can.
func TestFit(t *testing.T) {
	tests := []struct {
		text    string
		columns int
		want    string
	}{
		{"12345", 5, "12345"},
		{"123456", 5, "1234…"},
		{"äöüßé", 5, "äöüßé"},
		{"äöüßéà", 5, "äöüß…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"did not work", 12, "did not work"},
		{"did not work", 11, "did not …"},
		{"did not work", 8, "did not…"},
		{"did not work", 7, "did …"},
		{"did notwork", 5, "did …"},
		{"a veryverylongword", 12, "a veryveryl…"},
		{"anything", 0, "anything"},
	}
	for _, test := range tests {
		if got := fit(test.text, test.columns); got != test.want {
			t.Errorf("fit(%q, %d) = %q, want %q", test.text, test.columns, got, test.want)
		}
	}
}
