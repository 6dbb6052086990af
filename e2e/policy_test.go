package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
	"kinesis-telemetry-extension/record"
)

// quantile returns the q-th quantile of durations.
func quantile(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// latest returns the largest delay of an event from its emission to the stream.
func latest(r *trial) (worst time.Duration) {
	for _, stored := range r.kinesis.Records(r.stream) {
		for line, err := range record.Unpack(stored.Data) {
			if err != nil {
				r.Fatal(err)
			}
			emitted, err := time.Parse(time.RFC3339, line.Time)
			if err != nil {
				r.Fatal(err)
			}
			worst = max(worst, stored.Arrived.Sub(emitted))
		}
	}
	return worst
}

// With an invocation every 100 ms and handlers of 20 ms, adaptive and deferred hold no invocation, however slow the stream is. sync
// holds each for the telemetry's buffering and a round trip. No event is lost or late.
func TestBudgetSteadyTraffic(t *testing.T) {
	budgets(t)
	for _, roundTrip := range []time.Duration{5 * time.Millisecond, 50 * time.Millisecond, 150 * time.Millisecond} {
		for delivery, bound := range map[string]struct{ p50, p95 time.Duration }{
			"adaptive": {100 * time.Microsecond, time.Millisecond},
			"deferred": {100 * time.Microsecond, time.Millisecond},
			"sync":     {25*time.Millisecond + roundTrip + 10*time.Millisecond, 25*time.Millisecond + roundTrip + 25*time.Millisecond},
		} {
			t.Run(fmt.Sprint(delivery, " ", roundTrip), func(t *testing.T) {
				r := newTrial(t, setup{
					settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_MAX_DELAY": "3s"},
					kinesis:  kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{ReplyDelay: roundTrip}}}},
				})
				var held []time.Duration
				for range 100 {
					next := time.Now().Add(100 * time.Millisecond)
					held = append(held, r.invoke(`{"text":3,"duration":"20ms"}`).Hold)
					time.Sleep(time.Until(next)) // the pace of the traffic, not a wait
				}
				report := r.end()
				r.checkComplete(report, 100*6)
				p50, p95, late := quantile(held, .5), quantile(held, .95), latest(r)
				t.Logf("held p50 %s, p95 %s; latest event %s; %d PutRecords", p50, p95, late, r.kinesis.Stats().Operations["PutRecords"].Requests)
				if p50 > bound.p50 || p95 > bound.p95 {
					t.Errorf("invocations were held p50 %s, p95 %s; allowed %s and %s", p50, p95, bound.p50, bound.p95)
				}
				if late > 3*time.Second {
					t.Errorf("the latest event came after %s", late)
				}
			})
		}
	}
}

// A stream that never answers holds the first invocations for FLUSH_TIMEOUT in total, and later ones not at all. The
// buffer keeps its bound. The buffered events arrive when the stream recovers.
func TestDeadStream(t *testing.T) {
	concurrent(t)
	for _, delivery := range []string{"adaptive", "sync", "deferred"} {
		t.Run(delivery, func(t *testing.T) {
			concurrent(t)
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_DELIVERY":      delivery,
					"KINESIS_TELEMETRY_FLUSH_TIMEOUT": "500ms",
					"KINESIS_TELEMETRY_BUFFER_BYTES":  strconv.Itoa(1 << 20),
					"KINESIS_TELEMETRY_MAX_DELAY":     "1s", // the longest backoff
				},
				kinesis: kinesislocal.Options{
					ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1,
					Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{Hang: true}}},
				},
			})
			var sum time.Duration
			var later []time.Duration
			var rss []int64
			for n := range 200 {
				held := r.invoke(`{"text":20,"bytes":1000,"duration":"5ms"}`).Hold
				sum += held
				if n >= 20 {
					later = append(later, held)
				}
				rss = append(rss, residentBytes(t, r.extensions()[0].PID))
			}
			// On a busy machine each next may be late. To hold each invocation would take much longer.
			if allowed := 500*time.Millisecond + 200*busy(0)/30; sum > busy(allowed) {
				t.Errorf("invocations were held %s in total, more than FLUSH_TIMEOUT", sum)
			}
			if p95 := quantile(later, .95); p95 > busy(time.Millisecond) {
				t.Errorf("later invocations were held, p95 %s", p95)
			}
			if before, after := slices.Max(rss[:100]), slices.Max(rss[100:]); after > before+before/4 {
				t.Errorf("memory grew from %d to %d bytes with a full buffer", before, after)
			}
			r.kinesis.SetFaults(nil)
			for n := 0; n < 20 && countType(r, "kinesis-telemetry.dropped") == 0; n++ {
				r.invoke(`{"duration":"1s"}`) // the backlog ships meanwhile: SHUTDOWN has little time on a busy machine
			}
			report := r.end()
			stats := lastStats(t, r)
			if stats.Received != stats.Sent+stats.Dropped+stats.Held || stats.Dropped == 0 {
				t.Errorf("the account: %+v", stats)
			}
			declared := uint64(0)
			for _, line := range eventsOf(r) {
				if line.Type == "kinesis-telemetry.dropped" {
					var l struct{ Count uint64 }
					unmarshal(t, line.Record, &l)
					declared += l.Count
				}
			}
			for _, lost := range report.Lost {
				if lost.Type != "function" {
					t.Fatalf("a platform event was dropped before all logs were dropped: %v", lost)
				}
			}
			if declared != stats.Dropped || len(report.Lost) != int(stats.Dropped) || len(report.Malformed)+len(report.Altered) > 0 {
				t.Errorf("declared %d, dropped %d, lost %d; held %s", declared, stats.Dropped, len(report.Lost), sum)
			}
			t.Logf("held %s in total; %d of %d events dropped; peak resident memory %d bytes", sum, stats.Dropped, stats.Received, slices.Max(rss))
		})
	}
}

// A healthy stream may need longer for a backlog than an invocation may be held. Then the backlog ships during handlers: `sync` holds all
// invocations together for at most FLUSH_TIMEOUT, and delivers at each invocation's end again after the backlog.
func TestBudgetBacklog(t *testing.T) {
	budgets(t)
	const flushTimeout, large, small = time.Second, 3000, 3
	r := newTrial(t, setup{
		settings: map[string]string{
			"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": flushTimeout.String(),
			"KINESIS_TELEMETRY_BUFFER_BYTES": strconv.Itoa(4 << 20), // requests of 1 MiB
		},
		kinesis: kinesislocal.Options{
			ShardBytesPerSecond: -1, ShardRecordsPerSecond: -1,
			Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{ReplyDelay: 300 * time.Millisecond}}},
		},
	})
	first := r.invoke(fmt.Sprintf(`{"text":%d,"bytes":900,"duration":"50ms"}`, large)).Hold
	sum, atEnd := first, 0
	for n := 1; n < 100 && atEnd < 3; n++ {
		held := r.invoke(fmt.Sprintf(`{"text":%d,"duration":"50ms"}`, small)).Hold
		if countType(r, "function") == large+n*small {
			atEnd++
			continue
		}
		atEnd = 0
		sum += held
	}
	t.Logf("the first invocation was held %s, all for the backlog %s", first, sum)
	if first < flushTimeout/2 {
		t.Error("there was no backlog")
	}
	if atEnd < 3 {
		t.Error("no event is delivered at an invocation's end after the backlog")
	}
	if sum > flushTimeout+flushTimeout/4 { // a busy machine
		t.Errorf("invocations were held %s in total for one backlog", sum)
	}
	r.checkComplete(r.end(), large)
}

// A missing answer takes half of the longest hold. The other half is for another request. No event is late, and no line is logged.
func TestMissingAnswerTakesHalfTheHold(t *testing.T) {
	concurrent(t)
	r := newTrial(t, setup{settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync"}})
	r.invoke(mixed)
	r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{{Count: 1, Hang: true}}})
	for n := range 3 {
		r.invoke(mixed)
		if lines := countType(r, "function"); lines != (n+2)*10 {
			t.Errorf("%d lines are on the stream after %d invocations", lines, n+2)
		}
	}
	r.checkComplete(r.end(), 4*13)
	if said := r.output.lines(); len(said) > 0 {
		t.Errorf("it logged %q", said)
	}
}

// A platform.runtimeDone that comes twice, late or never does not end another invocation's wait, and no wait outlives its deadline.
func TestRuntimeDone(t *testing.T) {
	concurrent(t)
	const timeout = 5 * time.Second
	for name, test := range map[string]struct {
		faults      sandbox.TelemetryFaults
		first, next time.Duration // longest hold of the first invocation and of each later one
	}{
		"twice":              {sandbox.TelemetryFaults{DuplicateRuntimeDone: true}, time.Second, time.Second},
		"late":               {sandbox.TelemetryFaults{RuntimeDoneDelay: 200 * time.Millisecond}, time.Second, time.Second},
		"after the deadline": {sandbox.TelemetryFaults{RuntimeDoneDelay: time.Minute}, timeout, 100 * time.Millisecond},
		"never":              {sandbox.TelemetryFaults{Lose: loseEnds}, timeout, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
				sandbox: func(c *sandbox.Config) {
					c.Function.Timeout, c.Function.Grace = timeout, busy(0)
					c.Telemetry = test.faults
				},
			})
			if held := r.invoke(mixed).Hold; held > busy(test.first) {
				t.Errorf("the first invocation was held %s", held)
			}
			for range 4 {
				if held := r.invoke(mixed).Hold; held > busy(test.next) {
					t.Errorf("an invocation was held %s", held)
				}
			}
			report := r.end()
			if len(report.Lost)+len(report.Gaps)+len(report.Altered) > 0 {
				t.Errorf("lost %v, gaps %v, altered %v", report.Lost, report.Gaps, report.Altered)
			}
		})
	}
}

// Lambda runs a failed asynchronous event again under the same request id. Each run has its own end.
func TestRequestThatIsRunAgain(t *testing.T) {
	concurrent(t)
	const id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
	for _, mode := range []string{"sync", "adaptive", "deferred"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": mode}})
			for n := range 3 {
				r.invoke(mixed, sandbox.WithRequestID(id))
				if lines := countType(r, "function"); mode == "sync" && lines != (n+1)*10 {
					t.Errorf("%d lines are on the stream at the end of run %d", lines, n+1)
				}
			}
			r.checkComplete(r.end(), 3*13)
		})
	}
}

// The extension ships during a long invocation, even if the end of the previous one arrives only then.
func TestLongInvocationShipsMeanwhile(t *testing.T) {
	concurrent(t)
	for _, delivery := range []string{"deferred", "adaptive", "sync"} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_MAX_DELAY": "400ms"}})
			for range 5 {
				r.invoke(`{"text":1}`)
			}
			r.invoke(`{"text":20,"duration":"4s"}`)
			if n := countType(r, "function"); n < 5+10 {
				t.Errorf("%d of 25 lines are on the stream when the long invocation ends", n)
			}
			r.checkComplete(r.end(), 25)
		})
	}
}

// The only invocation of an environment runs for a minute: sync waits for its end, and has then delivered all events.
func TestMinuteInSync(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Skip("CHAOS is not set: the handler runs for a minute")
	}
	t.Parallel()
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": "sync", "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
		sandbox:  func(c *sandbox.Config) { c.Function.Timeout = 2 * time.Minute },
	})
	held := r.invoke(`{"text":60,"duration":"1m"}`).Hold
	if n := countType(r, "function"); n != 60 || held > time.Second {
		t.Errorf("%d of 60 lines are on the stream after the invocation, which was held %s", n, held)
	}
	r.checkComplete(r.end(), 60)
}

// After a timeout with a dead stream, a second process with a healthy stream delivers the events of both.
func TestNextProcessDeliversTheJournal(t *testing.T) {
	concurrent(t)
	for _, delivery := range []string{"adaptive", "sync", "deferred"} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "300ms"},
				kinesis:  kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{Hang: true}}}},
				sandbox:  func(c *sandbox.Config) { c.Function.Timeout, c.Function.Grace = 3*time.Second, busy(0) },
			})
			r.invoke(mixed)
			if result, err := r.env.Invoke(t.Context(), []byte(`{"text":5,"duration":"1m","deaf":true}`)); err != nil || result.Status != "timeout" {
				t.Fatalf("%v, %+v", err, result)
			}
			r.kinesis.SetFaults(nil)
			r.invoke(mixed)
			report := r.end()
			report.OutOfOrder = 0 // of two instances on one shard
			if lives := r.extensions(); len(lives) != 2 {
				t.Errorf("%d processes of the extension", len(lives))
			}
			r.checkComplete(report, 2*13+5)
			if stats := lastStats(t, r); stats.Recovered == 0 {
				t.Errorf("no event was recovered: %+v", stats)
			}
		})
	}
}

// After a freeze with a request in flight no event is lost, and a duplicate has its first instance and seq.
// STOPPED=1m sets the length of the freeze. The time is real, so the default is shorter, but longer than all our timeouts.
func TestStoppedInMidRequest(t *testing.T) {
	stopped, err := time.ParseDuration(os.Getenv("STOPPED"))
	if err != nil {
		stopped = 7 * time.Second
	}
	const busy = `{"text":5,"json":5,"bytes":120,"duration":"80ms"}` // telemetry of the invocation arrives while it runs
	for name, rule := range map[string]kinesislocal.Rule{
		"answered":        {Count: 1, ReplyDelay: time.Second},
		"not answered":    {Count: 1, Hang: true},
		"answer lost":     {Count: 1, Delay: time.Second, StoreThenReset: true},
		"connection dead": {Count: 1, Delay: time.Second, Reset: true},
	} {
		for _, delivery := range []string{"sync", "deferred"} {
			t.Run(name+" "+delivery, func(t *testing.T) {
				t.Parallel()
				r := newTrial(t, setup{
					settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": delivery, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "3s"},
					sandbox:  func(c *sandbox.Config) { c.Function.Timeout = 15*time.Minute - time.Second },
				})
				r.invoke(busy)
				r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}})
				r.stopInMidRequest(stopped, func() { r.invoke(busy) })
				r.invoke(busy)
				report := r.end()
				report.OutOfOrder = 0
				if len(report.Lost)+len(report.Gaps)+len(report.Altered)+len(report.Malformed) > 0 {
					t.Errorf("lost %v, gaps %v, altered %v", report.Lost, report.Gaps, report.Altered)
				}
				seen := map[string]string{}
				for _, line := range linesOf(r) {
					id := fmt.Sprint(line.Source.Instance, line.Seq)
					if before, again := seen[id]; again && before != line.Time+string(line.Record) {
						t.Errorf("%s is two events", id)
					}
					seen[id] = line.Time + string(line.Record)
				}
				if lines := r.output.lines(); strings.Contains(strings.Join(lines, " "), "ERROR") {
					t.Errorf("a freeze was reported as a fault of the stream: %q", lines)
				}
				t.Logf("%d duplicates", len(report.Duplicated))
			})
		}
	}
}

// stopInMidRequest freezes the environment when a request of the invocation has reached the stream.
func (r *trial) stopInMidRequest(stopped time.Duration, invoke func()) {
	before := r.kinesis.Stats().Operations["PutRecords"].Requests
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		invoke()
	}()
	running := true
	for running && r.kinesis.Stats().Operations["PutRecords"].Requests == before {
		select {
		case <-ended:
			running = false
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.env.Freeze()
	time.Sleep(stopped) // the freeze must be real
	r.env.Thaw()
	<-ended
}

// lastStats returns the last process's stats event.
func lastStats(t *testing.T, r *trial) (stats struct{ Received, Sent, Dropped, Held, Recovered uint64 }) {
	t.Helper()
	found := false
	for _, line := range linesOf(r) {
		if line.Type == "kinesis-telemetry.stats" {
			unmarshal(t, line.Record, &stats)
			found = true
		}
	}
	if !found {
		t.Error("there is no stats event in the stream")
	}
	return stats
}

// residentBytes is the resident memory of a process; the test needs Linux.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skip("resident memory is read from /proc: ", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
