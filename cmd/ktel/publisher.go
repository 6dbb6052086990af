package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/doctor"
)

// Outcomes of a step.
const (
	wasPublished = "published"
	wasSet       = "set"
	isUnchanged  = "unchanged"
	wouldPublish = "would publish"
	wouldSet     = "would set"
	hasFailed    = "failed"
)

// step is the outcome for one layer or one parameter in a region.
type step struct {
	Region    string `json:"region"`
	Layer     string `json:"layer,omitempty"` // name
	Parameter string `json:"parameter,omitempty"`
	Outcome   string `json:"outcome"`
	ARN       string `json:"arn,omitempty"` // of the layer version
	Was       string `json:"was,omitempty"` // ARN in the parameter before
	Error     string `json:"error,omitempty"`
}

// publisher publishes layers one after the other, and records the outcomes.
type publisher struct {
	aws     aws.Config
	account string // empty if unknown
	dryRun  bool
	done    []step
	// unreachable are the regions that did not answer.
	unreachable []string
}

// fail records why a step failed.
func (p *publisher) fail(s *step, err error) {
	s.Outcome, s.Error = hasFailed, doctor.Reason(err)
	if _, network := errors.AsType[net.Error](err); network && !slices.Contains(p.unreachable, s.Region) {
		p.unreachable = append(p.unreachable, s.Region)
	}
}

// regionTimeout limits the steps for one layer in one region.
const regionTimeout = 2 * time.Minute

// publish updates one layer and its parameter in a region.
func (p *publisher) publish(ctx context.Context, region string, l layer) {
	ctx, cancel := context.WithTimeout(ctx, regionTimeout)
	defer cancel()
	cfg := p.aws.Copy()
	cfg.Region = region
	s := step{Region: region, Layer: l.name}
	var err error
	if s.ARN, s.Outcome, err = p.ensureLayer(ctx, cfg, l); err != nil {
		p.fail(&s, err)
	}
	p.done = append(p.done, s)
	if err != nil || l.parameter == "" {
		return
	}
	s = step{Region: region, Parameter: l.parameter, ARN: s.ARN}
	if s.Was, s.Outcome, err = p.ensureParameter(ctx, cfg, l, s.ARN); err != nil {
		p.fail(&s, err)
	}
	p.done = append(p.done, s)
}

// ensureLayer publishes a version, unless the newest one has the same bytes.
func (p *publisher) ensureLayer(ctx context.Context, cfg aws.Config, l layer) (arn, outcome string, err error) {
	newest, err := awsapi.NewestLayerVersion(ctx, cfg, l.name)
	if err != nil {
		return "", "", fmt.Errorf("list its versions: %w", err)
	}
	if newest > 0 {
		there, err := awsapi.GetLayerVersion(ctx, cfg, l.name, newest)
		if err != nil {
			return "", "", fmt.Errorf("get version %d: %w", newest, err)
		}
		if there.Content.CodeSha256 == l.sha256 {
			return there.LayerVersionArn, isUnchanged, nil
		}
	}
	if p.dryRun {
		return "", wouldPublish, nil
	}
	arn, err = awsapi.PublishLayerVersion(ctx, cfg, l.name, &awsapi.NewLayerVersion{
		Content:                 awsapi.LayerContent{ZipFile: l.content},
		CompatibleArchitectures: []string{l.architecture},
		Description:             l.description, LicenseInfo: "MIT",
	}) // no runtimes: the layer works with all of them
	if err != nil {
		return "", "", fmt.Errorf("publish: %w", err)
	}
	return arn, wasPublished, nil
}

// ensureParameter puts the ARN, unless the parameter has it already. A dry run has no ARN yet, which counts as a new one.
// It returns the ARN that it replaces.
func (p *publisher) ensureParameter(ctx context.Context, cfg aws.Config, l layer, arn string) (was, outcome string, err error) {
	there, err := awsapi.GetParameter(ctx, cfg, l.parameter)
	if err != nil && awsapi.ErrorCode(err) != awsapi.ParameterNotFound {
		return "", "", fmt.Errorf("get the parameter: %w", err)
	}
	if err == nil && there != nil {
		if there.Value == arn {
			return "", isUnchanged, nil
		}
		if was, err = p.replaceable(ctx, cfg, there, l); err != nil {
			return "", "", err
		}
	}
	if p.dryRun {
		return was, wouldSet, nil
	}
	err = awsapi.PutParameter(ctx, cfg, awsapi.Parameter{
		Name: l.parameter, Value: arn, Type: awsapi.ParameterString, Overwrite: was != "", Description: l.parameterDescription(),
	})
	if err != nil {
		return "", "", fmt.Errorf("put the parameter: %w", err)
	}
	return was, wasSet, nil
}

// replaceable returns the ARN in a parameter. It fails unless publish stored it, for a version of this layer: publish
// must not overwrite the parameter of a stack or another tool.
func (p *publisher) replaceable(ctx context.Context, cfg aws.Config, there *awsapi.Parameter, l layer) (string, error) {
	value, region := there.Value, cfg.Region
	part := strings.Split(value, ":") // arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION
	isVersion := len(part) == 8 && part[0] == "arn" && part[2] == "lambda" && part[3] == region && (part[4] == p.account || p.account == "") &&
		part[5] == "layer" && part[6] == l.name
	var seen string
	if there.Type != awsapi.ParameterString {
		seen = fmt.Sprintf("it is a %s", there.Type)
	} else if !isVersion {
		seen = fmt.Sprintf("it holds %.200q, no version of the layer", value)
	} else if d, _ := awsapi.ParameterDescription(ctx, cfg, l.parameter); d != "" && d != l.parameterDescription() { // a stack owns the layer
		seen = fmt.Sprintf("it is described as %q", d)
	} else {
		return value, nil
	}
	return "", fmt.Errorf("%s: a stack may own it; choose another --parameters PATH, or first run: "+
		"aws ssm delete-parameter --region %s --name %s", seen, region, l.parameter)
}

// writeSteps writes a line for each layer and each parameter.
func writeSteps(w io.Writer, colors palette, steps []step) {
	regions, names := 0, 0
	for _, s := range steps {
		regions, names = max(regions, len(s.Region)), max(names, len(s.Layer+s.Parameter))
	}
	for _, s := range steps {
		paint, tail := colors.good, s.ARN
		if s.Was != "" {
			tail = s.Was + " → " + cmp.Or(s.ARN, "the new version")
		}
		switch s.Outcome {
		case hasFailed:
			paint, tail = colors.bad, s.Error
		case isUnchanged:
			paint = colors.dim
		case wouldPublish, wouldSet:
			paint = colors.warn
		}
		fmt.Fprintf(w, "  %s  %s  ", pad(printable(s.Region), regions), pad(printable(s.Layer+s.Parameter), names))
		if tail == "" { // a dry run does not know the ARN yet
			fmt.Fprintln(w, paint(s.Outcome))
			continue
		}
		fmt.Fprintln(w, paint(pad(s.Outcome, len(wouldPublish)+1))+printable(tail))
	}
}
