package kinesis

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Credentials are the keys that sign requests.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string

	Expires time.Time // zero if they never expire
}

// Retrieve implements CredentialsProvider: it returns c. The credentials in the environment variables are valid as long
// as the environment lives.
func (c Credentials) Retrieve(context.Context) (Credentials, error) { return c, nil }

// CredentialsProvider provides credentials. See NewCredentials and NewRole.
type CredentialsProvider interface {
	Retrieve(ctx context.Context) (Credentials, error)
}

// CredentialsConfig holds the sources of the function's credentials: the keys, or else the container endpoint.
type CredentialsConfig struct {
	AccessKeyID, SecretAccessKey, SessionToken string

	// ContainerURI is AWS_CONTAINER_CREDENTIALS_FULL_URI. ContainerRelativeURI is the path at containerAddress. With
	// SnapStart Lambda sets the former, because keys in a snapshot would be stale.
	ContainerURI, ContainerRelativeURI string
	// ContainerToken is the value of the Authorization header. If ContainerTokenFile is set, the value is read from that
	// file for each request.
	ContainerToken, ContainerTokenFile string
}

const (
	// expiryWindow is how long before their expiry credentials are fetched again.
	expiryWindow = 5 * time.Minute
	// credentialsTimeout limits one request for credentials.
	credentialsTimeout = 5 * time.Second
	// refreshTimeout is how long a request waits for new credentials while the old ones are still valid.
	refreshTimeout = 100 * time.Millisecond
)

// containerAddress is the host that AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is relative to.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
const containerAddress = "http://169.254.170.2"

// NewCredentials returns the provider for cfg. It does no I/O yet.
func NewCredentials(cfg CredentialsConfig) (CredentialsProvider, error) {
	if cfg.AccessKeyID != "" {
		return Credentials{AccessKeyID: cfg.AccessKeyID, SecretAccessKey: cfg.SecretAccessKey, SessionToken: cfg.SessionToken}, nil
	}
	if variable, expected := cfg.Check(); variable != "" {
		return nil, errors.New(variable + ": " + expected)
	}
	return &cache{provider: &container{config: cfg, transport: containerTransport()}}, nil
}

// cache fetches credentials once and again before they expire. Any number of goroutines may use it.
type cache struct {
	provider CredentialsProvider

	mu      sync.Mutex
	current Credentials // guarded by mu, as is the next one; zero if there are none
	running *fetch      // nil if none is
}

// fetch is one call of a provider.
type fetch struct {
	done        chan struct{} // closed when the next two are set
	credentials Credentials
	err         error
}

// Retrieve implements CredentialsProvider. While the old credentials are valid, it waits only for refreshTimeout, and a
// failure to fetch new ones is no error. The fetch goes on when the caller's context ends: a later call gets its result.
func (c *cache) Retrieve(ctx context.Context) (Credentials, error) {
	c.mu.Lock()
	old := c.current
	known := old != Credentials{}
	if known && (old.Expires.IsZero() || time.Until(old.Expires) > expiryWindow) {
		c.mu.Unlock()
		return old, nil
	}
	if c.running == nil {
		c.running = &fetch{done: make(chan struct{})}
		go c.fetch(context.WithoutCancel(ctx), c.running)
	}
	f := c.running
	c.mu.Unlock()
	valid := known && time.Until(old.Expires) > 0
	if valid {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
	}
	var err error
	select {
	case <-f.done:
		if f.err == nil {
			return f.credentials, nil
		}
		err = f.err
	case <-ctx.Done():
		err = fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	if valid {
		return old, nil
	}
	return Credentials{}, err
}

func (c *cache) fetch(ctx context.Context, f *fetch) {
	defer func() {
		if value := recover(); value != nil { // a bug in the extension must not harm the function
			f.err = fmt.Errorf("panic: %v", value)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running = nil; f.err == nil {
			c.current = f.credentials
		}
		close(f.done)
	}()
	f.credentials, f.err = c.provider.Retrieve(ctx)
}

// invalidate forgets the credentials. The next Retrieve fetches others, or waits for the fetch that is already running.
func (c *cache) invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = Credentials{}
}

// Check returns the variable that keeps NewCredentials from making a provider, and its expected value. Both are
// empty if NewCredentials would succeed.
func (cfg *CredentialsConfig) Check() (variable, expected string) {
	uri := cfg.containerURI()
	switch {
	case cfg.AccessKeyID != "":
		return "", ""
	case uri == "":
		return "AWS_ACCESS_KEY_ID", "Lambda passes the function's credentials in it, or in AWS_CONTAINER_CREDENTIALS_FULL_URI"
	case !isContainerURI(uri):
		return "AWS_CONTAINER_CREDENTIALS_FULL_URI", "expected a URL; plain http is allowed only for this machine and for AWS's own addresses"
	}
	return "", ""
}

func (cfg *CredentialsConfig) containerURI() string {
	if cfg.ContainerRelativeURI != "" {
		return containerAddress + cfg.ContainerRelativeURI
	}
	return cfg.ContainerURI
}

// isContainerURI reports whether uri is a URL. It allows plain HTTP only to addresses where nobody can read the token
// in transit.
func isContainerURI(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return false
	}
	host := u.Hostname()
	local := IsLoopback(host) || slices.Contains([]string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}, host)
	return u.Scheme == schemeHTTPS || u.Scheme == schemeHTTP && local
}

// IsLoopback reports whether traffic to the host stays on this machine.
func IsLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// ValidateRegion returns an error unless text can be the name of a region.
func ValidateRegion(text string) error {
	if !isHostLabel(text) {
		return errors.New("expected a region such as eu-west-1")
	}
	return nil
}

// ValidateRole returns an error unless text is the ARN of a role.
func ValidateRole(text string) error {
	a, _ := parseARN(text)
	path, isRole := strings.CutPrefix(a.resource, "role/")
	isIAM := a.service == "iam" && a.region == "" && strings.HasPrefix(a.partition, "aws") && isHostLabel(a.partition)
	if !isIAM || !isAccount(a.account) || !isRole || path == "" || !isPrintable(text) {
		return errors.New("expected a role's ARN, arn:aws:iam::ACCOUNT:role/NAME")
	}
	return nil
}

// ValidateExternalID returns an error unless text can be the external id that a role's trust policy requires.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func ValidateExternalID(text string) error {
	if !consistsOf(text, alphanumeric+"_+=,.@:/-", 2, 1224) {
		return errors.New("expected 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -")
	}
	return nil
}

// ValidateSessionName returns an error unless text can be the name of a role's session.
func ValidateSessionName(text string) error {
	if !consistsOf(text, alphanumeric+"_+=,.@-", 2, 64) {
		return errors.New("expected 2 to 64 of A-Z a-z 0-9 _ + = , . @ -")
	}
	return nil
}

// RoleAccount returns the account in a role's ARN. With a role, a stream given by name is a stream of that account.
func RoleAccount(role string) string {
	a, _ := parseARN(role)
	return a.account
}

// RoleConfig is the role to assume and how to reach the Security Token Service (STS).
type RoleConfig struct {
	ARN          string
	ExternalID   string // required by the role's trust policy; empty if the policy requires none
	SessionName  string
	Region       string // of STS
	EndpointURL  string // replaces AWS's own endpoint
	UseFIPS      bool
	UseDualStack bool
	Proxy        func(*http.Request) (*url.URL, error)
	CABundle     []byte // PEM; replaces the system's roots
}

// NewRole returns the provider of a role's credentials. The credentials of base must be allowed to assume that role.
// NewRole does no I/O yet.
func NewRole(base CredentialsProvider, cfg RoleConfig) (CredentialsProvider, error) {
	transport, err := newTransport(cfg.Proxy, cfg.CABundle)
	if err != nil {
		return nil, err
	}
	transport.DisableKeepAlives = true // used once an hour
	if cfg.EndpointURL == "" {
		cfg.EndpointURL = "https://" + hostOf("sts", cfg.Region, "", cfg.UseFIPS, cfg.UseDualStack) + "/"
	} else if _, err := ParseEndpointURL(cfg.EndpointURL); err != nil {
		return nil, fmt.Errorf("endpoint URL of STS: %w", err)
	}
	signer := signer{service: "sts", region: cfg.Region}
	return &cache{provider: &role{config: cfg, base: base, transport: transport, signer: signer}}, nil
}

// role assumes a role with sts:AssumeRole. The SDK's service/sts would be a fifth of the whole binary (DESIGN.md).
type role struct {
	config    RoleConfig
	base      CredentialsProvider
	transport http.RoundTripper
	signer    signer
	skew      time.Duration // AWS's clock minus ours
}

// Retrieve requests credentials of the role. It sends a second request if the answer shows that our clock is wrong.
func (r *role) Retrieve(ctx context.Context) (Credentials, error) {
	for corrected := false; ; corrected = true {
		answer, body, err := r.ask(ctx) //nolint:bodyclose // requestCredentials reads and closes it
		if err != nil {
			return Credentials{}, fmt.Errorf("assume %s: %w", r.config.ARN, err)
		}
		if answer.StatusCode == http.StatusOK || corrected || !learnSkew(&r.skew, time.Now(), answer.Header) {
			return readAssumeRole(r.config.ARN, answer.StatusCode, body)
		}
	}
}

// ask sends one request of AssumeRole.
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
	if err != nil {
		return nil, nil, fmt.Errorf("sign the request: %w", err)
	}
	r.signer.sign(request, keys, sum[:], time.Now().Add(r.skew))
	request.Header.Set("Accept-Encoding", "identity")
	response, answer, err := requestCredentials(r.transport, request)
	if err != nil {
		return nil, nil, fmt.Errorf("STS at %s: %w", request.URL.Host, err)
	}
	return response, answer, nil
}

// requestCredentials sends a request for credentials and reads the answer. The binary would grow by http.Client's rules
// for redirects and cookies, which no such endpoint has.
func requestCredentials(transport http.RoundTripper, request *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeoutCause(request.Context(), credentialsTimeout, errNoAnswer)
	defer cancel()
	response, err := transport.RoundTrip(request.WithContext(ctx))
	if err == nil {
		defer response.Body.Close()
		var body []byte
		if body, err = readReply(nil, response); err == nil {
			return response, body, nil
		}
	}
	if errors.Is(context.Cause(ctx), errNoAnswer) {
		err = errNoAnswer
	}
	return nil, nil, err
}

// errNoAnswer is the error of a request for credentials that took credentialsTimeout.
var errNoAnswer = errors.New("no answer in time")

// readAssumeRole parses the answer. It reads five elements of the XML; none of them occurs twice or contains another
// element.
func readAssumeRole(role string, status int, body []byte) (Credentials, error) {
	expires, err := time.Parse(time.RFC3339, element(body, "Expiration"))
	keys := Credentials{
		AccessKeyID: element(body, "AccessKeyId"), SecretAccessKey: element(body, "SecretAccessKey"),
		SessionToken: element(body, "SessionToken"), Expires: expires,
	}
	if status != http.StatusOK {
		r := ruleOf(status, element(body, "Code"))
		hint := "it must trust the function's role (with the sts:ExternalId of KINESIS_TELEMETRY_ROLE_EXTERNAL_ID, if it asks for one), " +
			"which must be allowed sts:AssumeRole on it"
		if r.code == "" {
			hint = "is there a proxy or a firewall in between?"
		}
		detail := oneLine(fmt.Sprintf("%d %s: %s", status, r.code, element(body, "Message")))
		return Credentials{}, &Error{
			Kind: KindCredentials, Permanent: r.action == giveUp, Code: r.code, Status: status,
			text: fmt.Sprintf("cannot assume %s: %s (%s)", role, hint, detail),
		}
	}
	if err != nil || keys.AccessKeyID == "" || keys.SecretAccessKey == "" || keys.SessionToken == "" {
		text := fmt.Sprintf("cannot assume %s: the answer of STS was cut short or garbled", role)
		return Credentials{}, &Error{Kind: KindCredentials, text: text}
	}
	return keys, nil
}

// element returns the text of the first XML element of that name, or "" if there is none.
func element(body []byte, name string) string {
	_, rest, _ := strings.Cut(string(body), "<"+name+">")
	text, _, found := strings.Cut(rest, "</"+name+">")
	if !found {
		return ""
	}
	// The entities of XML. html.UnescapeString knows more of them and would add 70 KB to the binary.
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'", "&amp;", "&").Replace(strings.TrimSpace(text))
}
