package config

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Load refuses what the Kinesis Client and the role would refuse later, when it is too late for ON_ERROR=fail.
func TestLoadRefusesClientMistakes(t *testing.T) {
	const role = Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/writer"
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("-----BEGIN NOTHING-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		environ []string
		want    string // the beginning of the only mistake; "": none
	}{
		{
			[]string{"AWS_CA_BUNDLE=/nowhere/ca.pem"},
			"AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates (no such file or directory)",
		},
		{[]string{"AWS_CA_BUNDLE=/"}, "AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates (is a directory)"},
		{
			[]string{"AWS_CA_BUNDLE=" + empty},
			"AWS_CA_BUNDLE cannot be used: expected the path of a file of certificates in PEM; it contains none",
		},
		{[]string{"AWS_REGION=eu west"}, "AWS_REGION cannot be used: expected a region such as"},
		{[]string{"AWS_REGION=", "AWS_DEFAULT_REGION=us-west-2"}, ""},
		{[]string{"AWS_REGION="}, "AWS_REGION is not set: Lambda sets it"},
		{[]string{"AWS_REGION=", Prefix + "STREAM=arn:aws:kinesis:eu-west-1:123456789012:stream/s"}, ""},
		{[]string{"AWS_REGION=", Prefix + "STREAM=arn:aws:kinesis:eu-west-1:123456789012:stream/s", role}, "AWS_REGION is not set: "},
		{[]string{"AWS_REGION=eu/west", Prefix + "STREAM=arn:aws:kinesis:eu-west-1:123456789012:stream/s"}, "AWS_REGION cannot be used: "},
		{
			[]string{Prefix + "STREAM=arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/c:1"},
			Prefix + "STREAM cannot be used: the ARN is a consumer's",
		},
		{[]string{Prefix + "ENDPOINT_URL=https://user:password@host"}, Prefix + "ENDPOINT_URL cannot be used: expected a URL such as"},
		{[]string{Prefix + "ENDPOINT_URL=https://:443"}, Prefix + "ENDPOINT_URL cannot be used: "},
		{[]string{Prefix + "ENDPOINT_URL=https://host?x=y"}, Prefix + "ENDPOINT_URL cannot be used: "},
		{[]string{"AWS_ENDPOINT_URL_KINESIS=ftp://host"}, "AWS_ENDPOINT_URL_KINESIS cannot be used: "},
		{[]string{"AWS_ENDPOINT_URL=host", role}, "AWS_ENDPOINT_URL cannot be used: "},
		{[]string{"AWS_ENDPOINT_URL=host", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=yes"}, ""},
		{[]string{"AWS_ENDPOINT_URL_STS=host", role}, "AWS_ENDPOINT_URL_STS cannot be used: "},
		{[]string{"AWS_ENDPOINT_URL_STS=host"}, ""},
		{[]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=sometimes"}, `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is "sometimes": expected true or false`},
		{[]string{"AWS_USE_FIPS_ENDPOINT=maybe"}, `AWS_USE_FIPS_ENDPOINT is "maybe": expected true or false`},
		{[]string{Prefix + "ROLE_ARN=arn:aws:iam::123456789012:user/x"}, Prefix + "ROLE_ARN cannot be used: expected a role's ARN"},
		{[]string{role, Prefix + "ROLE_EXTERNAL_ID=x"}, Prefix + "ROLE_EXTERNAL_ID cannot be used: expected 2 to 1224 of"},
		{[]string{role, Prefix + "ROLE_SESSION_NAME=a/b"}, Prefix + "ROLE_SESSION_NAME cannot be used: expected 2 to 64 of"},
		{[]string{role, Prefix + "ROLE_EXTERNAL_ID=a/b", Prefix + "ROLE_SESSION_NAME=ab"}, ""},
		{[]string{"AWS_ACCESS_KEY_ID="}, "AWS_ACCESS_KEY_ID is not set: Lambda passes the function's credentials in it"},
		{
			[]string{"AWS_ACCESS_KEY_ID=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://example.com/"},
			"AWS_CONTAINER_CREDENTIALS_FULL_URI cannot be used: ",
		},
		{[]string{"AWS_ACCESS_KEY_ID=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9001/"}, ""},
		{[]string{"AWS_ACCESS_KEY_ID=", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials"}, ""},
		{[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://example.com/"}, ""}, // the keys take precedence
	} {
		_, mistakes := with(test.environ)
		if said := Join(mistakes); len(mistakes) > 1 || test.want == "" && said != "" || !strings.HasPrefix(said, test.want) {
			t.Errorf("%q: %s, want %s", test.environ, said, test.want)
		}
	}
}

// The most specific variable of an endpoint takes precedence.
func TestEndpoints(t *testing.T) {
	const role = Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/writer"
	for _, test := range []struct {
		environ                []string
		kinesis, variable, sts string
	}{
		{environ: []string{"AWS_ENDPOINT_URL=https://all"}, kinesis: "https://all", variable: "AWS_ENDPOINT_URL"},
		{environ: []string{"AWS_ENDPOINT_URL=https://all", role}, kinesis: "https://all", variable: "AWS_ENDPOINT_URL", sts: "https://all"},
		{
			environ:  []string{"AWS_ENDPOINT_URL=https://all", "AWS_ENDPOINT_URL_KINESIS=https://k", "AWS_ENDPOINT_URL_STS=https://s", role},
			kinesis:  "https://k",
			variable: "AWS_ENDPOINT_URL_KINESIS",
			sts:      "https://s",
		},
		{
			environ:  []string{"AWS_ENDPOINT_URL_KINESIS=https://k", Prefix + "ENDPOINT_URL=https://own", role},
			kinesis:  "https://own",
			variable: Prefix + "ENDPOINT_URL",
		},
		{
			environ:  []string{"AWS_ENDPOINT_URL=https://all", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=1", Prefix + "ENDPOINT_URL=https://own", role},
			kinesis:  "https://own",
			variable: Prefix + "ENDPOINT_URL",
		},
	} {
		cfg, mistakes := with(test.environ)
		a := cfg.AWS
		if len(mistakes) > 0 || a.EndpointURL != test.kinesis || a.EndpointVariable != test.variable || a.STSEndpointURL != test.sts {
			t.Errorf("%q: %q of %s and %q, %v", test.environ, a.EndpointURL, a.EndpointVariable, a.STSEndpointURL, mistakes)
		}
	}
}

// Plain http is a warning for all hosts except this machine.
func TestPlainHTTPIsAWarning(t *testing.T) {
	for endpoint, warned := range map[string]bool{
		"http://127.0.0.1:4567":    false,
		"http://localhost":         false,
		"http://[::1]:4567":        false,
		"https://vpce.example":     false,
		"http://127.1.2.3":         false,
		"http://kinesis:4567":      true,
		"HTTP://10.0.0.7":          true,
		"http://169.254.1.1":       true,
		"http://localhost.example": true,
		"http://[fd00::1]":         true,
	} {
		cfg, mistakes := with([]string{"AWS_ENDPOINT_URL_KINESIS=" + endpoint})
		got := len(cfg.Warnings) == 1 && cfg.Warnings[0].Variable == "AWS_ENDPOINT_URL_KINESIS" && cfg.Warnings[0].Problem == "is plain http"
		if got != warned || len(mistakes) > 0 {
			t.Errorf("%s: %v %v", endpoint, cfg.Warnings, mistakes)
		}
	}
	cfg, _ := with([]string{"AWS_ENDPOINT_URL_STS=http://sts", Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/writer"})
	if len(cfg.Warnings) != 1 || cfg.Warnings[0].Variable != "AWS_ENDPOINT_URL_STS" {
		t.Errorf("%v", cfg.Warnings)
	}
	cfg, _ = with([]string{"AWS_ENDPOINT_URL=http://all", Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/writer"})
	if len(cfg.Warnings) != 1 {
		t.Errorf("more than one warning: %v", cfg.Warnings)
	}
}

// The CA bundle is the content of the file.
func TestCABundle(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, mistakes := with([]string{"AWS_CA_BUNDLE=" + path + "\n"})
	if len(mistakes) > 0 || string(cfg.AWS.CABundle) != string(bundle) {
		t.Errorf("%v, %q", mistakes, cfg.AWS.CABundle)
	}
}

// The other settings of a role have no effect without the role, and each is a warning.
func TestRoleSettingsWithoutARole(t *testing.T) {
	cfg, mistakes := with(variables(map[string]string{"ROLE_EXTERNAL_ID": "#", "ROLE_SESSION_NAME": "reporting"}))
	if len(mistakes) > 0 || cfg.AWS.RoleExternalID+cfg.AWS.RoleSessionName != "" || len(cfg.Warnings) != 2 {
		t.Errorf("%+v, %v", cfg, mistakes)
	}
	for _, w := range cfg.Warnings {
		if !strings.Contains(w.String(), " has no effect: it needs "+Prefix+"ROLE_ARN") {
			t.Error(w)
		}
	}
	cfg, _ = with(variables(map[string]string{"ROLE_ARN": "arn:aws:iam::123456789012:role/writer"}))
	if cfg.AWS.RoleSessionName != "kinesis-telemetry-extension" || cfg.AWS.RoleExternalID != "" {
		t.Errorf("%+v", cfg.AWS)
	}
}

// A proxy variable is read like every setting. A value that net/http would silently ignore is a mistake.
func TestProxies(t *testing.T) {
	const plain, role = Prefix + "ENDPOINT_URL=http://127.0.0.1", Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/writer"
	for _, test := range []struct {
		environ string // separated by |
		want    string // Proxies, or the variable of the mistake
	}{
		{"", "map[]"},
		{"HTTPS_PROXY=http://proxy:3128", "map[HTTPS_PROXY:http://proxy:3128]"},
		{"HTTPS_PROXY=http://proxy:3128\n", "map[HTTPS_PROXY:http://proxy:3128]"},
		{"https_proxy=\"http://proxy:3128\"", "map[HTTPS_PROXY:http://proxy:3128]"},
		{"HTTPS_PROXY= |https_proxy=http://lower", "map[HTTPS_PROXY:http://lower]"},
		{"HTTPS_PROXY=http://upper|https_proxy=http://lower", "map[HTTPS_PROXY:http://upper]"},
		{"HTTPS_PROXY=proxy:3128", "map[HTTPS_PROXY:http://proxy:3128]"},
		{"HTTPS_PROXY=10.0.0.7:3128", "map[HTTPS_PROXY:http://10.0.0.7:3128]"},
		{"HTTPS_PROXY=u:p%25@proxy:3128", "map[HTTPS_PROXY:http://u:p%25@proxy:3128]"},
		{"HTTPS_PROXY=https://proxy|NO_PROXY='a,b'", "map[HTTPS_PROXY:https://proxy NO_PROXY:a,b]"},
		{"HTTPS_PROXY=socks5://proxy", "map[HTTPS_PROXY:socks5://proxy]"},
		{"HTTPS_PROXY=socks5h://proxy|no_proxy= a\n", "map[HTTPS_PROXY:socks5h://proxy NO_PROXY:a]"},
		{"HTTP_PROXY=http://proxy", "map[]"},
		{"HTTP_PROXY=%", "map[]"},
		{"HTTP_PROXY=http://proxy|HTTPS_PROXY=%|" + plain, "map[HTTP_PROXY:http://proxy]"},
		{"HTTP_PROXY=http://plain|HTTPS_PROXY=http://proxy|" + plain + "|" + role, "map[HTTPS_PROXY:http://proxy HTTP_PROXY:http://plain]"},
		{"HTTP_PROXY=http://proxy|HTTPS_PROXY=%|AWS_ENDPOINT_URL_STS=HTTP://localhost|" + plain + "|" + role, "map[HTTP_PROXY:http://proxy]"},

		{"HTTPS_PROXY=http://u:p%zz@proxy:3128", "HTTPS_PROXY"},
		{"https_proxy=u:100%@proxy", "https_proxy"},
		{"HTTPS_PROXY=\"http://proxy", "HTTPS_PROXY"},
		{"HTTPS_PROXY=ftp://proxy", "HTTPS_PROXY"},
		{"HTTPS_PROXY=http://", "HTTPS_PROXY"},
		{"HTTPS_PROXY=http://:3128", "HTTPS_PROXY"},
		{"HTTPS_PROXY=//proxy:3128", "HTTPS_PROXY"},
		{"HTTP_PROXY=%|" + plain, "HTTP_PROXY"},
	} {
		cfg, mistakes := with(strings.Split(test.environ, "|"))
		if test.want == strings.ToUpper(test.want) || strings.HasPrefix(test.want, "https_") {
			if len(mistakes) != 1 || mistakes[0].Variable != test.want ||
				!strings.Contains(mistakes[0].String(), " cannot be used: expected the URL of a proxy") {
				t.Errorf("%q: %v, want one of %s", test.environ, mistakes, test.want)
			}
			test.want = "map[]"
		} else if len(mistakes) > 0 {
			t.Errorf("%q: %v", test.environ, mistakes)
		}
		if got := fmt.Sprint(cfg.AWS.Proxies); got != test.want {
			t.Errorf("%q: %s, want %s", test.environ, got, test.want)
		}
	}
}
