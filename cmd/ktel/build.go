package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	modulePath       = "kinesis-telemetry-extension"
	extensionName    = "kinesis-telemetry-extension"
	extensionPackage = "./cmd/kinesis-telemetry-extension"
	sampleName       = "hello"
	samplePackage    = "./examples/hello"
)

const checkoutHint = "change into a checkout of " + modulePath

// build compiles packages of this module into dir, each under the name of its folder.
func (a *app) build(ctx context.Context, dir string, packages ...string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	a.progress("building %s", strings.Join(packages, " and "))
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", dir + string(filepath.Separator)}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return cannot(fmt.Errorf("build %s: %w\n%s", strings.Join(packages, " and "), err, bytes.TrimSpace(output)))
	}
	return nil
}

// moduleRoot finds the checkout around the current directory.
func moduleRoot(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", cannot(errors.New("the go command is not there to build the extension with"),
			"install Go from https://go.dev/dl/, or let 'ktel run' take a built extension with --layer-extension PATH")
	}
	// Outside of a module it fails or names none, in another module it names that one.
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}").Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err == nil {
		for line := range strings.Lines(string(output)) { // several in a workspace
			if path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t"); path == modulePath && dir != "" {
				return dir, nil
			}
		}
	}
	return "", cannot(errors.New("the extension is built from its source, and that is not here"),
		checkoutHint, "or let 'ktel run' take a built extension with --layer-extension PATH")
}
