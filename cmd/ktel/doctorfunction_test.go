package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"kinesis-telemetry-extension/internal/doctor"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

const (
	testFunction = "arn:aws:lambda:eu-west-1:123456789012:function:checkout"
	testRole     = "arn:aws:iam::123456789012:role/service-role/checkout"
)

// configuration returns Lambda's description of a function without problems, in which these members replace others. Its
// endpoint is on this machine, because tests must not resolve AWS's names.
func configuration(members string) answer {
	all := map[string]json.RawMessage{}
	for _, object := range []string{
		`{"FunctionName":"checkout","FunctionArn":"` + testFunction + `","Role":"` + testRole + `","Runtime":"python3.13","Version":"$LATEST",
		"State":"Active","PackageType":"Zip","Architectures":["arm64"],"MemorySize":128,"Timeout":3,
		"Layers":[{"Arn":"arn:aws:lambda:eu-west-1:123456789012:layer:other:1"},
			{"Arn":"arn:aws:lambda:eu-west-1:123456789012:layer:kinesis-telemetry-extension-arm64:7"}],
		"Environment":{"Variables":{"KINESIS_TELEMETRY_STREAM":"orders","KINESIS_TELEMETRY_ENDPOINT_URL":"http://127.0.0.1"}}}`,
		"{" + members + "}",
	} {
		if err := json.Unmarshal([]byte(object), &all); err != nil {
			panic(err)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return answer{200, string(b)}
}

func simulated(decision, more string) answer {
	return answer{200, `<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member><EvalDecision>` + decision +
		`</EvalDecision>` + more + `</member></EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>`}
}

// healthyAnswers returns the answers of an account without problems.
func healthyAnswers(members string) map[string]answer {
	return map[string]answer{
		"GET /2015-03-31/functions/checkout/configuration":                    configuration(members),
		"GET /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions/7": {200, `{"CompatibleArchitectures":["arm64"]}`},
		"SimulatePrincipalPolicy":                                             simulated("allowed", ""),
	}
}

// doctor checks a function by the answers of Lambda and IAM, some of which no emulator gives.
func TestDoctorFunction(t *testing.T) {
	const (
		get       = "GET /2015-03-31/functions/checkout/configuration"
		layer     = "GET /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions/7"
		mine      = "GET /2018-10-31/layers/mine/versions/3"
		minesARN  = `{"Arn":"arn:aws:lambda:eu-west-1:123456789012:layer:mine:3"}`
		renamed   = `"Layers":[` + minesARN + `]`
		simulate  = "SimulatePrincipalPolicy"
		variables = `"Environment":{"Variables":{"KINESIS_TELEMETRY_STREAM":"orders","KINESIS_TELEMETRY_ENDPOINT_URL":"http://127.0.0.1",%s}}`
		proxied   = `"Environment":{"Variables":{"KINESIS_TELEMETRY_STREAM":"orders","HTTPS_PROXY":"http://me:secret@proxy:3128"}}`
	)
	set := func(pairs string) string { return fmt.Sprintf(variables, pairs) }
	for name, test := range map[string]struct {
		members string // of the function
		answers map[string]answer
		status  int
		want    []wantFinding
	}{
		"all well": {
			want: []wantFinding{
				{"function", doctor.OK, testFunction + ": python3.13, arm64, 128 MB, 3 s", ""},
				{"layer", doctor.OK, "kinesis-telemetry-extension-arm64:7, for arm64", ""},
				{"network", doctor.OK, "in no VPC", ""},
				{"logging", doctor.OK, "Text", ""},
				{"memory", doctor.OK, "128 MB; the extension buffers up to 8 MiB", ""},
				{"timeout", doctor.OK, "3 s, of which shipping may take 1s", ""},
				{"settings", doctor.OK, "stream orders", ""},
				{"endpoint", doctor.Warning, "127.0.0.1, a private address", "or remove KINESIS_TELEMETRY_ENDPOINT_URL"},
				{"write", doctor.OK, "from these credentials", ""},
				{"role", doctor.OK, testRole + " may kinesis:PutRecords (IAM's simulation)", ""},
			},
		},
		"not permitted": {
			answers: map[string]answer{get: jsonError("AccessDeniedException", "no")},
			status:  4,
			want:    []wantFinding{{"function", doctor.NotChecked, "AccessDenied", "lambda:GetFunctionConfiguration"}},
		},
		"failed": {
			members: `"State":"Failed","StateReason":"no such image"`,
			status:  1,
			want:    []wantFinding{{"function", doctor.Problem, "no such image", "first"}},
		},
		"pending": {
			members: `"State":"Pending"`,
			want:    []wantFinding{{"function", doctor.Warning, "being created", "function-active-v2"}},
		},
		"no layer": {
			members: `"Layers":[]`,
			status:  1,
			want: []wantFinding{
				{
					"layer",
					doctor.Problem,
					"0 layers",
					`--function-name checkout --layers "$(aws ssm get-parameter --region eu-west-1 --name /telemetry/kinesis/extension/arn ` +
						`--query Parameter.Value --output text)"`,
				},
			},
		},
		"no layer, x86_64": {
			members: `"Layers":[],"Architectures":["x86_64"]`,
			status:  1,
			want:    []wantFinding{{"layer", doctor.Problem, "0 layers", "--name /telemetry/kinesis/extension/x86_64/arn --query"}},
		},
		"five other layers": {
			members: `"Layers":[` + strings.Repeat(minesARN+",", 4) + minesARN + `]`,
			answers: map[string]answer{mine: {200, `{}`}},
			status:  1,
			want: []wantFinding{
				{"layer", doctor.Problem, "5 layers", "leave one layer out, a function can have five: aws lambda"},
			},
		},
		"of a version": {
			members: `"Layers":[],"Version":"4"`,
			status:  1,
			want:    []wantFinding{{"layer", doctor.Problem, "", "version 4 cannot be changed"}},
		},
		"wrong architecture": {
			answers: map[string]answer{layer: {200, `{"CompatibleArchitectures":["x86_64"]}`}},
			status:  1,
			want: []wantFinding{
				{
					"layer",
					doctor.Problem,
					"for x86_64, the function runs on arm64",
					"--layers arn:aws:lambda:eu-west-1:123456789012:layer:other:1 \"$(aws ssm ",
				},
			},
		},
		"no architecture": {
			answers: map[string]answer{layer: {200, `{}`}},
			want:    []wantFinding{{"layer", doctor.NotChecked, "names no architecture", "arm64"}},
		},
		"other's layer": {
			answers: map[string]answer{layer: jsonError("AccessDeniedException", "no")},
			want:    []wantFinding{{"layer", doctor.NotChecked, "cannot be read", "lambda:GetLayerVersion"}},
		},
		"by description": {
			members: renamed,
			answers: map[string]answer{
				mine: {
					200,
					`{"Description":"Ships a function's telemetry to a Kinesis data stream (arm64)","CompatibleArchitectures":["arm64"]}`,
				},
			},
			want: []wantFinding{{"layer", doctor.OK, "layer:mine:3, for arm64", ""}},
		},
		"other description": {
			members: renamed,
			answers: map[string]answer{mine: {200, `{"Description":"Powertools","CompatibleArchitectures":["arm64"]}`}},
			status:  1,
			want:    []wantFinding{{"layer", doctor.Problem, "none of the function's 1 layers", ":layer:mine:3 \"$(aws"}},
		},
		"description hidden": {
			members: renamed,
			answers: map[string]answer{mine: jsonError("AccessDeniedException", "no")},
			want:    []wantFinding{{"layer", doctor.NotChecked, "layer:mine:3 cannot be read: AccessDenied", "--layer NAME"}},
		},
		"image": {
			members: `"PackageType":"Image","Runtime":null,"Layers":null`,
			want: []wantFinding{
				{"function", doctor.OK, "container image", ""},
				{"layer", doctor.NotChecked, "no layers", "ls IMAGE -l /opt/extensions"},
			},
		},
		"VPC": {
			members: `"VpcConfig":{"VpcId":"vpc-1","SubnetIds":["subnet-1"]}`,
			want:    []wantFinding{{"network", doctor.NotChecked, "vpc-1", "Values=com.amazonaws.eu-west-1.kinesis-streams"}},
		},
		"VPC, own endpoint": {
			members: `"VpcConfig":{"VpcId":"vpc-1","SubnetIds":["subnet-1"]},` + set(`"KINESIS_TELEMETRY_ENDPOINT_URL":"https://vpce.invalid"`),
			want: []wantFinding{
				{"endpoint", doctor.NotChecked, "does not resolve from this machine", "security groups"},
				{"write", doctor.OK, "", ""},
			},
		},
		"VPC, refused": {
			members: `"VpcConfig":{"VpcId":"vpc-1","SubnetIds":["subnet-1"]},` + set(`"KINESIS_TELEMETRY_ENDPOINT_URL":"http://`+closedPort+`"`),
			want: []wantFinding{
				{"endpoint", doctor.NotChecked, "does not connect from this machine", "com.amazonaws.eu-west-1.kinesis-streams"},
			},
		},
		"private, no VPC": {
			members: set(`"KINESIS_TELEMETRY_ENDPOINT_URL":"","AWS_ENDPOINT_URL":"http://10.1.2.3"`),
			want:    []wantFinding{{"endpoint", doctor.Warning, "10.1.2.3, a private address", "or remove AWS_ENDPOINT_URL"}},
		},
		"proxy": {
			members: proxied,
			want: []wantFinding{
				{
					"endpoint",
					doctor.NotChecked,
					"kinesis.eu-west-1.amazonaws.com is reached through the proxy proxy:3128",
					"CONNECT kinesis.eu-west-1.amazonaws.com:443",
				},
			},
		},
		"bad setting": {
			members: set(`"KINESIS_TELEMETRY_EVENTS":"logs"`),
			status:  1,
			want:    []wantFinding{{"settings", doctor.Problem, "EVENTS", "platform, function, extension"}},
		},
		"hidden settings": {
			members: `"Environment":{"Error":{"ErrorCode":"AccessDeniedException","Message":"kms"}}`,
			status:  4,
			want:    []wantFinding{{"settings", doctor.NotChecked, "kms", "kms:Decrypt"}},
		},
		"large buffer": {
			members: set(`"KINESIS_TELEMETRY_BUFFER_BYTES":"104857600"`),
			want:    []wantFinding{{"memory", doctor.Warning, "of the function's 128 MB", "BUFFER_BYTES"}},
		},
		"long flush": {
			members: set(`"KINESIS_TELEMETRY_FLUSH_TIMEOUT":"5s"`),
			want:    []wantFinding{{"timeout", doctor.Warning, "3 s, and shipping may take 5s", "FLUSH_TIMEOUT"}},
		},
		"SnapStart": {
			members: `"SnapStart":{"ApplyOn":"PublishedVersions","OptimizationStatus":"On"}`,
			want:    []wantFinding{{"snapstart", doctor.OK, "snapshot", ""}},
		},
		"Managed Instances": {
			members: `"CapacityProviderConfig":{"LambdaManagedInstancesCapacityProviderConfig":{` +
				`"CapacityProviderArn":"arn:aws:lambda:eu-west-1:123456789012:capacity-provider:x"}}`,
			want: []wantFinding{{"instances", doctor.OK, "never frozen", ""}},
		},
		"JSON logs": {
			members: `"LoggingConfig":{"LogFormat":"JSON","ApplicationLogLevel":"WARN","SystemLogLevel":"INFO"}`,
			want:    []wantFinding{{"logging", doctor.OK, "JSON, levels from WARN", ""}},
		},
		"no permission": {
			answers: map[string]answer{simulate: simulated("implicitDeny", "")},
			status:  1,
			want: []wantFinding{
				{
					"role",
					doctor.Problem,
					"no policy of " + testRole,
					`aws iam put-role-policy --role-name checkout --policy-name kinesis-telemetry-putrecords --policy-document ` +
						`'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kinesis:PutRecords",` +
						`"Resource":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders"}]}'`,
				},
			},
		},
		"denied": {
			answers: map[string]answer{simulate: simulated("explicitDeny", "")},
			status:  1,
			want:    []wantFinding{{"role", doctor.Problem, "explicitly denied", "remove the statement"}},
		},
		"condition": {
			answers: map[string]answer{
				simulate: simulated("implicitDeny", "<MissingContextValues><member>aws:SourceVpce</member></MissingContextValues>"),
			},
			want: []wantFinding{{"role", doctor.NotChecked, "under a condition", "put-role-policy"}},
		},
		"policies hidden": {
			answers: map[string]answer{simulate: xmlError("AccessDenied", "no")},
			want: []wantFinding{
				{"role", doctor.NotChecked, "cannot be read", "aws iam simulate-principal-policy --policy-source-arn " + testRole},
			},
		},
		"another role": {
			members: set(`"KINESIS_TELEMETRY_ROLE_ARN":"arn:aws:iam::123456789012:role/writer"`),
			want: []wantFinding{
				{"role", doctor.OK, testRole + " may sts:AssumeRole", ""},
				{"role", doctor.OK, "role/writer may kinesis:PutRecords", ""},
				{"role", doctor.NotChecked, "trust policy", "aws iam get-role --role-name writer"},
			},
		},
		"role, external id": {
			members: set(`"KINESIS_TELEMETRY_ROLE_ARN":"arn:aws:iam::123456789012:role/writer","KINESIS_TELEMETRY_ROLE_EXTERNAL_ID":"between-us"`),
			want: []wantFinding{
				{
					"role",
					doctor.NotChecked,
					"must name " + testRole + " under the sts:ExternalId of KINESIS_TELEMETRY_ROLE_EXTERNAL_ID",
					"aws iam get-role",
				},
			},
		},
		"id without role": {
			members: set(`"KINESIS_TELEMETRY_ROLE_EXTERNAL_ID":"between-us"`),
			want:    []wantFinding{{"settings", doctor.Warning, "ROLE_EXTERNAL_ID has no effect", "ROLE_ARN"}},
		},
		"memory limit": {
			members: set(`"GOMEMLIMIT":"100MB"`),
			status:  1,
			want: []wantFinding{
				{"settings", doctor.Problem, `GOMEMLIMIT is "100MB"; every Go program exits at once`, "set it to 100MiB: "},
			},
		},
		"GOGC": {
			members: set(`"GOGC":"50%"`),
			want:    []wantFinding{{"settings", doctor.Warning, `GOGC is "50%"`, "a whole number"}},
		},
		"CA bundle": {
			members: set(`"AWS_CA_BUNDLE":"/opt/ca.pem"`),
			want: []wantFinding{
				{"settings", doctor.NotChecked, "AWS_CA_BUNDLE names a file of the function", "layers"},
				{"settings", doctor.OK, "", ""},
			},
		},
		"plain http": {
			members: set(`"KINESIS_TELEMETRY_ENDPOINT_URL":"http://10.1.2.3"`),
			want:    []wantFinding{{"settings", doctor.Warning, "ENDPOINT_URL is plain http", "https"}},
		},
		"bad proxy": {
			members: strings.Replace(proxied, "secret@", "secret%@", 1),
			status:  1,
			want:    []wantFinding{{"settings", doctor.Problem, "HTTPS_PROXY cannot be used", "the URL of a proxy"}},
		},
		"quoted proxy": {
			members: strings.ReplaceAll(strings.Replace(proxied, "3128", "3128'", 1), `"http`, `"'http`),
			want:    []wantFinding{{"endpoint", doctor.NotChecked, "through the proxy proxy:3128", "CONNECT"}},
		},
		"role of another": {
			members: `"Role":"arn:aws:iam::210987654321:role/checkout"`,
			want:    []wantFinding{{"role", doctor.NotChecked, "it belongs to account 210987654321", "simulate-principal-policy"}},
		},
		"other's stream": {
			members: set(`"KINESIS_TELEMETRY_STREAM":"arn:aws:kinesis:eu-west-1:210987654321:stream/orders"`),
			want: []wantFinding{
				{"role", doctor.NotChecked, "resource policy", "get-resource-policy"},
				{"write", doctor.NotChecked, "these credentials may not write", "nothing"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			answers := healthyAnswers(test.members)
			maps.Copy(answers, test.answers)
			setEnviron(t, map[string]string{
				"AWS_ENDPOINT_URL":         fakeAWS(t, answers),
				"AWS_ENDPOINT_URL_KINESIS": startKinesis(t, kinesislocal.Options{}).URL(),
			})
			runDoctor(t, test.status, []string{"--function", "checkout"}, test.want...)
		})
	}
}

// doctor checks whether the function's role may use the key of the stream.
func TestDoctorFunctionKey(t *testing.T) {
	const key = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	keyPolicy := func(effect, principal string) answer {
		return answer{
			200,
			`{"Policy":"{\"Statement\":{\"Effect\":\"` + effect + `\",\"Principal\":{\"AWS\":\"` + principal +
				`\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}}"}`,
		}
	}
	root := keyPolicy("Allow", "arn:aws:iam::123456789012:root")
	missing := simulated("implicitDeny", "")
	const granted = `"Action":"kms:GenerateDataKey","Resource":"` + key + `"`
	for name, test := range map[string]struct {
		simulated, policy answer
		want              wantFinding
	}{
		"allowed": {
			simulated: simulated("allowed", ""),
			policy:    root,
			want:      wantFinding{"", doctor.OK, key + ", which the role may use", ""},
		},
		"denied": {
			simulated: simulated("explicitDeny", ""),
			policy:    root,
			want:      wantFinding{"", doctor.Problem, "explicitly denied", "remove the statement"},
		},
		"condition": {
			simulated: simulated("implicitDeny", "<MissingContextValues><member>aws:SourceVpce</member></MissingContextValues>"),
			policy:    root,
			want:      wantFinding{"", doctor.NotChecked, "under a condition", granted},
		},
		"missing": {
			simulated: missing,
			policy:    root,
			want:      wantFinding{"", doctor.Problem, "neither a policy of the role nor the key's own allows its use", granted},
		},
		"allowed by the key": {
			simulated: missing,
			policy:    keyPolicy("Allow", testRole),
			want:      wantFinding{"", doctor.OK, "which the role may use (the key's policy)", ""},
		},
		"denied by the key": {
			simulated: missing,
			policy:    keyPolicy("Deny", testRole),
			want:      wantFinding{"", doctor.Problem, "explicitly denied to the role (the key's policy)", "remove the statement"},
		},
		"the key's policy, hidden": {
			simulated: missing,
			policy:    jsonError("AccessDeniedException", "no"),
			want:      wantFinding{"", doctor.NotChecked, "the key's policy cannot be read: AccessDenied", granted},
		},
	} {
		t.Run(name, func(t *testing.T) {
			answers := healthyAnswers("")
			answers["SimulatePrincipalPolicy"] = test.simulated
			answers["GetKeyPolicy"] = test.policy
			answers["DescribeStreamSummary"] = answer{
				200,
				`{"StreamDescriptionSummary":{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders","StreamStatus":"ACTIVE",` +
					`"EncryptionType":"KMS","KeyId":"` + key + `"}}`,
			}
			answers["PutRecords"] = jsonError("KMSAccessDeniedException", "no")
			// The stream's resource policy can replace the role's policy, but not the permission on the key.
			answers["GetResourcePolicy"] = answer{200, `{"Policy":"{\"Principal\":{\"AWS\":\"` + testRole + `\"}}"}`}
			setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": fakeAWS(t, answers)})
			status := 0
			if test.want.status == doctor.Problem {
				status = 1
			}
			test.want.check = "encryption"
			want := []wantFinding{test.want, {"write", doctor.NotChecked, "these credentials", "nothing"}}
			if test.simulated == missing {
				want = append(want, wantFinding{"role", doctor.Warning, "resource policy names it", "put-role-policy"})
			}
			runDoctor(t, status, []string{"--function", "checkout"}, want...)
		})
	}
}

// The region of a function's ARN is used without --region.
func TestDoctorFunctionARN(t *testing.T) {
	answers := map[string]answer{"GET /2015-03-31/functions/" + testFunction + "/configuration": configuration("")}
	setEnviron(t, map[string]string{"AWS_REGION": "", "AWS_ENDPOINT_URL": fakeAWS(t, answers)})
	runDoctor(t, 0, []string{"--function", testFunction, "--qualifier", "$LATEST"},
		wantFinding{"region", doctor.OK, testRegion, ""}, wantFinding{
			"function",
			doctor.OK,
			testFunction,
			"",
		})
}
