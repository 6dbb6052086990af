package e2e_test

import (
	"net/http"
	"syscall"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// scenario is one row of the table, which runs in each mode.
type scenario struct {
	name string
	// rule is the stream's fault, from the eighth invocation to the twenty-second, or to the end.
	rule     *kinesislocal.Rule
	toTheEnd bool
	// extension changes the surroundings of the extension. Their fault, if there is one, begins and ends with the stream's.
	extension func(*trial, *sandbox.Extension)
	// afterTraffic runs after the traffic and before SHUTDOWN; nil: nothing.
	afterTraffic func(r *trial, c *scenarioRun)
	change       func(s *setup)
	traffic      string // payload of the invocations, mixed if empty
	silent       bool   // no invocation
	// duplicates: they may come. lost: the events that are lost; "" for none, "all" for all.
	duplicates bool
	lost       string
	truncated  int // events that are delivered truncated
	// holdsVary: the length of holds depends on the load of the machine.
	holdsVary bool
	// countsVary: the number of events depends on the moment when a process ends.
	countsVary bool
}

// scenarioRun runs a scenario on its environment.
type scenarioRun struct {
	held time.Duration
	n    int
}

func (c *scenarioRun) invoke(r *trial, payload string) {
	if result := c.tryInvoke(r, payload); result.Status != "success" {
		r.Errorf("invocation %d: %+v", c.n, result)
	}
}

// tryInvoke invokes the function and accepts any outcome.
func (c *scenarioRun) tryInvoke(r *trial, payload string) sandbox.Result {
	result, err := r.env.Invoke(r.Context(), []byte(payload))
	if err != nil {
		r.Errorf("invocation %d: %v", c.n, err)
	}
	c.n++
	c.held += result.Hold
	return result
}

const (
	all = "all"
	// overload is the payload of an invocation that logs more than a shard accepts in the meantime.
	overload = `{"text":400,"bytes":300,"duration":"10ms"}`
)

func closes() *kinesislocal.Rule { return &kinesislocal.Rule{CloseAfterReply: true} }

func hang() *kinesislocal.Rule { return &kinesislocal.Rule{Hang: true} }

func fails(errorType string) *kinesislocal.Rule { return &kinesislocal.Rule{ErrorType: errorType} }

func throttles(p float64) *kinesislocal.Rule {
	return &kinesislocal.Rule{RecordError: &kinesislocal.RecordError{Probability: p}}
}

var scenarios = []scenario{
	{name: "no fault"},
	{name: "each answer takes 50 ms", rule: &kinesislocal.Rule{ReplyDelay: 50 * time.Millisecond}, toTheEnd: true},
	{name: "10 % of records throttled", rule: throttles(.1)},
	{name: "50 % of records throttled", rule: throttles(.5)},
	{name: "100 % of records throttled for a second", rule: throttles(1)},
	{name: "500 for a second", rule: fails("InternalFailureException")},
	{name: "half of the answers are lost", rule: &kinesislocal.Rule{Probability: .5, StoreThenReset: true}, duplicates: true},
	{name: "no answer for a second", rule: hang()},
	{name: "stored, but no answer", rule: &kinesislocal.Rule{StoreThenHang: true}, duplicates: true},
	{name: "connections reset for a second", rule: &kinesislocal.Rule{Reset: true}},
	{name: "answers after 2 s", rule: &kinesislocal.Rule{ReplyDelay: 2 * time.Second}, duplicates: true},
	{name: "the connection is dead after each answer", rule: closes(), toTheEnd: true},
	{name: "AccessDenied for a second", rule: fails("AccessDeniedException")},
	{name: "ResourceNotFound for a second", rule: fails("ResourceNotFoundException")},
	{name: "ExpiredToken for a second", rule: fails("ExpiredTokenException")},
	{name: "KMS throttling for a second", rule: fails("KMSThrottlingException")},
	{name: "the clock is 10 minutes off", change: func(s *setup) {
		s.kinesis.Now = func() time.Time { return time.Now().Add(10 * time.Minute) }
	}},
	{name: "a stream of one shard at its limits", duplicates: true, traffic: overload, change: func(s *setup) {
		s.kinesis.ShardBytesPerSecond, s.kinesis.ShardRecordsPerSecond = 0, 0 // Kinesis's own limits
	}, afterTraffic: func(r *trial, c *scenarioRun) {
		for range 16 { // the shard needs eight seconds for the logs, SHUTDOWN has less than two
			c.invoke(r, `{"duration":"500ms"}`)
		}
	}},
	{name: "a path of 0.5 MB/s, and an invocation that logs 4 MB", extension: slow(500_000), duplicates: true, afterTraffic: func(
		r *trial, c *scenarioRun,
	) {
		c.invoke(r, `{"text":4000,"bytes":1000,"duration":"100ms"}`)
		for range 22 { // the path needs eleven seconds for that, and half as much again for cancelled requests
			c.invoke(r, `{"duration":"1s"}`)
		}
	}},
	{name: "a proxy that compresses the answers", extension: zips},
	{
		name:      "the name server ignores AAAA, and the connection is dead after each answer",
		extension: ignoresAAAA, rule: closes(), toTheEnd: true,
	},
	{
		name:      "the first of two addresses is dead, and the connection after each answer",
		extension: deadAddress, rule: closes(), toTheEnd: true,
	},
	{
		name:      "the proxy refuses CONNECT for a second",
		extension: refusesConnect(http.StatusProxyAuthRequired), rule: closes(),
	},
	{name: "a sixth of a CPU", extension: sixthOfCPU, holdsVary: true},
	{name: "a sixth of a CPU, and a connection for each POST of telemetry", extension: sixthOfCPU, holdsVary: true, change: func(s *setup) {
		s.settings["KINESIS_TELEMETRY_BUFFER_BYTES"] = "67108864"
		s.sandbox = func(c *sandbox.Config) { c.Telemetry.NewConnections = true }
	}, afterTraffic: func(r *trial, c *scenarioRun) {
		// POSTs of 1 MiB, and smaller ones right after them, which could overtake. All logs fit into Lambda's queue.
		for range 5 {
			c.invoke(r, `{"text":2500,"bytes":1000}`)
		}
		for range 4 { // Lambda drops telemetry that it could not post before SHUTDOWN
			c.invoke(r, `{"duration":"500ms"}`)
		}
	}},
	{name: "events above 1 MiB, which Lambda cuts, and a stream that accepts them", afterTraffic: longLines, change: func(s *setup) {
		s.maxKiB, s.settings["KINESIS_TELEMETRY_MAX_RECORD_BYTES"] = 10240, "10485760"
	}},
	{name: "events above 1 MiB, which Lambda cuts, and a stream of 1 MiB records", afterTraffic: longLines, truncated: 10},
	{
		name:      "the proxy refuses CONNECT to the end",
		extension: refusesConnect(http.StatusForbidden), rule: closes(), toTheEnd: true, lost: all,
	},
	{name: "no answer to the end", rule: hang(), toTheEnd: true, lost: all},
	{name: "100 % of records throttled to the end", rule: throttles(1), toTheEnd: true, lost: all},
	{name: "AccessDenied to the end", rule: fails("AccessDeniedException"), toTheEnd: true, lost: all},
	{name: "the stream does not exist", change: func(s *setup) { s.noStream = true }, lost: all},
	{name: "the name does not resolve", change: func(s *setup) {
		s.settings["KINESIS_TELEMETRY_ENDPOINT_URL"] = "http://kinesis.invalid"
	}, lost: all},

	{name: "SHUTDOWN is the very first event", silent: true},
	{name: "the last platform.report 5 ms after SHUTDOWN", change: reportAfter(5 * time.Millisecond)},
	{name: "the last platform.report 50 ms after SHUTDOWN", change: reportAfter(50 * time.Millisecond)},
	{name: "function timeout, then a second process", afterTraffic: timesOut, change: shortTimeout, countsVary: true},
	{
		name: "no answer, function timeout, then a second process and a working stream",
		rule: hang(), toTheEnd: true, afterTraffic: timesOut, change: shortTimeout, countsVary: true,
	},
	{
		name: "AccessDenied, crash, then a second process and a working stream",
		rule: fails("AccessDeniedException"), toTheEnd: true, afterTraffic: crashes, countsVary: true,
	},
	{name: "crash, then a second process", afterTraffic: crashes, countsVary: true},
	{name: "out of memory (the runtime is killed), then a second process", afterTraffic: killed(sandbox.RuntimeProcess), countsVary: true},
	{
		name:         "the extension is killed, then a second process",
		afterTraffic: killed(sandbox.ExtensionProcess), change: onlyAnswered, countsVary: true,
	},
	{
		name:         "a long freeze in the middle of a request",
		afterTraffic: frozen(&kinesislocal.Rule{Count: 1, ReplyDelay: time.Second}), duplicates: true,
	},
	{
		name:         "a long freeze in the middle of a request, and a dead connection",
		afterTraffic: frozen(&kinesislocal.Rule{Count: 1, Delay: time.Second, StoreThenReset: true}), duplicates: true,
	},
}

// onlyAnswered removes events from the audit that were posted to a dead process.
func onlyAnswered(s *setup) {
	s.sandbox = func(c *sandbox.Config) { c.OnAccepted, c.OnEvent = c.OnEvent, nil }
}

func shortTimeout(s *setup) {
	s.sandbox = func(c *sandbox.Config) { c.Function.Timeout = 2 * time.Second }
}

func reportAfter(d time.Duration) func(*setup) {
	return func(s *setup) { s.sandbox = func(c *sandbox.Config) { c.ReportDelay = d } }
}

// longLines logs ten events above 1 MiB, and others between them.
func longLines(r *trial, c *scenarioRun) {
	for range 5 {
		c.invoke(r, `{"text":1,"json":1,"bytes":1048576,"duration":"10ms"}`)
		c.invoke(r, mixed)
	}
}

func timesOut(r *trial, c *scenarioRun) {
	c.tryInvoke(r, `{"text":5,"duration":"5s","deaf":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

func crashes(r *trial, c *scenarioRun) {
	c.tryInvoke(r, `{"text":5,"panic":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

// killed kills processes of a kind during a handler.
func killed(kind sandbox.ProcessKind) func(*trial, *scenarioRun) {
	return func(r *trial, c *scenarioRun) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.tryInvoke(r, `{"text":5,"duration":"500ms"}`)
		}()
		time.Sleep(250 * time.Millisecond) // in the middle of the invocation
		for _, p := range r.env.Processes() {
			if p.Kind == kind && !p.Exited {
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
					r.Error(err)
				}
			}
		}
		<-ended
		c.invoke(r, mixed)
	}
}

// frozen freezes the environment with a request in flight, for longer than any of our timeouts.
func frozen(rule *kinesislocal.Rule) func(*trial, *scenarioRun) {
	return func(r *trial, c *scenarioRun) {
		r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*rule}})
		r.stopInMidRequest(7*time.Second, func() { c.invoke(r, `{"text":5,"duration":"1500ms"}`) })
		c.invoke(r, mixed)
	}
}
