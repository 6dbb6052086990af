package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const (
	modulePath       = "kinesis-telemetry-extension"
	extensionName    = "kinesis-telemetry-extension"
	extensionPackage = "./cmd/kinesis-telemetry-extension"
	sampleName       = "hello"
	samplePackage    = "./examples/hello"
)

const checkoutHint = "run ktel in a checkout of " + modulePath

// provide puts programs of this module into dir, each under the name of its folder. A released ktel contains them. Any
// other ktel builds them.
func (a *app) provide(ctx context.Context, dir string, packages ...string) error {
	for _, name := range packages {
		name = path.Base(name)
		program, err := embedded.ReadFile("programs/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			return a.build(ctx, dir, packages...)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), program, 0o700) //nolint:gosec // a program must be executable
		}
		if err != nil {
			return cannot(err)
		}
	}
	return nil
}

// build compiles packages of this module into dir, each under the name of its folder.
func (a *app) build(ctx context.Context, dir string, packages ...string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	defer a.whileBuilding(packages)()
	flags, env := ownSettings()
	args := slices.Concat([]string{"build"}, flags, []string{"-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}, packages)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return cannot(fmt.Errorf("build %s: %w\n%s", strings.Join(packages, " and "), err, bytes.TrimSpace(output)))
	}
	return nil
}

// ownSettings returns the flags and variables that ktel itself was built with. With others the go command would compile
// the standard library, and the packages that ktel shares with the extension, a second time.
func ownSettings() (flags, env []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, nil
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "-trimpath", "-tags":
			flags = append(flags, setting.Key+"="+setting.Value)
		case "CGO_ENABLED":
			env = append(env, setting.Key+"="+setting.Value)
		}
	}
	return flags, env
}

// whileBuilding reports which packages ktel builds, and from time to time that the build still runs, until end is called.
func (a *app) whileBuilding(packages []string) (end func()) {
	a.progress("building %s; the first time this takes a minute", strings.Join(packages, " and "))
	start := time.Now()
	return every(progressElsewhere, func() { a.progress("still building, for %v", time.Since(start).Round(time.Second)) })
}

// moduleRoot returns the checkout around the current directory, or the one that this program was built from.
func moduleRoot(ctx context.Context) (string, error) {
	const hint = "name a built extension: 'ktel run --layer-extension PATH', or $KTEL_EXTENSION"
	if _, err := exec.LookPath("go"); err != nil {
		return "", cannot(errors.New("the go command, which builds the extension, is not in PATH"),
			"install Go from https://go.dev/dl/, or "+hint)
	}
	_, source, _, _ := runtime.Caller(0)
	for _, dir := range []string{".", sourceFolder(source)} {
		if dir == "" {
			continue
		}
		// Outside of a module the command fails or names no module. In another module it names that one.
		cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}")
		cmd.Dir = dir
		output, err := cmd.Output()
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(output)) { // a workspace has several modules
			if path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t"); path == modulePath && dir != "" {
				return dir, nil
			}
		}
	}
	return "", cannot(errors.New("the source of the extension is neither here nor where ktel was built"),
		checkoutHint, "or "+hint)
}

// sourceFolder returns the folder of a source file that the compiler recorded, or "" if it does not exist or was trimmed.
func sourceFolder(file string) string {
	dir := filepath.Dir(file)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() || !filepath.IsAbs(dir) {
		return ""
	}
	return dir
}
