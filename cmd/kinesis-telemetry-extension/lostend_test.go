package main_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// loseEnds is a TelemetryFaults.Lose that takes the end of every invocation.
func loseEnds(typ string, _ int) bool { return typ == "platform.runtimeDone" }

// lostEnd is one invocation's platform.runtimeDone that never comes.
type lostEnd struct {
	mode    string
	lost    int // the invocation
	told    bool
	timeout time.Duration // of the function
	most    time.Duration // that the invocation may be held back
}

func lostEnds() (tests []lostEnd) {
	const plenty, short = 30 * time.Second, 3 * time.Second
	for _, mode := range []string{"sync", "adaptive", "deferred"} {
		for _, lost := range []int{0, 5} {
			told := lostEnd{mode, lost, true, plenty, 1500 * time.Millisecond} // FLUSH_TIMEOUT, which is 1 s, and a bit
			silent := lostEnd{mode, lost, false, short, short}                 // until the deadline: the end may still come
			switch {
			case mode == "deferred": // waits for no end
				told.most, silent.timeout, silent.most = 100*time.Millisecond, plenty, 100*time.Millisecond
			case mode == "adaptive" && lost > 0: // waits for an end where MAX_DELAY asks for it, if at all
				silent.timeout, silent.most = plenty, 10*time.Second
			}
			tests = append(tests, told, silent)
		}
	}
	return tests
}

// An end that gets lost holds back its own invocation for a bounded time, the next one hardly, and later ones as if nothing had
// been; nothing else is lost.
func TestLostEnd(t *testing.T) {
	for _, test := range lostEnds() {
		name := fmt.Sprintf("%s, invocation %d, silently", test.mode, test.lost)
		if test.told {
			name = fmt.Sprintf("%s, invocation %d, told", test.mode, test.lost)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

func (test *lostEnd) run(t *testing.T) {
	r := newTrial(t, setup{
		settings: map[string]string{"KINESIS_TELEMETRY_DELIVERY": test.mode, "KINESIS_TELEMETRY_FLUSH_TIMEOUT": "1s"},
		sandbox: func(c *sandbox.Config) {
			c.Function.Timeout = test.timeout
			c.Telemetry.TellLost = test.told
			c.Telemetry.Lose = func(typ string, n int) bool { return loseEnds(typ, n) && n == test.lost }
		},
	})
	const invocations = 10
	var held []time.Duration
	for n := range invocations {
		held = append(held, r.invoke(`{"text":5,"json":5,"bytes":120,"duration":"20ms"}`).Held)
		// The next end arrives after the thaw, when the invocation behind it has been planned.
		affected := n >= test.lost && n <= test.lost+2
		if lines := countType(r, "function"); test.mode == "sync" && !affected && lines != (n+1)*10 {
			t.Errorf("%d of %d lines are on the stream at the end of invocation %d", lines, (n+1)*10, n)
		}
		time.Sleep(50 * time.Millisecond) // the traffic
	}
	report := r.end()
	others := slices.Concat(held[:test.lost], held[test.lost+2:])
	usual := quantile(others, .5)
	t.Logf("held back %s", held)
	if held[test.lost] > test.most {
		t.Errorf("the invocation whose end is lost was held back %s, more than %s", held[test.lost], test.most)
	}
	if next := held[test.lost+1]; next > usual+100*time.Millisecond {
		t.Errorf("the next invocation was held back %s, others %s", next, usual)
	}
	if longest := slices.Max(others); longest > time.Second {
		t.Errorf("another invocation was held back %s, longer than FLUSH_TIMEOUT", longest)
	}
	ends, dropped := countType(r, "platform.runtimeDone"), countType(r, "platform.logsDropped")
	if ends != invocations-1 || (dropped == 1) != test.told || dropped > 1 {
		t.Errorf("%d ends and %d platform.logsDropped are on the stream", ends, dropped)
	}
	if len(report.Lost)+len(report.Gaps)+len(report.Altered) > 0 {
		t.Errorf("lost %v, gaps %v, altered %v", report.Lost, report.Gaps, report.Altered)
	}
}

// Where no telemetry comes at all the first invocation is held back for a bounded time, far from its deadline, and later ones
// are not; also not by a stream that never answers.
func TestNoTelemetryAtAll(t *testing.T) {
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
				most := 2500 * time.Millisecond // README: 2 s for a platform.start
				for n := range 6 {
					if held := r.invoke(mixed).Held; held > most {
						t.Errorf("invocation %d was held back %s, more than %s", n, held, most)
					}
					most = time.Second                // a busy machine; none is waited for
					time.Sleep(50 * time.Millisecond) // the traffic
				}
				if report := r.end(); report.Emitted > 0 {
					t.Errorf("%d events were emitted", report.Emitted)
				}
			})
		}
	}
}

// An extension whose output nobody takes serves and ends as any other, however much it has to say.
func TestBlockedOutput(t *testing.T) {
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
				if held := r.invoke(mixed).Held; held > 2*time.Second {
					t.Errorf("invocation %d was held back %s", n, held)
				}
			}
			r.end() // demands exit code 0 within the shutdown's time
			if lives, lines := len(r.extensions()), r.output.lines(); lives != 1 || len(lines) > 0 {
				t.Errorf("%d lives of the extension, which said %q", lives, lines)
			}
		})
	}
}
