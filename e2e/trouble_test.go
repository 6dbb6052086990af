package e2e_test

import (
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/internal/sandbox"
)

// After every kind of failure the function runs on, the extension runs until SHUTDOWN and exits with 0, and one clear line names
// the cause.
func TestFailureDoesNotAffectTheFunction(t *testing.T) {
	concurrent(t)
	const prefix = "KINESIS_TELEMETRY_"
	with := func(setting, value string) setup {
		return setup{settings: map[string]string{prefix + setting: value}}
	}
	invalid := func(setting, value, says string) trouble {
		return trouble{name: setting, setup: with(setting, value), says: []string{prefix + setting, says}}
	}
	refused := func(name string, status int, says string) trouble {
		return trouble{name: name, says: []string{"subscribe", says}, setup: setup{sandbox: func(c *sandbox.Config) {
			c.API.Subscribe = sandbox.StatusFault{Status: status, Times: -1}
		}}}
	}
	answered := func(name string, rule kinesislocal.Rule, says ...string) trouble {
		faults := &kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}}
		return trouble{name: name, says: says, setup: setup{kinesis: kinesislocal.Options{Faults: faults}}}
	}
	for _, test := range []trouble{
		invalid("STREAM", "no good name", "stream"),
		invalid("EVENTS", "platform,logs", "platform, function, extension"),
		invalid("DELIVERY", "soon", "adaptive, sync, deferred"),
		invalid("MAX_DELAY", "10", "such as 500ms"),
		invalid("FLUSH_TIMEOUT", "-1s", "from 10ms"),
		invalid("FORMAT", "xml", "ndjson, json, kpl, cloudwatch"),
		invalid("COMPRESSION", "lz4", "none, gzip, zstd"),
		invalid("RECORD_BYTES", "many", "whole number of bytes"),
		invalid("MAX_RECORD_BYTES", "99999999", "1024 to 10485760"),
		invalid("OVERSIZE", "cut", "truncate, drop"),
		invalid("PARTITION_KEY", "shard", "environment, request, function, tenant, random"),
		invalid("BUFFER_BYTES", "8MB", "whole number of bytes"),
		invalid("TAGS", "team", "key=value"),
		invalid("ROLE_ARN", "admin", "arn:"),
		invalid("ENDPOINT_URL", "localhost:4567", "a URL such as"),
		invalid("ENABLED", "perhaps", "true or false"),
		invalid("ON_ERROR", "panic", "idle, fail"),
		invalid("LOG_LEVEL", "loud", "debug, info, warn, error"),
		{name: "unknown setting", delivers: true, setup: with("STREEM", "x"), says: []string{prefix + "STREEM", "no such setting"}},
		{name: "disabled", setup: with("ENABLED", "false"), silent: true},

		{name: "missing stream", setup: setup{noStream: true}, says: []string{stream, "not found", prefix + "STREAM"}},
		answered("access denied", kinesislocal.Rule{
			ErrorType: "AccessDeniedException",
			Message:   "User: x is not authorized to perform: kinesis:PutRecords",
		}, "kinesis:PutRecords"),
		answered("expired token", kinesislocal.Rule{ErrorType: "ExpiredTokenException"}, "credentials"),
		answered("KMS", kinesislocal.Rule{ErrorType: "KMSAccessDeniedException"}, "kms:GenerateDataKey"),
		answered("hang", kinesislocal.Rule{Hang: true}, "no answer from"),
		answered("500", kinesislocal.Rule{Status: 500}, "answered with an error", "500"),
		answered("all throttled", kinesislocal.Rule{RecordError: &kinesislocal.RecordError{}}, "is throttled", "add shards"),
		{name: "dead network", setup: with("ENDPOINT_URL", "http://"+closedPort), says: []string{"refused"}},
		{name: "no such host", setup: with("ENDPOINT_URL", "http://kinesis.invalid"), says: []string{"kinesis.invalid"}},
		{name: "dead proxy", says: []string{"refused"}, setup: setup{settings: map[string]string{
			prefix + "ENDPOINT_URL": "http://kinesis.invalid",
			"HTTP_PROXY":            "http://" + closedPort,
		}}},

		refused("subscription 202", 202, "emulation"),
		refused("subscription 403", 403, "403"),
		refused("subscription 404", 404, "no Telemetry API"),
		refused("subscription 500", 500, "500"),
		{name: "subscription 500 for a while", delivers: true, silent: true, setup: setup{sandbox: func(c *sandbox.Config) {
			c.API.Subscribe = sandbox.StatusFault{Status: 500, Times: 3}
		}}},
		{name: "next 500 for a while", delivers: true, says: []string{"next event"}, setup: setup{sandbox: func(c *sandbox.Config) {
			c.API.Next = sandbox.StatusFault{Status: 500, Times: 3}
		}}},
		{name: "register 500 for a while", delivers: true, says: []string{"register"}, setup: setup{sandbox: func(c *sandbox.Config) {
			c.API.Register = sandbox.StatusFault{Status: 500, Times: 3}
		}}},
	} {
		t.Run(test.name+" "+strings.Join(test.says, " "), func(t *testing.T) {
			t.Parallel()
			test.run(t)
		})
	}
}

// trouble is a failure, and the expectations that hold in spite of it.
type trouble struct {
	name     string
	setup    setup
	says     []string // parts of one line
	silent   bool
	delivers bool
}

func (test *trouble) run(t *testing.T) {
	if !test.delivers { // this limits a hold
		test.setup.settings = maps.Clone(test.setup.settings)
		if test.setup.settings == nil {
			test.setup.settings = map[string]string{}
		}
		if _, set := test.setup.settings["KINESIS_TELEMETRY_FLUSH_TIMEOUT"]; !set {
			test.setup.settings["KINESIS_TELEMETRY_FLUSH_TIMEOUT"] = "2s"
		}
	}
	r := newTrial(t, test.setup)
	var held time.Duration
	const invocations = 6
	for range invocations {
		held += r.invoke(mixed).Hold
	}
	report := r.end() // also checks for exit code 0 within the shutdown's time
	if len(r.extensions()) != 1 {
		t.Errorf("%d processes of the extension", len(r.extensions()))
	}
	// A dead stream costs FLUSH_TIMEOUT once or twice, not six times.
	if held > busy(5*time.Second) {
		t.Errorf("%d invocations were held %s", invocations, held)
	}
	if test.delivers {
		r.checkComplete(report, invocations*13)
	}
	var found, telling int
	for _, line := range r.output.lines() {
		if strings.Contains(line, "level=INFO") || strings.Contains(line, "summary:") {
			continue
		}
		telling++
		matches := true
		for _, part := range test.says {
			matches = matches && strings.Contains(line, part)
		}
		if matches {
			found++
		}
	}
	if test.silent {
		if telling != 0 {
			t.Errorf("it logged %q", r.output.lines())
		}
		return
	}
	if found != 1 || telling > 2 {
		t.Errorf("%d lines contain %q, %d lines in all: %q", found, test.says, telling, r.output.lines())
	}
}

// closedPort is an address on which no process ever listens. A port that was free a moment ago could belong to another test now.
const closedPort = "127.0.0.1:1"

// With ON_ERROR=fail an invalid setting fails the environment's init.
func TestOnErrorFail(t *testing.T) {
	concurrent(t)
	_, err := sandbox.Start(t.Context(), sandbox.Config{
		Function: sandbox.Function{Command: []string{binaries.function}},
		Extensions: []sandbox.Extension{{Path: binaries.extension, Env: map[string]string{
			"KINESIS_TELEMETRY_ON_ERROR": "fail", "KINESIS_TELEMETRY_FORMAT": "xml",
		}}},
	})
	if err == nil || !strings.Contains(err.Error(), "Extension.InvalidSettings") {
		t.Errorf("got %v", err)
	}
}

// Outside Lambda the program prints that it is a Lambda extension.
func TestOutsideLambda(t *testing.T) {
	concurrent(t)
	command := exec.Command(binaries.extension)
	command.Env = []string{}
	printed, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(printed), "runs in Lambda only") {
		t.Errorf("%v: %s", err, printed)
	}
}
