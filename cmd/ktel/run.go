//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/sandbox"
)

const runLong = `run starts a function in a Lambda execution environment on this machine, with
the telemetry extension and with other extensions. It invokes the function with
the given events and shows its telemetry as it arrives on the stream. Then it
reports whether all of it arrived.

The function is a program that uses Lambda's Runtime API (a bootstrap, a Go
binary), or a handler in Node.js or Python, which runs with the installed node or
python3. Name a handler in the current folder (--handler index.handler) or its
file (-- index.mjs). The handler of a file must be named handler, in Python
lambda_handler or handler. Handlers cannot stream responses.

The stream is built in and runs on this machine, unless --endpoint-url names
another Kinesis. ktel and the function then use your AWS credentials.

The extension's settings are variables of the function. Set them by --env:
--env KINESIS_TELEMETRY_DELIVERY=deferred

`

// runFlags are the flags of 'ktel run'.
type runFlags struct {
	trialFlags
	handler          string
	event            string
	events           string
	env              []string
	envFiles         []string
	extensions       []string
	layerExtension   string
	noLayerExtension bool
	endpointURL      string
	region           string
	stream           string
	createStream     bool
	memory           int
	timeout          time.Duration
	logFormat        string
	initType         string
	concurrency      int
	noFreeze         bool
	noThrottle       bool
	keep             bool
	keptStream       *localStream // the stream of --keep, once it is open
}

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{
		trialFlags: trialFlags{count: 1}, memory: 128, timeout: 30 * time.Second, concurrency: 1,
		logFormat: "text", initType: string(sandbox.OnDemand), stream: defaultStream,
	}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run your own function, show its telemetry and audit it",
		Long:  runLong + rootStatuses,
		Example: `  Five invocations of a Go function, frozen for a second after each:
    ktel run -n 5 --freeze 1s -- ./bootstrap

  Handlers in Node.js and Python:
    ktel run --handler index.handler --event '{"id": 7}'
    ktel run -- app.py

  Events from a file, another extension, JSON logs:
    ktel run --events events.json --extension ./other --log-format json \
      -- index.mjs

  Find the errors among the events that arrived:
    ktel run -o ndjson -- ./bootstrap | jq 'select(.record.level == "ERROR")'

  With another Kinesis endpoint:
    ktel run --endpoint-url http://127.0.0.1:4568 --create-stream -- ./bootstrap`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && f.handler == "":
				return usageError("there is no COMMAND to run", "ktel run [flags] -- COMMAND [ARG...]",
					"ktel run [flags] --handler index.handler")
			case len(args) > 0 && f.handler != "":
				return usageError(fmt.Sprintf("--handler and COMMAND %q cannot be combined", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), f, cmd.Flags().Changed, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // flags after COMMAND belong to it
	f.trialFlags.add(cmd)
	f.add(cmd)
	return cmd
}

func (f *runFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.handler, "handler", "",
		"`NAME` of a handler in the current folder, such as index.handler, in Node.js or Python; replaces COMMAND")
	flags.StringVar(&f.event, "event", "{}", "event of each invocation, as `JSON` or as @FILE")
	flags.StringVar(&f.events, "events", "",
		"`FILE` of events, a JSON array or one per line; - is standard input. Each event is used once; with -n, in turn")
	flags.StringArrayVar(&f.env, "env", nil, "variable `KEY=VALUE` of the function and of the extensions; repeatable")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "`FILE` of variables, one per line; --env overrides them; repeatable")
	flags.StringArrayVar(&f.extensions, "extension", nil,
		"`PATH` of another extension, or of a layer (a folder or a zip), whose extensions/ all start; repeatable")
	flags.StringVar(&f.layerExtension, "layer-extension", "",
		"`PATH` of the telemetry extension or of its layer "+
			"(default: $KTEL_EXTENSION, else the one in a released ktel, else built from a checkout)")
	flags.BoolVar(&f.noLayerExtension, "no-layer-extension", false, "run without the telemetry extension; nothing is audited then")
	flags.StringVar(&f.endpointURL, "endpoint-url", "", "use the Kinesis at this `URL` instead of the built-in one")
	flags.StringVar(&f.region, "region", "", "AWS `REGION` of that Kinesis (default: the one that AWS's tools use)")
	flags.StringVar(&f.stream, "stream", f.stream, "`NAME` or ARN of its stream")
	flags.BoolVar(&f.createStream, "create-stream", false, "create that stream if it does not exist")
	flags.BoolVar(&f.noThrottle, "no-throttle", false,
		"remove the shard limits of the built-in stream (1 MiB and 1,000 records a second)")
	flags.BoolVar(&f.keep, "keep", false, "keep the built-in stream and its endpoint until ctrl-C, and print how to read it")
	flags.IntVar(&f.memory, "memory", f.memory, "memory size of the function in `MB`, reported to it but not enforced")
	flags.DurationVar(&f.timeout, "timeout", f.timeout, "`TIME` limit of an invocation")
	flags.Var(choice{&f.logFormat, []string{"text", "json"}}, "log-format", "text or json")
	flags.Var(choice{&f.initType, []string{
		string(sandbox.OnDemand), string(sandbox.ProvisionedConcurrency), string(sandbox.SnapStart), string(sandbox.ManagedInstances),
	}}, "init-type", "on-demand, provisioned-concurrency, snap-start or lambda-managed-instances")
	flags.IntVar(&f.concurrency, "concurrency", f.concurrency,
		"number `N` of concurrent invocations, with --init-type lambda-managed-instances")
	flags.BoolVar(&f.noFreeze, "no-freeze", false, "do not freeze the processes between invocations")
}

// check validates the flags. changed reports which ones were given.
func (f *runFlags) check(changed func(string) bool) error {
	if err := f.trialFlags.check(); err != nil {
		return err
	}
	managed := f.initType == string(sandbox.ManagedInstances)
	switch {
	case changed("event") && changed("events"):
		return usageError("--event and --events cannot be combined")
	case changed("layer-extension") && f.noLayerExtension:
		return usageError("--layer-extension and --no-layer-extension cannot be combined")
	case f.concurrency < 1:
		return usageError(fmt.Sprintf("--concurrency is %d; it must be at least 1", f.concurrency))
	case f.concurrency > 1 && !managed:
		return usageError("--concurrency needs --init-type "+string(sandbox.ManagedInstances),
			"all other environments run one invocation at a time")
	case f.memory < 128 || f.memory > 32768:
		return usageError(fmt.Sprintf("--memory is %d; Lambda's sizes are 128 to 32768 MB", f.memory))
	case f.timeout <= 0 || f.timeout > 15*time.Minute:
		return usageError(fmt.Sprintf("--timeout is %v; Lambda allows up to 15m", f.timeout))
	case f.endpointURL == "" && (changed("stream") || f.createStream || changed("region")):
		return usageError("--stream, --create-stream and --region need --endpoint-url",
			"without it ktel uses its built-in stream")
	case f.endpointURL != "" && f.noThrottle:
		return usageError("--no-throttle and --endpoint-url cannot be combined", "ktel cannot remove the limits of another Kinesis")
	case f.endpointURL != "" && f.keep:
		return usageError("--keep and --endpoint-url cannot be combined", "a stream of another Kinesis is always kept")
	case f.createStream && strings.HasPrefix(f.stream, "arn:"):
		return usageError("--create-stream needs the name of a stream, not its ARN")
	}
	if f.endpointURL != "" {
		if _, err := kinesis.ParseEndpointURL(f.endpointURL); err != nil { // the URL is not shown: it may contain a password
			return usageError(fmt.Sprintf("--endpoint-url: %v, without a user, a password, a query or a fragment", err))
		}
	}
	return nil
}

func (a *app) run(ctx context.Context, f *runFlags, changed func(string) bool, command []string) error {
	if err := f.check(changed); err != nil {
		return err
	}
	env, err := readEnv(f.envFiles, f.env)
	if err != nil {
		return err
	}
	var payloads [][]byte
	if f.events == "" {
		event, err := readEvent(f.event, a.stdin)
		if err != nil {
			return err
		}
		payloads = [][]byte{event}
	} else {
		values, err := readPayloads(f.events, a.stdin)
		if err != nil {
			return err
		}
		for _, value := range values {
			payloads = append(payloads, value)
		}
		if !changed("invocations") {
			f.count = len(payloads)
		}
	}
	function, client, err := findFunction(f.handler, command)
	if err != nil {
		return err
	}
	dir, remove, err := a.workspace()
	if err != nil {
		return err
	}
	defer remove()
	telemetry, others, err := f.findExtensions(dir)
	if err != nil {
		return err
	}
	if client != nil {
		if function.Command, err = client.install(dir); err != nil {
			return err
		}
	}
	function.Env, function.MemoryMB, function.Timeout, function.Concurrency = env, f.memory, f.timeout, f.concurrency
	function.LogFormat = map[string]sandbox.LogFormat{"text": sandbox.Text, "json": sandbox.JSON}[f.logFormat]
	s := &trial{
		function: function,
		initType: sandbox.InitType(f.initType), payloads: payloads, workers: f.concurrency, noFreeze: f.noFreeze, tempDir: dir,
		respond: respondTo(a.stderr, a.paletteFor(a.stderr), f.count), open: f.open,
	}
	if telemetry == "" && !f.noLayerExtension {
		if err := a.provide(ctx, dir, extensionPackage); err != nil {
			return err
		}
		telemetry = filepath.Join(dir, extensionName)
	}
	s.extend(telemetry, others)
	a.prepare(s, &f.trialFlags)
	err = a.runTrial(ctx, s, &f.trialFlags, true)
	if f.keptStream == nil {
		return err
	}
	switch statusOf(err) {
	case statusComplete, statusIncomplete, statusFunction:
	default: // the stream has no events, or the user interrupted
		return errors.Join(err, f.keptStream.shared.close())
	}
	// Standard output may be reserved for the events.
	return errors.Join(err, f.keptStream.shared.serveUntil(ctx, a.stderr, localRegion, []newStream{{defaultStream, localShards}}, ""))
}

func (f *runFlags) open(ctx context.Context, record func(string, []byte)) (stream, error) {
	if f.keep {
		var err error
		f.keptStream, err = keepLocalStream(ctx, !f.noThrottle, record)
		return f.keptStream, err
	}
	if f.endpointURL == "" {
		return openLocalStream(!f.noThrottle, record)
	}
	return openRemoteStream(ctx, remoteOptions{f.endpointURL, f.region, f.stream, f.createStream}, record)
}

// readEnv reads the variables of files, then KEY=VALUE pairs.
func readEnv(files, pairs []string) (map[string]string, error) {
	env := map[string]string{}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError(fmt.Sprintf("--env-file: %v", err))
		}
		number := 0
		for line := range strings.Lines(string(content)) {
			number++
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "export "))
			if line == "" || line[0] == '#' {
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); !ok || key == "" || strings.ContainsAny(key, " \t\"'") {
				// The line is not shown: it may contain a secret.
				return nil, usageError(fmt.Sprintf("--env-file %s: line %d is not KEY=VALUE", name, number), "a comment starts with #")
			}
			env[key] = unquoted(strings.TrimSpace(value))
		}
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usageError(fmt.Sprintf("--env %q is not KEY=VALUE", pair))
		}
		env[key] = value
	}
	return env, nil
}

// unquoted removes the quotes around a value.
func unquoted(value string) string {
	if last := len(value) - 1; last > 0 && value[0] == value[last] && (value[0] == '"' || value[0] == '\'') {
		return value[1:last]
	}
	return value
}
