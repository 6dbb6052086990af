package extension

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

// lambdaEnviron has the variables that Lambda always sets.
var lambdaEnviron = []string{
	"AWS_LAMBDA_RUNTIME_API=x", "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=own", "AWS_SESSION_TOKEN=t",
}

// Each setting of the Kinesis Client has an effect.
func TestClientSettings(t *testing.T) {
	const (
		role         = "KINESIS_TELEMETRY_ROLE_ARN=arn:aws:iam::222222222222:role/writer"
		sameAccount  = "KINESIS_TELEMETRY_STREAM=arn:aws:kinesis:eu-west-1:111111111111:stream/s"
		otherAccount = "KINESIS_TELEMETRY_STREAM=arn:aws:kinesis:eu-west-1:222222222222:stream/s"
		regional     = "https://kinesis.eu-west-1.amazonaws.com/"
	)
	for _, test := range []struct {
		name     string
		settings []string
		want     string
	}{
		{"plain", nil, "https://kinesis.eu-west-1.amazonaws.com/"},
		{"FIPS", []string{"AWS_USE_FIPS_ENDPOINT=true"}, "https://kinesis-fips.eu-west-1.amazonaws.com/"},
		{"dual-stack", []string{"AWS_USE_DUALSTACK_ENDPOINT=true"}, "https://kinesis.eu-west-1.api.aws/"},
		{
			"the older variable for the region",
			[]string{"AWS_REGION=", "AWS_DEFAULT_REGION=us-west-2"},
			"https://kinesis.us-west-2.amazonaws.com/",
		},
		{"the function's account", []string{sameAccount}, regional},
		{"another account", []string{otherAccount}, "https://222222222222.data-kinesis.eu-west-1.amazonaws.com/"},
		{"the role's account", []string{otherAccount, role}, regional},
		{
			"endpoints are ignored",
			[]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", "AWS_ENDPOINT_URL=http://x", "AWS_ENDPOINT_URL_KINESIS=http://y"},
			regional,
		},
	} {
		cfg, mistakes := config.Load(slices.Concat(lambdaEnviron, test.settings))
		client, err := newClient(&cfg, "111111111111")
		if err != nil || len(mistakes) > 0 || client.Endpoint() != test.want {
			t.Errorf("%s: %v %v, want %s", test.name, err, mistakes, test.want)
		}
	}
}

// With ROLE_ARN, ROLE_EXTERNAL_ID, ROLE_SESSION_NAME and AWS_CA_BUNDLE, the client sends records to an HTTPS endpoint with a private
// CA, signed with the role's keys.
func TestClientWithRole(t *testing.T) {
	const key, secret = "ASIAROLEROLEROLEROLE", "the role's"
	server, err := kinesislocal.Start(kinesislocal.Options{Region: "eu-west-1", Credentials: map[string]string{key: secret}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if err := server.CreateStream("s", 1); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(server)
	t.Cleanup(front.Close)
	sts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, session := r.FormValue("ExternalId"), r.FormValue("RoleSessionName"); id != "between/us" || session != "reporting" {
			t.Errorf("external id %q, session %q", id, session)
		}
		fmt.Fprintf(w, "<A><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>t</SessionToken>"+
			"<Expiration>2099-01-01T00:00:00Z</Expiration></A>", key, secret)
	}))
	t.Cleanup(sts.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, mistakes := config.Load(append([]string{
		"KINESIS_TELEMETRY_STREAM=s", "KINESIS_TELEMETRY_ROLE_ARN=arn:aws:iam::222222222222:role/writer", "AWS_CA_BUNDLE=" + bundle,
		"KINESIS_TELEMETRY_ROLE_EXTERNAL_ID=between/us", "KINESIS_TELEMETRY_ROLE_SESSION_NAME=reporting",
		"AWS_ENDPOINT_URL_KINESIS=" + front.URL, "AWS_ENDPOINT_URL_STS=" + sts.URL,
	}, lambdaEnviron...))
	client, err := newClient(&cfg, "111111111111")
	if err != nil || len(mistakes) > 0 {
		t.Fatal(err, mistakes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result := client.Put(ctx, []kinesis.Record{{PartitionKey: "k", Data: [][]byte{[]byte("x")}}})
	if result.Err != nil || len(server.Records("s")) != 1 {
		t.Errorf("%+v", result)
	}
}

// Settings that config.Load accepts always make a client, because an error after Load is too late for ON_ERROR=fail.
func FuzzClientSettings(f *testing.F) {
	const stream, role = "arn:aws:kinesis:eu-west-1:111111111111:stream/s", "arn:aws:iam::222222222222:role/writer"
	f.Add("", "", "", "", "", "")
	f.Add("s", "eu-west-1", "https://host:1/path", "https://sts", "", role)
	f.Add(stream, "", "http://u:p@h", "x", "http://127.0.0.1:9001/", "")
	f.Add(stream, "cn-north-1", "https://h?q", "//h", "https://h/%zz", role)
	f.Add("a b", "eu west", ":", ":", "169.254.170.2", "writer")
	f.Fuzz(func(t *testing.T, stream, region, endpoint, sts, container, role string) {
		environ := []string{
			"AWS_LAMBDA_RUNTIME_API=x", "KINESIS_TELEMETRY_STREAM=" + stream, "AWS_REGION=" + region, "AWS_ENDPOINT_URL_KINESIS=" + endpoint,
			"AWS_ENDPOINT_URL_STS=" + sts, "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + container, "KINESIS_TELEMETRY_ROLE_ARN=" + role,
		}
		cfg, mistakes := config.Load(environ)
		if _, err := newClient(&cfg, "111111111111"); err != nil && len(mistakes) == 0 {
			t.Errorf("%q: %v", environ, err)
		}
	})
}
