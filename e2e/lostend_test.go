package e2e_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// loseEnds is a TelemetryFaults.Lose that loses the end of every invocation.
func loseEnds(typ string, _ int) bool { return typ == "platform.runtimeDone" }

// lostEnd is one invocation's platform.runtimeDone that never comes.
type lostEnd struct {
	mode     string
	lost     int // the invocation
	reported bool
	timeout  time.Duration // of the function
	most     time.Duration // that the invocation may be held
}

func lostEnds() (tests []lostEnd) {
	const plenty, short = 30 * time.Second, 5 * time.Second
	for _, mode := range []string{"sync", "adaptive", "deferred"} {
		for _, lost := range []int{0, 5} {
			reported := lostEnd{mode, lost, true, plenty, busy(time.Second) + 500*time.Millisecond} // FLUSH_TIMEOUT, and a margin
			silent := lostEnd{mode, lost, false, short, short}                                      // until the deadline: the end may still come
			switch {
			case mode == "deferred": // waits for no end
				reported.most, silent.timeout, silent.most = 100*time.Millisecond, plenty, 100*time.Millisecond
			case mode == "adaptive" && lost > 0: // waits for an end only if MAX_DELAY requires it
				silent.timeout, silent.most = plenty, 10*time.Second
			}
			tests = append(tests, reported, silent)
		}
	}
	return tests
}

// A lost end holds its own invocation for a bounded time, the next one hardly, and later ones not at all. No other event is lost.
func TestLostEnd(t *testing.T) {
	concurrent(t)
	for _, test := range lostEnds() {
		name := fmt.Sprintf("%s, invocation %d, silently", test.mode, test.lost)
		if test.reported {
			name = fmt.Sprintf("%s, invocation %d, reported", test.mode, test.lost)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

func (test *lostEnd) run(t *testing.T) {
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": test.mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": busy(time.Second).String()},
		sandbox: func(c *sandbox.Config) {
			c.Function.Timeout, c.Function.Grace = test.timeout, busy(0)
			c.Telemetry.EmitLogsDropped = test.reported
			c.Telemetry.Lose = func(typ string, n int) bool { return loseEnds(typ, n) && n == test.lost }
		},
	})
	var held []time.Duration
	atEnd, atEndBefore := 0, 0 // consecutive invocations whose lines were on the stream when they ended
	for n := 0; n < test.lost+5 || test.mode == "sync" && atEnd < 3 && n < test.lost+40; n++ {
		held = append(held, r.invoke(`{"text":5,"json":5,"bytes":120,"duration":"20ms"}`).Hold)
		atEnd++
		if countType(r, "function") != (n+1)*10 {
			atEnd = 0
		}
		if n == test.lost-1 {
			atEndBefore = atEnd
		}
		time.Sleep(50 * time.Millisecond) // the traffic
	}
	report := r.end()
	t.Logf("held %s", held)
	if test.mode == "sync" && (atEnd < 3 || os.Getenv("BUDGETS") != "" && atEndBefore < test.lost) {
		t.Errorf("the last %d invocations, and %d of %d before the lost end, were on the stream when they ended",
			atEnd, atEndBefore, test.lost)
	}
	if most := busy(test.most); held[test.lost] > most {
		t.Errorf("the invocation with the lost end was held %s, more than %s", held[test.lost], most)
	}
	others := slices.Concat(held[:test.lost], held[test.lost+2:])
	if next, most := held[test.lost+1], quantile(others, .5)+busy(100*time.Millisecond); next > most {
		t.Errorf("the next invocation was held %s, more than %s", next, most)
	}
	if longest := slices.Max(others); longest > busy(busy(time.Second)) {
		t.Errorf("another invocation was held %s, longer than FLUSH_TIMEOUT", longest)
	}
	ends, dropped := countType(r, "platform.runtimeDone"), countType(r, "platform.logsDropped")
	if ends != len(held)-1 || (dropped == 1) != test.reported || dropped > 1 {
		t.Errorf("%d ends and %d platform.logsDropped are on the stream", ends, dropped)
	}
	if len(report.Lost)+len(report.Gaps)+len(report.Altered) > 0 {
		t.Errorf("lost %v, gaps %v, altered %v", report.Lost, report.Gaps, report.Altered)
	}
}

// busy is a bound on a hold. Unless BUDGETS is set it includes a margin for a busy machine, which is far below an unbounded wait.
func busy(bound time.Duration) time.Duration {
	if os.Getenv("BUDGETS") == "" {
		return bound + 3*time.Second
	}
	return bound
}

// Without any telemetry the first invocation is held for a bounded time, far from its deadline, and later ones are not held. That
// is also true with a stream that never answers.
func TestNoTelemetryAtAll(t *testing.T) {
	concurrent(t)
	for _, mode := range []string{"sync", "adaptive", "deferred"} {
		for name, rules := range map[string][]kinesislocal.Rule{"healthy stream": nil, "dead stream": {{Hang: true}}} {
			t.Run(mode+", "+name, func(t *testing.T) {
				t.Parallel()
				r := newTrial(t, setup{
					settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
					sandbox:  func(c *sandbox.Config) { c.Telemetry.Lose = func(string, int) bool { return true } },
					kinesis:  kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: rules}},
				})
				event := `[{"time":"2026-11-24T00:00:00.000Z","type":"function","record":"something to ship"}]`
				if _, _, err := r.env.Inject(extensionName, []byte(event)); err != nil {
					t.Error(err)
				}
				most := busy(2500 * time.Millisecond) // docs/settings.md: 2 s for a platform.start
				for n := range 6 {
					if held := r.invoke(mixed).Hold; held > most {
						t.Errorf("invocation %d was held %s, more than %s", n, held, most)
					}
					most = busy(100 * time.Millisecond) // no invocation waits
					time.Sleep(50 * time.Millisecond)   // the traffic
				}
				if report := r.end(); report.Emitted > 0 {
					t.Errorf("%d events were emitted", report.Emitted)
				}
			})
		}
	}
}

// An extension with a blocked output serves and ends like any other, however much it logs.
func TestBlockedOutputDelaysNothing(t *testing.T) {
	concurrent(t)
	for _, mode := range []string{"sync", "adaptive", "deferred"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newTrial(t, setup{
				settings: map[string]string{
					"KINESIS_TELEMETRY_DELIVERY": mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s",
					"KINESIS_TELEMETRY_LOG_LEVEL": "debug", "KINESIS_TELEMETRY_STREEM": "no such setting",
				},
				kinesis: kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{{ErrorType: "AccessDeniedException"}}}},
				sandbox: func(c *sandbox.Config) { c.Extensions[0].BlockOutput = true },
			})
			for n := range 6 {
				if held := r.invoke(mixed).Hold; held > busy(2*time.Second) {
					t.Errorf("invocation %d was held %s", n, held)
				}
			}
			r.end() // checks for exit code 0 within the shutdown's time
			if lives, lines := len(r.extensions()), r.output.lines(); lives != 1 || len(lines) > 0 {
				t.Errorf("%d processes of the extension, which logged %q", lives, lines)
			}
		})
	}
}
