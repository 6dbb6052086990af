package awsapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// sources stands for the SDK's sources of configuration.
type sources struct {
	endpoint string
	fips     bool
}

func (s sources) GetServiceBaseEndpoint(_ context.Context, id string) (string, bool, error) {
	return s.endpoint, s.endpoint != "" && id == ssm.id, nil
}

func (s sources) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	return aws.FIPSEndpointStateEnabled, s.fips, nil
}

// The hosts are those of the SDK's own clients.
func TestEndpoints(t *testing.T) {
	for _, region := range []string{
		"us-east-1", "eu-west-1", "ap-southeast-7", "cn-northwest-1", "us-gov-east-1", "us-iso-west-1", "us-isob-east-1", "eu-isoe-west-1",
		"us-isof-south-1", "eusc-de-east-1",
	} {
		want := map[service]string{}
		note := func(s service, host string, err error) {
			if err != nil {
				t.Fatal(err)
			}
			want[s] = host
		}
		i, err := sdkiam.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sdkiam.EndpointParameters{Region: &region})
		note(iam, i.URI.String(), err)
		p, err := sdkssm.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sdkssm.EndpointParameters{Region: &region})
		note(ssm, p.URI.String(), err)
		k, err := sdkkms.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sdkkms.EndpointParameters{Region: &region})
		note(kms, k.URI.String(), err)
		for s, url := range want {
			got, signed, err := s.endpoint(t.Context(), aws.Config{Region: region})
			if err != nil || got != url {
				t.Errorf("%s in %s: %s, %v, want %s", s.id, region, got, err, url)
			}
			if !s.global && signed != region {
				t.Errorf("%s in %s is signed for %s", s.id, region, signed)
			}
		}
	}
	for _, test := range []struct {
		service service
		cfg     aws.Config
		want    string
	}{
		{ssm, aws.Config{Region: "eu-west-1", ConfigSources: []any{sources{fips: true}}}, "https://ssm-fips.eu-west-1.amazonaws.com"},
		{iam, aws.Config{Region: "eu-west-1", ConfigSources: []any{sources{fips: true}}}, "https://iam-fips.amazonaws.com"},
		{ssm, aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String("http://all"), ConfigSources: []any{sources{endpoint: "http://one"}}}, "http://one"},
		{iam, aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String("http://all"), ConfigSources: []any{sources{endpoint: "http://one"}}}, "http://all"},
	} {
		if got, _, err := test.service.endpoint(t.Context(), test.cfg); err != nil || got != test.want {
			t.Errorf("%s: %s, %v, want %s", test.service.id, got, err, test.want)
		}
	}
}

// configured makes the configuration for an endpoint that answers with these in turn, the last one again and again.
func configured(t *testing.T, answers ...func(http.ResponseWriter, *http.Request)) (cfg aws.Config, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := min(int(asked.Add(1)), len(answers))
		answers[n-1](w, r)
	}))
	t.Cleanup(server.Close)
	return aws.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
	}, asked
}

func says(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestErrors(t *testing.T) {
	for body, code := range map[string]string{
		`{"__type":"ParameterNotFound","message":"m"}`:                                                "ParameterNotFound",
		`{"__type":"com.amazonaws.ssm#ParameterNotFound","message":"m"}`:                              "ParameterNotFound",
		`<ErrorResponse><Error><Code>AccessDenied</Code><Message>m</Message></Error></ErrorResponse>`: "AccessDenied",
		`<html><body>proxy</body>`:                                                                    "400 Bad Request",
	} {
		cfg, asked := configured(t, says(400, body))
		_, err := GetParameter(t.Context(), cfg, "p")
		api, ok := errors.AsType[smithy.APIError](err)
		if !ok || api.ErrorCode() != code || asked.Load() != 1 {
			t.Errorf("%s: %v after %d requests", body, err, asked.Load())
		}
	}
}

// What the service may have failed at by chance is tried again.
func TestRetry(t *testing.T) {
	cfg, asked := configured(t, says(503, ""), says(400, `{"__type":"ThrottlingException"}`), says(200, `{"Parameter":{"Name":"p","Value":"v","Type":"String"}}`))
	p, err := GetParameter(t.Context(), cfg, "p")
	if err != nil || p.Value != "v" || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d requests", p, err, asked.Load())
	}
	cfg, asked = configured(t, says(503, ""))
	if _, err := GetParameter(t.Context(), cfg, "p"); err == nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// All pages are read, inline policies and managed ones.
func TestRolePolicies(t *testing.T) {
	cfg, _ := configured(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		answers := map[string]string{
			"ListRolePolicies":         `<A><ListRolePoliciesResult><PolicyNames><member>one</member></PolicyNames><IsTruncated>true</IsTruncated><Marker>m</Marker></ListRolePoliciesResult></A>`,
			"ListRolePolicies m":       `<A><ListRolePoliciesResult><PolicyNames><member>two</member></PolicyNames><IsTruncated>false</IsTruncated></ListRolePoliciesResult></A>`,
			"ListAttachedRolePolicies": `<A><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyName>x</PolicyName><PolicyArn>three</PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></A>`,
			"GetPolicy":                `<A><GetPolicyResult><Policy><DefaultVersionId>v7</DefaultVersionId></Policy></GetPolicyResult></A>`,
			"GetRolePolicy":            `<A><GetRolePolicyResult><PolicyDocument>inline ` + r.Form.Get("PolicyName") + `</PolicyDocument></GetRolePolicyResult></A>`,
			"GetPolicyVersion":         `<A><GetPolicyVersionResult><PolicyVersion><Document>managed ` + r.Form.Get("PolicyArn") + ` ` + r.Form.Get("VersionId") + `</Document></PolicyVersion></GetPolicyVersionResult></A>`,
		}
		key := r.Form.Get("Action")
		if marker := r.Form.Get("Marker"); marker != "" {
			key += " " + marker
		}
		says(200, answers[key])(w, r)
	})
	got, err := RolePolicies(t.Context(), cfg, "role")
	if want := []string{"inline one", "inline two", "managed three v7"}; err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%q, %v", got, err)
	}
}
