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

// Kind says what a failure is about.
type Kind uint8

// The kinds of failure.
const (
	KindService      Kind = iota // the service failed, or what answered is not the service
	KindNetwork                  // no connection, no answer, or half an answer
	KindThrottled                // the stream's or the account's capacity is exceeded
	KindNotFound                 // the stream does not exist
	KindAccessDenied             // the credentials are good, but not for this
	KindCredentials              // no credentials, or not valid ones, or a wrong clock
	KindKMS                      // the key that encrypts the stream cannot be used
	KindInvalid                  // records that Kinesis never takes, or requests that it refuses as such
	KindDeadline                 // the context was done before anything went wrong
)

// String gives one word.
func (k Kind) String() string {
	return [...]string{"service", "network", "throttled", "not-found", "access-denied", "credentials", "kms", "invalid", "deadline"}[k]
}

// Error is why records were not taken. Its text is one line that names the cause and what to do about it.
type Error struct {
	Kind Kind
	// Permanent tells that nothing but a change outside (a permission, a stream, a setting) will help.
	Permanent bool
	// Code is AWS's error type and Status the HTTP status, where there was an answer.
	Code   string
	Status int
	Err    error // what caused it, where that is an error

	text string
}

func (e *Error) Error() string { return e.text }

// Answered reports whether something answered, or it is certain that nothing will: then the failure is the stream's, whatever
// happened to the connection. It may be called on nil, which is no such answer.
func (e *Error) Answered() bool {
	return e != nil && (e.Permanent || e.Kind != KindNetwork && e.Kind != KindDeadline)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// refusal makes the Error of an answer with which Kinesis, or something in its place, refused a request or a record.
func (t *target) refusal(r rule, status int, message string) *Error {
	said := r.code
	if said == "" {
		said = fmt.Sprintf("HTTP status %d", status)
	}
	if message != "" {
		said += ": " + message
	}
	e := &Error{Kind: r.kind, Permanent: r.action == giveUp || r.action == renew, Code: r.code, Status: status}
	if e.Kind == KindAccessDenied && strings.Contains(message, "kms:") {
		e.Kind = KindKMS
	}
	switch e.Kind {
	case KindNotFound:
		e.text = fmt.Sprintf("stream %q is not found in region %s: create it, or correct KINESIS_TELEMETRY_STREAM (another account's or region's stream needs its ARN)", t.stream.Name, t.stream.Region)
	case KindAccessDenied:
		e.text = fmt.Sprintf("not allowed to write to stream %q: give the function's role kinesis:PutRecords on %s; for another account's stream that stream's resource policy must allow it too", t.stream.Name, t.wholeARN())
	case KindKMS:
		e.text = fmt.Sprintf("the KMS key that encrypts stream %q cannot be used: give the function's role kms:GenerateDataKey on it and see that it is enabled", t.stream.Name)
		switch {
		case r.action == retryThrottled:
			e.text = fmt.Sprintf("KMS throttles the use of the key that encrypts stream %q: raise the request quota of KMS in the key's account", t.stream.Name)
		case t.foreign:
			e.text += "; the AWS managed key (alias/aws/kinesis) cannot be used across accounts: the stream needs a customer managed key whose policy allows it"
		}
	case KindCredentials:
		e.text = "the credentials are not accepted: they have expired, belong to another partition, or the clock is wrong"
	case KindThrottled:
		e.text = fmt.Sprintf("stream %q takes no more at present: add shards or use on-demand capacity; where one environment alone fills a shard, spread it with KINESIS_TELEMETRY_PARTITION_KEY", t.stream.Name)
	case KindInvalid:
		e.text = fmt.Sprintf("stream %q refused what was sent", t.stream.Name)
	default:
		e.text = t.url.Host + " answered with an error"
		if e.Permanent {
			e.text += " that Kinesis does not have: is there a proxy or a firewall between, or is the endpoint URL wrong?"
		}
	}
	e.text += " (" + oneLine(said) + ")"
	return e
}

// unconnected is the failure of a request that no connection was found for.
type connectError struct{ error }

func (u connectError) Unwrap() error { return u.error }

// unreachable makes the Error of a request that got no answer, or half an answer.
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
		e.text = "there are no CA certificates in this image, so that " + host + " cannot be trusted: install the package ca-certificates, or name a file of certificates in AWS_CA_BUNDLE"
	case untrusted:
		e.Permanent = true
		e.text = "the certificate of " + host + " is not trusted: does a proxy stand between? Name its CA in AWS_CA_BUNDLE"
	case errors.Is(err, errEncoding):
		e.Permanent = true
		e.text = "the answer of " + host + " cannot be read: a proxy between changed it, which must not"
	case errors.Is(err, errReply):
		e.text = "the answer of " + host + " was cut short or garbled"
	case operation != nil && operation.Op == "proxyconnect":
		e.text = "no connection to the proxy that HTTPS_PROXY or HTTP_PROXY names"
	case errors.As(err, new(connectError)):
		e.text = "no connection to " + host + ": a function in a VPC needs a NAT gateway or an interface endpoint (kinesis-streams), and security groups that let it out"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.text = "no answer from " + host + " in time"
	default:
		e.text = "the connection to " + host + " broke"
	}
	e.text += " (" + oneLine(err.Error()) + ")"
	return e
}

// noRoots tells whether the system has no certificates, as in an image from scratch.
func noRoots() bool {
	pool, err := x509.SystemCertPool()
	return err != nil || pool.Equal(x509.NewCertPool())
}

// refusedByProxy is the error of a proxy that answers a CONNECT with another status than 200.
func refusedByProxy(_ context.Context, proxy *url.URL, connect *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	e := &Error{Kind: KindNetwork, Permanent: answer.StatusCode < 500, Status: answer.StatusCode}
	e.text = fmt.Sprintf("the proxy %s does not connect to %s: let it allow that host, or name the host in NO_PROXY", oneLine(proxy.Host), connect.Host)
	if answer.StatusCode == http.StatusProxyAuthRequired {
		e.text = fmt.Sprintf("the proxy %s wants a user and password: name them in HTTPS_PROXY", oneLine(proxy.Host))
	}
	e.text += fmt.Sprintf(" (HTTP status %d)", answer.StatusCode)
	return e
}

// badCredentials makes the Error of credentials that could not be got.
func badCredentials(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	return &Error{Kind: KindCredentials, Err: err, text: "cannot get credentials: " + oneLine(err.Error())}
}

// outOfTime makes the Error of a Put whose time ran out before anything went wrong.
func outOfTime(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	if cause == nil { // the deadline is due, its timer is not
		cause = context.DeadlineExceeded
	}
	return &Error{Kind: KindDeadline, Err: cause, text: "no time left to send: " + cause.Error()}
}

// wholeARN gives the stream's ARN for a person to copy; an account that is not known is a star.
func (t *target) wholeARN() string {
	s := t.stream
	if s.AccountID == "" {
		s.AccountID = "*"
	}
	return s.ARN()
}
