package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kinesis-telemetry-extension/internal/awsapi"
)

// What the names and descriptions of the extension's layers begin with, unless they were given other names.
const (
	LayerName        = "kinesis-telemetry-extension"
	LayerDescription = "Ships a function's telemetry to a Kinesis data stream"
)

// ParametersPath is what the names of the SSM parameters with the layers' ARNs begin with, unless it was said otherwise.
const ParametersPath = "/telemetry/kinesis/extension"

// mostLayers is how many a function may have.
const mostLayers = 5

// checkLayer looks for the extension among the function's layers: by the layer's name and, unless another than ours was
// asked for, by its description.
func (e *examiner) checkLayer(ctx context.Context) {
	f := e.function
	if f.PackageType == awsapi.PackageImage {
		e.add(layerCheck, NotChecked, "a container image has no layers; what is in it cannot be seen from here",
			"docker run --rm --entrypoint ls IMAGE -l /opt/extensions (it must list "+LayerName+")")
		return
	}
	for _, l := range f.Layers {
		if strings.Contains(layerName(l.Arn), e.options.Layer) {
			version, err := e.layerVersion(ctx, l.Arn)
			e.checkArchitecture(l.Arn, version, err)
			return
		}
	}
	seen := fmt.Sprintf("none of the function's %d layers is named %s", len(f.Layers), e.options.Layer)
	if e.options.Layer != LayerName {
		e.add(layerCheck, Problem, seen, e.attach(""))
		return
	}
	hidden := ""
	for _, l := range f.Layers {
		version, err := e.layerVersion(ctx, l.Arn)
		if err != nil {
			hidden = fmt.Sprintf("; %s cannot be looked at: %s", l.Arn, Reason(err))
		} else if strings.HasPrefix(version.Description, LayerDescription) {
			e.checkArchitecture(l.Arn, version, nil)
			return
		}
	}
	if hidden != "" {
		e.add(layerCheck, NotChecked, seen+hidden, "if it holds the extension, give --layer NAME; else "+e.attach(""))
		return
	}
	e.add(layerCheck, Problem, seen+", or described as the extension", e.attach(""))
}

func layerName(arn string) string {
	part := strings.Split(arn, ":") // arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION
	if len(part) < 8 {
		return arn
	}
	return part[6]
}

// layerVersion asks for a layer version.
func (e *examiner) layerVersion(ctx context.Context, arn string) (*awsapi.LayerVersion, error) {
	cut := strings.LastIndexByte(arn, ':')
	version, err := strconv.ParseInt(arn[cut+1:], 10, 64)
	if err != nil {
		return nil, errors.New("it names no version")
	}
	layer := arn[:cut]
	if part := strings.Split(layer, ":"); len(part) > 6 && part[4] == e.account {
		layer = part[6] // of the own account; it is known by its name alone, too
	}
	return awsapi.GetLayerVersion(ctx, e.aws, layer, version)
}

// checkArchitecture judges the layer version that holds the extension.
func (e *examiner) checkArchitecture(arn string, version *awsapi.LayerVersion, err error) {
	f := e.function
	switch {
	case err != nil:
		e.add(layerCheck, NotChecked, arn+": its architecture cannot be seen: "+Reason(err),
			"it must be "+f.arch+"; these credentials need "+statement("lambda:GetLayerVersion", arn))
	case len(version.CompatibleArchitectures) == 0:
		e.add(layerCheck, NotChecked, arn+" does not say its architecture", "it must be "+f.arch+"; ktel publish says it")
	case !slices.Contains(version.CompatibleArchitectures, f.arch):
		e.add(layerCheck, Problem, fmt.Sprintf("%s is of %s, the function of %s", arn, words(version.CompatibleArchitectures), f.arch), e.attach(arn))
	default:
		e.ok(layerCheck, "%s, of %s", arn, f.arch)
	}
}

// attach is the command that gives the function the right layer in place of a wrong one, beside those that it has.
func (e *examiner) attach(wrong string) string {
	f := e.function
	var arns []string
	for _, l := range f.Layers {
		if l.Arn != wrong {
			arns = append(arns, l.Arn)
		}
	}
	parameter := ParametersPath + "/arn"
	if f.arch == awsapi.ArchitectureX8664 {
		parameter = ParametersPath + "/x86_64/arn"
	}
	arns = append(arns, fmt.Sprintf(`"$(aws ssm get-parameter --region %s --name %s --query Parameter.Value --output text)"`, e.aws.Region, parameter))
	command := fmt.Sprintf("aws lambda update-function-configuration --region %s --function-name %s --layers %s", e.aws.Region,
		f.FunctionName, strings.Join(arns, " "))
	if len(arns) > mostLayers {
		command = "leave one out, for a function takes no more than five: " + command
	}
	if v := f.Version; v != "" && v != "$LATEST" {
		command += "; then publish a new version, for version " + v + " cannot be changed"
	}
	return command
}
