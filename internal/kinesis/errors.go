package kinesis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Kind classifies failures.
type Kind uint8

// The kinds of failure.
const (
	KindService      Kind = iota // the service failed, or something else answered in its place
	KindNetwork                  // no connection, no answer, or an incomplete answer
	KindThrottled                // the stream's or the account's capacity is exceeded
	KindNotFound                 // the stream does not exist
	KindAccessDenied             // the credentials are valid and lack the permission
	KindCredentials              // no credentials, invalid ones, or a wrong clock
	KindKMS                      // the key that encrypts the stream cannot be used
	KindInvalid                  // invalid records or requests, which Kinesis never accepts
	KindDeadline                 // the context ended before any failure
)

// String returns one word.
func (k Kind) String() string {
	return [...]string{
		"service", "network", "throttled", "not-found", "access-denied", "credentials", "kms", "invalid", "deadline",
	}[k]
}

// Error is the reason why records were not stored. Its text is one line that names the cause and the fix.
type Error struct {
	Kind Kind
	// Permanent reports that only a change outside of the extension will help: a permission, a stream or a setting.
	Permanent bool
	// Code is AWS's error type, and Status the HTTP status. Both are zero if there was no answer.
	Code   string
	Status int
	Err    error // the underlying error, if any

	text string
}

func (e *Error) Error() string { return e.text }

// Answered reports whether there was an answer, or whether it is certain that there will be none. In both cases the
// failure is the stream's, whatever happened to the connection. For a nil Error it returns false.
func (e *Error) Answered() bool {
	return e != nil && (e.Permanent || e.Kind != KindNetwork && e.Kind != KindDeadline)
}

// Unwrap returns the underlying error.
func (e *Error) Unwrap() error { return e.Err }

// refusal makes the Error for an answer in which Kinesis, or something in its place, refused a request or a record.
func (t *target) refusal(r rule, status int, message string) *Error {
	detail := r.code
	if detail == "" {
		detail = fmt.Sprintf("HTTP status %d", status)
	}
	if message != "" {
		detail += ": " + message
	}
	e := &Error{Kind: r.kind, Permanent: r.action == giveUp || r.action == renew, Code: r.code, Status: status}
	if e.Kind == KindAccessDenied && strings.Contains(message, "kms:") {
		e.Kind = KindKMS
	}
	switch e.Kind {
	case KindNotFound:
		e.text = fmt.Sprintf("stream %q is not found in region %s: create it, or correct KINESIS_TELEMETRY_STREAM "+
			"(another account's or region's stream needs its ARN)", t.stream.Name, t.stream.Region)
	case KindAccessDenied:
		e.text = fmt.Sprintf("not allowed to write to stream %q: give the function's role kinesis:PutRecords on %s; "+
			"for another account's stream that stream's resource policy must allow it too", t.stream.Name, t.wholeARN())
	case KindKMS:
		e.text = fmt.Sprintf("the KMS key that encrypts stream %q cannot be used: "+
			"give the function's role kms:GenerateDataKey on it and make sure that the key is enabled", t.stream.Name)
		switch {
		case r.action == retryThrottled:
			e.text = fmt.Sprintf("KMS throttles the use of the key that encrypts stream %q: "+
				"raise the request quota of KMS in the key's account", t.stream.Name)
		case t.foreign:
			e.text += "; the AWS managed key (alias/aws/kinesis) cannot be used across accounts: " +
				"the stream needs a customer managed key whose policy allows it"
		}
	case KindCredentials:
		e.text = "the credentials are not accepted: they have expired, belong to another partition, or the clock is wrong"
	case KindThrottled:
		e.text = fmt.Sprintf("writing to stream %q is throttled: add shards or use on-demand capacity; "+
			"if one environment alone fills a shard, spread it with KINESIS_TELEMETRY_PARTITION_KEY", t.stream.Name)
	case KindInvalid:
		e.text = fmt.Sprintf("stream %q rejected a record or a request as invalid", t.stream.Name)
	default:
		e.text = t.url.Host + " answered with an error"
		if e.Permanent {
			e.text += " that Kinesis never returns: is there a proxy or a firewall in between, or is the endpoint URL wrong?"
		}
	}
	e.text += " (" + oneLine(detail) + ")"
	return e
}

// connectError is the failure of a request for which no connection could be made.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// unreachable makes the Error for a request that got no answer or an incomplete one.
func (t *target) unreachable(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	e := &Error{Kind: KindNetwork, Err: err}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	operation, _ := errors.AsType[*net.OpError](err)
	host := t.url.Host
	switch {
	case untrusted && !t.customRoots && noRoots():
		e.Permanent = true
		e.text = "this image has no CA certificates, so the certificate of " + host + " cannot be verified: " +
			"install the package ca-certificates, or name a file of certificates in AWS_CA_BUNDLE"
	case untrusted:
		e.Permanent = true
		e.text = "the certificate of " + host + " is not trusted: is there a proxy in between? Name its CA in AWS_CA_BUNDLE"
	case errors.Is(err, errEncoding):
		e.Permanent = true
		e.text = "the answer of " + host + " cannot be read: a proxy in between changed it; make the proxy leave it unchanged"
	case errors.Is(err, errReply):
		e.text = "the answer of " + host + " was cut short or garbled"
	case operation != nil && operation.Op == "proxyconnect":
		e.text = "no connection to the proxy that HTTPS_PROXY or HTTP_PROXY names"
	case errors.As(err, new(connectError)):
		e.text = "no connection to " + host + ": a function in a VPC needs a NAT gateway or an interface endpoint (kinesis-streams), " +
			"and security groups that allow outbound traffic"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.text = "no answer from " + host + " in time"
	default:
		e.text = "the connection to " + host + " broke"
	}
	e.text += " (" + oneLine(err.Error()) + ")"
	return e
}

// noRoots reports whether the system has no certificates, as in an image from scratch.
func noRoots() bool {
	pool, err := x509.SystemCertPool()
	return err != nil || pool.Equal(x509.NewCertPool())
}

// refusedByProxy returns the error for a proxy that answers CONNECT with a status other than 200.
func refusedByProxy(_ context.Context, proxy *url.URL, connect *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	e := &Error{Kind: KindNetwork, Permanent: answer.StatusCode < 500, Status: answer.StatusCode}
	e.text = fmt.Sprintf("the proxy %s refuses to connect to %s: allow that host in the proxy, or add it to NO_PROXY",
		oneLine(proxy.Host), connect.Host)
	if answer.StatusCode == http.StatusProxyAuthRequired {
		e.text = fmt.Sprintf("the proxy %s requires a user and password: set them in HTTPS_PROXY", oneLine(proxy.Host))
	}
	e.text += fmt.Sprintf(" (HTTP status %d)", answer.StatusCode)
	return e
}

// badCredentials makes the Error for a failure to get credentials.
func badCredentials(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	return &Error{Kind: KindCredentials, Err: err, text: "cannot get credentials: " + oneLine(err.Error())}
}

// outOfTime makes the Error for a Put whose context ended before any failure.
func outOfTime(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if cause == nil { // the deadline has passed, its timer has not fired yet
		cause = context.DeadlineExceeded
	}
	return &Error{Kind: KindDeadline, Err: cause, text: "no time left to send: " + cause.Error()}
}

// wholeARN returns the stream's ARN for people to copy. An unknown account is a star.
func (t *target) wholeARN() string {
	s := t.stream
	if s.AccountID == "" {
		s.AccountID = "*"
	}
	return s.ARN()
}
