package kinesislocal_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"

	"kinesis-telemetry-extension/internal/kinesislocal"
)

// A request with a valid signature is executed. Any other is rejected with AWS's error.
func TestSignature(t *testing.T) {
	expires := time.Now().Add(-time.Minute)
	keys := func(id, secret, token string) func(*awskinesis.Options) {
		return func(o *awskinesis.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(id, secret, token)
		}
	}
	after := func(change func(*http.Request)) func(*awskinesis.Options) {
		return func(o *awskinesis.Options) {
			c, _ := o.HTTPClient.(*http.Client)
			c.Transport = roundTripper{c.Transport, change}
		}
	}
	for name, test := range map[string]struct {
		change func(*awskinesis.Options)
		ahead  time.Duration // of the server's clock
		code   string        // "" for success
		text   string
	}{
		"valid": {change: func(*awskinesis.Options) {}},
		"wrong secret": {
			change: keys(accessKey, "wrong", ""),
			code:   "InvalidSignatureException",
			text:   "does not match the signature you provided",
		},
		"unknown key": {
			change: keys("AKIDOTHER", secretKey, ""),
			code:   "UnrecognizedClientException",
			text:   "The security token included in the request is invalid.",
		},
		"token":            {change: keys("ASIA", secretKey, "token")},
		"no token":         {change: keys("ASIA", secretKey, ""), code: "UnrecognizedClientException"},
		"wrong token":      {change: keys("ASIA", secretKey, "other"), code: "UnrecognizedClientException"},
		"expired token":    {change: keys("ASIAOLD", secretKey, "token"), code: "ExpiredTokenException", text: "expired"},
		"token not needed": {change: keys(accessKey, secretKey, "token")},
		"wrong region": {
			change: func(o *awskinesis.Options) { o.Region = "eu-west-1" },
			code:   "InvalidSignatureException", text: "Credential should be scoped to a valid region, not 'eu-west-1'.",
		},
		"altered body": {change: after(func(r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(b, []byte("a2V5"), []byte("a2V6"), 1)))
		}), code: "InvalidSignatureException"},
		"altered operation": {change: after(func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "Kinesis_20131202.DeleteStream")
		}), code: "InvalidSignatureException"},
		"altered date": {
			change: after(func(r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") }),
			code:   "InvalidSignatureException",
		},
		"altered path":  {change: after(func(r *http.Request) { r.URL.Path = "/x y" }), code: "InvalidSignatureException"},
		"4 minutes old": {change: func(*awskinesis.Options) {}, ahead: 4 * time.Minute},
		"too late": {
			change: func(*awskinesis.Options) {},
			ahead:  6 * time.Minute,
			code:   "InvalidSignatureException",
			text:   "Signature expired: ",
		},
		"too early": {
			change: func(*awskinesis.Options) {},
			ahead:  -6 * time.Minute,
			code:   "InvalidSignatureException",
			text:   "Signature not yet current: ",
		},
		"no signature": {change: after(func(r *http.Request) { r.Header.Del("Authorization") }), code: "MissingAuthenticationTokenException"},
		"bearer": {
			change: after(func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }),
			code:   "IncompleteSignatureException",
		},
		"part signature": {
			change: after(func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/b") }),
			code:   "IncompleteSignatureException",
			text:   "requires 'Signature' parameter",
		},
		"target not signed": {change: after(func(r *http.Request) {
			r.Header.Set("Authorization", strings.NewReplacer("content-type;", "", ";x-amz-target", "").Replace(r.Header.Get("Authorization")))
		}), code: "InvalidSignatureException", text: "must be a 'SignedHeader'"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := withStream(t, kinesislocal.Options{
				Credentials: map[string]string{accessKey: secretKey, "ASIA": secretKey, "ASIAOLD": secretKey},
				SessionTokens: map[string]kinesislocal.SessionToken{
					"ASIA": {Token: "token", Expires: time.Now().Add(time.Hour)}, "ASIAOLD": {Token: "token", Expires: expires},
				},
				Now: func() time.Time { return time.Now().Add(test.ahead) },
			}, 1)
			in := putInput(1, "key")
			_, err := client(t, s, test.change).PutRecords(t.Context(), in)
			if test.code == "" {
				if err != nil || len(s.Records("s")) != 1 {
					t.Fatalf("%v, %d records stored", err, len(s.Records("s")))
				}
				return
			}
			wantCode(t, err, test.code, http.StatusBadRequest)
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %q in it", err, test.text)
			}
			if len(s.Records("s")) != 0 {
				t.Error("a rejected request was stored")
			}
		})
	}
}

// Without Credentials every key is accepted, and the form of the request is checked.
func TestSignatureAnyKey(t *testing.T) {
	s := kinesislocal.New(kinesislocal.Options{})
	defer func() { _ = s.Close() }()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, signed(t, "http://localhost/", "CreateStream", `{"StreamName":"s","ShardCount":1}`))
	if w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	r := signed(t, "http://localhost/", "ListStreams", `{}`)
	r.Method = http.MethodGet
	s.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "Unable to determine service/operation name") {
		t.Errorf("GET: %d %s", w.Code, w.Body)
	}
}

// A request without a valid signature is rejected, whatever its headers.
func FuzzSignature(f *testing.F) {
	f.Add(
		"AWS4-HMAC-SHA256 Credential="+accessKey+"/20260101/us-east-1/kinesis/aws4_request, "+
			"SignedHeaders=content-type;host;x-amz-date, Signature=00",
		"20260101T000000Z", "/", "",
	)
	f.Add("AWS4-HMAC-SHA256 Credential=,SignedHeaders=;;,Signature==", "20260101T000000Z", "/%2f", "a=b&a=%zz")
	f.Add("AWS4-HMAC-SHA256", "", "", "")
	s := kinesislocal.New(kinesislocal.Options{
		Credentials: map[string]string{accessKey: secretKey}, Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
	})
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, authorization, date, path, query string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	})
}
