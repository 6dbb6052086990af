package kinesis

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// signer signs requests with AWS Signature Version 4. Its result equals that of the SDK's signer, which would add 100 KB
// to the binary (DESIGN.md). It is for one goroutine.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
type signer struct {
	service, region string

	signingKey  []byte // derived from the next two
	secret, day string
}

const (
	signatureTime = "20060102T150405Z"
	signatureDay  = "20060102"
)

// signedHeaders are the headers that a signature covers if the request has them, in the order of their names.
var signedHeaders = [...]string{"content-length", "content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"}

// sign adds the headers of a signature to a request that has a body and no query. hashedPayload is the SHA-256 of the body.
func (s *signer) sign(req *http.Request, keys Credentials, hashedPayload []byte, at time.Time) {
	at = at.UTC()
	req.Host = hostHeader(req.URL)
	req.Header.Set("X-Amz-Date", at.Format(signatureTime))
	if keys.SessionToken != "" {
		req.Header.Set("X-Amz-Security-Token", keys.SessionToken)
	}
	var headers, signed string
	for _, name := range signedHeaders {
		value := req.Header.Get(name)
		switch name {
		case "content-length":
			value = strconv.FormatInt(req.ContentLength, 10)
		case "host":
			value = req.Host
		}
		if value != "" {
			headers += name + ":" + strings.TrimSpace(value) + "\n"
			signed += ";" + name
		}
	}
	signed = signed[1:]
	path := escapePath(cmp.Or(req.URL.EscapedPath(), "/"))
	canonicalRequest := sha256.Sum256([]byte(
		req.Method + "\n" + path + "\n\n" + headers + "\n" + signed + "\n" + hex.EncodeToString(hashedPayload)))

	day := at.Format(signatureDay)
	scope := day + "/" + s.region + "/" + s.service + "/aws4_request"
	stringToSign := "AWS4-HMAC-SHA256\n" + at.Format(signatureTime) + "\n" + scope + "\n" + hex.EncodeToString(canonicalRequest[:])
	if s.day != day || s.secret != keys.SecretAccessKey {
		s.secret, s.day, s.signingKey = keys.SecretAccessKey, day, []byte("AWS4"+keys.SecretAccessKey)
		for _, part := range strings.Split(scope, "/") {
			s.signingKey = hmacSHA256(s.signingKey, part)
		}
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+keys.AccessKeyID+"/"+scope+
		", SignedHeaders="+signed+", Signature="+hex.EncodeToString(hmacSHA256(s.signingKey, stringToSign)))
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// hostHeader returns the Host header of a request to u: without the port if that is the scheme's own.
func hostHeader(u *url.URL) string {
	if u.Scheme == schemeHTTPS {
		return strings.TrimSuffix(u.Host, ":443")
	}
	return strings.TrimSuffix(u.Host, ":80")
}

// escapePath escapes an escaped path again, as a signature requires.
func escapePath(path string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(path) {
		if strings.IndexByte(alphanumeric+"-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
