package kinesis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kinesis-telemetry-extension/internal/awake"
)

// Config is all that a Client depends on. The zero values of numbers stand for their defaults.
type Config struct {
	Stream    string // name, or ARN: then its region counts
	Region    string // of a stream that is given by name
	AccountID string // that the credentials belong to (the function's, or the role's: RoleAccount); empty where it is not known

	EndpointURL  string // instead of AWS's own endpoint; overrides the next two
	UseFIPS      bool
	UseDualStack bool

	MaxRecordBytes  int // the stream's record limit, data and key; default MaxRecordBytes
	MaxRequestBytes int // data and keys of a request, at most; a record above it goes by itself; default MaxRequestBytes

	Credentials aws.CredentialsProvider // asked before each request, so it has to cache; see NewCredentials and NewRole
	Proxy       func(*http.Request) (*url.URL, error)
	CABundle    []byte // PEM; instead of the system's roots
}

const (
	maxAttemptTime = 5 * time.Second        // of one request without progress; less where Put's context ends soon
	minAttemptTime = 300 * time.Millisecond // less is not worth an attempt
	userAgent      = "kinesis-telemetry-extension"

	// The runtime cannot stop a goroutine within one call of SHA-256: to collect garbage, all others would wait, spinning, for as long
	// as the hash of a whole request takes (5 to 20 ms, ten times that with a tenth of a CPU).
	hashedAtOnce = 32 << 10

	// A request carries what a slow path brings through in time: a request that is cut off has to be sent again, all of it.
	// Its size begins with firstRequest, doubles while requests of that size are fast, and is halved when one ends by time. Where a round
	// trip is near nothing a larger one would save nothing either, and takes memory, in bytes that no cache of the CPU holds.
	initialRequestBytes = 1 << 20
	maxFastTrip         = 250 * time.Millisecond
	minFastTrip         = 10 * time.Millisecond

	// maxSkew is how far our clock may be from AWS's before a refused signature is blamed on it. AWS takes 5 minutes.
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
	maxSkew = 4 * time.Minute
)

// Client sends records to one stream. It is for one caller at a time, and keeps its buffers from one Put to the next.
type Client struct {
	config    Config
	target    target
	header    http.Header // of every request
	signer    *v4.Signer
	hash      hash.Hash
	transport roundTripper
	clock     func() instant
	jitter    func(bound time.Duration) time.Duration // gives the pause before a request is repeated

	useMu        sync.Mutex
	lastUse      instant          // of the connection; guarded by useMu: Warm runs beside a Put
	credentials  aws.Credentials  // of the last request; their time is shortened by expiryWindow
	skew         time.Duration    // AWS's clock less ours
	signedAt     time.Time        // by our clock, the request under way
	roundTrips   [2]time.Duration // what the last two attempts took that were answered
	requestBytes int              // of requests, data and keys; a record above it goes by itself
	everStored   bool             // the stream has stored something
	unknownSince time.Time        // see refusedForLong

	body      []byte
	reply     []byte
	entries   []entry
	order     []int  // of the records of a Put that may be sent
	attempted []bool // which of them were in a request before
	result    Result
}

// New makes a Client. It does no I/O. Its errors say which value is wrong and what is expected.
func New(cfg Config) (*Client, error) {
	t, err := resolve(&cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Credentials == nil {
		return nil, errors.New("no credentials")
	}
	transport, err := newTransport(cfg.Proxy, cfg.CABundle)
	if err != nil {
		return nil, err
	}
	if cfg.MaxRecordBytes <= 0 {
		cfg.MaxRecordBytes = MaxRecordBytes
	}
	if cfg.MaxRequestBytes <= 0 {
		cfg.MaxRequestBytes = MaxRequestBytes
	}
	return &Client{
		config:       cfg,
		target:       t,
		requestBytes: min(initialRequestBytes, cfg.MaxRequestBytes),
		header: http.Header{
			"Content-Type": {"application/x-amz-json-1.1"},
			"X-Amz-Target": {"Kinesis_20131202.PutRecords"},
			"User-Agent":   {userAgent},
		},
		signer:    v4.NewSigner(),
		hash:      sha256.New(),
		transport: transport,
		clock:     clock(),
		jitter:    jitter,
	}, nil
}

// Endpoint gives the URL that requests go to, for a person to read.
func (c *Client) Endpoint() string { return c.target.url.String() }

// answer is what came of a request.
type requestResult struct {
	entries []entry // one for each record, where the request was accepted; then the rest is empty
	action  action
	err     *Error
}

// exchange sends the records that batch names in one request and reads the answer. A connection that turns out to have
// died while it rested or while the environment was frozen is replaced at once, without a pause: that says nothing about
// the service.
func (c *Client) exchange(ctx context.Context, records []Record, batch []int, count func()) requestResult {
	credentials, err := c.retrieve(ctx)
	if err != nil {
		return failed(badCredentials(err))
	}
	c.body = makeBody(c.body, c.target.prefix, records, batch)
	c.dropStale()
	var resp *http.Response
	for repeated := false; ; repeated = true {
		req, signErr := c.sign(ctx, credentials) // anew: a signature is good for five minutes, a freeze may last for hours
		if signErr != nil {
			return failed(badCredentials(signErr))
		}
		var again bool
		resp, again, err = c.attempt(ctx, req, count) //nolint:bodyclose // post reads and closes it
		if !again || repeated {
			break
		}
		c.transport.CloseIdleConnections()
	}
	c.markUsed()
	if err != nil {
		return failed(c.target.unreachable(err))
	}
	if resp.StatusCode != http.StatusOK {
		return c.refused(resp)
	}
	if c.entries, err = parseReply(c.reply, c.entries); err == nil && len(c.entries) != len(batch) {
		err = fmt.Errorf("%w: %d results for %d records", errReply, len(c.entries), len(batch))
	}
	if err != nil {
		// The records may have been stored. To send them again is the lesser evil: a consumer can tell a duplicate.
		return failed(c.target.unreachable(err))
	}
	if took := c.roundTrips[1]; took < maxFastTrip && took > minFastTrip && 2*(len(c.body)*3/4) > c.requestBytes { // less says nothing about the size
		c.requestBytes = min(2*c.requestBytes, c.config.MaxRequestBytes)
	}
	return requestResult{entries: c.entries}
}

// retrieve gets the credentials, within the time of an attempt. While the last ones are still good it waits but a moment for
// new ones: aws.CredentialsCache goes on fetching, and a later request has them.
func (c *Client) retrieve(ctx context.Context) (aws.Credentials, error) {
	timeout := maxAttemptTime
	good := c.credentials.CanExpire && c.clock().wall.Before(c.credentials.Expires.Add(expiryWindow))
	if good {
		timeout = refreshTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fresh, err := c.config.Credentials.Retrieve(ctx)
	switch {
	case err == nil:
		c.credentials = fresh
	case good:
		return c.credentials, nil
	}
	return fresh, err
}

// attempt sends the encoded body once and leaves the answer's body in c.reply. It tells whether to try again at once.
func (c *Client) attempt(ctx context.Context, req *http.Request, count func()) (resp *http.Response, again bool, err error) {
	count()
	began := time.Now()
	during, span := awake.WithTimeout(ctx, c.attemptTimeout(ctx))
	resp, c.reply, err = post(during, c.transport, req, c.body, c.reply, span.Restart)
	frozen := span.Stop()
	switch {
	case err == nil:
		c.roundTrips = [2]time.Duration{c.roundTrips[1], time.Since(began)}
	case errors.Is(context.Cause(during), context.DeadlineExceeded):
		c.requestBytes = max(c.requestBytes/2, min(initialRequestBytes, c.config.MaxRequestBytes))
	}
	return resp, err != nil && ctx.Err() == nil && (frozen || errors.Is(err, errStale)), err
}

// attemptTimeout is how long an attempt may take while nothing of it gets on its way; an upload over a slow path is not cut
// short. It leaves the half of what ctx has for another attempt: where this one hangs, as on a connection that is dead and
// does not say so, the next goes over a fresh one. A stream that usually takes long is not taken for one that hangs: it gets
// twice the shorter of the last two round trips, of which a freeze may have lengthened one.
func (c *Client) attemptTimeout(ctx context.Context) time.Duration {
	timeout := maxAttemptTime
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline)/2, minAttemptTime, 2*min(c.roundTrips[0], c.roundTrips[1])))
	}
	return timeout
}

// Warm connects to the endpoint, so that the first Put finds an open connection, or at least a TLS session and parsed
// roots. It may run beside a Put. Whether it succeeds does not matter: what is wrong the Put will meet, too.
//
// The request carries no signature and asks for nothing; whatever its answer is, the connection stays.
func (c *Client) Warm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxAttemptTime)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodGet, URL: c.target.url, Header: http.Header{"User-Agent": {userAgent}},
	}).WithContext(ctx)
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, keepReply) // to the end: only then is the connection free
	c.markUsed()
}

// dropRested closes the connection if it may be dead.
func (c *Client) dropStale() {
	c.useMu.Lock()
	defer c.useMu.Unlock()
	if mayBeDead(c.lastUse, c.clock()) {
		c.transport.CloseIdleConnections()
	}
}

func (c *Client) markUsed() {
	c.useMu.Lock()
	defer c.useMu.Unlock()
	c.lastUse = c.clock()
}

func failed(err *Error) requestResult {
	if err.Permanent {
		return requestResult{action: giveUp, err: err}
	}
	return requestResult{action: retry, err: err}
}

// sign makes the request for the body that is encoded.
func (c *Client) sign(ctx context.Context, credentials aws.Credentials) (*http.Request, error) {
	u := *c.target.url // signing writes to it, and Warm may read the other
	req := &http.Request{Method: http.MethodPost, URL: &u, Header: c.header.Clone(), ContentLength: int64(len(c.body))}
	c.hash.Reset()
	for chunk := range slices.Chunk(c.body, hashedAtOnce) {
		c.hash.Write(chunk)
	}
	c.signedAt = c.clock().wall
	err := c.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(c.hash.Sum(nil)), "kinesis", c.target.stream.Region, c.signedAt.Add(c.skew))
	req.Header.Set("Accept-Encoding", "identity") // not signed: a proxy may change it
	return req, err
}

// refused judges an answer other than success.
func (c *Client) refused(resp *http.Response) requestResult {
	code, message := parseError(resp.Header, c.reply)
	r := ruleOf(resp.StatusCode, code)
	a := requestResult{action: r.action, err: c.target.refusal(r, resp.StatusCode, message)}
	// With a clock that is wrong AWS speaks of permissions too (the SDK's list of clock skew errors has it).
	if r.action == renew || r.kind == KindAccessDenied {
		a.action = giveUp
		now := c.clock().wall
		aged := now.Sub(c.signedAt) > maxSkew // a freeze lay between the signature and the service
		if learnSkew(&c.skew, now, resp.Header) || r.action == renew && (aged || c.dropCredentials()) {
			a.action = renew
		}
	}
	return a
}

// learnSkew corrects skew, AWS's clock less ours, by an answer's Date, and tells whether that explains a refusal.
func learnSkew(skew *time.Duration, now time.Time, header http.Header) bool {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" { // a cache's answer has an old date
		return false
	}
	is := date.Sub(now)
	if (is - *skew).Abs() <= maxSkew {
		return false
	}
	*skew = is
	return true
}

// dropCredentials forgets the cached credentials and tells whether there may be others.
func (c *Client) dropCredentials() bool {
	cache, ok := c.config.Credentials.(interface{ Invalidate() })
	if ok {
		cache.Invalidate()
		c.credentials = aws.Credentials{}
	}
	return ok
}
