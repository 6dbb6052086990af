package awsapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

const foreignLayer = "arn:aws:lambda:eu-west-1:210987654321:layer:other"

// Each request is the same as the SDK's: method, path on the wire, query, content type and body.
func TestLambdaRequestsMatchTheSDK(t *testing.T) {
	type sent struct{ Method, URI, Type, Body string }
	var got []sent
	cfg, _ := configFor(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, sent{r.Method, r.RequestURI, r.Header.Get("Content-Type"), string(body)})
		respond(200, `{}`)(w, r)
	})
	base := *cfg.BaseEndpoint
	client := func() *sdklambda.Client { return sdklambda.NewFromConfig(cfg) }
	function := "arn:aws:lambda:eu-west-1:123456789012:function:check out/1"
	for name, test := range map[string]struct{ ours, sdks func() error }{
		"function": {
			func() error { _, err := GetFunction(t.Context(), cfg, "checkout", ""); return err },
			func() error {
				_, err := client().GetFunctionConfiguration(t.Context(),
					&sdklambda.GetFunctionConfigurationInput{FunctionName: aws.String("checkout")})
				return err
			},
		},
		"version of a function, by ARN": {
			func() error { _, err := GetFunction(t.Context(), cfg, function, "$LATEST"); return err },
			func() error {
				_, err := client().GetFunctionConfiguration(t.Context(),
					&sdklambda.GetFunctionConfigurationInput{FunctionName: &function, Qualifier: aws.String("$LATEST")})
				return err
			},
		},
		"layer version": {
			func() error { _, err := GetLayerVersion(t.Context(), cfg, foreignLayer, 12); return err },
			func() error {
				_, err := client().GetLayerVersion(t.Context(),
					&sdklambda.GetLayerVersionInput{LayerName: aws.String(foreignLayer), VersionNumber: aws.Int64(12)})
				return err
			},
		},
		"layer versions": {
			func() error { _, err := NewestLayerVersion(t.Context(), cfg, "mine"); return err },
			func() error {
				_, err := client().ListLayerVersions(t.Context(), &sdklambda.ListLayerVersionsInput{LayerName: aws.String("mine")})
				return err
			},
		},
		"publish": {
			func() error {
				_, err := PublishLayerVersion(t.Context(), cfg, "mine", &NewLayerVersion{
					Content: LayerContent{[]byte("PK")}, CompatibleArchitectures: []string{ArchitectureARM64}, Description: "d", LicenseInfo: "MIT",
				})
				return err
			},
			func() error {
				_, err := client().PublishLayerVersion(t.Context(), &sdklambda.PublishLayerVersionInput{
					LayerName: aws.String("mine"), Content: &types.LayerVersionContentInput{ZipFile: []byte("PK")},
					CompatibleArchitectures: []types.Architecture{types.ArchitectureArm64}, Description: aws.String("d"), LicenseInfo: aws.String("MIT"),
				})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"", "/base/"} { // of the endpoint
				endpoint := base + path
				cfg.BaseEndpoint = &endpoint
				got = nil
				if err := errors.Join(test.ours(), test.sdks()); err != nil || len(got) != 2 {
					t.Fatal(err, got)
				}
				got[0].Body, got[1].Body = canonical(t, got[0].Body), canonical(t, got[1].Body)
				if got[0] != got[1] {
					t.Errorf("\n got %+v\nwant %+v", got[0], got[1])
				}
			}
		})
	}
}

// canonical returns JSON with its members sorted.
func canonical(t *testing.T, text string) string {
	t.Helper()
	if text == "" {
		return ""
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	b, _ := json.Marshal(value)
	return string(b)
}

// Each member of the configuration has the value that the SDK reads.
func TestFunctionMatchesTheSDK(t *testing.T) {
	cfg, _ := configFor(t, respond(200, `{
		"FunctionName":"checkout","FunctionArn":"arn:f","Role":"arn:r","KMSKeyArn":"arn:k","Runtime":"python3.13",
		"Version":"$LATEST","State":"Failed","StateReason":"because","PackageType":"Zip","Architectures":["arm64"],"MemorySize":128,"Timeout":3,
		"Layers":[{"Arn":"arn:1","CodeSize":1},{"Arn":"arn:2"}],
		"VpcConfig":{"VpcId":"vpc-1","SubnetIds":["subnet-1"],"Ipv6AllowedForDualStack":false},
		"Environment":{"Variables":{"A":"1"},"Error":{"ErrorCode":"AccessDenied","Message":"kms"}},
		"SnapStart":{"ApplyOn":"PublishedVersions","OptimizationStatus":"On"},
		"CapacityProviderConfig":{"LambdaManagedInstancesCapacityProviderConfig":{"CapacityProviderArn":"arn:c"}},
		"LoggingConfig":{"LogFormat":"JSON","ApplicationLogLevel":"WARN","SystemLogLevel":"INFO"}}`))
	got, err := GetFunction(t.Context(), cfg, "checkout", "")
	if err != nil {
		t.Fatal(err)
	}
	sdk, err := sdklambda.NewFromConfig(cfg).GetFunctionConfiguration(t.Context(),
		&sdklambda.GetFunctionConfigurationInput{FunctionName: aws.String("checkout")})
	if err != nil {
		t.Fatal(err)
	}
	want := &Function{
		FunctionName: *sdk.FunctionName, FunctionArn: *sdk.FunctionArn, Version: *sdk.Version, Role: *sdk.Role, KMSKeyArn: *sdk.KMSKeyArn,
		Runtime: string(sdk.Runtime), PackageType: string(sdk.PackageType), Architectures: []string{string(sdk.Architectures[0])},
		MemorySize: *sdk.MemorySize, Timeout: *sdk.Timeout, State: string(sdk.State), StateReason: *sdk.StateReason,
		Layers: []struct{ Arn string }{{*sdk.Layers[0].Arn}, {*sdk.Layers[1].Arn}}, CapacityProviderConfig: &struct{}{},
	}
	want.Environment.Variables = sdk.Environment.Variables
	want.Environment.Error = &struct{ Message string }{*sdk.Environment.Error.Message}
	want.VpcConfig.VpcId, want.VpcConfig.SubnetIds = *sdk.VpcConfig.VpcId, sdk.VpcConfig.SubnetIds
	want.SnapStart.ApplyOn = string(sdk.SnapStart.ApplyOn)
	want.LoggingConfig.LogFormat = string(sdk.LoggingConfig.LogFormat)
	want.LoggingConfig.ApplicationLogLevel = string(sdk.LoggingConfig.ApplicationLogLevel)
	want.LoggingConfig.SystemLogLevel = string(sdk.LoggingConfig.SystemLogLevel)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// The code and the message of an error are those that the SDK reads.
func TestLambdaErrors(t *testing.T) {
	for name, test := range map[string]struct{ header, body, code, message string }{
		"in the header":   {"ResourceNotFoundException", `{"Type":"User","Message":"none"}`, "ResourceNotFoundException", "none"},
		"with an address": {"AccessDeniedException:http://x/", `{"Message":"no"}`, "AccessDeniedException", "no"},
		"in the body":     {"", `{"__type":"com.amazonaws#InvalidParameterValueException","message":"m"}`, "InvalidParameterValueException", "m"},
		"no body":         {"ServiceException", "", "ServiceException", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, asked := configFor(t, func(w http.ResponseWriter, r *http.Request) {
				if test.header != "" {
					w.Header().Set("X-Amzn-ErrorType", test.header)
				}
				respond(404, test.body)(w, r)
			})
			_, err := GetLayerVersion(t.Context(), cfg, "mine", 1)
			api, ok := errors.AsType[smithy.APIError](err)
			if !ok || api.ErrorCode() != test.code || api.ErrorMessage() != test.message || ErrorCode(err) != test.code || asked.Load() != 1 {
				t.Errorf("%v after %d requests", err, asked.Load())
			}
			if test.body == "" {
				return // the SDK cannot read it
			}
			_, err = sdklambda.NewFromConfig(cfg).GetLayerVersion(t.Context(),
				&sdklambda.GetLayerVersionInput{LayerName: aws.String("mine"), VersionNumber: aws.Int64(1)})
			if sdk, ok := errors.AsType[smithy.APIError](err); !ok || sdk.ErrorCode() != test.code || sdk.ErrorMessage() != test.message {
				t.Errorf("the SDK reads %v", err)
			}
		})
	}
	if code := ErrorCode(io.EOF); code != "" {
		t.Errorf("code %q of an error that is not from AWS", code)
	}
}

// All pages are read. For a layer that does not exist the result is 0, and other errors are returned.
func TestNewestLayerVersion(t *testing.T) {
	cfg, asked := configFor(t, func(w http.ResponseWriter, r *http.Request) {
		respond(200, map[string]string{
			"":  `{"LayerVersions":[{"Version":3},{"Version":2}],"NextMarker":"m"}`,
			"m": `{"LayerVersions":[{"Version":11}],"NextMarker":"n"}`,
			"n": `{"LayerVersions":[]}`,
		}[r.URL.Query().Get("Marker")])(w, r)
	})
	if got, err := NewestLayerVersion(t.Context(), cfg, "mine"); err != nil || got != 11 || asked.Load() != 3 {
		t.Errorf("%d, %v after %d requests", got, err, asked.Load())
	}
	cfg, _ = configFor(t, respond(404, `{"__type":"ResourceNotFoundException"}`))
	if got, err := NewestLayerVersion(t.Context(), cfg, "mine"); err != nil || got != 0 {
		t.Errorf("%d, %v of no layer", got, err)
	}
	cfg, _ = configFor(t, respond(403, `{"__type":"AccessDeniedException"}`))
	if _, err := NewestLayerVersion(t.Context(), cfg, "mine"); ErrorCode(err) != "AccessDeniedException" {
		t.Errorf("%v", err)
	}
}
