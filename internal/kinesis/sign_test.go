package kinesis

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A signed request equals that of the SDK's signer. A signer is used for several days and keys, because it caches the
// derived key.
func TestSignatureEqualsTheSDKs(t *testing.T) {
	s := signer{service: "kinesis", region: "eu-west-1"}
	for _, endpoint := range []string{
		"https://kinesis.eu-west-1.amazonaws.com/", "http://127.0.0.1:4567/", "https://h:443/", "http://h:443/", "http://h:80/", "https://h:8080",
		"https://[::1]:8443/", "https://h/a/path/", "https://h/a%20b/ä/+~*'(x)//y/../z;=,%2F",
	} {
		for _, keys := range []Credentials{
			{AccessKeyID: "AKID", SecretAccessKey: "secret"},
			{AccessKeyID: "AKID", SecretAccessKey: "another", SessionToken: "token/+=="},
			{AccessKeyID: "ASIA", SecretAccessKey: "another", SessionToken: " token "},
		} {
			for _, day := range []int{1, 2, 1} {
				compareSignatures(t, &s, endpoint, keys, "body", time.Date(2026, 11, day, 23, 59, 59, 0, time.FixedZone("", 3600)))
			}
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add("/path", "AKID", "secret", "token", "body", int64(1764000000))
	f.Add("/a%20b/%41/+*", "", "", "", "x", int64(0))
	f.Fuzz(func(t *testing.T, path, key, secret, token, body string, at int64) {
		endpoint := "https://h" + path
		if _, err := ParseEndpointURL(endpoint); err != nil || !strings.HasPrefix(path, "/") || !isPrintable(key+secret+token) || body == "" {
			return
		}
		keys := Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: token}
		s := signer{service: "sts", region: "us-east-1"}
		compareSignatures(t, &s, endpoint, keys, body, time.Unix(at%1e10, 0))
	})
}

func compareSignatures(t *testing.T, s *signer, endpoint string, keys Credentials, body string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	request := func() *http.Request {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{Method: http.MethodPost, URL: u, ContentLength: int64(len(body)), Header: http.Header{
			"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {"Kinesis_20131202.PutRecords"}, "User-Agent": {userAgent},
		}}
	}
	ours, theirs := request(), request()
	s.sign(ours, keys, sum[:], at)
	theirKeys := aws.Credentials{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey, SessionToken: keys.SessionToken}
	err := v4.NewSigner().SignHTTP(t.Context(), theirKeys, theirs, hex.EncodeToString(sum[:]), s.service, s.region, at)
	if err != nil {
		t.Fatal(err)
	}
	if theirs.Host == "" { // the SDK sets it only if it differs
		theirs.Host = theirs.URL.Host
	}
	var got, want strings.Builder
	got.WriteString(ours.Host)
	_ = ours.Header.Write(&got)
	want.WriteString(theirs.Host)
	_ = theirs.Header.Write(&want)
	if got.String() != want.String() || ours.URL.String() != theirs.URL.String() {
		t.Fatalf("%s to %s:\n%s\nthe SDK:\n%s", ours.URL, theirs.URL, got.String(), want.String())
	}
}
