// Package telemetry adds kinesis-telemetry-extension to the functions of a CDK app:
//
//	telemetry.FromParameters(stack, "Telemetry", "").Instrument(fn) // with the resources of the deployed stack
//	telemetry.New(stack, "Telemetry", telemetry.Props{}).Instrument(fn) // with its own stream and layers
//
// Like the constructs of the CDK, those of this package panic on failure. If the caller can fix the cause, the value is a
// UsageError.
package telemetry

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// StreamVariable is the environment variable with the extension's stream: a name, or an ARN.
const StreamVariable = "KINESIS_TELEMETRY_STREAM"

// The environment variables of the role that the extension assumes.
const (
	RoleVariable        = "KINESIS_TELEMETRY_ROLE_ARN"
	ExternalIDVariable  = "KINESIS_TELEMETRY_ROLE_EXTERNAL_ID"
	SessionNameVariable = "KINESIS_TELEMETRY_ROLE_SESSION_NAME"
)

// The names of Lambda's architectures.
const (
	arm64 = "arm64"
	amd64 = "x86_64"
)

// UsageError is the value of a panic. It names the wrong argument and the fix.
type UsageError string

func (e UsageError) Error() string { return string(e) }

func fail(format string, args ...any) {
	panic(UsageError("kinesis-telemetry-extension: " + fmt.Sprintf(format, args...)))
}

// Telemetry has the resources that a function needs to ship its telemetry: a layer, a policy and the name of a stream.
type Telemetry struct {
	// Policy has the permissions that the extension needs, and no others.
	Policy awsiam.IManagedPolicy
	// Stream is the value of KINESIS_TELEMETRY_STREAM.
	Stream *string
	// Role is the role that instrumented functions assume. New sets it. After FromParameters the caller sets it, if the deployed
	// stack has a role.
	Role Role

	layer func(architecture string) awslambda.ILayerVersion
	// owner is the stack with the layers as resources; nil if only their ARNs are known.
	owner awscdk.Stack
	// in returns the resources for functions of another stack; nil if there is an owner.
	in           func(stack awscdk.Stack) *Telemetry
	instrumented map[string]bool
}

// FromParameters returns the layers, policy and stream of a deployed stack, from its SSM parameters. CloudFormation
// reads them at each deployment. prefix begins the parameters' names; "" is DefaultParameterPrefix.
//
// It can instrument functions of any stack. Each stack reads the parameters itself, because a value that one stack
// imports from another cannot change. Policy and Stream are for the scope's own stack.
func FromParameters(scope constructs.Construct, id, prefix string) *Telemetry {
	names := namesOf(prefix)
	scope = constructs.NewConstruct(scope, jsii.String(id))
	t := fromParameters(scope, names)
	stacks := map[string]*Telemetry{*root(awscdk.Stack_Of(scope)).Node().Path(): t}
	t.in = func(stack awscdk.Stack) *Telemetry {
		path := *stack.Node().Path()
		if stacks[path] == nil {
			// With its whole path as the name it does not collide with the other stack's constructs.
			stacks[path] = fromParameters(constructs.NewConstruct(stack, scope.Node().Path()), names)
		}
		return stacks[path]
	}
	return t
}

// fromParameters reads the parameters in the scope's stack.
func fromParameters(scope constructs.Construct, names parameterNames) *Telemetry {
	read := func(name string) *string { return awsssm.StringParameter_ValueForStringParameter(scope, &name, nil) }
	layers := map[string]awslambda.ILayerVersion{}
	return &Telemetry{
		Policy: awsiam.ManagedPolicy_FromManagedPolicyArn(scope, jsii.String("Policy"), read(names.policy)),
		Stream: read(names.stream),
		layer: func(architecture string) awslambda.ILayerVersion {
			if layers[architecture] == nil {
				layers[architecture] = awslambda.LayerVersion_FromLayerVersionArn(
					scope, jsii.String("Layer-"+architecture), read(names.layers[architecture]))
			}
			return layers[architecture]
		},
		instrumented: map[string]bool{},
	}
}

// Instrument adds the extension to functions: the layer of the function's architecture, the policy to its role, and the
// stream's name, and the role to assume if there is one, to its environment. It does not change a function that already has the extension.
func (t *Telemetry) Instrument(functions ...awslambda.Function) {
	t.Role.check()
	for _, fn := range functions {
		path := *fn.Node().Path()
		if t.instrumented[path] {
			continue
		}
		t.check(fn, path)
		has := t
		if t.in != nil {
			has = t.in(root(fn.Stack()))
		}
		fn.AddLayers(has.layer(*fn.Architecture().Name()))
		fn.AddEnvironment(jsii.String(StreamVariable), has.Stream, nil)
		for _, variable := range [][2]string{
			{RoleVariable, t.Role.ARN}, {ExternalIDVariable, t.Role.ExternalID}, {SessionNameVariable, t.Role.SessionName},
		} {
			if variable[1] != "" {
				fn.AddEnvironment(&variable[0], &variable[1], nil)
			}
		}
		fn.Role().AddManagedPolicy(has.Policy)
		t.instrumented[path] = true
	}
}

// check refuses a function that would fail to deploy, the first or the second time.
func (t *Telemetry) check(fn awslambda.Function, path string) {
	if *fn.Runtime().Name() == "FROM_IMAGE" {
		fail("%s is a container image, and Lambda has no layers for images: copy the extension to /opt/extensions/ of "+
			"the image instead (see deploy/container), add Policy to the function's role and set %s", path, StreamVariable)
	}
	if name := *fn.Architecture().Name(); name != arm64 && name != amd64 {
		fail("%s is of the architecture %q: there are layers for %s and %s", path, name, arm64, amd64)
	}
	if t.owner != nil && *root(t.owner).Node().Path() != *root(fn.Stack()).Node().Path() {
		fail("%s is in another stack than the layer. CloudFormation would refuse every later version of the layer, "+
			"since an export that is in use cannot change: read the layer's SSM parameter with "+
			"telemetry.FromParameters, or call telemetry.New in the function's stack", path)
	}
}

// root returns the stack that a nested stack is deployed with.
func root(stack awscdk.Stack) awscdk.Stack {
	for stack.NestedStackParent() != nil {
		stack = stack.NestedStackParent()
	}
	return stack
}
