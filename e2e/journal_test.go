package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// killExtension kills the running extension.
func (r *trial) killExtension() {
	for _, p := range r.extensions() {
		if !p.Exited {
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended
		}
	}
}

// The extension is killed at random moments: in init, during a handler, with a POST half read or a request in flight,
// while it waits, at SHUTDOWN. Whether the stream works or not, one of the next processes delivers each event of an answered POST.
func TestKilled(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: being killed often takes a minute")
	}
	kills := 30
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		kills = n
	}
	var answered audit.Audit
	var config sandbox.Config
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_MAX_DELAY": "300ms", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "100ms"},
		kinesis:  kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
		sandbox: func(c *sandbox.Config) {
			c.RetryInit = true
			c.OnAccepted = func(_ string, e sandbox.Event) { answered.AddEmitted(e.Raw) }
			config = *c
		},
	})
	random := rand.New(rand.NewPCG(uint64(kills), 1))
	rules := []*kinesislocal.Rule{nil, nil, throttles(.5), throttles(1), {Hang: true}, fails("AccessDeniedException")}
	for n := range kills {
		r.kinesis.SetFaults(nil)
		rule := rules[random.IntN(len(rules))]
		if n%5 == 4 && rule != nil {
			// If the stream answered, SHUTDOWN would end in order before the kill, and no later process would deliver the rest.
			rule = &kinesislocal.Rule{Hang: true}
		}
		if rule != nil {
			r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*rule}})
		}
		request := fmt.Sprintf(`{"text":%d,"json":3,"bytes":%d,"duration":"%dms"}`, random.IntN(300), random.IntN(2000), random.IntN(60))
		for range random.IntN(3) {
			_, _ = r.env.Invoke(t.Context(), []byte(request)) // the previous process may have been killed at its very end
		}
		done := make(chan struct{})
		time.AfterFunc(time.Duration(random.IntN(120_000))*time.Microsecond, func() {
			r.killExtension()
			close(done)
		})
		if n%5 < 4 {
			_, _ = r.env.Invoke(t.Context(), []byte(request))
			<-done
			continue
		}
		_ = r.env.Shutdown(t.Context()) // it is killed
		<-done
		var err error
		if r.env, err = sandbox.Start(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	r.kinesis.SetFaults(nil)
	for range 3 {
		_, _ = r.env.Invoke(t.Context(), []byte(`{"text":1}`))
	}
	if err := r.env.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for _, stored := range r.kinesis.Records(r.stream) {
		r.audit.AddRecord(stored.PartitionKey, stored.Data)
		answered.AddRecord(stored.PartitionKey, stored.Data)
	}
	of, all := answered.Report(), r.audit.Report()
	t.Logf("%d kills: %d events in answered POSTs, %d of them arrived, %d more than once",
		kills, of.Emitted, of.Emitted-len(of.Lost), len(of.Duplicated))
	if len(of.Lost) > 0 || of.Emitted < 50*kills || len(all.Malformed)+len(all.Altered) > 0 {
		t.Errorf("lost %v, malformed %v, altered %v", of.Lost[:min(5, len(of.Lost))], all.Malformed, all.Altered)
	}
}

// A shard gets as many bytes as it accepts in eight seconds, and then SHUTDOWN arrives. All events except logs arrive, and the
// account in the stream adds up.
func TestShutdownAtShardLimit(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: a shard at its limits takes seconds")
	}
	r := newTrial(t, setup{settings: map[string]string{"KINESIS_TELEMETRY_FLUSH_TIMEOUT": "100ms"}})
	const invocations = 8
	for range invocations {
		r.invoke(`{"text":7500,"bytes":100}`)
	}
	if err := r.env.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	types := map[string]int{}
	delivered := uint64(0)
	var last struct{ Received, Sent, Dropped, Held uint64 }
	for _, stored := range r.kinesis.Records(r.stream) {
		for line, err := range record.Unpack(stored.Data) {
			if err != nil {
				t.Fatal(err)
			}
			types[line.Type]++
			delivered++
			if line.Type == "kinesis-telemetry.stats" {
				unmarshal(t, line.Record, &last)
			}
		}
	}
	for _, name := range []string{"platform.start", "platform.runtimeDone", "platform.report"} {
		if types[name] != invocations {
			t.Errorf("%d of %d %s", types[name], invocations, name)
		}
	}
	if types["kinesis-telemetry.stats"] == 0 || types["kinesis-telemetry.dropped"] == 0 || last.Received != last.Sent+last.Dropped+last.Held {
		t.Errorf("%v; the account: %+v", types, last)
	}
	t.Logf("%d events arrived: %v; the account: %+v; the extension logged %s", delivered, types, last, strings.Join(r.output.lines(), "\n"))
}

// A buffer that is full when the environment is reset is not lost, however little CPU the extension has then. The next process calls its
// first next as early as one without a journal, holds no invocation, and takes no more memory than declared.
func TestBudgetResetWhenFull(t *testing.T) {
	budgets(t)
	for _, test := range []struct {
		memoryMB, bytes int
		share           float64 // of a CPU
	}{{1024, 85, .58}, {1024, 365, .58}, {512, 85, .29}, {512, 365, .29}, {128, 85, .07}, {128, 365, .07}} {
		t.Run(fmt.Sprintf("%d MB, lines of %d bytes", test.memoryMB, test.bytes), func(t *testing.T) {
			cfg, _ := config.Load([]string{fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", test.memoryMB)})
			dir := t.TempDir()
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_DELIVERY":      "deferred",
					"KINESIS_TELEMETRY_FLUSH_TIMEOUT": "",
					"KINESIS_TELEMETRY_SPILL_DIR":     dir,
				},
				kinesis: kinesislocal.Options{ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1},
				sandbox: func(c *sandbox.Config) { c.Function.MemoryMB, c.Function.Timeout = test.memoryMB, 3*time.Second },
			})
			r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{{Hang: true}}})
			const chunk = 5000
			for lines := cfg.BufferBytes / 20 * 19 / (test.bytes + 330); lines > 0; lines -= chunk {
				r.invoke(fmt.Sprintf(`{"text":%d,"bytes":%d,"duration":"200ms"}`, min(lines, chunk), test.bytes))
			}
			full := journalBytes(t, dir)
			stop := r.throttle(test.share)
			if result, err := r.env.Invoke(t.Context(), []byte(`{"text":5,"duration":"5s","deaf":true}`)); err != nil || result.Status != "timeout" {
				t.Fatalf("%v, %+v", err, result)
			}
			stop()
			starts := startRatio(t, dir, test.memoryMB)
			r.kinesis.SetFaults(nil)
			for range 10 {
				r.invoke(`{"duration":"1ms"}`)
			}
			report := r.end()
			var peaks []int64
			for _, life := range r.extensions() {
				peaks = append(peaks, life.MaxRSS>>20)
				if life.MaxRSS > cfg.MemoryLimit() {
					t.Errorf("%d bytes at the peak, want at most %d", life.MaxRSS, cfg.MemoryLimit())
				}
			}
			t.Logf("%d events, a journal of %d MiB, peaks of %d MiB of %d; first next at %.2f times",
				report.Emitted, full>>20, peaks, cfg.MemoryLimit()>>20, starts)
			if len(report.Lost)+len(report.Gaps)+len(report.Malformed)+len(report.Altered) > 0 || full < int64(cfg.BufferBytes)*8/10 {
				t.Errorf("a journal of %d bytes; lost %d of %d: %v; gaps %v",
					full, len(report.Lost), report.Emitted, report.Lost[:min(5, len(report.Lost))], report.Gaps)
			}
			if starts > 1.2 {
				t.Errorf("the first next takes %.2f times as long as without a journal", starts)
			}
		})
	}
}

func journalBytes(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "journal-0"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// throttle limits the extension to a share of a CPU until stop is called.
func (r *trial) throttle(share float64) (stop func()) {
	const period = 20 * time.Millisecond
	done, ended := make(chan struct{}), make(chan struct{})
	signal := func(s syscall.Signal) {
		for _, p := range r.extensions() {
			if !p.Exited {
				_ = syscall.Kill(p.PID, s) // it may have ended
			}
		}
	}
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			time.Sleep(time.Duration(share * float64(period)))
			signal(syscall.SIGSTOP)
			time.Sleep(time.Duration((1 - share) * float64(period)))
			signal(syscall.SIGCONT)
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// startRatio compares the time to the first next with the journal in dir, and without one. It compares the fastest tries, because other
// load on the machine only adds to a time.
func startRatio(t *testing.T, dir string, memoryMB int) float64 {
	api := newStartAPI(t)
	with, without := time.Hour, time.Hour
	for range 40 {
		memory := fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", memoryMB)
		_, next := api.measure(t, binaries.extension, memory, "KINESIS_TELEMETRY_SPILL_DIR="+dir)
		with = min(with, next)
		_, next = api.measure(t, binaries.extension, memory, "KINESIS_TELEMETRY_SPILL_DIR=")
		without = min(without, next)
	}
	return float64(with) / float64(without)
}
