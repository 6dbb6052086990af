package e2e_test

import (
	"net/http"
	"syscall"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// scenario is one line of the table, before it is run in each mode.
type scenario struct {
	name string
	// rule is the stream's fault, from the eighth invocation to the twenty-second, or for good.
	rule    *kinesislocal.Rule
	forGood bool
	// extension is what lies around the extension. Its fault, if it has one, comes and goes with the stream's.
	extension func(*trial, *sandbox.Extension)
	// life is what happens behind the traffic; nil: nothing before SHUTDOWN.
	life    func(r *trial, c *conduct)
	change  func(s *setup)
	traffic string // payload of the invocations, mixed if empty
	silent  bool   // no invocation at all
	// duplicates may come, and what is lost, where it is not nothing. "all" is everything.
	duplicates bool
	lost       string
	truncated  int // events of which only the beginning is delivered
	// slowly: for how long invocations are held depends on what else the machine does.
	slowly bool
	// varies: how many events there are depends on when a process ends.
	varies bool
}

// conduct is what a scenario does to its environment.
type conduct struct {
	held time.Duration
	n    int
}

func (c *conduct) invoke(r *trial, payload string) {
	if result := c.disturbed(r, payload); result.Status != "success" {
		r.Errorf("invocation %d: %+v", c.n, result)
	}
}

// disturbed is invoke where it does not matter how the invocation ends.
func (c *conduct) disturbed(r *trial, payload string) sandbox.Result {
	result, err := r.env.Invoke(r.Context(), []byte(payload))
	if err != nil {
		r.Errorf("invocation %d: %v", c.n, err)
	}
	c.n++
	c.held += result.Hold
	return result
}

const all = "all"

func fails(errorType string) *kinesislocal.Rule { return &kinesislocal.Rule{ErrorType: errorType} }

func throttles(p float64) *kinesislocal.Rule {
	return &kinesislocal.Rule{RecordError: &kinesislocal.RecordError{Probability: p}}
}

var scenarios = []scenario{
	{name: "nothing goes wrong"},
	{name: "each answer takes 50 ms", rule: &kinesislocal.Rule{ReplyDelay: 50 * time.Millisecond}, forGood: true},
	{name: "10 % of records throttled", rule: throttles(.1)},
	{name: "50 % of records throttled", rule: throttles(.5)},
	{name: "100 % of records throttled for a second", rule: throttles(1)},
	{name: "500 for a second", rule: fails("InternalFailureException")},
	{name: "half of the answers lost", rule: &kinesislocal.Rule{Probability: .5, StoreThenReset: true}, duplicates: true},
	{name: "no answer for a second", rule: &kinesislocal.Rule{Hang: true}},
	{name: "stored, and no answer", rule: &kinesislocal.Rule{StoreThenHang: true}, duplicates: true},
	{name: "connections reset for a second", rule: &kinesislocal.Rule{Reset: true}},
	{name: "answers after 2 s", rule: &kinesislocal.Rule{ReplyDelay: 2 * time.Second}, duplicates: true},
	{name: "the connection is dead after each answer", rule: &kinesislocal.Rule{CloseAfterReply: true}, forGood: true},
	{name: "AccessDenied for a second", rule: fails("AccessDeniedException")},
	{name: "ResourceNotFound for a second", rule: fails("ResourceNotFoundException")},
	{name: "ExpiredToken for a second", rule: fails("ExpiredTokenException")},
	{name: "KMS throttling for a second", rule: fails("KMSThrottlingException")},
	{name: "the clock is 10 minutes off", change: func(s *setup) {
		s.kinesis.Now = func() time.Time { return time.Now().Add(10 * time.Minute) }
	}},
	{name: "a one-shard stream at its limits", duplicates: true, traffic: `{"text":400,"bytes":300,"duration":"10ms"}`, change: func(s *setup) {
		s.kinesis.ShardBytesPerSecond, s.kinesis.ShardRecordsPerSecond = 0, 0 // as Kinesis has them
	}, life: func(r *trial, c *conduct) {
		for range 16 { // the shard needs eight seconds for what was logged, SHUTDOWN has less than two
			c.invoke(r, `{"duration":"500ms"}`)
		}
	}},
	{name: "a path of 0.5 MB/s, and an invocation that logs 4 MB", extension: slow(500_000), duplicates: true, life: func(r *trial, c *conduct) {
		c.invoke(r, `{"text":4000,"bytes":1000,"duration":"100ms"}`)
		for range 22 { // the path needs eleven seconds for that, and half as much again for requests that are called off
			c.invoke(r, `{"duration":"1s"}`)
		}
	}},
	{name: "a reply that a proxy gzips", extension: zips},
	{name: "the name server ignores AAAA, and the connection is dead after each answer", extension: ignoresAAAA, rule: &kinesislocal.Rule{CloseAfterReply: true}, forGood: true},
	{name: "the first of two addresses is dead, and the connection after each answer", extension: deadAddress, rule: &kinesislocal.Rule{CloseAfterReply: true}, forGood: true},
	{name: "the proxy refuses CONNECT for a second", extension: refusesConnect(http.StatusProxyAuthRequired), rule: &kinesislocal.Rule{CloseAfterReply: true}},
	{name: "a sixth of a CPU", extension: sixthOfCPU, slowly: true},
	{name: "a sixth of a CPU, and a connection for each POST of telemetry", extension: sixthOfCPU, slowly: true, change: func(s *setup) {
		s.settings["KINESIS_TELEMETRY_BUFFER_BYTES"] = "67108864"
		s.sandbox = func(c *sandbox.Config) { c.Telemetry.NewConnections = true }
	}, life: func(r *trial, c *conduct) {
		// POSTs of 1 MiB and smaller ones right behind them, which would overtake. All that is logged fits into Lambda's queue.
		for range 5 {
			c.invoke(r, `{"text":2500,"bytes":1000}`)
		}
		for range 4 { // Lambda gives up what it could not post before SHUTDOWN
			c.invoke(r, `{"duration":"500ms"}`)
		}
	}},
	{name: "events above 1 MiB, which Lambda cuts, and a stream that takes them", life: longLines, change: func(s *setup) {
		s.maxKiB, s.settings["KINESIS_TELEMETRY_MAX_RECORD_BYTES"] = 10240, "10485760"
	}},
	{name: "events above 1 MiB, which Lambda cuts, and a stream of 1 MiB records", life: longLines, truncated: 10},
	{name: "the proxy refuses CONNECT, for good", extension: refusesConnect(http.StatusForbidden), rule: &kinesislocal.Rule{CloseAfterReply: true}, forGood: true, lost: all},
	{name: "no answer, for good", rule: &kinesislocal.Rule{Hang: true}, forGood: true, lost: all},
	{name: "100 % of records throttled, for good", rule: throttles(1), forGood: true, lost: all},
	{name: "AccessDenied, for good", rule: fails("AccessDeniedException"), forGood: true, lost: all},
	{name: "the stream does not exist", change: func(s *setup) { s.noStream = true }, lost: all},
	{name: "the name is not resolved", change: func(s *setup) {
		s.settings["KINESIS_TELEMETRY_ENDPOINT_URL"] = "http://kinesis.invalid"
	}, lost: all},

	{name: "SHUTDOWN is the very first event", silent: true},
	{name: "the last platform.report 5 ms after SHUTDOWN", change: reportAfter(5 * time.Millisecond)},
	{name: "the last platform.report 50 ms after SHUTDOWN", change: reportAfter(50 * time.Millisecond)},
	{name: "function timeout, then a second life", life: timesOut, change: shortTimeout, varies: true},
	{name: "no answer, function timeout, then a second life and a stream that works", rule: &kinesislocal.Rule{Hang: true}, forGood: true, life: timesOut, change: shortTimeout, varies: true},
	{name: "AccessDenied, crash, then a second life and a stream that works", rule: fails("AccessDeniedException"), forGood: true, life: crashes, varies: true},
	{name: "crash, then a second life", life: crashes, varies: true},
	{name: "out of memory (the runtime is killed), then a second life", life: killed(sandbox.RuntimeProcess), varies: true},
	{name: "the extension is killed, then a second life", life: killed(sandbox.ExtensionProcess), change: whatWasAnswered, varies: true},
	{name: "frozen for long in the middle of a request", life: frozen(&kinesislocal.Rule{Count: 1, ReplyDelay: time.Second}), duplicates: true},
	{name: "frozen for long in the middle of a request, and the connection is dead", life: frozen(&kinesislocal.Rule{Count: 1, Delay: time.Second, StoreThenReset: true}), duplicates: true},
}

// whatWasAnswered leaves out of the audit what was posted to a process that was dead.
func whatWasAnswered(s *setup) {
	s.sandbox = func(c *sandbox.Config) { c.OnAccepted, c.OnEvent = c.OnEvent, nil }
}

func shortTimeout(s *setup) {
	s.sandbox = func(c *sandbox.Config) { c.Function.Timeout = 2 * time.Second }
}

func reportAfter(d time.Duration) func(*setup) {
	return func(s *setup) { s.sandbox = func(c *sandbox.Config) { c.ReportDelay = d } }
}

// longLines logs ten events above 1 MiB, and others between.
func longLines(r *trial, c *conduct) {
	for range 5 {
		c.invoke(r, `{"text":1,"json":1,"bytes":1048576,"duration":"10ms"}`)
		c.invoke(r, mixed)
	}
}

func timesOut(r *trial, c *conduct) {
	c.disturbed(r, `{"text":5,"duration":"5s","deaf":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

func crashes(r *trial, c *conduct) {
	c.disturbed(r, `{"text":5,"panic":true}`)
	r.kinesis.SetFaults(nil)
	c.invoke(r, mixed)
}

// killed kills processes of a kind while the function works.
func killed(kind sandbox.ProcessKind) func(*trial, *conduct) {
	return func(r *trial, c *conduct) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.disturbed(r, `{"text":5,"duration":"500ms"}`)
		}()
		time.Sleep(250 * time.Millisecond) // the middle of the invocation is the point
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

// frozen stops the environment with a request in flight for longer than any of our timeouts.
func frozen(rule *kinesislocal.Rule) func(*trial, *conduct) {
	return func(r *trial, c *conduct) {
		r.kinesis.SetFaults(&kinesislocal.Faults{Rules: []kinesislocal.Rule{*rule}})
		r.stopInMidRequest(7*time.Second, func() { c.invoke(r, `{"text":5,"duration":"1500ms"}`) })
		c.invoke(r, mixed)
	}
}
