package doctor

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"kinesis-telemetry-extension/internal/config"
)

// Each host of AWS that does not resolve or connect has its own fix. The test connects to none of them.
func TestUnreachableHosts(t *testing.T) {
	refused := errors.New("connection refused")
	for name, test := range map[string]struct {
		stream   string
		function *function
		report   func(*examiner)
		want     Finding
	}{
		"no such region": {
			stream: "orders",
			report: func(e *examiner) { e.reportUnresolved(errors.New("no such host")) },
			want: Finding{
				endpointCheck,
				Problem,
				"kinesis.eu-west-9.amazonaws.com does not resolve: no such host",
				"is there a region eu-west-9?",
			},
		},
		"no route out of a VPC": {
			stream: "orders",
			report: func(e *examiner) { e.reportUnreachable(netip.MustParseAddr("10.0.0.7"), refused) },
			want: Finding{
				endpointCheck,
				Problem,
				"kinesis.eu-west-9.amazonaws.com resolves to 10.0.0.7",
				"a NAT gateway or an interface endpoint com.amazonaws.eu-west-9.kinesis-streams",
			},
		},
		"the host of another account": {
			stream: "arn:aws:kinesis:eu-west-9:210987654321:stream/orders",
			report: func(e *examiner) { e.reportUnresolved(errors.New("no such host")) },
			want: Finding{
				endpointCheck,
				Problem,
				"210987654321.data-kinesis.eu-west-9.amazonaws.com",
				"not at the plain regional host",
			},
		},
		"a function outside of any VPC": {
			stream:   "orders",
			function: &function{account: "123456789012"},
			report:   func(e *examiner) { e.reportUnreachable(netip.MustParseAddr("192.0.2.1"), refused) },
			want:     Finding{endpointCheck, Warning, "192.0.2.1 and does not connect", "check this machine's network"},
		},
		"a function in a region that may not exist": {
			stream:   "orders",
			function: &function{account: "123456789012"},
			report:   func(e *examiner) { e.reportUnresolved(errors.New("no such host")) },
			want:     Finding{endpointCheck, Warning, "does not resolve", "is there a region eu-west-9?"},
		},
		"a function in a VPC": {
			stream:   "orders",
			function: &function{account: "123456789012", vpc: "vpc-1"},
			report:   func(e *examiner) { e.reportUnresolved(errors.New("no such host")) },
			want:     Finding{endpointCheck, NotChecked, "which says nothing about the function's VPC", "security groups"},
		},
		"a private address that only this machine resolves": {
			stream:   "orders",
			function: &function{account: "123456789012"},
			report:   func(e *examiner) { e.ok(endpointCheck, "%t", e.privateOutsideVPC(netip.MustParseAddr("10.0.0.7"))) },
			want:     Finding{endpointCheck, OK, "false", ""},
		},
	} {
		e := &examiner{account: "123456789012", function: test.function, environ: []string{
			"AWS_REGION=eu-west-9", "AWS_ACCESS_KEY_ID=x", config.Prefix + "STREAM=" + test.stream,
		}}
		if !e.checkSettings() {
			t.Fatalf("%s: %v", name, e.report.Findings)
		}
		test.report(e)
		got := e.report.Findings[len(e.report.Findings)-1]
		if got.Check != test.want.Check || got.Status != test.want.Status ||
			!strings.Contains(got.Seen, test.want.Seen) || !strings.Contains(got.Fix, test.want.Fix) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// The findings of the network and of the endpoint name the same route out of a VPC.
func TestRoutes(t *testing.T) {
	const (
		own   = "orders"
		far   = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"
		other = "arn:aws:kinesis:us-east-1:210987654321:stream/orders"
		fips  = "AWS_USE_FIPS_ENDPOINT=true"
	)
	for name, test := range map[string]struct {
		region, stream, variable string
		service                  string // of an interface endpoint; empty: none serves the stream
		instead                  string
	}{
		"plain": {
			region:  "eu-west-1",
			stream:  own,
			service: "com.amazonaws.eu-west-1.kinesis-streams",
		},
		"China": {
			region:  "cn-northwest-1",
			stream:  own,
			service: "cn.com.amazonaws.cn-northwest-1.kinesis-streams",
		},
		"FIPS": {
			region:   "us-east-1",
			stream:   own,
			variable: fips,
			service:  "com.amazonaws.us-east-1.kinesis-streams-fips",
		},
		"FIPS of another account": {
			region:   "us-east-1",
			stream:   other,
			variable: fips,
			service:  "com.amazonaws.us-east-1.kinesis-streams-fips",
		},
		"FIPS under the plain name": {
			region:   "us-gov-west-1",
			stream:   own,
			variable: fips,
			service:  "com.amazonaws.us-gov-west-1.kinesis-streams",
		},
		"another region": {
			region:  "eu-west-1",
			stream:  far,
			instead: "a NAT gateway: the stream is in us-east-1, which no interface endpoint of eu-west-1 serves",
		},
		"another region's endpoint": {
			region:   "eu-west-1",
			stream:   far,
			variable: "AWS_ENDPOINT_URL=https://vpce-1.us-east-1.example",
			instead:  "a route to vpce-1.us-east-1.example, which AWS_ENDPOINT_URL names",
		},
	} {
		e := &examiner{account: "123456789012", function: &function{account: "123456789012", vpc: "vpc-1"}, environ: []string{
			"AWS_REGION=" + test.region, "AWS_ACCESS_KEY_ID=x", config.Prefix + "STREAM=" + test.stream, test.variable,
		}}
		if !e.checkSettings() {
			t.Fatalf("%s: %v", name, e.report.Findings)
		}
		e.report.Findings = nil
		e.checkNetwork()
		e.reportUnresolved(errors.New("no such host"))
		network, endpoint := e.report.Findings[0].Fix, e.report.Findings[1].Fix
		if test.service == "" {
			if network != "it needs "+test.instead || endpoint != test.instead {
				t.Errorf("%s: %s; %s", name, network, endpoint)
			}
		} else if !strings.HasSuffix(network, "Values="+test.service) || !strings.Contains(endpoint, " "+test.service+" with private DNS") {
			t.Errorf("%s: %s; %s", name, network, endpoint)
		}
	}
}

// A stream's ARN has the partition of its region.
func TestPartitions(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1":      "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
		"cn-north-1":     "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/orders",
		"us-gov-west-1":  "arn:aws-us-gov:kinesis:us-gov-west-1:123456789012:stream/orders",
		"us-isob-east-1": "arn:aws-iso-b:kinesis:us-isob-east-1:123456789012:stream/orders",
	} {
		c := config.Config{AWS: config.AWS{Stream: "orders", Region: region}}
		if p, err := resolveTarget(&c, "123456789012"); err != nil || p.arn() != want {
			t.Errorf("%s: %s, %v", region, p.arn(), err)
		}
	}
}
