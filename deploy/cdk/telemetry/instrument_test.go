package telemetry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"kinesis-telemetry-extension/deploy/cdk/telemetry"
)

// A user's app with its own stream and layers, and functions of both architectures.
func TestInstrument(t *testing.T) {
	dir := layers(t)
	template := synth(t, func(app awscdk.App) {
		stack := awscdk.NewStack(app, jsii.String("Orders"), nil)
		arm := function(stack, "Arm", awslambda.Architecture_ARM_64())
		intel := function(stack, "Intel", nil)
		nested := function(awscdk.NewNestedStack(stack, jsii.String("Nested"), nil), "Arm", awslambda.Architecture_ARM_64())
		own := telemetry.New(stack, "Telemetry", telemetry.Props{LayerDir: dir})
		own.Instrument(arm, intel, nested)
		own.Instrument(arm) // again
	})["Orders"]
	streamID, _ := only(t, template, "AWS::Kinesis::Stream")
	policyID, _ := only(t, template, "AWS::IAM::ManagedPolicy")
	if len(all(template, "AWS::Lambda::Function")) != 2 {
		t.Fatalf("want 2 functions in %s", text(template))
	}
	for id, function := range all(template, "AWS::Lambda::Function") {
		architecture := "x86_64"
		if strings.HasPrefix(id, "Arm") {
			architecture = "arm64"
		}
		properties := function["Properties"].(object)
		want(t, id+"'s layers", properties["Layers"], fmt.Sprintf(`[{'Ref': '%s'}]`, layerOf(t, template, architecture)))
		want(t, id+"'s environment", properties["Environment"],
			fmt.Sprintf(`{'Variables': {'KINESIS_TELEMETRY_STREAM': {'Ref': '%s'}}}`, streamID))
		policies := text(roleOf(template, properties)["ManagedPolicyArns"])
		if strings.Count(policies, `{"Ref":"`+policyID+`"}`) != 1 {
			t.Errorf("%s's role has the policies %s, want the extension's once", id, policies)
		}
	}
}

// A user's app without zips: every resource comes from the deployed stack's parameters, which each stack reads itself.
func TestInstrumentFromParameters(t *testing.T) {
	templates := synth(t, func(app awscdk.App) {
		orders, billing := awscdk.NewStack(app, jsii.String("Orders"), nil), awscdk.NewStack(app, jsii.String("Billing"), nil)
		deployed := telemetry.FromParameters(orders, "Telemetry", "")
		for _, stack := range []awscdk.Stack{orders, billing} {
			arm1, arm2 := function(stack, "Arm1", awslambda.Architecture_ARM_64()), function(stack, "Arm2", awslambda.Architecture_ARM_64())
			deployed.Instrument(arm1, arm2)
		}
		telemetry.FromParameters(billing, "Telemetry", "/others").Instrument(function(orders, "Other", nil))
	})
	for name, template := range templates {
		read := map[string]string{} // parameters of the template, by the SSM parameter's name
		for id, parameter := range template["Parameters"].(object) {
			read[parameter.(object)["Default"].(string)] = id
			want(t, id, parameter.(object)["Type"], `'AWS::SSM::Parameter::Value<String>'`)
		}
		if read["/telemetry/kinesis/extension/x86_64/arn"] != "" {
			t.Errorf("%s uses the layer for x86_64, which no function needs", name)
		}
		if text := text(template); template["Outputs"] != nil || strings.Contains(text, "ImportValue") {
			t.Errorf("%s refers to another stack: %s", name, text)
		}
		for id, function := range all(template, "AWS::Lambda::Function") {
			layer, prefix := "/extension/arn", "/telemetry/kinesis"
			if strings.HasPrefix(id, "Other") {
				layer, prefix = "/extension/x86_64/arn", "/others"
			}
			id = name + "/" + id
			properties := function["Properties"].(object)
			want(t, id+"'s layers", properties["Layers"], fmt.Sprintf(`[{'Ref': '%s'}]`, read[prefix+layer]))
			want(t, id+"'s environment", properties["Environment"],
				fmt.Sprintf(`{'Variables': {'KINESIS_TELEMETRY_STREAM': {'Ref': '%s'}}}`, read[prefix+"/stream/name"]))
			policies := text(roleOf(template, properties)["ManagedPolicyArns"])
			if !strings.Contains(policies, `{"Ref":"`+read[prefix+"/runtime/policy/arn"]+`"}`) {
				t.Errorf("%s's role has the policies %s, want the extension's among them", id, policies)
			}
		}
	}
}

// The deployed stack's policy allows functions to assume its role. The caller passes that role to them.
func TestInstrumentFromParametersWithARole(t *testing.T) {
	templates := synth(t, func(app awscdk.App) {
		orders, billing := awscdk.NewStack(app, jsii.String("Orders"), nil), awscdk.NewStack(app, jsii.String("Billing"), nil)
		deployed := telemetry.FromParameters(orders, "Telemetry", "")
		deployed.Role = telemetry.Role{ARN: existingRole, ExternalID: "between/us"}
		deployed.Instrument(function(orders, "One", nil), function(billing, "Two", nil))
	})
	for name, template := range templates {
		_, function := only(t, template, "AWS::Lambda::Function")
		variables := function["Properties"].(object)["Environment"].(object)["Variables"].(object)
		delete(variables, "KINESIS_TELEMETRY_STREAM")
		want(t, name+"'s environment", variables, `{
			'KINESIS_TELEMETRY_ROLE_ARN': '`+existingRole+`', 'KINESIS_TELEMETRY_ROLE_EXTERNAL_ID': 'between/us'}`)
	}
	said := mistake(t, func() {
		deployed := telemetry.FromParameters(awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Orders"), nil), "Telemetry", "")
		deployed.Role = telemetry.Role{ARN: "writer"}
		deployed.Instrument()
	})
	if !strings.Contains(said, "not the ARN of a role") {
		t.Errorf("it says %q", said)
	}
}

func TestInstrumentFromParametersOfAnotherStack(t *testing.T) {
	template := synth(t, func(app awscdk.App) {
		stack := awscdk.NewStack(app, jsii.String("Orders"), nil)
		telemetry.FromParameters(stack, "Telemetry", "/telemetry/kinesis/Second").Instrument(function(stack, "Intel", nil))
	})["Orders"]
	if parameters := text(template["Parameters"]); !strings.Contains(parameters, `"/telemetry/kinesis/Second/extension/x86_64/arn"`) {
		t.Errorf("the template reads %s", parameters)
	}
}

func TestInstrumentRefuses(t *testing.T) {
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	stack := awscdk.NewStack(app, jsii.String("Orders"), nil)
	own := telemetry.New(stack, "Telemetry", telemetry.Props{LayerDir: layers(t)})

	repository := awsecr.Repository_FromRepositoryName(stack, jsii.String("Repository"), jsii.String("orders"))
	image := awslambda.NewDockerImageFunction(stack, jsii.String("Image"), &awslambda.DockerImageFunctionProps{
		Code: awslambda.DockerImageCode_FromEcr(repository, nil),
	})
	said := mistake(t, func() { own.Instrument(image) })
	if !strings.Contains(said, "Orders/Image is a container image") || !strings.Contains(said, "deploy/container") {
		t.Errorf("of an image it says %q", said)
	}

	elsewhere := function(awscdk.NewStack(app, jsii.String("Elsewhere"), nil), "Function", nil)
	said = mistake(t, func() { own.Instrument(elsewhere) })
	if !strings.Contains(said, "Elsewhere/Function is in another stack") || !strings.Contains(said, "telemetry.FromParameters") {
		t.Errorf("of a function of another stack it says %q", said)
	}
}

// roleOf returns the properties of a function's role.
func roleOf(template, function object) object {
	id := function["Role"].(object)["Fn::GetAtt"].([]any)[0].(string)
	return all(template, "AWS::IAM::Role")[id]["Properties"].(object)
}
