package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// decode prints each event as soon as it is piped in. An interruption ends its wait for input.
func TestDecodeLive(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	var stderr strings.Builder
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"decode"}, stdin, stdout, &stderr)
		stdout.Close()
	}()
	lines := bufio.NewReader(out)
	for range 3 {
		const event = `{"time":"t","seq":0,"source":{"instance":"i"}}` + "\n"
		if _, err := io.WriteString(in, event); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != event {
			t.Fatalf("%q, %v", line, err)
		}
	}
	interrupt()
	if status := <-ended; status != statusInterrupted || stderr.String() != "ktel: interrupted\n" {
		t.Errorf("status %d, %s", status, stderr.String())
	}
	in.Close()
}

// decode stops reading a file after a thousand errors in a row, and continues with the next one.
func TestDecodeGivesUp(t *testing.T) {
	const event = `{"time":"t","seq":0,"source":{"instance":"i"}}` + "\n"
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "other"), filepath.Join(dir, "mixed")}
	other, mixed := strings.Repeat("x\n", 5000), strings.Repeat(strings.Repeat("x\n", 999)+event, 3)
	for i, content := range []string{other, mixed} {
		if err := os.WriteFile(names[i], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, stdout, stderr := runKtel(t, append([]string{"decode"}, names...)...)
	if status != statusIncomplete || stdout != strings.Repeat(event, 3) || strings.Count(stderr, "\n") != 1000+3*999 ||
		strings.Count(stderr, "other: line 1000: the last of 1,000 errors in a row, the rest is skipped: not written by") != 1 {
		t.Errorf("status %d, %d bytes, %d errors", status, len(stdout), strings.Count(stderr, "\n"))
	}
	if status, _, stderr := runKtel(t, "audit", names[0], names[1]); status != statusComplete || stderr != "" {
		t.Errorf("audit: status %d, %s", status, stderr)
	}
}

// audit reads the output of decode for any format: it finds as many events, all with their numbers.
func TestAuditReadsDecoded(t *testing.T) {
	names, err := filepath.Glob("../../record/testdata/vectors/*.bin")
	if err != nil || len(names) < 10 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		var reports []AuditReport
		for _, file := range []string{name, filepath.Join(t.TempDir(), "decoded")} {
			if file != name {
				status, stdout, stderr := runKtel(t, "decode", name)
				if status != statusComplete {
					t.Fatalf("%s: status %d, %s", name, status, stderr)
				}
				if err := os.WriteFile(file, []byte(stdout), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var report AuditReport
			_, stdout, _ := runKtel(t, "audit", "--json", file)
			if err := json.Unmarshal([]byte(stdout), &report); err != nil {
				t.Fatal(err)
			}
			reports = append(reports, report)
		}
		direct, decoded := reports[0], reports[1]
		if direct.Events == 0 || decoded.Events != direct.Events || decoded.Instances != direct.Instances ||
			decoded.Missing != direct.Missing || decoded.Foreign+decoded.Unreadable > 0 {
			t.Errorf("%s: %d events of %d instances, %d missing, %d of others; of the record itself %d of %d, %d missing", filepath.Base(name),
				decoded.Events, decoded.Instances, decoded.Missing, decoded.Foreign, direct.Events, direct.Instances, direct.Missing)
		}
	}
}
