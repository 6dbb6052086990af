package kinesis

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Each line is an answer, and what a person must read of it and what not.
func TestCauses(t *testing.T) {
	const otherARN = "arn:aws:kinesis:eu-west-1:" + otherAccount + ":stream/logs"
	answer := func(status int, header, body string) step {
		return func(*fakeKinesis, *http.Request, []string) (*http.Response, error) {
			name, value, _ := strings.Cut(header, ": ")
			return respond(status, http.Header{name: {value}}, body), nil
		}
	}
	const page = "<html><head><title>403 Forbidden</title></head><body>Request blocked by policy.\x1b[31m\x00\u202e</body></html>"
	for _, c := range []struct {
		name, stream string
		script       step
		kind         Kind
		permanent    bool
		says         []string
		not          string
	}{
		{"a firewall's 403", "logs", answer(403, "Content-Type: text/html", page), KindService, true, []string{"proxy or a firewall in between", "403", "Request blocked"}, "kinesis:PutRecords"},
		{"a 403 that says nothing", "logs", answer(403, "", ""), KindService, true, []string{"proxy or a firewall in between", "403"}, "kinesis:PutRecords"},
		{"a proxy that wants a password", "logs", answer(407, "", ""), KindService, true, []string{"proxy or a firewall in between", "407"}, ""},
		{"not Kinesis", "logs", answer(404, "", "404 page not found"), KindService, true, []string{"is the endpoint URL wrong?"}, ""},
		{"a code that Kinesis does not have", "logs", refuse(400, "NoSuchBucket"), KindService, true, []string{"is the endpoint URL wrong?", "NoSuchBucket"}, ""},
		{"Kinesis's own 403", "logs", refuse(403, "SomeAccessException"), KindAccessDenied, true, []string{"kinesis:PutRecords"}, ""},
		{"a proxy's 502", "logs", answer(502, "", "<html>bad gateway"), KindService, false, []string{"answered with an error", "502"}, ""},
		{"the key of one's own account", "logs", refuse(400, "KMSAccessDeniedException"), KindKMS, true, []string{"kms:GenerateDataKey"}, "across accounts"},
		{"the key of another account", otherARN, refuse(400, "KMSAccessDeniedException"), KindKMS, true, []string{"kms:GenerateDataKey", "alias/aws/kinesis", "across accounts"}, ""},
		{"no access to the key, in other words", otherARN, answer(400, "", `{"__type":"AccessDeniedException","message":"User: x is not authorized to perform: kms:GenerateDataKey on resource: y"}`), KindKMS, true, []string{"alias/aws/kinesis"}, "give the function's role kinesis:PutRecords"},
		{"KMS throttles", "logs", refuse(400, "KMSThrottlingException"), KindKMS, false, []string{"KMS throttles", "quota"}, "shards"},
		{"KMS throttles a record", "logs", entries(map[string]string{"a": "KMSThrottlingException"}), KindKMS, false, []string{"KMS throttles", "quota"}, "shards"},
		{"the stream throttles", "logs", refuse(400, "ProvisionedThroughputExceededException"), KindThrottled, false, []string{"add shards"}, "KMS"},
		{"control characters", "logs", answer(400, "", `{"__type":"No\u001b[31m\u0000Such\u202eThing\nexpected","message":"because"}`), KindService, true, []string{"because"}, ""},
		{"control characters of a record", "logs", reply(`{"Records":[{"ErrorCode":"No\u001b[31m\u0000Such\u202eThing\nexpected","ErrorMessage":"because"}]}`), KindInvalid, false, []string{"because"}, ""},
		{"control characters of a header", "logs", answer(400, "X-Amzn-Errortype: Bad\x1b[31m\u202e", "\x00"), KindService, true, []string{"Bad"}, ""},
		{"an endless code", "logs", refuse(400, strings.Repeat("x", 100_000)), KindService, true, []string{"xxx…"}, ""},
		{"control characters on the way", "logs", breakdown(errors.New("broken \x1b[31m\x00\u202e\npipe")), KindNetwork, false, []string{"broken"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, f := newFake(t, func(cfg *Config) { cfg.Stream = c.stream })
				for range 10 {
					f.script = append(f.script, c.script)
				}
				result := client.Put(expiring(t, 300*time.Millisecond), recordsOf("a"))
				var cause *Error
				if !errors.As(result.Err, &cause) || cause.Kind != c.kind || cause.Permanent != c.permanent {
					t.Fatalf("%+v, want kind %v, permanent %t", result.Err, c.kind, c.permanent)
				}
				text := cause.Error()
				for _, says := range c.says {
					if !strings.Contains(text, says) {
						t.Errorf("%q does not say %q", text, says)
					}
				}
				if c.not != "" && strings.Contains(text, c.not) || len(text) > 800 {
					t.Errorf("%q says %q, or too much", text, c.not)
				}
				checkPrintable(t, text)
			})
		})
	}
}

func checkPrintable(t *testing.T, text string) {
	t.Helper()
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q has control characters", text)
	}
}

// A proxy that does not connect is told as such, with its status and without its password.
func TestProxyThatRefuses(t *testing.T) {
	for _, c := range []struct {
		status    int
		permanent bool
		says      string
	}{
		{403, true, "403"}, {407, true, "user and password"}, {500, false, "500"},
	} {
		var asked int
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked++; r.Method != http.MethodConnect || r.Host != "kinesis.eu-west-1.amazonaws.com:443" {
				t.Errorf("%s %s", r.Method, r.Host)
			}
			w.WriteHeader(c.status)
		}))
		defer proxy.Close()
		cfg := testConfig("logs")
		at, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		address := at.Host
		at.User = url.UserPassword("user", "SECRET")
		cfg.Proxy = http.ProxyURL(at)
		client, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		result := client.Put(expiring(t, 300*time.Millisecond), recordsOf("a"))
		checkError(t, result.Err, true, KindNetwork, c.says)
		var cause *Error
		if text := result.Err.Error(); !errors.As(result.Err, &cause) || cause.Permanent != c.permanent || !strings.Contains(text, "the proxy "+address) ||
			strings.Contains(text, "NAT") || strings.Contains(text, "SECRET") || c.permanent && asked != 1 {
			t.Errorf("%d: permanent %t after %d attempts: %s", c.status, cause.Permanent, asked, text)
		}
	}
}

// Where no connection was made that is the cause, whatever ended the attempt; where one was, it is the answer that is missing.
func TestNoConnectionInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig("logs")
		cfg.EndpointURL = "http://kinesis.test"
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := newNetwork(map[string]lookupAnswer{"ip4": {addrs: host4}, "ip6": {}}, nil)
		c.transport.(*http.Transport).DialContext = n.DialContext
		for _, timeout := range []time.Duration{time.Second, 10 * time.Second} {
			checkError(t, c.Put(expiring(t, timeout), recordsOf("a")).Err, true, KindNetwork, "a function in a VPC needs")
		}
		time.Sleep(dialTimeout)
	})
}

// An image without certificates, as scratch is, is told as such. The roots are read once in a process, so it takes another.
func TestNoCertificates(t *testing.T) {
	if os.Getenv("NO_CERTIFICATES") == "" {
		command := exec.Command(os.Args[0], "-test.run=^TestNoCertificates$", "-test.v")
		command.Env = append(os.Environ(), "NO_CERTIFICATES=1", "SSL_CERT_FILE=/nonexistent/file", "SSL_CERT_DIR=/nonexistent")
		if printed, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, printed)
		}
		return
	}
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	cfg := testConfig("logs")
	cfg.EndpointURL = server.URL
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	result := c.Put(t.Context(), recordsOf("a"))
	checkError(t, result.Err, true, KindNetwork, "no CA certificates")
	if text := result.Err.Error(); !strings.Contains(text, "ca-certificates") || !strings.Contains(text, "AWS_CA_BUNDLE") || result.Requests != 1 {
		t.Errorf("%d requests: %s", result.Requests, text)
	}
}

// What comes from outside reaches no log as it is, and nobody's password does.
func TestNothingLeaks(t *testing.T) {
	const secret = "SECRET"
	change := func(f func(*Config)) error {
		cfg := testConfig("logs")
		f(&cfg)
		_, err := New(cfg)
		return err
	}
	_, containerErr := NewCredentials(CredentialsConfig{ContainerURI: "http://user:" + secret + "@example.com/"})
	_, parseErr := NewCredentials(CredentialsConfig{ContainerURI: "http://user:" + secret + "%@example.com/"})
	role := func(endpoint string) error {
		_, err := NewRole(credentials.NewStaticCredentialsProvider("a", "s", ""), RoleConfig{ARN: roleToAssume, Region: "eu-west-1", EndpointURL: endpoint})
		return err
	}
	for name, err := range map[string]error{
		"the endpoint": change(func(c *Config) { c.EndpointURL = "https://user:" + secret + "@example.com" }),
		"its query":    change(func(c *Config) { c.EndpointURL = "https://example.com/?token=" + secret }),
		"STS":          role("https://user:" + secret + "@example.com"),
		"STS, broken":  role("https://user:" + secret + "%@example.com"),
		"container":    containerErr,
		"broken":       parseErr,
	} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v := newVendor(t, func(w http.ResponseWriter, _ int, _ time.Time) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, stsError("Access\x1b[31mDenied", "\x00\u202e\nno"))
	})
	p, err := NewRole(credentials.NewStaticCredentialsProvider("a", "s", ""), RoleConfig{ARN: roleToAssume, Region: "eu-west-1", EndpointURL: v.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Retrieve(t.Context())
	checkPrintable(t, badCredentials(err).Error())
	checkPrintable(t, badCredentials(fmt.Errorf("x: %w", &net.DNSError{Err: "\x1b\u202e"})).Error())
}
