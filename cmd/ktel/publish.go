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

const publishLong = `publish puts the layers that 'make layer' has built into your own AWS account,
in each region given, and notes their ARNs in SSM parameters. What is there
already is left as it is, so that it can be run again at any time.

It is instead of a stack (CDK, CloudFormation, Terraform) that has made those
parameters; beside one, give another --parameters PATH. A parameter that holds
anything but a version of the same layer, or was made otherwise, is left alone.

`

const publishStatuses = `Exit status:
    0  everything is published, or was before
    2  the command line, or a file that it names, is wrong
    4  something could not be published
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
	flags.StringArrayVar(&f.regions, "region", nil, "AWS `REGION` to publish in; repeatable (default: as AWS's tools find it)")
	flags.StringVar(&f.dir, "dir", "build", "`FOLDER` with the zips of 'make layer'")
	flags.StringVar(&f.namePrefix, "name-prefix", doctor.LayerName, "`NAME` of the layers, before -arm64 and -x86_64")
	flags.StringVar(&f.parameters, "parameters", doctor.ParametersPath,
		"`PATH` of the SSM parameters, before /arn and /x86_64/arn; empty for none")
	flags.StringVar(&f.release, "release", version(), "`VERSION` to tell in the layers' description")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&f.json, "json", false, "print what was done as JSON")
	return cmd
}

// layer is one of the zips, and what it becomes.
type layer struct {
	name         string
	architecture string
	parameter    string // empty for none
	description  string
	content      []byte
	sha256       string // in base64, as Lambda tells it
}

// note is what the layer's parameter is described as.
func (l *layer) note() string {
	return "Layer of the Kinesis telemetry extension for " + l.architecture
}

func (a *app) publish(ctx context.Context, f *publishFlags) error {
	layers, err := f.layers()
	if err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{})) // its errors are told, its warnings are no news
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
	if found.Status == doctor.Problem { // else each layer would say it
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
		hints := []string{"run it again when that is fixed: what is published already stays as it is"}
		for _, region := range p.unreached {
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
		return cannot(fmt.Errorf("write what was done: %w", err))
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
			return nil, usageError("there is no "+path, "'make layer' in the checkout builds it", "--dir names the folder that it is in")
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

// checkLayerZip sees that the extension is where Lambda looks for it, and of the right architecture: a mistake here would
// keep every function with the layer from starting.
func checkLayerZip(content []byte, machine elf.Machine) error {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	name := "extensions/" + extensionName
	file, err := archive.Open(name)
	if err != nil {
		return fmt.Errorf("there is no %s in it", name)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || info.Mode()&0o111 == 0 {
		return errors.New(name + " in it may not be run")
	}
	binary, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	program, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("%s in it is no program of Linux", name)
	}
	if program.Machine != machine {
		return fmt.Errorf("the program in it is for %s", program.Machine)
	}
	return nil
}
