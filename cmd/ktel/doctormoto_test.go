package main

import (
	"archive/zip"
	"bytes"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"kinesis-telemetry-extension/internal/doctor"
)

// account is an account of moto, an independent emulator.
type account struct {
	*testing.T
	kinesis *awskinesis.Client
	lambda  *lambda.Client
	iam     *iam.Client
	kms     *kms.Client
}

func openAccount(t *testing.T) account {
	setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": startMoto(t), "KINESIS_TELEMETRY_STREAM": "orders"})
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return account{t, awskinesis.NewFromConfig(cfg), lambda.NewFromConfig(cfg), iam.NewFromConfig(cfg), kms.NewFromConfig(cfg)}
}

func (a account) check(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a account) createStream(name string, mode kinesistypes.StreamMode) {
	input := &awskinesis.CreateStreamInput{StreamName: &name, StreamModeDetails: &kinesistypes.StreamModeDetails{StreamMode: mode}}
	if mode == kinesistypes.StreamModeProvisioned {
		input.ShardCount = aws.Int32(3)
	}
	_, err := a.kinesis.CreateStream(a.Context(), input)
	a.check(err)
	a.check(awskinesis.NewStreamExistsWaiter(a.kinesis).Wait(a.Context(), &awskinesis.DescribeStreamInput{StreamName: &name}, time.Minute))
}

// createFunction creates an arm64 function and returns the name of its role.
func (a account) createFunction(name string, change func(*lambda.CreateFunctionInput)) string {
	role, err := a.iam.CreateRole(a.Context(), &iam.CreateRoleInput{
		RoleName:                 &name,
		AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[]}`),
	})
	a.check(err)
	input := &lambda.CreateFunctionInput{
		FunctionName: &name, Role: role.Role.Arn, Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Architectures: []types.Architecture{types.ArchitectureArm64}, Code: &types.FunctionCode{ZipFile: zipped(a.T, "bootstrap", nil)},
		Environment: &types.Environment{Variables: map[string]string{
			"KINESIS_TELEMETRY_STREAM": "orders", "KINESIS_TELEMETRY_ENDPOINT_URL": "http://127.0.0.1",
		}},
	}
	if change != nil {
		change(input)
	}
	_, err = a.lambda.CreateFunction(a.Context(), input)
	a.check(err)
	return aws.ToString(role.Role.RoleName)
}

func zipped(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	header.SetMode(0o755)
	entry, err := archive.CreateHeader(header)
	if err == nil {
		_, err = entry.Write(content)
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (a account) publishLayer(name string, architecture types.Architecture) string {
	layer, err := a.lambda.PublishLayerVersion(a.Context(), &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: zipped(a.T, "extensions/x", nil)},
		CompatibleArchitectures: []types.Architecture{architecture},
	})
	a.check(err)
	return aws.ToString(layer.LayerVersionArn)
}

// doctor checks the streams of moto.
func TestConformanceDoctorStream(t *testing.T) {
	a := openAccount(t)
	runDoctor(t, 1, nil, wantFinding{"stream", doctor.Problem, "there is no stream orders", "create-stream"})
	a.createStream("orders", kinesistypes.StreamModeProvisioned)
	dryRun := wantFinding{"write", doctor.Warning, "does not support dry runs", "skip"} // moto stores the record
	runDoctor(t, 0, nil,
		wantFinding{"capacity", doctor.OK, "provisioned: 3 shards", ""}, wantFinding{"encryption", doctor.OK, "none", ""}, dryRun)
	_, err := a.kinesis.StartStreamEncryption(t.Context(), &awskinesis.StartStreamEncryptionInput{
		StreamName: aws.String("orders"), EncryptionType: kinesistypes.EncryptionTypeKms, KeyId: aws.String("alias/aws/kinesis"),
	})
	a.check(err)
	runDoctor(t, 0, nil, wantFinding{"encryption", doctor.OK, "managed key", ""})
	t.Setenv("KINESIS_TELEMETRY_STREAM", "demanded")
	a.createStream("demanded", kinesistypes.StreamModeOnDemand)
	runDoctor(t, 0, nil, wantFinding{"capacity", doctor.OK, "on-demand", ""}, dryRun)
	t.Setenv("AWS_REGION", "us-east-1")
	runDoctor(t, 1, nil, wantFinding{"stream", doctor.Problem, "there is no stream demanded in us-east-1", "--region us-east-1"})
}

// doctor checks the layers, role and key of a function of moto, one problem after the other.
func TestConformanceDoctorFunction(t *testing.T) {
	a := openAccount(t)
	a.createStream("orders", kinesistypes.StreamModeOnDemand)
	function := []string{"--function", "checkout"}
	runDoctor(t, 1, function, wantFinding{"function", doctor.Problem, "there is no function checkout", "list-functions"})
	role := a.createFunction("checkout", nil)
	runDoctor(t, 1, function,
		wantFinding{"function", doctor.OK, "provided.al2023, arm64, 128 MB, 3 s", ""},
		wantFinding{
			"layer",
			doctor.Problem,
			"0 layers",
			`--layers "$(aws ssm get-parameter --region eu-west-1 --name /telemetry/kinesis/extension/arn `,
		},
		wantFinding{
			"role",
			doctor.Problem,
			"kinesis:PutRecords on arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
			"put-role-policy --role-name checkout",
		})

	attach := func(arns ...string) {
		_, err := a.lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: aws.String("checkout"),
			Layers:       arns,
		})
		a.check(err)
	}
	other := a.publishLayer("other", types.ArchitectureArm64)
	wrong := a.publishLayer("kinesis-telemetry-extension-x86_64", types.ArchitectureX8664)
	attach(other, wrong)
	runDoctor(t, 1, function, wantFinding{
		"layer",
		doctor.Problem,
		"for x86_64, the function runs on arm64",
		"--layers " + other + ` "$(aws ssm`,
	})
	attach(other, a.publishLayer("kinesis-telemetry-extension-arm64", types.ArchitectureArm64))
	runDoctor(t, 1, append(function, "--layer", "otherwise"), wantFinding{
		"layer",
		doctor.Problem,
		"none of the function's 2 layers is named otherwise",
		"",
	})

	put := func(document string) {
		_, err := a.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{
			RoleName:       &role,
			PolicyName:     aws.String("p"),
			PolicyDocument: &document,
		})
		a.check(err)
	}
	put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:PutRecord","Resource":"*"}]}`)
	runDoctor(t, 1, function, wantFinding{"role", doctor.Problem, "no policy of", "put-role-policy"})
	put(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:PutRecords",` +
		`"Resource":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders"}]}`)
	runDoctor(t, 0, function, wantFinding{"layer", doctor.OK, "layer:kinesis-telemetry-extension-arm64:1, for arm64", ""},
		wantFinding{"role", doctor.OK, "may kinesis:PutRecords (its policies", ""})

	key, err := a.kms.CreateKey(t.Context(), nil)
	a.check(err)
	_, err = a.kinesis.StartStreamEncryption(t.Context(), &awskinesis.StartStreamEncryptionInput{
		StreamName: aws.String("orders"), EncryptionType: kinesistypes.EncryptionTypeKms, KeyId: key.KeyMetadata.Arn,
	})
	a.check(err)
	runDoctor(t, 1, function, wantFinding{
		"encryption",
		doctor.Problem,
		"neither a policy of the role nor the key's own",
		"put-role-policy --role-name checkout",
	})
	_, err = a.kms.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{
		KeyId: key.KeyMetadata.Arn, PolicyName: aws.String("default"),
		Policy: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow",` +
			`"Principal":{"AWS":"arn:aws:iam::123456789012:role/checkout"},"Action":"kms:GenerateDataKey","Resource":"*"}}`),
	})
	a.check(err)
	runDoctor(t, 0, function, wantFinding{"encryption", doctor.OK, "the key's policy", ""})

	deny, err := a.iam.CreatePolicy(t.Context(), &iam.CreatePolicyInput{
		PolicyName:     aws.String("deny"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kinesis:*","Resource":"*"}}`),
	})
	a.check(err)
	_, err = a.iam.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: &role, PolicyArn: deny.Policy.Arn})
	a.check(err)
	runDoctor(t, 1, function, wantFinding{"role", doctor.Problem, "explicitly denied", "remove"})
}

// doctor reports mistakes in the variables of a function of moto.
func TestConformanceDoctorSettings(t *testing.T) {
	a := openAccount(t)
	a.createStream("orders", kinesistypes.StreamModeOnDemand)
	a.createFunction("wrong", func(f *lambda.CreateFunctionInput) {
		f.Environment.Variables["KINESIS_TELEMETRY_DELIVERY"] = "soon"
		f.Environment.Variables["KINESIS_TELEMETRY_FLUSH_TIMEOUT"] = "9s"
		f.Environment.Variables["KINESIS_TELEMETRY_STREEM"] = "x"
		f.LoggingConfig = &types.LoggingConfig{LogFormat: types.LogFormatJson, ApplicationLogLevel: "INFO", SystemLogLevel: "WARN"}
	})
	runDoctor(t, 1, []string{"--function", "wrong"},
		wantFinding{"settings", doctor.Problem, `DELIVERY is "soon"`, "adaptive, sync, deferred"},
		wantFinding{"settings", doctor.Warning, "STREEM", "STREAM"},
		wantFinding{"timeout", doctor.Warning, "3 s, and shipping may take 9s", "FLUSH_TIMEOUT"})
}
