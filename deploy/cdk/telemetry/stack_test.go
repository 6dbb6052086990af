package telemetry_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"kinesis-telemetry-extension/deploy/cdk/telemetry"
)

const (
	existingStream = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
	existingRole   = "arn:aws:iam::210987654321:role/telemetry/writer"
	existingKey    = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func TestStackHasAllResources(t *testing.T) {
	template := stack(t, telemetry.DefaultStackName, telemetry.StackProps{DemoDir: demo(t)})
	counts := map[string]int{}
	for _, resource := range template["Resources"].(object) {
		counts[resource.(object)["Type"].(string)]++
	}
	want(t, "the stack", counts, `{'AWS::Kinesis::Stream': 1, 'AWS::Lambda::LayerVersion': 2, 'AWS::IAM::ManagedPolicy': 1,
		'AWS::SSM::Parameter': 4, 'AWS::Lambda::Function': 1, 'AWS::IAM::Role': 1, 'AWS::IAM::Policy': 1, 'AWS::Logs::LogGroup': 1}`)

	streamID, stream := only(t, template, "AWS::Kinesis::Stream")
	want(t, "the stream", stream["Properties"], `{'StreamModeDetails': {'StreamMode': 'ON_DEMAND'}, 'RetentionPeriodHours': 24,
		'StreamEncryption': {'EncryptionType': 'KMS', 'KeyId': 'alias/aws/kinesis'}}`)
	want(t, "its end", stream["DeletionPolicy"], `'Delete'`)

	for _, architecture := range []string{"arm64", "x86_64"} {
		layer := all(template, "AWS::Lambda::LayerVersion")[layerOf(t, template, architecture)]
		prefix := "kinesis-telemetry-extension-" + architecture + "-" + telemetry.DefaultStackName + "-"
		if name := layer["Properties"].(object)["LayerName"].(string); !strings.HasPrefix(name, prefix) {
			t.Errorf("the layer's name %q does not begin with %q", name, prefix)
		}
		want(t, "what an update leaves of a layer", layer["UpdateReplacePolicy"], `'Retain'`)
		want(t, "what a deletion leaves of a layer", layer["DeletionPolicy"], `'Delete'`)
	}

	policyID, policy := only(t, template, "AWS::IAM::ManagedPolicy")
	want(t, "the policy", policy["Properties"].(object)["PolicyDocument"], fmt.Sprintf(`{'Version': '2012-10-17', 'Statement': [
		{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': {'Fn::GetAtt': ['%s', 'Arn']}}]}`, streamID))

	want(t, "the parameters", parameters(template), fmt.Sprintf(`{
		'/telemetry/kinesis/extension/arn': {'Ref': '%s'}, '/telemetry/kinesis/extension/x86_64/arn': {'Ref': '%s'},
		'/telemetry/kinesis/runtime/policy/arn': {'Ref': '%s'}, '/telemetry/kinesis/stream/name': {'Ref': '%s'}}`,
		layerOf(t, template, "arm64"), layerOf(t, template, "x86_64"), policyID, streamID))

	functionID, _ := only(t, template, "AWS::Lambda::Function")
	outputs := object{}
	for id, output := range template["Outputs"].(object) {
		outputs[id] = output.(object)["Value"].(object)["Ref"]
	}
	want(t, "the outputs", outputs, fmt.Sprintf(`{'ExtensionArn': '%s', 'ExtensionX8664Arn': '%s', 'RuntimePolicyArn': '%s',
		'StreamName': '%s', 'DemoFunctionName': '%s'}`,
		layerOf(t, template, "arm64"), layerOf(t, template, "x86_64"), policyID, streamID, functionID))
}

func TestLayersHaveTheZipOfTheirArchitecture(t *testing.T) {
	dir, out := layers(t), t.TempDir()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &out})
	telemetry.NewStack(app, "Mine", of(telemetry.Props{LayerDir: dir}))
	template := app.Synth(nil).GetStackByName(jsii.String("Mine")).Template().(object)
	for _, architecture := range []string{"arm64", "x86_64"} {
		layer := all(template, "AWS::Lambda::LayerVersion")[layerOf(t, template, architecture)]
		key := layer["Properties"].(object)["Content"].(object)["S3Key"].(string)
		if got, err := os.ReadFile(filepath.Join(out, "asset."+key)); err != nil || string(got) != architecture {
			t.Errorf("the layer for %s has the zip %q, %v", architecture, got, err)
		}
	}
}

func TestDemoFunctionShips(t *testing.T) {
	template := stack(t, "Mine", telemetry.StackProps{DemoDir: demo(t)})
	streamID, _ := only(t, template, "AWS::Kinesis::Stream")
	policyID, _ := only(t, template, "AWS::IAM::ManagedPolicy")
	roleID, role := only(t, template, "AWS::IAM::Role")
	logsID, _ := only(t, template, "AWS::Logs::LogGroup")
	_, function := only(t, template, "AWS::Lambda::Function")
	properties := function["Properties"].(object)
	delete(properties, "Code")
	delete(properties, "Description")
	want(t, "the function", properties, fmt.Sprintf(`{'Architectures': ['arm64'], 'Runtime': 'provided.al2023', 'Handler': 'bootstrap',
		'MemorySize': 128, 'Timeout': 30, 'Layers': [{'Ref': '%s'}], 'Role': {'Fn::GetAtt': ['%s', 'Arn']},
		'Environment': {'Variables': {'KINESIS_TELEMETRY_STREAM': {'Ref': '%s'}}},
		'LoggingConfig': {'LogFormat': 'JSON', 'LogGroup': {'Ref': '%s'}}}`, layerOf(t, template, "arm64"), roleID, streamID, logsID))
	want(t, "the policies of its role", role["Properties"].(object)["ManagedPolicyArns"], fmt.Sprintf(`[{'Ref': '%s'}]`, policyID))
	_, logs := only(t, template, "AWS::IAM::Policy")
	want(t, "what else it may", logs["Properties"].(object)["PolicyDocument"].(object)["Statement"], fmt.Sprintf(`[{'Effect': 'Allow',
		'Action': ['logs:CreateLogStream', 'logs:PutLogEvents'], 'Resource': {'Fn::GetAtt': ['%s', 'Arn']}}]`, logsID))
}

func TestStackWithoutDemo(t *testing.T) {
	template := stack(t, "Mine", telemetry.StackProps{})
	for _, kind := range []string{"AWS::Lambda::Function", "AWS::IAM::Role", "AWS::Logs::LogGroup"} {
		if len(all(template, kind)) > 0 {
			t.Errorf("there is an %s without a demo function", kind)
		}
	}
}

func TestStreamHasItsSettings(t *testing.T) {
	template := stack(t, "Mine", telemetry.StackProps{Props: telemetry.Props{
		StreamName: "orders", Retention: 8760 * time.Hour, KeyARN: existingKey, RetainStream: true,
	}})
	id, stream := only(t, template, "AWS::Kinesis::Stream")
	want(t, "the stream", stream["Properties"], fmt.Sprintf(`{'Name': 'orders', 'StreamModeDetails': {'StreamMode': 'ON_DEMAND'},
		'RetentionPeriodHours': 8760, 'StreamEncryption': {'EncryptionType': 'KMS', 'KeyId': '%s'}}`, existingKey))
	want(t, "its end", stream["DeletionPolicy"], `'Retain'`)
	want(t, "the policy", statements(t, template), fmt.Sprintf(`[
		{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': {'Fn::GetAtt': ['%s', 'Arn']}},
		{'Effect': 'Allow', 'Action': 'kms:GenerateDataKey', 'Resource': '%s'}]`, id, existingKey))
}

func TestExistingStream(t *testing.T) {
	template := stack(t, "Mine", telemetry.StackProps{DemoDir: demo(t), Props: telemetry.Props{StreamARN: existingStream}})
	if len(all(template, "AWS::Kinesis::Stream")) > 0 {
		t.Error("there is a new stream beside the existing one")
	}
	want(t, "the policy", statements(t, template),
		`[{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': '`+existingStream+`'}]`)
	want(t, "the parameter", parameters(template)["/telemetry/kinesis/Mine/stream/name"], `'`+existingStream+`'`)
	_, function := only(t, template, "AWS::Lambda::Function")
	want(t, "the environment", function["Properties"].(object)["Environment"],
		`{'Variables': {'KINESIS_TELEMETRY_STREAM': '`+existingStream+`'}}`)

	template = stack(t, "Mine", telemetry.StackProps{Props: telemetry.Props{StreamARN: existingStream, KeyARN: existingKey}})
	want(t, "the policy with a key", statements(t, template), `[
		{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': '`+existingStream+`'},
		{'Effect': 'Allow', 'Action': 'kms:GenerateDataKey', 'Resource': '`+existingKey+`'}]`)
}

// With a role to assume, the function's own role may only assume it.
func TestRole(t *testing.T) {
	template := stack(t, "Mine", telemetry.StackProps{DemoDir: demo(t), Props: telemetry.Props{
		StreamARN: existingStream,
		KeyARN:    existingKey,
		Role:      telemetry.Role{ARN: existingRole, ExternalID: "between/us", SessionName: "orders@prod"},
	}})
	want(t, "the policy", statements(t, template), `[{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Resource': '`+existingRole+`'}]`)
	_, function := only(t, template, "AWS::Lambda::Function")
	want(t, "the environment", function["Properties"].(object)["Environment"], `{'Variables': {
		'KINESIS_TELEMETRY_STREAM': '`+existingStream+`',
		'KINESIS_TELEMETRY_ROLE_ARN': '`+existingRole+`', 'KINESIS_TELEMETRY_ROLE_EXTERNAL_ID': 'between/us',
		'KINESIS_TELEMETRY_ROLE_SESSION_NAME': 'orders@prod'}}`)
}

// CloudWatch Logs is denied only on request: the other tests have no such statement.
func TestDenyCloudWatchLogs(t *testing.T) {
	const deny = `{'Effect': 'Deny', 'Action': ['logs:CreateLogGroup', 'logs:CreateLogStream', 'logs:PutLogEvents'], 'Resource': '*'}`
	template := stack(t, "Mine", telemetry.StackProps{Props: telemetry.Props{StreamARN: existingStream, DenyCloudWatchLogs: true}})
	want(t, "the policy", statements(t, template),
		`[{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': '`+existingStream+`'}, `+deny+`]`)
	template = stack(t, "Mine", telemetry.StackProps{Props: telemetry.Props{
		StreamARN: existingStream, Role: telemetry.Role{ARN: existingRole}, DenyCloudWatchLogs: true,
	}})
	want(t, "the policy with a role", statements(t, template),
		`[{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Resource': '`+existingRole+`'}, `+deny+`]`)
}

func TestStreamKnownAtDeployment(t *testing.T) {
	dir := layers(t)
	template := synth(t, func(app awscdk.App) {
		imported := *awscdk.Fn_ImportValue(jsii.String("OrdersStream"))
		telemetry.NewStack(app, "Mine", telemetry.StackProps{Props: telemetry.Props{StreamARN: imported, LayerDir: dir}})
	})["Mine"]
	want(t, "the policy", statements(t, template),
		`[{'Effect': 'Allow', 'Action': 'kinesis:PutRecords', 'Resource': {'Fn::ImportValue': 'OrdersStream'}}]`)
}

// Names that are unique in an account differ between stacks, and between constructs of a stack.
func TestTwoStacksDoNotCollide(t *testing.T) {
	layerName := regexp.MustCompile(`^kinesis-telemetry-extension-(arm64|x86_64)-[a-zA-Z0-9_-]+$`)
	dir, program := layers(t), demo(t)
	templates := synth(t, func(app awscdk.App) {
		for _, name := range []string{telemetry.DefaultStackName, "Second"} {
			telemetry.NewStack(app, name, telemetry.StackProps{DemoDir: program, Props: telemetry.Props{LayerDir: dir}})
		}
		third := telemetry.NewStack(app, "Third", telemetry.StackProps{ParameterPrefix: "/orders", Props: telemetry.Props{LayerDir: dir}})
		telemetry.New(third, "Own", telemetry.Props{LayerDir: dir})
		for _, middle := range []string{"A", "B"} {
			name := strings.Repeat("a", 60) + middle + strings.Repeat("z", 60)
			telemetry.NewStack(app, name, telemetry.StackProps{Props: telemetry.Props{LayerDir: dir}})
		}
	})
	taken := map[string]string{}
	for stack, template := range templates {
		for id, resource := range template["Resources"].(object) {
			properties := resource.(object)["Properties"].(object)
			for _, key := range []string{"Name", "LayerName", "ManagedPolicyName", "RoleName", "FunctionName", "LogGroupName"} {
				name, ok := properties[key].(string)
				if !ok {
					continue
				}
				if other := taken[name]; other != "" {
					t.Errorf("%s: %s of %s and of %s", name, id, stack, other)
				}
				taken[name] = stack
				if key == "LayerName" && (!layerName.MatchString(name) || len(name) > 80) {
					t.Errorf("the layer's name %q is not of the form %s, or has more than 80 characters", name, layerName)
				}
			}
		}
	}
	for _, name := range []string{
		"/telemetry/kinesis/extension/arn", "/telemetry/kinesis/Second/extension/arn",
		"/telemetry/kinesis/Second/stream/name", "/orders/extension/x86_64/arn", "/orders/runtime/policy/arn",
	} {
		if taken[name] == "" {
			t.Errorf("no parameter %s among %v", name, slices.Sorted(maps.Keys(taken)))
		}
	}
}

func TestMistakesHaveTheirFix(t *testing.T) {
	empty := t.TempDir()
	for name, test := range map[string]struct {
		props telemetry.StackProps
		says  string
	}{
		"no zips":           {telemetry.StackProps{Props: telemetry.Props{LayerDir: empty}}, "make layer"},
		"no demo":           {telemetry.StackProps{DemoDir: empty}, "make demo-function"},
		"short retention":   {of(telemetry.Props{Retention: 23 * time.Hour}), "from 24 to 8760"},
		"long retention":    {of(telemetry.Props{Retention: 8761 * time.Hour}), "8761 hours"},
		"negative":          {of(telemetry.Props{Retention: -24 * time.Hour}), "from 24 to 8760"},
		"broken hour":       {of(telemetry.Props{Retention: 24*time.Hour + time.Minute}), "whole hours"},
		"name for ARN":      {of(telemetry.Props{StreamARN: "orders"}), "arn:aws:kinesis:"},
		"ARN for name":      {of(telemetry.Props{StreamName: existingStream}), "not a stream's name"},
		"alias of a key":    {of(telemetry.Props{KeyARN: "arn:aws:kms:eu-west-1:123456789012:alias/mine"}), "an alias does not work"},
		"both":              {of(telemetry.Props{StreamARN: existingStream, StreamName: "orders"}), "leave"},
		"existing retained": {of(telemetry.Props{StreamARN: existingStream, RetainStream: true}), "leave"},
		"existing kept":     {of(telemetry.Props{StreamARN: existingStream, Retention: 48 * time.Hour}), "leave"},
		"no role":           {of(telemetry.Props{Role: telemetry.Role{ARN: "arn:aws:iam::123456789012:user/writer"}}), "not the ARN of a role"},
		"id without role":   {of(telemetry.Props{Role: telemetry.Role{ExternalID: "between-us"}}), "set its ARN"},
		"name without role": {of(telemetry.Props{Role: telemetry.Role{SessionName: "orders"}}), "set its ARN"},
		"no external id":    {of(telemetry.Props{Role: telemetry.Role{ARN: existingRole, ExternalID: "x"}}), "2 to 1224"},
		"long external id":  {of(telemetry.Props{Role: telemetry.Role{ARN: existingRole, ExternalID: strings.Repeat("x", 1225)}}), "2 to 1224"},
		"no session name":   {of(telemetry.Props{Role: telemetry.Role{ARN: existingRole, SessionName: "a/b"}}), "2 to 64"},
		"slash at the end":  {telemetry.StackProps{ParameterPrefix: "/orders/"}, "without a slash at the end"},
		"prefix of AWS":     {telemetry.StackProps{ParameterPrefix: "/aws/orders"}, "not begin with /aws"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.props.LayerDir == "" {
				test.props.LayerDir = layers(t)
			}
			app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
			said := mistake(t, func() { telemetry.NewStack(app, "Mine", test.props) })
			if !strings.Contains(said, test.says) {
				t.Errorf("said %q, want %q in it", said, test.says)
			}
		})
	}
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	said := mistake(t, func() { telemetry.NewStack(app, "Mine", of(telemetry.Props{LayerDir: empty})) })
	if path := filepath.Join(empty, "kinesis-telemetry-extension-arm64.zip"); !strings.Contains(said, path) {
		t.Errorf("said %q, want the path %s in it", said, path)
	}
}

func of(props telemetry.Props) telemetry.StackProps { return telemetry.StackProps{Props: props} }

// parameters returns the values of the SSM parameters, by their names.
func parameters(template object) object {
	found := object{}
	for _, parameter := range all(template, "AWS::SSM::Parameter") {
		properties := parameter["Properties"].(object)
		found[properties["Name"].(string)] = properties["Value"]
	}
	return found
}

// statements returns the statements of the managed policy.
func statements(t *testing.T, template object) any {
	t.Helper()
	_, policy := only(t, template, "AWS::IAM::ManagedPolicy")
	return policy["Properties"].(object)["PolicyDocument"].(object)["Statement"]
}
