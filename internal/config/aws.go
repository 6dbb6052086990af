package config

import (
	"cmp"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"kinesis-telemetry-extension/internal/kinesis"
)

// AWS holds the settings of the Kinesis Client. Load refuses every value that the client's constructors would refuse.
type AWS struct {
	Stream           string // name or ARN
	Region           string
	EndpointURL      string
	EndpointVariable string // the variable that EndpointURL was read from
	RoleARN          string
	RoleExternalID   string
	RoleSessionName  string
	STSEndpointURL   string
	FIPS             bool
	DualStack        bool
	CABundle         []byte // PEM
	Credentials      kinesis.CredentialsConfig
	// Proxies holds HTTPS_PROXY, HTTP_PROXY and NO_PROXY, if they are set, in the form that net/http needs.
	Proxies map[string]string
}

// aws reads AWS's own variables and the extension's. The function and the extension share one environment, so the
// function's variables are the extension's, too.
func (r *reader) aws() AWS {
	a := AWS{
		Region:    r.first("AWS_REGION", "AWS_DEFAULT_REGION"),
		Stream:    cmp.Or(r.get(Prefix+"STREAM"), "telemetry-kinesis-stream"),
		FIPS:      r.boolean("AWS_USE_FIPS_ENDPOINT", false),
		DualStack: r.boolean("AWS_USE_DUALSTACK_ENDPOINT", false),
		CABundle:  r.caBundle("AWS_CA_BUNDLE"),
		Credentials: kinesis.CredentialsConfig{
			AccessKeyID:          r.get("AWS_ACCESS_KEY_ID"),
			SecretAccessKey:      r.get("AWS_SECRET_ACCESS_KEY"),
			SessionToken:         r.get("AWS_SESSION_TOKEN"),
			ContainerURI:         r.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
			ContainerRelativeURI: r.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
			ContainerToken:       r.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
			ContainerTokenFile:   r.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
		},
	}
	a.EndpointURL, a.EndpointVariable = r.endpoint(Prefix+"ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS")
	stream, err := kinesis.ParseStream(a.Stream)
	if err != nil {
		a.Stream = ""
		r.mistake(Prefix+"STREAM", "%v", err)
	}
	r.role(&a)
	// An ARN contains the stream's region. STS is called in the function's own region.
	if a.Region == "" && (stream.Region == "" || a.RoleARN != "") {
		r.mistake("AWS_REGION", "Lambda sets it; without it the stream must be an ARN, and no role can be assumed")
	} else if err := kinesis.ValidateRegion(a.Region); a.Region != "" && err != nil {
		r.mistake("AWS_REGION", "%v", err)
	}
	if variable, expected := a.Credentials.Check(); variable != "" {
		r.mistake(variable, "%s", expected)
	}
	a.Proxies = r.proxies(&a)
	return a
}

// role reads the settings of the role to assume.
func (r *reader) role(a *AWS) {
	arn, id, session := Prefix+"ROLE_ARN", Prefix+"ROLE_EXTERNAL_ID", Prefix+"ROLE_SESSION_NAME"
	a.RoleARN, a.RoleExternalID, a.RoleSessionName = r.get(arn), r.get(id), r.get(session)
	if a.RoleARN == "" {
		for _, name := range []string{id, session} { // no mistake: many functions may share these settings, and only some of them have a role
			if r.get(name) != "" {
				r.warn(name, "has no effect", "it needs "+arn+", which is not set")
			}
		}
		a.RoleExternalID, a.RoleSessionName = "", ""
		return
	}
	a.RoleSessionName = cmp.Or(a.RoleSessionName, "kinesis-telemetry-extension")
	if err := kinesis.ValidateRole(a.RoleARN); err != nil {
		r.mistake(arn, "%v", err)
	}
	if err := kinesis.ValidateExternalID(a.RoleExternalID); a.RoleExternalID != "" && err != nil {
		r.mistake(id, "%v", err)
	}
	if err := kinesis.ValidateSessionName(a.RoleSessionName); err != nil {
		r.mistake(session, "%v", err)
	}
	a.STSEndpointURL, _ = r.endpoint("AWS_ENDPOINT_URL_STS")
}

// endpoint reads a service's endpoint. The most specific variable takes precedence.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func (r *reader) endpoint(names ...string) (endpoint, variable string) {
	ignored := r.boolean("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", false)
	for _, name := range append(names, "AWS_ENDPOINT_URL") {
		value := r.get(name)
		if value == "" || ignored && !strings.HasPrefix(name, Prefix) {
			continue
		}
		u, err := kinesis.ParseEndpointURL(value)
		if err != nil {
			r.mistake(name, "%v, without a user, a password, a query or a fragment", err)
			return "", ""
		}
		if u.Scheme == "http" && !kinesis.IsLoopback(u.Hostname()) {
			// Private and link-local addresses are no exception: an emulator's container has one, but so have the hosts of a
			// VPC.
			r.warn(name, "is plain http", "others can read credentials and telemetry on the way: use https for all hosts but this machine")
		}
		return value, name
	}
	return "", ""
}

// caBundle reads a file of certificates. It is read here, once, so that a missing file is a mistake like any other.
func (r *reader) caBundle(name string) []byte {
	path := r.get(name)
	if path == "" {
		return nil
	}
	bundle, err := os.ReadFile(path)
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err // without the path, which is the value
	}
	if err != nil {
		r.mistake(name, "expected the path of a file of certificates (%v)", err)
		return nil
	}
	if !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		r.mistake(name, "expected the path of a file of certificates in PEM; it contains none")
	}
	return bundle
}

// proxies reads the variables of the proxies that requests go through. net/http would silently ignore a value that it
// cannot parse, and bypass the proxy. So proxies reads and checks the variables like all settings, and net/http gets
// the result. HTTP_PROXY matters only if an endpoint is http, and HTTPS_PROXY only if one is https.
func (r *reader) proxies(a *AWS) map[string]string {
	endpoints := []string{a.EndpointURL}
	if a.RoleARN != "" {
		endpoints = append(endpoints, a.STSEndpointURL)
	}
	names := []string{"NO_PROXY"}
	for _, endpoint := range endpoints {
		if strings.HasPrefix(strings.ToLower(endpoint), "http:") {
			names = append(names, "HTTP_PROXY")
		} else {
			names = append(names, "HTTPS_PROXY")
		}
	}
	proxies := map[string]string{}
	for _, name := range names {
		used := name
		if r.get(used) == "" {
			used = strings.ToLower(name)
		}
		value := r.get(used)
		if value == "" {
			continue
		}
		if name != "NO_PROXY" {
			if value = proxyURL(value); value == "" {
				r.mistake(used, "expected the URL of a proxy such as http://proxy:3128; a %% in a user or password is written %%25")
				continue
			}
		}
		proxies[name] = value
	}
	return proxies
}

// proxyURL adds a missing scheme. It returns "" if net/http could not use the value.
func proxyURL(value string) string {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return ""
	}
	return value
}
