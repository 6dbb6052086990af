package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// An audit of 100,000 instances takes at most 128 MB, and counts missing, duplicated and late events exactly.
// KTEL_AUDIT_EVENTS is the number of events per instance. The memory does not depend on it.
func TestBudgetAuditMemory(t *testing.T) {
	if os.Getenv("BUDGETS") == "" {
		t.Skip("BUDGETS is not set: this takes a minute")
	}
	const instances = 100_000
	events := 40
	if text := os.Getenv("KTEL_AUDIT_EVENTS"); text != "" {
		var err error
		if events, err = strconv.Atoi(text); err != nil || events%10 != 0 || events < 40 {
			t.Fatalf("KTEL_AUDIT_EVENTS is %q: a multiple of 10, from 40", text)
		}
	}
	ktel := filepath.Join(t.TempDir(), "ktel")
	if printed, err := exec.Command("go", "build", "-o", ktel, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	command := exec.Command(ktel, "audit", "--json")
	var stdout bytes.Buffer
	command.Stdout, command.Stderr = &stdout, os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	made := fleet{instances: instances, events: events}
	if err := made.write(stdin); err != nil {
		t.Error(err)
	}
	stdin.Close()
	if err := command.Wait(); command.ProcessState.ExitCode() != statusIncomplete {
		t.Fatalf("%v", err)
	}
	peak := command.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	t.Logf("%d instances of %d events, %d bytes in %.1f s: %d bytes of memory at the peak",
		instances, events, made.bytes, time.Since(start).Seconds(), peak)
	if peak > 128_000_000 {
		t.Errorf("%d bytes of memory", peak)
	}
	var got AuditReport
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if int(got.Missing) != made.missing || int(got.Duplicated) != made.duplicated || int(got.Events) != made.written ||
		got.Instances != instances || got.FromStart != instances || got.ToEnd != instances || got.Bytes != made.bytes {
		t.Errorf("%+v\nwant %+v", got, made)
	}
}

// fleet writes the records of many instances in turn, ten events per record. Every 100th instance loses a record, every
// 50th has one twice, and every 10th has a late one.
type fleet struct {
	instances, events int

	written, missing, duplicated int
	bytes                        int64
}

func (f *fleet) write(to interface{ Write([]byte) (int, error) }) error {
	const each = 10
	out := bufio.NewWriterSize(to, 1<<20)
	line := make([]byte, 0, 512)
	put := func(instance, from int) {
		for seq := from; seq < from+each; seq++ {
			kind, content := "function", `"2026-11-23T18:00:00.123Z INFO order received, with a text of the usual length\n"`
			if seq == f.events-1 {
				kind, content = "kinesis-telemetry.stats", `{"received":1,"sent":1}`
			}
			line = fmt.Appendf(line[:0], `{"time":"2026-11-23T18:00:00.123Z","type":%q,"record":%s,"seq":%d,"source":`+
				`{"function":"checkout","version":"7","account":"123456789012","region":"eu-west-1","instance":"%016x%016x"}}`+"\n",
				kind, content, seq, uint64(instance)*0x9e3779b97f4a7c15, instance)
			out.Write(line)
			f.bytes += int64(len(line))
			f.written++
		}
	}
	for from := 0; from < f.events; from += each {
		for instance := range f.instances {
			switch {
			case instance%100 == 1 && from == each: // lost
				f.missing += each
			case instance%50 == 2 && from == each:
				put(instance, from)
				put(instance, from)
				f.duplicated += each
			case instance%10 == 3 && from == each: // late
			case instance%10 == 3 && from == 2*each:
				put(instance, from)
				put(instance, each)
			default:
				put(instance, from)
			}
		}
	}
	return out.Flush()
}
