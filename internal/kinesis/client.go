package kinesis

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"kinesis-telemetry-extension/internal/awake"
)

// Config is everything that a Client depends on. A number that is zero means its default.
type Config struct {
	Stream    string // a name, or an ARN, whose region then overrides Region
	Region    string // of a stream given by name
	AccountID string // the account of the credentials (the function's, or the role's: RoleAccount); empty if unknown

	EndpointURL  string // replaces AWS's own endpoint and overrides the next two
	UseFIPS      bool
	UseDualStack bool

	MaxRecordBytes  int // the stream's record limit, data and key; default MaxRecordBytes
	MaxRequestBytes int // limit of a request, data and keys; a larger record is sent alone; default MaxRequestBytes

	Credentials CredentialsProvider // asked before each request, so it must cache; see NewCredentials and NewRole
	Proxy       func(*http.Request) (*url.URL, error)
	CABundle    []byte // PEM; replaces the system's roots
}

const (
	maxAttemptTime = 5 * time.Second        // for one attempt without progress; less if Put's context ends soon
	minAttemptTime = 300 * time.Millisecond // with less time an attempt is pointless
	userAgent      = "kinesis-telemetry-extension"

	// hashedAtOnce is how many bytes one call of SHA-256 hashes. The runtime cannot preempt a goroutine within such a
	// call. For a garbage collection, all other goroutines would wait, spinning, until a whole request is hashed: 5 to 20
	// ms, and ten times that with a tenth of a CPU.
	hashedAtOnce = 32 << 10

	// A request is only as large as a slow path can transfer in time, because a request that is cut off has to be sent
	// again as a whole. The size starts at initialRequestBytes, doubles while requests of that size are fast, and is
	// halved after a timeout. If a round trip takes almost no time, a larger request saves nothing, and it takes memory
	// outside the CPU's caches.
	initialRequestBytes = 1 << 20
	maxFastTrip         = 250 * time.Millisecond
	minFastTrip         = 10 * time.Millisecond

	// maxSkew is how far our clock may differ from AWS's before it counts as the cause of a refused signature. AWS allows
	// 5 minutes.
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
	maxSkew = 4 * time.Minute
)

// Client sends records to one stream. Only one goroutine at a time may use it, except for Warm. It reuses its buffers
// for the next Put.
type Client struct {
	config    Config
	target    target
	header    http.Header // of every request
	signer    signer
	hash      hash.Hash
	transport roundTripper
	clock     func() instant
	jitter    func(bound time.Duration) time.Duration // draws the pause before a retry

	useMu        sync.Mutex
	lastUse      instant          // last use of the connection; guarded by useMu: Warm runs beside a Put
	skew         time.Duration    // AWS's clock minus ours
	signedAt     time.Time        // by our clock, when the current request was signed
	roundTrips   [2]time.Duration // durations of the last two attempts that got an answer
	requestBytes int              // current limit of a request, data and keys; a larger record is sent alone
	everStored   bool             // the stream has stored a record in this Client's life
	unknownSince time.Time        // see unknownForLong

	chunk     []byte // of a request's body, to be hashed
	reply     []byte
	entries   []entry
	order     []int  // indices of the records of a Put that are valid
	attempted []bool // by index: the record was in a request before
	result    Result
}

// New makes a Client. It does no I/O. Its errors name the wrong value and the expected one.
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
		signer:    signer{service: "kinesis", region: t.stream.Region},
		hash:      sha256.New(),
		chunk:     make([]byte, hashedAtOnce),
		transport: transport,
		clock:     clock(),
		jitter:    jitter,
	}, nil
}

// Endpoint returns the URL that requests go to, for people to read.
func (c *Client) Endpoint() string { return c.target.url.String() }

// requestResult is the result of one request: entries, or action and err.
type requestResult struct {
	entries []entry // one for each record, if the request was accepted
	action  action
	err     *Error
}

// exchange sends the records whose indices are in batch in one request and reads the answer. If the connection died
// while it was idle or while the environment was frozen, exchange opens another one and sends again at once, without a
// pause: such a failure says nothing about the service.
func (c *Client) exchange(ctx context.Context, records []Record, batch []int, count func()) requestResult {
	credentials, err := c.retrieve(ctx)
	if err != nil {
		return failed(badCredentials(err))
	}
	content := newBody(c.target.prefix, records, batch)
	c.dropStale()
	var resp *http.Response
	for repeated := false; ; repeated = true {
		// Each attempt is signed again: a signature is valid for five minutes, a freeze may last for hours.
		var retryNow bool
		resp, retryNow, err = c.attempt(ctx, c.sign(credentials, content), content, count) //nolint:bodyclose // post reads and closes it
		if !retryNow || repeated {
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
		// The stream may have stored the records. They are sent again, because a consumer can recognise duplicates.
		return failed(c.target.unreachable(err))
	}
	// A request below half of the limit says nothing about whether larger ones would be fast.
	if took := c.roundTrips[1]; took < maxFastTrip && took > minFastTrip && 2*(content.size*3/4) > c.requestBytes {
		c.requestBytes = min(2*c.requestBytes, c.config.MaxRequestBytes)
	}
	return requestResult{entries: c.entries}
}

// retrieve gets the credentials, within the time of an attempt.
func (c *Client) retrieve(ctx context.Context) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, maxAttemptTime)
	defer cancel()
	return c.config.Credentials.Retrieve(ctx)
}

// attempt sends the body once and leaves the answer's body in c.reply. retryNow reports whether only the
// connection failed, so that another attempt can follow at once.
func (c *Client) attempt(ctx context.Context, req *http.Request, content *body, count func()) (
	resp *http.Response, retryNow bool, err error,
) {
	count()
	began := time.Now()
	during, span := awake.WithTimeout(ctx, c.attemptTimeout(ctx))
	resp, c.reply, err = post(during, c.transport, req, content.reader(), c.reply, span.Restart)
	frozen := span.Stop()
	switch {
	case err == nil:
		c.roundTrips = [2]time.Duration{c.roundTrips[1], time.Since(began)}
	case errors.Is(context.Cause(during), context.DeadlineExceeded):
		c.requestBytes = max(c.requestBytes/2, min(initialRequestBytes, c.config.MaxRequestBytes))
	}
	return resp, err != nil && ctx.Err() == nil && (frozen || errors.Is(err, errStale)), err
}

// attemptTimeout returns how long an attempt may go without progress; an upload over a slow path is progress. Half of
// ctx's time stays for another attempt: if this one hangs, for example on a dead connection that reports no error, the
// next one uses a new connection. A stream that usually answers slowly gets twice the shorter of the last two round
// trips; a freeze may have lengthened one of them.
func (c *Client) attemptTimeout(ctx context.Context) time.Duration {
	timeout := maxAttemptTime
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline)/2, minAttemptTime, 2*min(c.roundTrips[0], c.roundTrips[1])))
	}
	return timeout
}

// Warm connects to the endpoint, so that the first Put finds an open connection, or at least a TLS session and parsed
// roots. It may run beside a Put. It reports no failure, because Put will meet the same one.
//
// Its request has no signature and no operation. The connection stays open whatever the answer is.
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
	_, _ = io.CopyN(io.Discard, resp.Body, keepReply) // to the end: only then can the connection be reused
	c.markUsed()
}

// dropStale closes the connection if it may be dead.
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

// sign makes a signed request for a body, whose content it hashes.
func (c *Client) sign(credentials Credentials, content *body) *http.Request {
	req := &http.Request{Method: http.MethodPost, URL: c.target.url, Header: c.header.Clone(), ContentLength: int64(content.size)}
	c.hash.Reset()
	for r := content.reader(); ; {
		n, err := r.Read(c.chunk)
		if err != nil { // io.EOF
			break
		}
		c.hash.Write(c.chunk[:n])
	}
	c.signedAt = c.clock().wall
	c.signer.sign(req, credentials, c.hash.Sum(nil), c.signedAt.Add(c.skew))
	req.Header.Set("Accept-Encoding", "identity") // not signed: a proxy may change it
	return req
}

// refused decides what follows from an error answer.
func (c *Client) refused(resp *http.Response) requestResult {
	code, message := parseError(resp.Header, c.reply)
	r := ruleOf(resp.StatusCode, code)
	a := requestResult{action: r.action, err: c.target.refusal(r, resp.StatusCode, message)}
	// AWS also reports a wrong clock as a lack of permissions (the SDK's list of clock skew errors has that code).
	if r.action == renew || r.kind == KindAccessDenied {
		a.action = giveUp
		now := c.clock().wall
		aged := now.Sub(c.signedAt) > maxSkew // the environment was frozen after the request was signed
		if learnSkew(&c.skew, now, resp.Header) || r.action == renew && (aged || c.dropCredentials()) {
			a.action = renew
		}
	}
	return a
}

// learnSkew updates skew, AWS's clock minus ours, from an answer's Date, and reports whether the old value explains a
// refusal.
func learnSkew(skew *time.Duration, now time.Time, header http.Header) bool {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" { // an answer from a cache has an old date
		return false
	}
	measured := date.Sub(now)
	if (measured - *skew).Abs() <= maxSkew {
		return false
	}
	*skew = measured
	return true
}

// dropCredentials drops the cached credentials and reports whether the provider can fetch others.
func (c *Client) dropCredentials() bool {
	cached, ok := c.config.Credentials.(*cache)
	if ok {
		cached.invalidate()
	}
	return ok
}
