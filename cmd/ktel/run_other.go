//go:build !unix

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	return needsUnix("demo [flags]", "Run a sample function, show its telemetry and audit it")
}

func (a *app) runCommand() *cobra.Command {
	return needsUnix("run [flags] -- COMMAND [ARG...]", "Run your own function, show its telemetry and audit it")
}

// needsUnix returns a command that fails on this system: a Lambda execution environment consists of processes that
// signals freeze.
func needsUnix(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: "Needs Linux or macOS.", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cannot(fmt.Errorf("%s needs Linux or macOS: %w", cmd.Name(), errors.ErrUnsupported),
				"it works in the Windows Subsystem for Linux, or in a container")
		},
	}
}
