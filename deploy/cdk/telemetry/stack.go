package telemetry

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

const (
	// DefaultStackName is the name of the stack whose parameters have the default prefix.
	DefaultStackName = "TelemetryKinesisExtension"
	// DefaultParameterPrefix is the prefix of that stack's SSM parameters.
	DefaultParameterPrefix = "/telemetry/kinesis"
)

// StackProps are the settings of NewStack.
type StackProps struct {
	awscdk.StackProps
	Props
	// ParameterPrefix is the prefix of the SSM parameters. "" is DefaultParameterPrefix, followed by the stack's name
	// unless that is DefaultStackName. So two stacks can exist in one account and region.
	ParameterPrefix string
	// DemoDir is the folder of `bootstrap`, the program of the demo function; "" leaves the function out.
	DemoDir string
}

// parameterNames are the names of a stack's SSM parameters.
type parameterNames struct {
	layers         map[string]string // by architecture
	policy, stream string
}

var parameterPrefix = regexp.MustCompile(`^(/[a-zA-Z0-9_.-]+){1,10}$`)

func namesOf(prefix string) parameterNames {
	if prefix == "" {
		prefix = DefaultParameterPrefix
	}
	lower := strings.ToLower(prefix)
	if !parameterPrefix.MatchString(prefix) || strings.HasPrefix(lower, "/aws") || strings.HasPrefix(lower, "/ssm") {
		fail("%q cannot be a prefix of SSM parameters: it must look like %s, without a slash at the end, and must not "+
			"begin with /aws or /ssm, which are reserved", prefix, DefaultParameterPrefix)
	}
	return parameterNames{
		layers: map[string]string{arm64: prefix + "/extension/arn", amd64: prefix + "/extension/x86_64/arn"},
		policy: prefix + "/runtime/policy/arn",
		stream: prefix + "/stream/name",
	}
}

// NewStack creates a stack with the resources of New, with SSM parameters and outputs that publish them, and a demo function.
func NewStack(scope constructs.Construct, id string, props StackProps) awscdk.Stack {
	if props.Description == nil {
		props.Description = jsii.String("Ships the telemetry of Lambda functions to a Kinesis data stream")
	}
	stack := awscdk.NewStack(scope, &id, &props.StackProps)
	if props.ParameterPrefix == "" && *stack.StackName() != DefaultStackName {
		props.ParameterPrefix = DefaultParameterPrefix + "/" + *stack.StackName()
	}
	names := namesOf(props.ParameterPrefix)
	t := New(stack, "Telemetry", props.Props)
	parameters := constructs.NewConstruct(stack, jsii.String("Parameters"))
	tell := func(id, name, description string, value *string) {
		awsssm.NewStringParameter(parameters, &id, &awsssm.StringParameterProps{
			ParameterName: &name, Description: &description, StringValue: value,
		})
		awscdk.NewCfnOutput(stack, &id, &awscdk.CfnOutputProps{
			Description: jsii.String(description + ", also in the SSM parameter " + name), Value: value,
		})
	}
	tell("ExtensionArn", names.layers[arm64], "The layer's version for arm64", t.layer(arm64).LayerVersionArn())
	tell("ExtensionX8664Arn", names.layers[amd64], "The layer's version for x86_64", t.layer(amd64).LayerVersionArn())
	tell("RuntimePolicyArn", names.policy, "The policy for a function's role", t.Policy.ManagedPolicyArn())
	tell("StreamName", names.stream, "The value of "+StreamVariable, t.Stream)
	if props.DemoDir != "" {
		newDemo(stack, props.DemoDir, t)
	}
	return stack
}

// newDemo creates a function of examples/hello that ships its telemetry.
func newDemo(stack awscdk.Stack, dir string, t *Telemetry) {
	if _, err := os.Stat(filepath.Join(dir, "bootstrap")); err != nil {
		fail("the demo function is missing: %v. Run `make demo-function` at the root of kinesis-telemetry-extension, "+
			"or leave the function out with `-c demo=false` (an empty StackProps.DemoDir)", err)
	}
	scope := constructs.NewConstruct(stack, jsii.String("Demo"))
	logs := awslogs.NewLogGroup(scope, jsii.String("Logs"), &awslogs.LogGroupProps{
		Retention: awslogs.RetentionDays_ONE_WEEK, RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	// This role may write only to this log group; AWSLambdaBasicExecutionRole may write to all.
	role := awsiam.NewRole(scope, jsii.String("Role"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
	})
	logs.GrantWrite(role)
	fn := awslambda.NewFunction(scope, jsii.String("Function"), &awslambda.FunctionProps{
		Description:   jsii.String("Prints what its event asks for, to show kinesis-telemetry-extension at work"),
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Architecture:  awslambda.Architecture_ARM_64(),
		Code:          awslambda.Code_FromAsset(&dir, nil),
		Handler:       jsii.String("bootstrap"),
		MemorySize:    jsii.Number(128),
		Timeout:       awscdk.Duration_Seconds(jsii.Number(30)),
		Role:          role,
		LogGroup:      logs,
		LoggingFormat: awslambda.LoggingFormat_JSON,
	})
	t.Instrument(fn)
	awscdk.NewCfnOutput(stack, jsii.String("DemoFunctionName"), &awscdk.CfnOutputProps{
		Description: jsii.String("A function that ships its telemetry, to try it with"), Value: fn.FunctionName(),
	})
}
