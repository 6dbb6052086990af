package kinesislocal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "kinesis"
	terminator = "aws4_request"
	dateFormat = "20060102T150405Z"
	maxSkew    = 5 * time.Minute
)

// signature is the content of an Authorization header:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html
type signature struct {
	key                           string // access key id
	date, region, service, ending string // credential scope
	headers                       []string
	value                         string // hex
	at                            string // the header X-Amz-Date
	time                          time.Time
}

// authenticate checks the form of the signature, its scope, the clock, the key, the token, and the signature itself, in this
// order.
func (s *Server) authenticate(r *http.Request, body []byte, now time.Time) error {
	if r.Header.Get("Authorization") == "" {
		return newError(codeMissingToken, "Missing Authentication Token")
	}
	sig, err := parseSignature(r)
	if err != nil {
		return err
	}
	region := s.options.Region
	if s.options.AnyRegion {
		region = sig.region
	}
	if err := sig.checkScope(region); err != nil {
		return err
	}
	if err := sig.checkClock(now); err != nil {
		return err
	}
	if s.options.Credentials == nil {
		return nil
	}
	secret, known := s.options.Credentials[sig.key]
	if !known {
		return newError(codeUnrecognizedClient, "%s", defaultMessage(codeUnrecognizedClient))
	}
	if token, ok := s.options.SessionTokens[sig.key]; ok {
		if r.Header.Get("X-Amz-Security-Token") != token.Token {
			return newError(codeUnrecognizedClient, "%s", defaultMessage(codeUnrecognizedClient))
		}
		if !token.Expires.IsZero() && now.After(token.Expires) {
			return newError(codeExpiredToken, "%s", defaultMessage(codeExpiredToken))
		}
	}
	return sig.verify(r, body, secret)
}

func parseSignature(r *http.Request) (*signature, error) {
	header := r.Header.Get("Authorization")
	name, rest, _ := strings.Cut(header, " ")
	if name != algorithm {
		return nil, newError(codeIncompleteSignature, "Unsupported AWS 'algorithm': '%s'.", name)
	}
	params := map[string]string{}
	for _, p := range strings.FieldsFunc(rest, func(c rune) bool { return c == ',' || c == ' ' }) {
		k, v, _ := strings.Cut(p, "=")
		params[k] = v
	}
	var missing strings.Builder
	for _, p := range []string{"Credential", "Signature", "SignedHeaders"} {
		if params[p] == "" {
			fmt.Fprintf(&missing, "Authorization header requires '%s' parameter. ", p)
		}
	}
	sig := &signature{value: params["Signature"], headers: strings.Split(params["SignedHeaders"], ";"), at: r.Header.Get("X-Amz-Date")}
	if sig.at == "" {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if missing.Len() > 0 {
		return nil, newError(codeIncompleteSignature, "%sAuthorization=%s", missing.String(), header)
	}
	scope := strings.Split(params["Credential"], "/")
	if len(scope) != 5 {
		return nil, newError(codeIncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", params["Credential"])
	}
	sig.key, sig.date, sig.region, sig.service, sig.ending = scope[0], scope[1], scope[2], scope[3], scope[4]
	var err error
	if sig.time, err = time.Parse(dateFormat, sig.at); err != nil {
		return nil, newError(codeIncompleteSignature,
			"Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", sig.at)
	}
	for _, h := range []string{"host", "x-amz-date"} {
		if !slices.Contains(sig.headers, h) {
			return nil, newError(codeInvalidSignature, "'%s' must be a 'SignedHeader' in the AWS Authorization.", h)
		}
	}
	// One of these headers binds the signature to the operation, or at least to the protocol.
	if !slices.Contains(sig.headers, "x-amz-target") && !slices.Contains(sig.headers, "content-type") {
		return nil, newError(codeInvalidSignature, "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return sig, nil
}

func (sig *signature) checkScope(region string) error {
	var wrong strings.Builder
	if sig.region != region {
		fmt.Fprintf(&wrong, "Credential should be scoped to a valid region, not '%s'. ", sig.region)
	}
	if sig.service != service {
		fmt.Fprintf(&wrong, "Credential should be scoped to correct service: '%s'. ", service)
	}
	if sig.ending != terminator {
		fmt.Fprintf(&wrong, "Credential should be scoped with a valid terminator: '%s', not '%s'. ", terminator, sig.ending)
	}
	if day, _, _ := strings.Cut(sig.at, "T"); sig.date != day {
		fmt.Fprintf(&wrong, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			sig.date, day, sig.at)
	}
	if wrong.Len() > 0 {
		return newError(codeInvalidSignature, "%s", wrong.String())
	}
	return nil
}

func (sig *signature) checkClock(now time.Time) error {
	now = now.UTC()
	if oldest := now.Add(-maxSkew); sig.time.Before(oldest) {
		return newError(codeInvalidSignature, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			sig.at, oldest.Format(dateFormat), now.Format(dateFormat))
	}
	if newest := now.Add(maxSkew); sig.time.After(newest) {
		return newError(codeInvalidSignature, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			sig.at, newest.Format(dateFormat), now.Format(dateFormat))
	}
	return nil
}

// verify recomputes the signature, without the signers of the SDK and of the extension, so that it also tests those.
func (sig *signature) verify(r *http.Request, body []byte, secret string) error {
	canonical := sig.canonicalRequest(r, body)
	scope := strings.Join([]string{sig.date, sig.region, sig.service, sig.ending}, "/")
	toSign := strings.Join([]string{algorithm, sig.at, scope, hexSum([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{sig.date, sig.region, sig.service, sig.ending, toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(sig.value)) {
		return newError(codeInvalidSignature, "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.\n\n"+
			"The Canonical String for this request should have been\n'%s'\n\nThe String-to-Sign should have been\n'%s'\n", canonical, toSign)
	}
	return nil
}

func (sig *signature) canonicalRequest(r *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, canonicalPath(r), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"))
	for _, name := range sig.headers {
		var values []string
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		default:
			values = slices.Clone(r.Header.Values(name))
		}
		for i, v := range values {
			values[i] = strings.Join(strings.Fields(v), " ")
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.Join(values, ","))
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(sig.headers, ";"), hexSum(body))
	return b.String()
}

// canonicalPath escapes the path a second time, as all services except S3 require.
func canonicalPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	if path == "" {
		return "/"
	}
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
