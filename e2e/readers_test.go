package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// Other programs read the real extension's records in each format and compression, and every event comes out unaltered.
// conformance/readers/check.sh installs these programs, and describes their output.
func TestConformanceReaders(t *testing.T) {
	if os.Getenv("CONFORMANCE") != "required" {
		t.Skip("CONFORMANCE=required is not set: this installs readers of several languages")
	}
	function := buildAwkward(t)
	dir := os.Getenv("READERS_DIR") // to keep the files
	if dir == "" {
		dir = t.TempDir()
	}
	for _, w := range formats {
		name := fmt.Sprintf("%s-%s", w.format, w.compression)
		if !t.Run(name, func(t *testing.T) { w.write(t, function, filepath.Join(dir, name)) }) {
			return
		}
	}
	check := exec.Command("../conformance/readers/check.sh", dir)
	printed, err := check.CombinedOutput()
	t.Logf("%s\n%s", check, printed)
	if err != nil {
		t.Error(err)
	}
}

// settings selects that format and compression.
func (w written) settings() map[string]string {
	return map[string]string{
		"KINESIS_TELEMETRY_RECORD_BYTES": "200000", "KINESIS_TELEMETRY_DELIVERY": "sync",
		"KINESIS_TELEMETRY_FORMAT": string(w.format), "KINESIS_TELEMETRY_COMPRESSION": string(w.compression),
	}
}

// write saves the extension's records as files: the data of each record, the partition keys, and the events that must come out.
func (w written) write(t *testing.T, function, dir string) {
	records, lines := w.produce(t, function)
	var keys, events bytes.Buffer
	for i, stored := range records {
		writeFile(t, filepath.Join(dir, "records", fmt.Sprintf("%04d.bin", i+1)), stored.Data)
		fmt.Fprintln(&keys, stored.PartitionKey)
	}
	for _, line := range lines {
		fmt.Fprintf(&events, "%s\n", line.Raw)
	}
	writeFile(t, filepath.Join(dir, "keys.txt"), keys.Bytes())
	writeFile(t, filepath.Join(dir, "events.ndjson"), events.Bytes())
}

// produce runs three environments, and returns their records and the events in them.
func (w written) produce(t *testing.T, function string) (all []kinesislocal.Record, events []record.Line) {
	t.Helper()
	for _, life := range []struct {
		logs     sandbox.LogFormat
		requests []string
	}{
		{sandbox.Text, []string{"0", "10", "0"}},
		{sandbox.JSON, []string{"0", "10", "0"}},
		{sandbox.Text, []string{"700"}}, // exceeds one record of the format kpl
	} {
		r := newTrial(t, setup{settings: w.settings(), sandbox: func(c *sandbox.Config) {
			c.Function.Command = []string{function}
			c.Function.LogFormat = life.logs
		}})
		for _, request := range life.requests {
			r.invoke(request)
		}
		report := r.end()
		r.checkComplete(report, len(life.requests)*20)
		records := r.kinesis.Records(r.stream)
		lines := eventsOf(r)
		if want := report.Emitted + report.Own["kinesis-telemetry.stats"]; len(lines) != want {
			t.Fatalf("%d events of %d", len(lines), want)
		}
		if w.format == record.CloudWatch {
			checkLogEvents(t, lines, r.emitted)
		}
		all, events = append(all, records...), append(events, lines...)
	}
	t.Logf("%d events in %d records", len(events), len(all))
	return all, events
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkLogEvents checks that the log events are the emitted ones: their ids consist of time and seq, and the function's messages
// are its log lines. The vectors of package record cover the messages of platform events.
func checkLogEvents(t *testing.T, lines []record.Line, emitted []sandbox.Event) {
	t.Helper()
	type said struct {
		at      int64
		message string
	}
	logged := map[said]int{}
	for _, e := range emitted {
		if e.Type != "function" {
			continue
		}
		message := string(e.Record)
		var text string
		if json.Unmarshal(e.Record, &text) == nil {
			message = strings.TrimSuffix(text, "\n") + "\n"
		}
		logged[said{e.Time.UnixMilli(), message}]++
	}
	for seq, line := range lines {
		var event struct {
			ID        string
			Timestamp int64
			Message   string
		}
		unmarshal(t, line.Raw, &event)
		id, ok := new(big.Int).SetString(event.ID, 10)
		want := new(big.Int).Lsh(big.NewInt(event.Timestamp), 64)
		want.Add(want, big.NewInt(int64(seq)))
		if !ok || id.Rsh(id, 80).Cmp(want) != 0 {
			t.Errorf("the id of event %d is %s, its time %d", seq, event.ID, event.Timestamp)
		}
		if s := (said{event.Timestamp, event.Message}); logged[s] > 0 {
			logged[s]--
		}
	}
	for s, missing := range logged {
		if missing > 0 {
			t.Errorf("missing %d times: at %d %.200q", missing, s.at, s.message)
		}
	}
}
