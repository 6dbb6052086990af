package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// During 10,000 invocations with random faults, resident memory, goroutines and open files do not grow, and the account adds up.
func TestSoak(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: 10,000 invocations take a minute")
	}
	const invocations, stretch = 10_000, 100
	rules := []*kinesislocal.Rule{
		nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, throttles(.3), throttles(1),
		fails("InternalFailureException"), fails("AccessDeniedException"), fails("ExpiredTokenException"),
		{Hang: true},
		{Reset: true},
		{StoreThenReset: true},
		{StoreThenHang: true},
		{TruncateReply: true},
		{ResultDelta: 1},
		{CloseAfterReply: true},
		{ReplyDelay: 300 * time.Millisecond},
	}
	dir := t.TempDir()
	counted, counts := filepath.Join(dir, extensionName), filepath.Join(dir, "goroutines")
	if err := build(counted, "kinesis-telemetry-extension/e2e/testdata/counted"); err != nil {
		t.Fatal(err)
	}
	r := newTrial(t, setup{
		settings: map[string]string{
			"KINESIS_TELEMETRY_FLUSH_TIMEOUT": "100ms",
			"KINESIS_TELEMETRY_MAX_DELAY":     "300ms",
			"KINESIS_TELEMETRY_BUFFER_BYTES":  strconv.Itoa(1 << 20),
			"COUNTED_FILE":                    counts,
		},
		kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		sandbox: func(c *sandbox.Config) { c.Extensions[0].Path = counted },
	})
	pid := r.extensions()[0].PID
	random := rand.New(rand.NewPCG(1, 2))
	var memory, open []int64
	for n := range invocations {
		if n%stretch == 0 {
			var faults *kinesislocal.Faults
			if rule := rules[random.IntN(len(rules))]; rule != nil {
				faults = &kinesislocal.Faults{Seed: uint64(n), Rules: []kinesislocal.Rule{*rule}}
			}
			r.kinesis.SetFaults(faults)
		}
		r.invoke(fmt.Sprintf(`{"text":%d,"bytes":200,"duration":"%dms"}`, 1+random.IntN(20), random.IntN(10)))
		if n%stretch == stretch-1 {
			memory = append(memory, residentBytes(t, pid))
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, int64(len(files)))
		}
	}
	r.kinesis.SetFaults(nil)
	report := r.end()
	content, err := os.ReadFile(counts)
	if err != nil {
		t.Fatal(err)
	}
	var goroutines []int64
	for field := range strings.FieldsSeq(string(content)) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		goroutines = append(goroutines, n)
	}
	for name, figures := range map[string][]int64{"resident bytes": memory, "open files": open, "goroutines": goroutines} {
		quarter := len(figures) / 4
		before, after := slices.Max(figures[quarter:2*quarter]), slices.Max(figures[3*quarter:])
		t.Logf("%s: at most %d in the second quarter, %d in the last", name, before, after)
		if after > before+before/4+2 {
			t.Errorf("%s grow", name)
		}
	}
	stats := lastStats(t, r)
	t.Logf("%+v; %d duplicates", stats, len(report.Duplicated))
	// A dropped event may have been stored before, by a request with a lost answer.
	if stats.Received != stats.Sent+stats.Dropped+stats.Held || len(report.Lost) > int(stats.Dropped) ||
		len(report.Malformed)+len(report.Altered) > 0 {
		t.Errorf("the account: %+v, lost %d, malformed %v, altered %v", stats, len(report.Lost), report.Malformed, report.Altered)
	}
}
