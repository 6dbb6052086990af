//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/sandbox"
)

const demoLong = `demo runs the telemetry extension and a sample function in a Lambda execution
environment on this machine, with a Kinesis data stream of two shards. It
freezes the environment between the invocations, as Lambda does. It shows the
events as they arrive on the stream, then reports whether all of them arrived,
and what they cost.

demo needs no AWS account. A released ktel contains both programs. Any other
ktel builds them, with Go, from a checkout of this module. The sample function
logs lines of text and of JSON, and sometimes fails.`

func (a *app) demoCommand() *cobra.Command {
	f := &trialFlags{count: 20, freeze: 100 * time.Millisecond}
	var seed uint64
	cmd := &cobra.Command{
		Use:   "demo [flags]",
		Short: "Run a sample function, show its telemetry and audit it",
		Long:  demoLong,
		Example: `  go run ./cmd/ktel demo
  ktel demo -n 100 --freeze 1s --delivery deferred
  ktel demo --json --quiet | jq .events`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(fmt.Sprintf("demo takes no arguments, got %q", args[0]),
					"'ktel run -- COMMAND' runs your own function")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.demo(cmd.Context(), f, seed)
		},
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&seed, "seed", 1, "seed `N` of the random events: the same seed gives the same events")
	return cmd
}

func (a *app) demo(ctx context.Context, f *trialFlags, seed uint64) error {
	dir, remove, err := a.workspace()
	if err != nil {
		return err
	}
	defer remove()
	if err := a.provide(ctx, dir, extensionPackage, samplePackage); err != nil {
		return err
	}
	s := &trial{
		function: sandbox.Function{
			Command: []string{filepath.Join(dir, sampleName)}, Name: sampleName, LogFormat: sandbox.JSON, Timeout: 10 * time.Second,
		},
		extensions: []sandbox.Extension{{Path: filepath.Join(dir, extensionName)}},
		audited:    extensionName, initType: sandbox.OnDemand, payloads: demoPayloads(f.count, seed), workers: 1,
		respond: func(invocation) {}, tempDir: dir,
		open: func(_ context.Context, record func(string, []byte)) (stream, error) {
			return openLocalStream(true, record)
		},
	}
	a.prepare(s, f)
	return a.runTrial(ctx, s, f, false)
}

// demoPayloads returns events for the sample function. Each asks for a few lines; some ask for many or long lines, or
// for a failure.
func demoPayloads(count int, seed uint64) [][]byte {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // the same demo for the same seed; no secrets
	payloads := make([][]byte, count)
	for i := range payloads {
		lines, size, failure := 1+random.IntN(6), 0, ""
		switch i % 10 {
		case 4:
			lines = 40
		case 6:
			size = 400
		case 8:
			failure = "the warehouse does not answer"
		}
		payloads[i] = fmt.Appendf(nil, `{"text":%d,"json":%d,"bytes":%d,"duration":"%dms","error":%q}`,
			lines, 1+random.IntN(6), size, random.IntN(20), failure)
	}
	return payloads
}
