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

// Whatever is wrong, the function runs on, the extension lives on until SHUTDOWN and ends well, and one clear line says
// the cause.
func TestNeverInTheWay(t *testing.T) {
	concurrent(t)
	const prefix = "KINESIS_TELEMETRY_"
	mistake := func(setting, value, says string) trouble {
		return trouble{name: setting, setup: setup{settings: map[string]string{prefix + setting: value}}, says: []string{prefix + setting, says}}
	}
	refused := func(name string, status int, says string) trouble {
		return trouble{name: name, says: []string{"subscribe", says}, setup: setup{sandbox: func(c *sandbox.Config) {
			c.API.Subscribe = sandbox.StatusFault{Status: status, Times: -1}
		}}}
	}
	answered := func(name string, rule kinesislocal.Rule, says ...string) trouble {
		return trouble{name: name, says: says, setup: setup{kinesis: kinesislocal.Options{Faults: &kinesislocal.Faults{Rules: []kinesislocal.Rule{rule}}}}}
	}
	for _, test := range []trouble{
		mistake("STREAM", "no good name", "stream"),
		mistake("EVENTS", "platform,logs", "platform, function, extension"),
		mistake("DELIVERY", "soon", "adaptive, sync, deferred"),
		mistake("MAX_DELAY", "10", "such as 500ms"),
		mistake("FLUSH_TIMEOUT", "-1s", "from 10ms"),
		mistake("FORMAT", "xml", "ndjson, json, kpl, cloudwatch"),
		mistake("COMPRESSION", "lz4", "none, gzip, zstd"),
		mistake("RECORD_BYTES", "many", "whole number of bytes"),
		mistake("MAX_RECORD_BYTES", "99999999", "1024 to 10485760"),
		mistake("OVERSIZE", "cut", "truncate, drop"),
		mistake("PARTITION_KEY", "shard", "environment, request, function, tenant, random"),
		mistake("BUFFER_BYTES", "8MB", "whole number of bytes"),
		mistake("TAGS", "team", "key=value"),
		mistake("ROLE_ARN", "admin", "arn:"),
		mistake("ENDPOINT_URL", "localhost:4567", "a URL such as"),
		mistake("ENABLED", "perhaps", "true or false"),
		mistake("ON_ERROR", "panic", "idle, fail"),
		mistake("LOG_LEVEL", "loud", "debug, info, warn, error"),
		{name: "unknown setting", delivers: true, setup: setup{settings: map[string]string{prefix + "STREEM": "x"}}, says: []string{prefix + "STREEM", "no such setting"}},
		{name: "disabled", setup: setup{settings: map[string]string{prefix + "ENABLED": "false"}}, silent: true},

		{name: "missing stream", setup: setup{noStream: true}, says: []string{stream, "not found", prefix + "STREAM"}},
		answered("access denied", kinesislocal.Rule{ErrorType: "AccessDeniedException", Message: "User: x is not authorized to perform: kinesis:PutRecords"}, "kinesis:PutRecords"),
		answered("expired token", kinesislocal.Rule{ErrorType: "ExpiredTokenException"}, "credentials"),
		answered("KMS", kinesislocal.Rule{ErrorType: "KMSAccessDeniedException"}, "kms:GenerateDataKey"),
		answered("hang", kinesislocal.Rule{Hang: true}, "no answer from"),
		answered("500", kinesislocal.Rule{Status: 500}, "answered with an error", "500"),
		answered("all throttled", kinesislocal.Rule{RecordError: &kinesislocal.RecordError{}}, "is throttled", "add shards"),
		{name: "dead network", setup: setup{settings: map[string]string{prefix + "ENDPOINT_URL": "http://" + closedPort}}, says: []string{"refused"}},
		{name: "no such host", setup: setup{settings: map[string]string{prefix + "ENDPOINT_URL": "http://kinesis.invalid"}}, says: []string{"kinesis.invalid"}},
		{name: "proxy that is none", setup: setup{settings: map[string]string{prefix + "ENDPOINT_URL": "http://kinesis.invalid", "HTTP_PROXY": "http://" + closedPort}}, says: []string{"refused"}},

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

// trouble is something that is wrong, and what is expected all the same.
type trouble struct {
	name     string
	setup    setup
	says     []string // parts of one line
	silent   bool
	delivers bool
}

func (test *trouble) run(t *testing.T) {
	if !test.delivers { // the default: what an invocation is held back at most
		test.setup.settings = maps.Clone(test.setup.settings)
		if test.setup.settings == nil {
			test.setup.settings = map[string]string{}
		}
		if _, set := test.setup.settings["KINESIS_TELEMETRY_FLUSH_TIMEOUT"]; !set {
			test.setup.settings["KINESIS_TELEMETRY_FLUSH_TIMEOUT"] = ""
		}
	}
	r := newTrial(t, test.setup)
	var held time.Duration
	const invocations = 6
	for range invocations {
		held += r.invoke(mixed).Hold
	}
	report := r.end() // also demands exit code 0 within the shutdown's budget
	if len(r.extensions()) != 1 {
		t.Errorf("%d lives of the extension", len(r.extensions()))
	}
	// FLUSH_TIMEOUT is 1 s; a stream that is dead is paid for a few times, not six.
	if held > 4*time.Second {
		t.Errorf("%d invocations were held back %s", invocations, held)
	}
	if test.delivers {
		r.complete(report, invocations*13)
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
			t.Errorf("it said something: %q", r.output.lines())
		}
		return
	}
	if found != 1 || telling > 2 {
		t.Errorf("%d lines say %q, %d lines in all: %q", found, test.says, telling, r.output.lines())
	}
}

// closedPort is an address where nobody listens, nor will: a port that was free a moment ago may be another test's by now.
const closedPort = "127.0.0.1:1"

// ON_ERROR=fail makes a mistake fail the environment's init, as the user has asked for.
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

// Outside Lambda the program says what it is.
func TestOutsideLambda(t *testing.T) {
	concurrent(t)
	command := exec.Command(binaries.extension)
	command.Env = []string{}
	printed, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(printed), "runs in Lambda only") {
		t.Errorf("%v: %s", err, printed)
	}
}
