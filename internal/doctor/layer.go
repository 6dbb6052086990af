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

// Prefixes of the names and descriptions of the extension's layers, unless ktel publish was given other names.
const (
	LayerName        = "kinesis-telemetry-extension"
	LayerDescription = "Ships a function's telemetry to a Kinesis data stream"
)

// ParametersPath is the prefix of the names of the SSM parameters with the layers' ARNs, unless ktel publish was given
// another.
const ParametersPath = "/telemetry/kinesis/extension"

// maxLayers is how many layers a function can have.
const maxLayers = 5

// checkLayer looks for the extension among the function's layers by the layer's name. Unless --layer gives another name,
// it looks at the descriptions, too.
func (e *examiner) checkLayer(ctx context.Context) {
	f := e.function
	if f.PackageType == awsapi.PackageImage {
		e.add(layerCheck, NotChecked, "a container image has no layers, and its content cannot be checked from here",
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
			hidden = fmt.Sprintf("; %s cannot be read: %s", l.Arn, Reason(err))
		} else if strings.HasPrefix(version.Description, LayerDescription) {
			e.checkArchitecture(l.Arn, version, nil)
			return
		}
	}
	if hidden != "" {
		e.add(layerCheck, NotChecked, seen+hidden, "if it contains the extension, give --layer NAME; otherwise "+e.attach(""))
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

// layerVersion reads a layer version from Lambda.
func (e *examiner) layerVersion(ctx context.Context, arn string) (*awsapi.LayerVersion, error) {
	cut := strings.LastIndexByte(arn, ':')
	version, err := strconv.ParseInt(arn[cut+1:], 10, 64)
	if err != nil {
		return nil, errors.New("it names no version")
	}
	layer := arn[:cut]
	if part := strings.Split(layer, ":"); len(part) > 6 && part[4] == e.account {
		layer = part[6] // a layer of the same account can be named without an ARN
	}
	return awsapi.GetLayerVersion(ctx, e.aws, layer, version)
}

// checkArchitecture checks the layer version that contains the extension.
func (e *examiner) checkArchitecture(arn string, version *awsapi.LayerVersion, err error) {
	f := e.function
	switch {
	case err != nil:
		e.add(layerCheck, NotChecked, arn+": its architecture cannot be read: "+Reason(err),
			"it must be "+f.arch+"; these credentials need "+statement("lambda:GetLayerVersion", arn))
	case len(version.CompatibleArchitectures) == 0:
		e.add(layerCheck, NotChecked, arn+" names no architecture", "it must be "+f.arch+"; ktel publish sets it")
	case !slices.Contains(version.CompatibleArchitectures, f.arch):
		e.add(layerCheck, Problem, fmt.Sprintf("%s is for %s, the function runs on %s", arn,
			words(version.CompatibleArchitectures), f.arch), e.attach(arn))
	default:
		e.ok(layerCheck, "%s, for %s", arn, f.arch)
	}
}

// attach returns the command that adds the right layer to the function's layers, in place of the wrong one if there is one.
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
	arns = append(arns, fmt.Sprintf(`"$(aws ssm get-parameter --region %s --name %s --query Parameter.Value --output text)"`,
		e.aws.Region, parameter))
	command := fmt.Sprintf("aws lambda update-function-configuration --region %s --function-name %s --layers %s", e.aws.Region,
		f.FunctionName, strings.Join(arns, " "))
	if len(arns) > maxLayers {
		command = "leave one layer out, a function can have five: " + command
	}
	if v := f.Version; v != "" && v != "$LATEST" {
		command += "; then publish a new version: version " + v + " cannot be changed"
	}
	return command
}
