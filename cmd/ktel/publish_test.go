package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// program returns the smallest Linux program: an ELF header.
func program(machine elf.Machine, version string) []byte {
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	b, _ := binary.Append(nil, binary.LittleEndian, header)
	return append(b, version...)
}

// layerZips writes the zips of 'make layer' with a minimal program.
func layerZips(t *testing.T, dir, version string) {
	t.Helper()
	for name, machine := range map[string]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64} {
		content := zipped(t, "extensions/kinesis-telemetry-extension", program(machine, version))
		if err := os.WriteFile(filepath.Join(dir, "kinesis-telemetry-extension-"+name+".zip"), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// publishOutcomes runs 'ktel publish --json' and returns the outcome of each step.
func publishOutcomes(t *testing.T, status int, args ...string) []string {
	t.Helper()
	got, stdout, stderr := runKtel(t, append([]string{"publish", "--json"}, args...)...)
	if got != status {
		t.Fatalf("exit status %d, want %d: %s%s", got, status, stdout, stderr)
	}
	var report struct{ Steps []step }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	var outcomes []string
	for _, s := range report.Steps {
		outcomes = append(outcomes, s.Outcome)
	}
	return outcomes
}

// publish publishes new layers, sets their parameters, and changes nothing that is up to date.
func TestConformancePublish(t *testing.T) {
	setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": startMoto(t)})
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layers, parameters := lambda.NewFromConfig(cfg), ssm.NewFromConfig(cfg)
	versions := func(name string) int {
		t.Helper()
		list, err := layers.ListLayerVersions(t.Context(), &lambda.ListLayerVersionsInput{LayerName: &name})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.LayerVersions)
	}
	parameter := func(name string) string {
		t.Helper()
		answer, err := parameters.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
		if err != nil {
			return err.Error()
		}
		return aws.ToString(answer.Parameter.Value)
	}
	expect := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const arm, x86 = "kinesis-telemetry-extension-arm64", "kinesis-telemetry-extension-x86_64"
	const armARN, x86ARN = "arn:aws:lambda:eu-west-1:123456789012:layer:" + arm, "arn:aws:lambda:eu-west-1:123456789012:layer:" + x86
	const path, x86Path = "/telemetry/kinesis/extension/arn", "/telemetry/kinesis/extension/x86_64/arn"
	dir := t.TempDir()
	layerZips(t, dir, "1")

	expect(publishOutcomes(t, 0, "--dir", dir, "--dry-run"), wouldPublish, wouldSet, wouldPublish, wouldSet)
	if n := versions(arm); n != 0 || !strings.Contains(parameter(path), "ParameterNotFound") {
		t.Errorf("a dry run made %d versions, and parameter %s", n, parameter(path))
	}
	expect(publishOutcomes(t, 0, "--dir", dir, "--release", "v1.2.3"), wasPublished, wasSet, wasPublished, wasSet)
	expect(publishOutcomes(t, 0, "--dir", dir), isUnchanged, isUnchanged, isUnchanged, isUnchanged)
	if versions(arm) != 1 || versions(x86) != 1 || parameter(path) != armARN+":1" || parameter(x86Path) != x86ARN+":1" {
		t.Errorf("%d and %d versions, parameters %s and %s", versions(arm), versions(x86), parameter(path), parameter(x86Path))
	}
	first, err := layers.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: aws.String(x86), VersionNumber: aws.Int64(1)})
	if err != nil || !slices.Equal(first.CompatibleArchitectures, []types.Architecture{types.ArchitectureX8664}) ||
		aws.ToString(first.LicenseInfo) != "MIT" || !strings.HasSuffix(aws.ToString(first.Description), ", v1.2.3") {
		t.Errorf("%+v, %v", first, err)
	}

	layerZips(t, dir, "2")
	expect(publishOutcomes(t, 0, "--dir", dir, "--dry-run"), wouldPublish, wouldSet, wouldPublish, wouldSet)
	expect(publishOutcomes(t, 0, "--dir", dir), wasPublished, wasSet, wasPublished, wasSet)
	if versions(arm) != 2 || parameter(path) != armARN+":2" || parameter(x86Path) != x86ARN+":2" {
		t.Errorf("%d versions, parameters %s and %s", versions(arm), parameter(path), parameter(x86Path))
	}

	// publish replaces another version of the layer in a parameter, and leaves any other value alone.
	put := func(kind ssmtypes.ParameterType, value string) {
		t.Helper()
		parameters.DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: aws.String(path)})
		if _, err := parameters.PutParameter(t.Context(), &ssm.PutParameterInput{
			Name: aws.String(path), Type: kind, Value: &value, Description: aws.String("Layer of the Kinesis telemetry extension for arm64"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(ssmtypes.ParameterTypeString, armARN+":1")
	expect(publishOutcomes(t, 0, "--dir", dir, "--dry-run"), isUnchanged, wouldSet, isUnchanged, isUnchanged)
	expect(publishOutcomes(t, 0, "--dir", dir), isUnchanged, wasSet, isUnchanged, isUnchanged)
	for kind, value := range map[ssmtypes.ParameterType]string{
		ssmtypes.ParameterTypeString:       "arn:aws:lambda:eu-west-1:123456789012:layer:of-a-stack:1",
		ssmtypes.ParameterTypeSecureString: armARN + ":1",
	} {
		put(kind, value)
		expect(publishOutcomes(t, 4, "--dir", dir, "--dry-run"), isUnchanged, hasFailed, isUnchanged, isUnchanged)
		expect(publishOutcomes(t, 4, "--dir", dir), isUnchanged, hasFailed, isUnchanged, isUnchanged)
		if kind == ssmtypes.ParameterTypeString && parameter(path) != value {
			t.Errorf("the parameter holds %s", parameter(path))
		}
	}
	expect(publishOutcomes(t, 0, "--dir", dir, "--region", "us-east-1", "--region", testRegion, "--parameters="),
		wasPublished, wasPublished, isUnchanged, isUnchanged)
	expect(publishOutcomes(t, 0, "--dir", dir, "--name-prefix", "mine", "--parameters", "/mine/"), wasPublished, wasSet, wasPublished, wasSet)
	if parameter("/mine/x86_64/arn") != "arn:aws:lambda:eu-west-1:123456789012:layer:mine-x86_64:1" {
		t.Error(parameter("/mine/x86_64/arn"))
	}
}

// Without credentials publish reports that once, and starts nothing.
func TestPublishCredentials(t *testing.T) {
	dir := t.TempDir()
	layerZips(t, dir, "1")
	for message, variables := range map[string]map[string]string{
		"there are no credentials: none are configured": {
			"AWS_ENDPOINT_URL":      fakeAWS(t, nil),
			"AWS_ACCESS_KEY_ID":     "",
			"AWS_SECRET_ACCESS_KEY": "",
		},
		"AWS does not accept the credentials (EnvConfigCredentials): ExpiredToken": {
			"AWS_ENDPOINT_URL": fakeAWS(t, map[string]answer{"GetCallerIdentity": xmlError("ExpiredToken", "The security token has expired")}),
		},
	} {
		setEnviron(t, variables)
		status, stdout, stderr := runKtel(t, "publish", "--dir", dir, "--dry-run")
		if status != 4 || stdout != "" || !strings.HasPrefix(stderr, "ktel: error: "+message) ||
			!strings.Contains(stderr, "ktel: hint: set AWS_PROFILE, or") || strings.Count(stderr, "\n") != 2 {
			t.Errorf("status %d\n%s%s", status, stdout, stderr)
		}
	}
}

// A failed step does not stop the others, and publish reports the failed regions.
func TestPublishPartialFailure(t *testing.T) {
	dir := t.TempDir()
	layerZips(t, dir, "1")
	const list = "GET /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions"
	setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": fakeAWS(t, map[string]answer{
		list: {200, `{"LayerVersions":[]}`},
		"POST /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions": {
			201,
			`{"LayerVersionArn":"arn:aws:lambda:eu-west-1:123456789012:layer:kinesis-telemetry-extension-arm64:1"}`,
		},
	})})
	status, stdout, stderr := runKtel(t, "publish", "--dir", dir)
	const want = "" +
		"  eu-west-1  kinesis-telemetry-extension-arm64   published     " +
		"arn:aws:lambda:eu-west-1:123456789012:layer:kinesis-telemetry-extension-arm64:1\n" +
		"  eu-west-1  /telemetry/kinesis/extension/arn    failed        " +
		"AccessDeniedException: not authorized to perform GetParameter\n" +
		"  eu-west-1  kinesis-telemetry-extension-x86_64  failed        " +
		"AccessDeniedException: not authorized to perform GET /2018-10-31/layers/kinesis-telemetry-extension-x86_64/versions\n"
	if status != 4 || stdout != want || !strings.Contains(stderr, "publishing failed in 1 of 1 region\n") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	args := []string{"--dir", dir, "--parameters=", "--region", "eu-west-1", "--region", "eu-west-2"}
	if got := publishOutcomes(t, 4, args...); !slices.Equal(got, []string{wasPublished, hasFailed, wasPublished, hasFailed}) {
		t.Errorf("%q", got)
	}
}

// A parameter that does not hold an ARN of this layer is reported and left alone, in a dry run and without.
func TestPublishParameters(t *testing.T) {
	dir := t.TempDir()
	layerZips(t, dir, "1")
	const path = "/telemetry/kinesis/extension"
	const arm = "arn:aws:lambda:eu-west-1:123456789012:layer:kinesis-telemetry-extension-arm64"
	const fix = "; choose another --parameters PATH, or first run: aws ssm delete-parameter --region eu-west-1 --name " + path + "/arn"
	notALayer := func(value string) string {
		return "failed        it holds \"" + value + "\", no version of the layer: a stack may own it" + fix
	}
	another := func(old, replacement string) string { return strings.Replace(arm, old, replacement, 1) + ":1" }
	for name, test := range map[string]struct {
		kind, value string
		description string
		want        string
		wantDry     string // empty: want
	}{
		"no parameter": {
			want:    "set           " + arm + ":2",
			wantDry: "would set",
		},
		"the version before": {
			kind:    "String",
			value:   arm + ":1",
			want:    "set           " + arm + ":1 → " + arm + ":2",
			wantDry: "would set     " + arm + ":1 → the new version",
		},
		"the version before, described by publish": {
			kind:        "String",
			value:       arm + ":1",
			description: "Layer of the Kinesis telemetry extension for arm64",
			want:        "set           " + arm + ":1 → " + arm + ":2",
			wantDry:     "would set     " + arm + ":1 → the new version",
		},
		"the version before, described by a stack": {
			kind:        "String",
			value:       arm + ":1",
			description: "Layer version",
			want:        "failed        it is described as \"Layer version\": a stack may own it" + fix,
		},
		"this version, described by a stack": {
			kind:        "String",
			value:       arm + ":2",
			description: "Layer version",
			want:        "unchanged     " + arm + ":2",
			wantDry:     "failed        it is described as \"Layer version\": a stack may own it" + fix,
		},
		"another layer": {
			kind:  "String",
			value: another("arm64", "mine"),
			want:  notALayer(another("arm64", "mine")),
		},
		"another account": {
			kind:  "String",
			value: another("1234", "4321"),
			want:  notALayer(another("1234", "4321")),
		},
		"another region": {
			kind:  "String",
			value: another("eu-", "us-"),
			want:  notALayer(another("eu-", "us-")),
		},
		"no ARN": {
			kind:  "String",
			value: "x",
			want:  notALayer("x"),
		},
		"a secret": {
			kind:  "SecureString",
			value: "AQIC",
			want:  "failed        it is a SecureString: a stack may own it" + fix,
		},
	} {
		t.Run(name, func(t *testing.T) {
			there := jsonError("ParameterNotFound", "")
			if test.kind != "" {
				there = answer{200, `{"Parameter":{"Type":"` + test.kind + `","Value":"` + test.value + `"}}`}
			}
			const versions = "GET /2018-10-31/layers/kinesis-telemetry-extension-arm64/versions"
			answers := map[string]answer{
				versions: {200, `{"LayerVersions":[]}`}, strings.Replace(versions, "GET", "POST", 1): {201, `{"LayerVersionArn":"` + arm + `:2"}`},
				"GetParameter": there, "PutParameter": {200, `{}`},
			}
			if test.description != "" { // otherwise DescribeParameters is denied
				answers["DescribeParameters"] = answer{200, `{"Parameters":[{"Description":"` + test.description + `"}]}`}
			}
			setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": fakeAWS(t, answers)})
			if test.wantDry == "" {
				test.wantDry = test.want
			}
			for flag, want := range map[string]string{"--dry-run=false": test.want, "--dry-run": test.wantDry} {
				_, stdout, _ := runKtel(t, "publish", "--dir", dir, flag)
				if line := strings.Split(stdout, "\n")[1]; !strings.HasSuffix(line, "  "+want) {
					t.Errorf("%s\nwant %s", line, want)
				}
			}
		})
	}
}

// Interrupted, publish and doctor report only that.
func TestPublishInterrupted(t *testing.T) {
	dir := t.TempDir()
	layerZips(t, dir, "1")
	setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": fakeAWS(t, nil)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if status := run(ctx, []string{"publish", "--dir", dir}, nil, &out, &errs); status != 130 || errs.String() != "ktel: interrupted\n" {
		t.Errorf("status %d: %s%s", status, out.String(), errs.String())
	}
	errs.Reset()
	if status := run(ctx, []string{"doctor"}, nil, &out, &errs); status != 130 || errs.String() != "ktel: interrupted\n" {
		t.Errorf("status %d: %s%s", status, out.String(), errs.String())
	}
}

// publish refuses a zip with which functions would not start.
func TestPublishChecksTheZips(t *testing.T) {
	const inside = "extensions/kinesis-telemetry-extension"
	for message, content := range map[string][]byte{
		"not a valid zip file":          []byte("no zip"),
		"it does not contain " + inside: zipped(t, "bin/kinesis-telemetry-extension", nil),
		"is not a Linux program":        zipped(t, inside, []byte("#!/bin/sh\n")),
		"its program is for EM_X86_64":  zipped(t, inside, program(elf.EM_X86_64, "")),
	} {
		setEnviron(t, nil)
		dir := t.TempDir()
		layerZips(t, dir, "1")
		os.WriteFile(filepath.Join(dir, "kinesis-telemetry-extension-arm64.zip"), content, 0o600)
		if status, stdout, stderr := runKtel(t, "publish", "--dir", dir); status != 2 || stdout != "" || !strings.Contains(stderr, message) {
			t.Errorf("%s: status %d: %s%s", message, status, stdout, stderr)
		}
	}
}

// Without a route to AWS, publish reports in short what it could not reach, and how to fix it.
func TestPublishUnreachable(t *testing.T) {
	setEnviron(t, map[string]string{"AWS_ENDPOINT_URL": "http://" + closedPort, "AWS_MAX_ATTEMPTS": "1"})
	dir := t.TempDir()
	layerZips(t, dir, "1")
	status, stdout, stderr := runKtel(t, "publish", "--dir", dir)
	for _, want := range []string{"failed        dial tcp 127.0.0.1:", "connection refused\n"} {
		if status != 4 || strings.Count(stdout, want) != 2 {
			t.Errorf("status %d, not twice %q in\n%s", status, want, stdout)
		}
	}
	const hint = "hint: let this machine reach Lambda and SSM in eu-west-1; is there a region eu-west-1?\n"
	if strings.Contains(stdout, "operation error") || strings.Count(stderr, hint) != 1 {
		t.Errorf("%s\n%s", stdout, stderr)
	}
}
