package kinesis

import (
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const ownAccount, otherAccount = "123456789012", "210987654321"

func testConfig(stream string) Config {
	return Config{
		Stream: stream, Region: "eu-west-1", AccountID: ownAccount,
		Credentials: Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret", SessionToken: "token"},
	}
}

// Endpoints are the same as the SDK's, for every partition, with and without FIPS and dual-stack.
func TestEndpointsMatchTheSDK(t *testing.T) {
	oracle, stsOracle := awskinesis.NewDefaultEndpointResolverV2(), sts.NewDefaultEndpointResolverV2()
	for region, partition := range map[string]string{
		"us-east-1": "aws", "eu-west-1": "aws", "ap-southeast-7": "aws", "mx-central-1": "aws", "nowhere-new-1": "aws",
		"cn-north-1": "aws-cn", "cn-northwest-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "us-gov-east-1": "aws-us-gov",
		"us-iso-east-1": "aws-iso", "us-iso-west-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e",
		"us-isof-south-1": "aws-iso-f", "eusc-de-east-1": "aws-eusc",
	} {
		for variant := range 4 {
			fips, dualStack := variant&1 != 0, variant&2 != 0
			arn := func(account string) string {
				return "arn:" + partition + ":kinesis:" + region + ":" + account + ":stream/logs"
			}
			for _, c := range []struct{ stream, account, arn, names string }{
				{"logs", ownAccount, "", `"StreamName":"logs"`},
				{arn(ownAccount), ownAccount, "", `"StreamName":"logs"`},
				{arn(otherAccount), ownAccount, arn(otherAccount), `"StreamARN":"` + arn(otherAccount) + `"`},
				{arn(ownAccount), "", arn(ownAccount), `"StreamARN":"` + arn(ownAccount) + `"`},
			} {
				parameters := awskinesis.EndpointParameters{
					Region:        &region,
					UseFIPS:       &fips,
					UseDualStack:  &dualStack,
					OperationType: aws.String("data"),
				}
				if c.arn != "" {
					parameters.StreamARN = &c.arn
				}
				want, err := oracle.ResolveEndpoint(t.Context(), parameters)
				if err != nil {
					t.Fatal(err)
				}
				cfg := testConfig(c.stream)
				cfg.AccountID, cfg.UseFIPS, cfg.UseDualStack = c.account, fips, dualStack
				if cfg.Region = region; c.stream != "logs" {
					cfg.Region = "eu-central-1" // the ARN's region overrides it
				}
				got, err := resolve(&cfg)
				if err != nil {
					t.Fatal(err)
				}
				if got.url.Scheme+"://"+got.url.Host != want.URI.String() || got.stream.Region != region || !strings.Contains(got.prefix, c.names) {
					t.Errorf("%s in %s, account %q, FIPS %t, dual-stack %t:\n got %s, %s, %s\nwant %s, %s", c.stream, region, c.account, fips, dualStack,
						got.url, got.stream.Region, got.prefix, &want.URI, c.names)
				}
			}
			want, err := stsOracle.ResolveEndpoint(t.Context(), sts.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
			if err != nil {
				t.Fatal(err)
			}
			if got := "https://" + hostOf("sts", region, "", fips, dualStack); got != want.URI.String() {
				t.Errorf("STS in %s, FIPS %t, dual-stack %t: got %s, want %s", region, fips, dualStack, got, &want.URI)
			}
		}
	}
}

// A configured endpoint URL overrides FIPS and dual-stack.
func TestEndpointURLOverridesAll(t *testing.T) {
	cfg := testConfig("arn:aws:kinesis:eu-west-1:" + otherAccount + ":stream/logs")
	cfg.EndpointURL, cfg.UseFIPS, cfg.UseDualStack = "http://127.0.0.1:4567/base", true, true
	got, err := resolve(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := url.URL{Scheme: "http", Host: "127.0.0.1:4567", Path: "/base"}
	if *got.url != want || !strings.Contains(got.prefix, "StreamARN") {
		t.Errorf("got %s with %s, want %s with a StreamARN", got.url, got.prefix, &want)
	}
}

// The error of New names the wrong value and the expected form.
func TestNewReportsMistakes(t *testing.T) {
	change := func(f func(*Config)) Config {
		cfg := testConfig("logs")
		f(&cfg)
		return cfg
	}
	stream := func(name string) Config { return change(func(c *Config) { c.Stream = name }) }
	endpoint := func(value string) Config { return change(func(c *Config) { c.EndpointURL = value }) }
	for _, c := range []struct {
		name string
		cfg  Config
		says []string
	}{
		{"no stream", stream(""), []string{"stream", "expected the name"}},
		{"name with a space", stream("my stream"), []string{`"my stream"`, "A-Z a-z 0-9"}},
		{"name too long", stream(strings.Repeat("x", 129)), []string{"1 to 128"}},
		{"another service", stream("arn:aws:firehose:eu-west-1:123456789012:deliverystream/x"), []string{"firehose", "not of kinesis"}},
		{"consumer", stream("arn:aws:kinesis:eu-west-1:123456789012:stream/x/consumer/y:1"), []string{"the ARN is a consumer's"}},
		{"cut short", stream("arn:aws:kinesis:eu-west-1"), []string{"cut short"}},
		{"account", stream("arn:aws:kinesis:eu-west-1:12345:stream/x"), []string{"12 digits"}},
		{"no region in the ARN", stream("arn:aws:kinesis::123456789012:stream/x"), []string{"region"}},
		{"wrong partition", stream("arn:aws:kinesis:cn-north-1:123456789012:stream/x"), []string{"partition", "aws-cn"}},
		{"no name in the ARN", stream("arn:aws:kinesis:eu-west-1:123456789012:stream/"), []string{"stream/"}},
		{"no region", change(func(c *Config) { c.Region = "" }), []string{"region", "AWS_REGION"}},
		{"region with a slash", change(func(c *Config) { c.Region = "a/b" }), []string{`"a/b"`}},
		{"endpoint without a scheme", endpoint("localhost:4567"), []string{"endpoint URL", "https://"}},
		{"endpoint with a query", endpoint("http://localhost/?x=1"), []string{"endpoint URL"}},
		{"endpoint with a control character", endpoint("http://kinesis\u202e.test"), []string{"endpoint URL"}},
		{"endpoint of another scheme", endpoint("ftp://localhost"), []string{"endpoint URL"}},
		{"no credentials", change(func(c *Config) { c.Credentials = nil }), []string{"credentials"}},
		{"CA bundle", change(func(c *Config) { c.CABundle = []byte("not PEM") }), []string{"AWS_CA_BUNDLE", "PEM"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
		})
	}
}

// An accepted value needs no escaping in a URL or a body, and its ARN is the value itself.
func FuzzParseStream(f *testing.F) {
	for _, seed := range []string{
		"logs", "arn:aws:kinesis:eu-west-1:123456789012:stream/logs", "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a.b-c_d",
		"arn::::", `a"b`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, err := ParseStream(value)
		if err != nil {
			return
		}
		if s.ARN() != value {
			t.Errorf("%q became %q", value, s.ARN())
		}
		if strings.ContainsAny(value, "\"\\ \n\x00") {
			t.Errorf("%q was accepted", value)
		}
	})
}

// An unknown partition is taken from the ARN, with a warning. A known partition must match the region.
func TestUnknownPartition(t *testing.T) {
	for _, c := range []struct{ stream, host, body string }{
		{
			stream: "arn:aws-new:kinesis:xx-new-1:" + otherAccount + ":stream/logs",
			host:   otherAccount + ".data-kinesis.xx-new-1.amazonaws.com",
			body:   `{"StreamARN":"arn:aws-new:kinesis:xx-new-1:` + otherAccount + `:stream/logs","Records":[`,
		},
		{
			stream: "arn:aws-new:kinesis:eu-west-1:" + ownAccount + ":stream/logs",
			host:   "kinesis.eu-west-1.amazonaws.com",
			body:   `{"StreamName":"logs","Records":[`,
		},
	} {
		cfg := testConfig(c.stream)
		got, err := resolve(&cfg)
		if err != nil || got.url.Host != c.host || got.prefix != c.body {
			t.Errorf("%s: %v, %+v", c.stream, err, got)
			continue
		}
		if warning := got.stream.Warning(); !strings.Contains(warning, `"aws-new"`) {
			t.Errorf("%s: warning %q", c.stream, warning)
		}
	}
	for _, known := range []string{
		"logs", "arn:aws:kinesis:eu-west-1:123456789012:stream/logs", "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/logs",
	} {
		if s, err := ParseStream(known); err != nil || s.Warning() != "" {
			t.Errorf("%s: %v, warning %q", known, err, s.Warning())
		}
	}
	for _, wrong := range []string{
		"arn:aws:kinesis:cn-north-1:123456789012:stream/logs", "arn:aws-cn:kinesis:eu-west-1:123456789012:stream/logs",
		`arn:a"b:kinesis:eu-west-1:123456789012:stream/logs`, "arn::kinesis:eu-west-1:123456789012:stream/logs",
	} {
		if _, err := ParseStream(wrong); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
