package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/doctor"
)

const publishLong = `publish publishes the layers that 'make layer' has built, into your AWS account
and each region given, and stores their ARNs in SSM parameters. It skips layers
and parameters that are up to date, so you can run it again at any time.

Use it instead of a stack (CDK, CloudFormation, Terraform). If a stack owns these
parameters, choose another --parameters PATH. publish never overwrites a
parameter that another tool created, or that is not a version of the same layer.

`

const publishStatuses = `Exit status:
    0  everything is published
    2  the command line, or a file that it names, is wrong
    4  publishing failed, in part or completely
  130  interrupted`

type publishFlags struct {
	regions    []string
	dir        string
	namePrefix string
	parameters string
	release    string
	dryRun     bool
	json       bool
}

func (a *app) publishCommand() *cobra.Command {
	f := &publishFlags{}
	cmd := &cobra.Command{
		Use:   "publish [flags]",
		Short: "Publish the layers into your AWS account",
		Long:  publishLong + publishStatuses,
		Example: `  make layer && ktel publish --region eu-west-1 --region us-east-1
  ktel publish --dry-run`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments("ktel publish --region REGION"),
		RunE:                  func(cmd *cobra.Command, _ []string) error { return a.publish(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.regions, "region", nil, "AWS `REGION` to publish in; repeatable (default: the one that AWS's tools use)")
	flags.StringVar(&f.dir, "dir", "build", "`FOLDER` with the zips of 'make layer'")
	flags.StringVar(&f.namePrefix, "name-prefix", doctor.LayerName, "prefix of the layers' `NAME`, followed by -arm64 and -x86_64")
	flags.StringVar(&f.parameters, "parameters", doctor.ParametersPath,
		"prefix of the SSM parameters' `PATH`, followed by /arn and /x86_64/arn; empty: no parameters")
	flags.StringVar(&f.release, "release", version(), "`VERSION` for the layers' description")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be done, and change nothing")
	flags.BoolVar(&f.json, "json", false, "print the outcomes as JSON")
	return cmd
}

// layer is the layer of one architecture, and its parameter.
type layer struct {
	name         string
	architecture string
	parameter    string // empty for none
	description  string
	content      []byte
	sha256       string // in base64, as in Lambda's API
}

// parameterDescription returns the description of the layer's parameter.
func (l *layer) parameterDescription() string {
	return "Layer of the Kinesis telemetry extension for " + l.architecture
}

func (a *app) publish(ctx context.Context, f *publishFlags) error {
	layers, err := f.layers()
	if err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{})) // errors are reported; warnings are not
	if err != nil {
		return cannot(fmt.Errorf("load the AWS configuration: %w", err))
	}
	if len(f.regions) == 0 {
		if cfg.Region == "" {
			return usageError("no region is set", "set AWS_REGION, or give --region")
		}
		f.regions = []string{cfg.Region}
	}
	if cfg.Region == "" {
		cfg.Region = f.regions[0]
	}
	account, found := doctor.Identify(ctx, cfg)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if found.Status == doctor.Problem { // otherwise each layer would report it
		return cannot(errors.New(found.Seen), found.Fix)
	}
	p := &publisher{aws: cfg, account: account, dryRun: f.dryRun}
	failed := 0
	for _, region := range f.regions {
		before := len(p.done)
		for _, l := range layers {
			p.publish(ctx, region, l)
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), a.showPublished(f, p.done))
		}
		for _, s := range p.done[before:] {
			if s.Error != "" {
				failed++
				break
			}
		}
	}
	if err := a.showPublished(f, p.done); err != nil {
		return err
	}
	if failed > 0 {
		hints := []string{"fix this and run publish again: it skips published layers"}
		for _, region := range p.unreachable {
			hints = slices.Insert(hints, 0, fmt.Sprintf("let this machine reach Lambda and SSM in %s; is there a region %[1]s?", region))
		}
		return cannot(fmt.Errorf("publishing failed in %d of %s", failed, plural(len(f.regions), "region")), hints...)
	}
	return nil
}

func (a *app) showPublished(f *publishFlags, steps []step) error {
	var err error
	if f.json {
		err = writeJSON(a.stdout, map[string]any{"dryRun": f.dryRun, "steps": steps})
	} else {
		var b bytes.Buffer
		writeSteps(&b, a.paletteFor(a.stdout), steps)
		_, err = a.stdout.Write(b.Bytes())
	}
	if err != nil {
		return cannot(fmt.Errorf("print the outcomes: %w", err))
	}
	return nil
}

// layers reads and checks the zips of both architectures.
func (f *publishFlags) layers() ([]layer, error) {
	layers := []layer{
		{architecture: awsapi.ArchitectureARM64, parameter: "/arn"},
		{architecture: awsapi.ArchitectureX8664, parameter: "/x86_64/arn"},
	}
	machines := map[string]elf.Machine{awsapi.ArchitectureARM64: elf.EM_AARCH64, awsapi.ArchitectureX8664: elf.EM_X86_64}
	for i := range layers {
		l := &layers[i]
		path := filepath.Join(f.dir, fmt.Sprintf("%s-%s.zip", extensionName, l.architecture))
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usageError("there is no "+path, "'make layer' in the checkout builds it", "name its folder by --dir")
		}
		if err != nil {
			return nil, usageError(fmt.Sprintf("cannot read the layer: %v", err))
		}
		if err := checkLayerZip(content, machines[l.architecture]); err != nil {
			return nil, usageError(fmt.Sprintf("%s is not the layer for %s: %v", path, l.architecture, err),
				"'make layer' in the checkout builds it")
		}
		sum := sha256.Sum256(content)
		l.name = f.namePrefix + "-" + l.architecture
		l.content, l.sha256 = content, base64.StdEncoding.EncodeToString(sum[:])
		l.description = doctor.LayerDescription + ", " + f.release
		if f.parameters == "" {
			l.parameter = ""
		} else {
			l.parameter = strings.TrimSuffix(f.parameters, "/") + l.parameter
		}
	}
	return layers, nil
}

// checkLayerZip checks that the zip contains the extension where Lambda looks for it, built for the architecture.
// With a wrong layer no function would start.
func checkLayerZip(content []byte, machine elf.Machine) error {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	name := "extensions/" + extensionName
	file, err := archive.Open(name)
	if err != nil {
		return fmt.Errorf("it does not contain %s", name)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || info.Mode()&0o111 == 0 {
		return errors.New("its " + name + " is not executable")
	}
	binary, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	program, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("its %s is not a Linux program", name)
	}
	if program.Machine != machine {
		return fmt.Errorf("its program is for %s", program.Machine)
	}
	return nil
}
