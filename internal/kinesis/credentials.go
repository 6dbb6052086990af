package kinesis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// CredentialsConfig says where the function's credentials come from: the keys, else the container endpoint.
type CredentialsConfig struct {
	AccessKeyID, SecretAccessKey, SessionToken string

	// ContainerURI is AWS_CONTAINER_CREDENTIALS_FULL_URI, ContainerRelativeURI the path on the address that containers
	// have. Lambda gives the former under SnapStart: keys in a snapshot would be stale.
	ContainerURI, ContainerRelativeURI string
	// ContainerToken is the Authorization header's value; ContainerTokenFile is read for it each time.
	ContainerToken, ContainerTokenFile string
}

const (
	// expiryWindow is how long before they expire credentials are fetched anew. Until then the Client goes on with the old ones.
	expiryWindow = 5 * time.Minute
	// credentialsTimeout bounds one request for credentials. aws.CredentialsCache fetches in a goroutine that the caller's
	// deadline does not reach.
	credentialsTimeout = 5 * time.Second
	// refreshPatience is how long a request waits for new credentials while it has good ones.
	refreshTimeout = 100 * time.Millisecond
)

// containerAddress is where AWS_CONTAINER_CREDENTIALS_RELATIVE_URI leads.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
const containerAddress = "http://169.254.170.2"

// NewCredentials returns the provider for cfg. It does no I/O yet.
func NewCredentials(cfg CredentialsConfig) (aws.CredentialsProvider, error) {
	if cfg.AccessKeyID != "" {
		return static(aws.Credentials{AccessKeyID: cfg.AccessKeyID, SecretAccessKey: cfg.SecretAccessKey, SessionToken: cfg.SessionToken}), nil
	}
	if variable, expected := cfg.Check(); variable != "" {
		return nil, errors.New(variable + ": " + expected)
	}
	return cached(&container{config: cfg, client: containerClient()}), nil
}

// static are credentials that never change: those of the environment are good for as long as it lives.
type static aws.Credentials

// Retrieve implements aws.CredentialsProvider.
func (s static) Retrieve(context.Context) (aws.Credentials, error) { return aws.Credentials(s), nil }

func cached(provider aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.NewCredentialsCache(provider, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow })
}

// Check tells which variable keeps NewCredentials from making a provider, and what is expected of it; "" where none does.
func (cfg *CredentialsConfig) Check() (variable, expected string) {
	uri := cfg.containerURI()
	switch {
	case cfg.AccessKeyID != "":
		return "", ""
	case uri == "":
		return "AWS_ACCESS_KEY_ID", "Lambda gives the function's credentials by it, or by AWS_CONTAINER_CREDENTIALS_FULL_URI"
	case !isContainerURI(uri):
		return "AWS_CONTAINER_CREDENTIALS_FULL_URI", "expected a URL; plain http is for this machine and for AWS's own addresses"
	}
	return "", ""
}

func (cfg *CredentialsConfig) containerURI() string {
	if cfg.ContainerRelativeURI != "" {
		return containerAddress + cfg.ContainerRelativeURI
	}
	return cfg.ContainerURI
}

// isContainerURI lets a token go over plain HTTP only to where it cannot be overheard.
func isContainerURI(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return false
	}
	host := u.Hostname()
	near := IsLoopback(host) || slices.Contains([]string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}, host)
	return u.Scheme == "https" || u.Scheme == "http" && near
}

// IsLoopback tells whether what is sent to the host stays on this machine.
func IsLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// ValidateRegion tells whether text can be the name of a region.
func ValidateRegion(text string) error {
	if !isHostLabel(text) {
		return errors.New("expected a region such as eu-west-1")
	}
	return nil
}

// ValidateRole tells whether text is the ARN of a role.
func ValidateRole(text string) error {
	a, err := arn.Parse(text)
	path, isRole := strings.CutPrefix(a.Resource, "role/")
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Partition, "aws") || !isHostLabel(a.Partition) || a.Region != "" || !isAccount(a.AccountID) ||
		!isRole || path == "" || !isPrintable(text) {
		return errors.New("expected a role's ARN, arn:aws:iam::ACCOUNT:role/NAME")
	}
	return nil
}

// ValidateExternalID tells whether text can be the external id that a role's trust policy asks for.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func ValidateExternalID(text string) error {
	if !consistsOf(text, alphanumeric+"_+=,.@:/-", 2, 1224) {
		return errors.New("expected 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -")
	}
	return nil
}

// ValidateSessionName tells whether text can be the name of a role's session.
func ValidateSessionName(text string) error {
	if !consistsOf(text, alphanumeric+"_+=,.@-", 2, 64) {
		return errors.New("expected 2 to 64 of A-Z a-z 0-9 _ + = , . @ -")
	}
	return nil
}

// RoleAccount gives the account of a role's ARN: a stream's name means a stream of that account then.
func RoleAccount(role string) string {
	a, _ := arn.Parse(role)
	return a.AccountID
}

// RoleConfig says which role to assume, and how to reach the Security Token Service.
type RoleConfig struct {
	ARN          string
	ExternalID   string // that the role's trust policy asks for; empty where it asks for none
	SessionName  string
	Region       string // of STS
	EndpointURL  string // instead of AWS's
	UseFIPS      bool
	UseDualStack bool
	Proxy        func(*http.Request) (*url.URL, error)
	CABundle     []byte // PEM; instead of the system's roots
}

// NewRole returns the credentials of a role that base's may assume. It does no I/O yet.
func NewRole(base aws.CredentialsProvider, cfg RoleConfig) (aws.CredentialsProvider, error) {
	transport, err := newTransport(cfg.Proxy, cfg.CABundle)
	if err != nil {
		return nil, err
	}
	transport.DisableKeepAlives = true // asked once an hour
	if cfg.EndpointURL == "" {
		cfg.EndpointURL = "https://" + hostOf("sts", cfg.Region, "", cfg.UseFIPS, cfg.UseDualStack) + "/"
	} else if _, err := ParseEndpointURL(cfg.EndpointURL); err != nil {
		return nil, fmt.Errorf("endpoint URL of STS: %w", err)
	}
	client := &http.Client{Transport: transport, Timeout: credentialsTimeout}
	return cached(&role{config: cfg, base: base, client: client, signer: v4.NewSigner()}), nil
}

// role assumes a role with sts:AssumeRole. The SDK's service/sts would cost a fifth of the whole binary (DESIGN.md).
type role struct {
	config RoleConfig
	base   aws.CredentialsProvider
	client *http.Client
	signer *v4.Signer
	skew   time.Duration // AWS's clock less ours
}

// Retrieve asks for credentials of the role; once again where our clock turns out to be wrong.
func (r *role) Retrieve(ctx context.Context) (aws.Credentials, error) {
	for corrected := false; ; corrected = true {
		answer, body, err := r.ask(ctx) //nolint:bodyclose // ask reads and closes it
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("assume %s: %w", r.config.ARN, err)
		}
		if answer.StatusCode == http.StatusOK || corrected || !learnSkew(&r.skew, time.Now(), answer.Header) {
			return readAssumeRole(r.config.ARN, answer.StatusCode, body)
		}
	}
}

// ask sends the request.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (r *role) ask(ctx context.Context) (*http.Response, []byte, error) {
	form := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {r.config.ARN}, "RoleSessionName": {r.config.SessionName},
	}
	if r.config.ExternalID != "" {
		form.Set("ExternalId", r.config.ExternalID)
	}
	body := form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.config.EndpointURL, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	keys, err := r.base.Retrieve(ctx)
	if err == nil {
		err = r.signer.SignHTTP(ctx, keys, request, hex.EncodeToString(sum[:]), "sts", r.config.Region, time.Now().Add(r.skew))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign the request: %w", err)
	}
	request.Header.Set("Accept-Encoding", "identity")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	answer, err := readReply(nil, response)
	return response, answer, err
}

// readAssumeRole reads the answer, XML of which five elements matter; none of them occurs twice or holds another.
func readAssumeRole(role string, status int, body []byte) (aws.Credentials, error) {
	expires, err := time.Parse(time.RFC3339, element(body, "Expiration"))
	keys := aws.Credentials{
		AccessKeyID: element(body, "AccessKeyId"), SecretAccessKey: element(body, "SecretAccessKey"),
		SessionToken: element(body, "SessionToken"), CanExpire: true, Expires: expires, Source: "AssumeRole",
	}
	if status != http.StatusOK {
		r := ruleOf(status, element(body, "Code"))
		hint := "it must trust the function's role (with the sts:ExternalId of KINESIS_TELEMETRY_ROLE_EXTERNAL_ID, if it asks for one), " +
			"which must be allowed sts:AssumeRole on it"
		if r.code == "" {
			hint = "is there a proxy or a firewall between?"
		}
		return aws.Credentials{}, &Error{
			Kind: KindCredentials, Permanent: r.action == giveUp, Code: r.code, Status: status,
			text: fmt.Sprintf("cannot assume %s: %s (%s)", role, hint, oneLine(fmt.Sprintf("%d %s: %s", status, r.code, element(body, "Message")))),
		}
	}
	if err != nil || keys.AccessKeyID == "" || keys.SecretAccessKey == "" || keys.SessionToken == "" {
		return aws.Credentials{}, &Error{Kind: KindCredentials, text: fmt.Sprintf("cannot assume %s: the answer of STS was cut short or garbled", role)}
	}
	return keys, nil
}

// element returns the text of the first XML element of that name; empty where there is none.
func element(body []byte, name string) string {
	_, rest, _ := strings.Cut(string(body), "<"+name+">")
	text, _, found := strings.Cut(rest, "</"+name+">")
	if !found {
		return ""
	}
	// The entities of XML; what html.UnescapeString knows besides would cost 70 KB of binary.
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'", "&amp;", "&").Replace(strings.TrimSpace(text))
}
