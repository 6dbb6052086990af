package awsapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdkkms "github.com/aws/aws-sdk-go-v2/service/kms"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/auth"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// sources replaces the SDK's sources of configuration.
type sources struct {
	endpoint                 string
	fips, dualStack, ignored bool
}

func (s sources) GetServiceBaseEndpoint(_ context.Context, id string) (string, bool, error) {
	return s.endpoint, s.endpoint != "" && id == ssm.id, nil
}

func (s sources) GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error) {
	return s.ignored, s.ignored, nil
}

func (s sources) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	return aws.DualStackEndpointStateEnabled, s.dualStack, nil
}

func (s sources) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	return aws.FIPSEndpointStateEnabled, s.fips, nil
}

// Hosts and regions of signatures are the same as the SDK's, for every partition, with and without FIPS and dual-stack.
func TestEndpoints(t *testing.T) {
	for _, region := range []string{
		"us-east-1", "eu-west-1", "ap-southeast-7", "cn-northwest-1", "us-gov-east-1", "us-iso-west-1", "us-isob-east-1", "eu-isoe-west-1",
		"us-isof-south-1", "eusc-de-east-1",
	} {
		for variant := range 4 {
			fips, dualStack := variant&1 != 0, variant&2 != 0
			cfg := aws.Config{Region: region, ConfigSources: []any{sources{fips: fips, dualStack: dualStack}}}
			check := func(s service, want smithyendpoints.Endpoint, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				wantRegion := region
				if options, ok := auth.GetAuthOptions(&want.Properties); ok {
					wantRegion, _ = smithyhttp.GetSigV4SigningRegion(&options[0].SignerProperties)
				}
				if got, signed, err := s.endpoint(t.Context(), cfg); err != nil || got != want.URI.String() || signed != wantRegion {
					t.Errorf("%s in %s, FIPS %t, dual-stack %t:\n got %s signed for %s, %v\nwant %s signed for %s", s.id, region, fips, dualStack,
						got, signed, err, &want.URI, wantRegion)
				}
			}
			want, err := sdkiam.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(),
				sdkiam.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
			check(iam, want, err)
			want, err = sdkssm.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(),
				sdkssm.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
			check(ssm, want, err)
			want, err = sdkkms.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(),
				sdkkms.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
			check(kms, want, err)
			want, err = sdklambda.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(),
				sdklambda.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
			check(lambda, want, err)
		}
	}
}

// The endpoint is the one that the SDK's client would use.
func TestConfiguredEndpoints(t *testing.T) {
	own := []any{sources{endpoint: "http://one"}}
	for name, test := range map[string]struct {
		sources     []any
		base        string
		environment map[string]string
		want        string
	}{
		"AWS's":                   {nil, "", nil, "https://ssm.eu-west-1.amazonaws.com"},
		"of all services":         {nil, "http://all", nil, "http://all"},
		"of the service":          {own, "http://all", nil, "http://one"},
		"the first source":        {[]any{struct{}{}, sources{}, own[0], sources{endpoint: "http://two"}}, "", nil, "http://one"},
		"endpoints are ignored":   {[]any{sources{ignored: true}, own[0]}, "", nil, "https://ssm.eu-west-1.amazonaws.com"},
		"the environment, of all": {own, "http://all", map[string]string{"AWS_ENDPOINT_URL": "http://all"}, "http://all"},
		"the environment, also its own": {
			own, "http://all", map[string]string{"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SSM": "http://one"}, "http://one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM"} {
				t.Setenv(variable, test.environment[variable])
				if test.environment[variable] == "" {
					os.Unsetenv(variable)
				}
			}
			cfg := aws.Config{Region: "eu-west-1", ConfigSources: test.sources}
			if test.base != "" {
				cfg.BaseEndpoint = &test.base
			}
			oracle := sdkssm.NewFromConfig(cfg).Options()
			want, err := oracle.EndpointResolverV2.ResolveEndpoint(t.Context(),
				sdkssm.EndpointParameters{Region: &cfg.Region, Endpoint: oracle.BaseEndpoint})
			if err != nil || want.URI.String() != test.want {
				t.Fatalf("the SDK uses %s, %v, want %s", &want.URI, err, test.want)
			}
			if got, signed, err := ssm.endpoint(t.Context(), cfg); err != nil || got != test.want || signed != cfg.Region {
				t.Errorf("%s signed for %s, %v, want %s", got, signed, err, test.want)
			}
		})
	}
	for _, region := range []string{"", "eu west", "x.example/"} {
		if got, _, err := ssm.endpoint(t.Context(), aws.Config{Region: region}); err == nil {
			t.Errorf("region %q: %s", region, got)
		}
	}
}

// configFor returns the configuration for an endpoint that gives the answers in turn, and then repeats the last one.
func configFor(t *testing.T, answers ...func(http.ResponseWriter, *http.Request)) (cfg aws.Config, asked *atomic.Int32) {
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

func respond(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// The error code is read from each protocol, without its namespace and URL.
func TestErrors(t *testing.T) {
	for body, code := range map[string]string{
		`{"__type":"ParameterNotFound","message":"m"}`:                                                "ParameterNotFound",
		`{"__type":"com.amazonaws.ssm#ParameterNotFound","message":"m"}`:                              "ParameterNotFound",
		`<ErrorResponse><Error><Code>AccessDenied</Code><Message>m</Message></Error></ErrorResponse>`: "AccessDenied",
		`<html><body>proxy</body>`:                                                                    "400 Bad Request",
		`{"code":"com.amazonaws.lambda#ServiceException:http://x","message":"m"}`:                     "ServiceException",
	} {
		cfg, asked := configFor(t, respond(400, body))
		_, err := GetParameter(t.Context(), cfg, "p")
		api, ok := errors.AsType[smithy.APIError](err)
		if !ok || api.ErrorCode() != code || asked.Load() != 1 {
			t.Errorf("%s: %v after %d requests", body, err, asked.Load())
		}
	}
}

// Temporary failures are retried, up to three attempts.
func TestRetry(t *testing.T) {
	cfg, asked := configFor(t, respond(503, ""), respond(400, `{"__type":"ThrottlingException"}`),
		respond(200, `{"Parameter":{"Name":"p","Value":"v","Type":"String"}}`))
	p, err := GetParameter(t.Context(), cfg, "p")
	if err != nil || p.Value != "v" || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d requests", p, err, asked.Load())
	}
	cfg, asked = configFor(t, respond(503, ""))
	if _, err := GetParameter(t.Context(), cfg, "p"); err == nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// A request is sent again with AWS's time if AWS rejects this machine's. If the clocks agree, it is not sent again.
func TestClockSkew(t *testing.T) {
	for name, test := range map[string]struct {
		ahead    time.Duration // AWS's clock
		rejected string        // code of an answer to a request with another time
		accepted string        // code of any other answer
		want     string
		calls    int32
	}{
		"behind":                {-20 * time.Minute, "InvalidSignatureException", "", "", 2},
		"ahead":                 {20 * time.Minute, "AccessDeniedException", "", "", 2},
		"ahead, another error":  {20 * time.Minute, "InvalidSignatureException", ResourceNotFound, ResourceNotFound, 2},
		"ahead, still rejected": {20 * time.Minute, "InvalidSignatureException", "InvalidSignatureException", "InvalidSignatureException", 2},
		"ahead, another code":   {20 * time.Minute, ResourceNotFound, "", ResourceNotFound, 1},
		"the same":              {0, "", "InvalidSignatureException", "InvalidSignatureException", 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, asked := configFor(t, func(w http.ResponseWriter, r *http.Request) {
				now := time.Now().Add(test.ahead)
				w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
				signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
				code := test.accepted
				if err != nil || now.Sub(signed).Abs() > time.Minute {
					code = test.rejected
				}
				if code == "" {
					respond(200, `{}`)(w, r)
					return
				}
				respond(403, `{"__type":"`+code+`"}`)(w, r)
			})
			_, err := GetFunction(t.Context(), cfg, "checkout", "")
			if (err == nil) != (test.want == "") || ErrorCode(err) != test.want || asked.Load() != test.calls {
				t.Errorf("%v after %d requests", err, asked.Load())
			}
		})
	}
}

// All pages are read, of inline and of managed policies.
func TestRolePolicies(t *testing.T) {
	cfg, _ := configFor(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		answers := map[string]string{
			"ListRolePolicies": `<A><ListRolePoliciesResult><PolicyNames><member>one</member></PolicyNames>` +
				`<IsTruncated>true</IsTruncated><Marker>m</Marker></ListRolePoliciesResult></A>`,
			"ListRolePolicies m": `<A><ListRolePoliciesResult><PolicyNames><member>two</member></PolicyNames>` +
				`<IsTruncated>false</IsTruncated></ListRolePoliciesResult></A>`,
			"ListAttachedRolePolicies": `<A><ListAttachedRolePoliciesResult><AttachedPolicies><member><PolicyName>x</PolicyName>` +
				`<PolicyArn>three</PolicyArn></member></AttachedPolicies></ListAttachedRolePoliciesResult></A>`,
			"GetPolicy": `<A><GetPolicyResult><Policy><DefaultVersionId>v7</DefaultVersionId></Policy></GetPolicyResult></A>`,
			"GetRolePolicy": `<A><GetRolePolicyResult><PolicyDocument>inline ` + r.Form.Get("PolicyName") +
				`</PolicyDocument></GetRolePolicyResult></A>`,
			"GetPolicyVersion": `<A><GetPolicyVersionResult><PolicyVersion><Document>managed ` + r.Form.Get("PolicyArn") + ` ` +
				r.Form.Get("VersionId") + `</Document></PolicyVersion></GetPolicyVersionResult></A>`,
		}
		key := r.Form.Get("Action")
		if marker := r.Form.Get("Marker"); marker != "" {
			key += " " + marker
		}
		respond(200, answers[key])(w, r)
	})
	got, err := RolePolicies(t.Context(), cfg, "role")
	if want := []string{"inline one", "inline two", "managed three v7"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
