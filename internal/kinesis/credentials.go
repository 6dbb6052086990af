package kinesis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
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
	// expiryWindow is how long before they expire credentials are fetched anew.
	expiryWindow = 5 * time.Minute
	// credentialsTimeout bounds one request for credentials. aws.CredentialsCache fetches in a goroutine that the caller's
	// deadline does not reach.
	credentialsTimeout = 5 * time.Second
	// refreshPatience is how long a request waits for new credentials while it has good ones.
	refreshPatience = 100 * time.Millisecond
)

// containerAddress is where AWS_CONTAINER_CREDENTIALS_RELATIVE_URI leads.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
const containerAddress = "http://169.254.170.2"

// NewCredentials returns the provider for cfg. It does no I/O yet.
func NewCredentials(cfg CredentialsConfig) (aws.CredentialsProvider, error) {
	if cfg.AccessKeyID != "" {
		return credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken), nil
	}
	uri := cfg.ContainerURI
	if cfg.ContainerRelativeURI != "" {
		uri = containerAddress + cfg.ContainerRelativeURI
	}
	if uri == "" {
		return nil, errors.New("there are no credentials: neither AWS_ACCESS_KEY_ID nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set")
	}
	if err := checkContainerURI(uri); err != nil {
		return nil, err
	}
	provider := endpointcreds.New(uri, func(o *endpointcreds.Options) {
		o.HTTPClient = containerClient()
		o.AuthorizationToken = cfg.ContainerToken
		if cfg.ContainerTokenFile != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(cfg.ContainerTokenFile)
				return strings.TrimSpace(string(token)), err
			})
		}
	})
	return cached(provider), nil
}

// containerClient speaks to a local address: never through the proxy that the function may have for the rest of the world.
func containerClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: credentialsTimeout}
}

func cached(provider aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.NewCredentialsCache(patient{provider}, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow })
}

// patient goes on with credentials that are about to expire where new ones cannot be had.
type patient struct{ aws.CredentialsProvider }

// HandleFailToRefresh is asked by aws.CredentialsCache, with the credentials it had. Their time is already shortened by
// the expiryWindow; given back with their true one, they are used and the next Retrieve tries again.
func (patient) HandleFailToRefresh(_ context.Context, old aws.Credentials, err error) (aws.Credentials, error) {
	old.Expires = old.Expires.Add(expiryWindow)
	if !old.HasKeys() || old.Expired() {
		return aws.Credentials{}, err
	}
	return old, nil
}

// checkContainerURI lets a token go over plain HTTP only to where it cannot be overheard.
func checkContainerURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI=%q is not a URL", uri)
	}
	if u.Scheme == "https" {
		return nil
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if local || host == "169.254.170.2" || host == "169.254.170.23" || host == "fd00:ec2::23" {
		return nil
	}
	return fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI=%q: plain HTTP is for this machine and for AWS's own addresses", uri)
}

// ValidateRole tells whether text is the ARN of a role.
func ValidateRole(text string) error {
	part := strings.SplitN(text, ":", 6)
	valid := len(part) == 6 && part[0] == "arn" && strings.HasPrefix(part[1], "aws") && part[2] == "iam" && part[3] == "" &&
		isAccount(part[4]) && strings.HasPrefix(part[5], "role/") && len(part[5]) > len("role/") && !strings.ContainsAny(part[5], " \t\n")
	if !valid {
		return errors.New("expected a role's ARN, arn:aws:iam::ACCOUNT:role/NAME")
	}
	return nil
}

// RoleAccount gives the account of a role's ARN: a stream's name means a stream of that account then.
func RoleAccount(arn string) string {
	part := strings.SplitN(arn, ":", 6)
	if len(part) != 6 {
		return ""
	}
	return part[4]
}

// RoleConfig says which role to assume, and how to reach the Security Token Service.
type RoleConfig struct {
	ARN          string
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
	endpoint := cfg.EndpointURL
	if endpoint == "" {
		endpoint = "https://" + hostOf("sts", cfg.Region, "", cfg.UseFIPS, cfg.UseDualStack) + "/"
	}
	return cached(&role{
		arn: cfg.ARN, region: cfg.Region, endpoint: endpoint, base: base,
		client: &http.Client{Transport: transport, Timeout: credentialsTimeout}, signer: v4.NewSigner(),
	}), nil
}

// role assumes a role with sts:AssumeRole. The SDK's service/sts would cost a fifth of the whole binary (DESIGN.md).
type role struct {
	arn, region, endpoint string
	base                  aws.CredentialsProvider
	client                *http.Client
	signer                *v4.Signer
	skew                  time.Duration // AWS's clock less ours
}

// maxSTSReply bounds what is read of an answer, bytes. One with the longest of session tokens has some 5,000.
const maxSTSReply = 64 << 10

// Retrieve asks for credentials of the role; once again where our clock turns out to be wrong.
func (r *role) Retrieve(ctx context.Context) (aws.Credentials, error) {
	for corrected := false; ; corrected = true {
		answer, body, err := r.ask(ctx) //nolint:bodyclose // ask reads and closes it
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("assume %s: %w", r.arn, err)
		}
		if answer.StatusCode == http.StatusOK || corrected || !learnSkew(&r.skew, time.Now(), answer.Header) {
			return readAssumeRole(r.arn, answer.StatusCode, body)
		}
	}
}

// ask sends the request.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (r *role) ask(ctx context.Context) (*http.Response, []byte, error) {
	form := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {r.arn}, "RoleSessionName": {defaultUserAgent},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint, strings.NewReader(form))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(form))
	keys, err := r.base.Retrieve(ctx)
	if err == nil {
		err = r.signer.SignHTTP(ctx, keys, request, hex.EncodeToString(sum[:]), "sts", r.region, time.Now().Add(r.skew))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign the request: %w", err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSTSReply))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return response, body, nil
}

// readAssumeRole reads the answer, XML of which five elements matter; none of them occurs twice or holds another.
func readAssumeRole(arn string, status int, body []byte) (aws.Credentials, error) {
	expires, err := time.Parse(time.RFC3339, element(body, "Expiration"))
	keys := aws.Credentials{
		AccessKeyID: element(body, "AccessKeyId"), SecretAccessKey: element(body, "SecretAccessKey"),
		SessionToken: element(body, "SessionToken"), CanExpire: true, Expires: expires, Source: "AssumeRole",
	}
	switch {
	case status != http.StatusOK:
		r := ruleOf(status, element(body, "Code"))
		return aws.Credentials{}, &Error{
			Kind: KindCredentials, Permanent: r.do == halt, Code: r.code, Status: status,
			text: fmt.Sprintf("cannot assume %s: it must trust the function's role, which must be allowed sts:AssumeRole on it (%d %s: %s)",
				arn, status, r.code, oneLine(element(body, "Message"))),
		}
	case err != nil || keys.AccessKeyID == "" || keys.SecretAccessKey == "" || keys.SessionToken == "":
		return aws.Credentials{}, &Error{Kind: KindCredentials, text: fmt.Sprintf("cannot assume %s: the answer of STS was cut short or garbled", arn)}
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
