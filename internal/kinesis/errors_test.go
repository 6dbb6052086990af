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
)

// Each case is an answer, with the parts that the error's text must contain and the one that it must not contain.
func TestErrorTexts(t *testing.T) {
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
		{
			name:      "a firewall's 403",
			stream:    "logs",
			script:    answer(403, "Content-Type: text/html", page),
			kind:      KindService,
			permanent: true,
			says:      []string{"proxy or a firewall in between", "403", "Request blocked"},
			not:       "kinesis:PutRecords",
		},
		{
			name:      "a 403 without a body",
			stream:    "logs",
			script:    answer(403, "", ""),
			kind:      KindService,
			permanent: true,
			says:      []string{"proxy or a firewall in between", "403"},
			not:       "kinesis:PutRecords",
		},
		{
			name:      "a proxy that requires a password",
			stream:    "logs",
			script:    answer(407, "", ""),
			kind:      KindService,
			permanent: true,
			says:      []string{"proxy or a firewall in between", "407"},
		},
		{
			name:      "not Kinesis",
			stream:    "logs",
			script:    answer(404, "", "404 page not found"),
			kind:      KindService,
			permanent: true,
			says:      []string{"is the endpoint URL wrong?"},
		},
		{
			name:      "a code that Kinesis does not have",
			stream:    "logs",
			script:    refuse(400, "NoSuchBucket"),
			kind:      KindService,
			permanent: true,
			says:      []string{"is the endpoint URL wrong?", "NoSuchBucket"},
		},
		{
			name:      "Kinesis's own 403",
			stream:    "logs",
			script:    refuse(403, "SomeAccessException"),
			kind:      KindAccessDenied,
			permanent: true,
			says:      []string{"kinesis:PutRecords"},
		},
		{
			name:   "a proxy's 502",
			stream: "logs",
			script: answer(502, "", "<html>bad gateway"),
			kind:   KindService,
			says:   []string{"answered with an error", "502"},
		},
		{
			name:      "a key of the same account",
			stream:    "logs",
			script:    refuse(400, "KMSAccessDeniedException"),
			kind:      KindKMS,
			permanent: true,
			says:      []string{"kms:GenerateDataKey"},
			not:       "across accounts",
		},
		{
			name:      "a key of another account",
			stream:    otherARN,
			script:    refuse(400, "KMSAccessDeniedException"),
			kind:      KindKMS,
			permanent: true,
			says:      []string{"kms:GenerateDataKey", "alias/aws/kinesis", "across accounts"},
		},
		{
			name:   "no access to the key, as AccessDenied",
			stream: otherARN,
			script: answer(400, "", `{"__type":"AccessDeniedException",`+
				`"message":"User: x is not authorized to perform: kms:GenerateDataKey on resource: y"}`),
			kind:      KindKMS,
			permanent: true,
			says:      []string{"alias/aws/kinesis"},
			not:       "give the function's role kinesis:PutRecords",
		},
		{
			name:   "KMS throttles",
			stream: "logs",
			script: refuse(400, "KMSThrottlingException"),
			kind:   KindKMS,
			says:   []string{"KMS throttles", "quota"},
			not:    "shards",
		},
		{
			name:   "KMS throttles a record",
			stream: "logs",
			script: entries(map[string]string{"a": "KMSThrottlingException"}),
			kind:   KindKMS,
			says:   []string{"KMS throttles", "quota"},
			not:    "shards",
		},
		{
			name:   "the stream throttles",
			stream: "logs",
			script: refuse(400, "ProvisionedThroughputExceededException"),
			kind:   KindThrottled,
			says:   []string{"add shards"},
			not:    "KMS",
		},
		{
			name:      "control characters in a code",
			stream:    "logs",
			script:    answer(400, "", `{"__type":"No\u001b[31m\u0000Such\u202eThing\nexpected","message":"because"}`),
			kind:      KindService,
			permanent: true,
			says:      []string{"because"},
		},
		{
			name:   "control characters in a record's code",
			stream: "logs",
			script: reply(`{"Records":[{"ErrorCode":"No\u001b[31m\u0000Such\u202eThing\nexpected","ErrorMessage":"because"}]}`),
			kind:   KindInvalid,
			says:   []string{"because"},
		},
		{
			name:      "control characters in a header",
			stream:    "logs",
			script:    answer(400, "X-Amzn-Errortype: Bad\x1b[31m\u202e", "\x00"),
			kind:      KindService,
			permanent: true,
			says:      []string{"Bad"},
		},
		{
			name:      "an endless code",
			stream:    "logs",
			script:    refuse(400, strings.Repeat("x", 100_000)),
			kind:      KindService,
			permanent: true,
			says:      []string{"xxx…"},
		},
		{
			name:   "control characters in a network error",
			stream: "logs",
			script: fail(errors.New("broken \x1b[31m\x00\u202e\npipe")),
			kind:   KindNetwork,
			says:   []string{"broken"},
		},
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
						t.Errorf("%q does not contain %q", text, says)
					}
				}
				if c.not != "" && strings.Contains(text, c.not) || len(text) > 800 {
					t.Errorf("%q contains %q, or is too long", text, c.not)
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

// permanentRequests is the largest number of requests until a permanent error, in real time: a process that gets no CPU for a second
// seems to have been frozen, and repeats the request once.
const permanentRequests = 2

// The error for a proxy that refuses CONNECT names the proxy and its status, and not its password.
func TestProxyRefusesConnect(t *testing.T) {
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
		put := client.Put
		if !c.permanent {
			put = client.Probe // Put would try again until the time is over
		}
		result := put(expiring(t, time.Minute), recordsOf("a"))
		checkError(t, result.Err, true, KindNetwork, c.says)
		var cause *Error
		text := result.Err.Error()
		if !errors.As(result.Err, &cause) || cause.Permanent != c.permanent || !strings.Contains(text, "the proxy "+address) ||
			strings.Contains(text, "NAT") || strings.Contains(text, "SECRET") || c.permanent && asked > permanentRequests {
			t.Errorf("%d: permanent %t after %d attempts: %s", c.status, cause.Permanent, asked, text)
		}
	}
}

// If no connection was made in time, the error says so, and not that the answer is missing.
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

// The error says that an image, such as scratch, has no CA certificates. A process reads the roots once, so the test
// runs another process.
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
	text := result.Err.Error()
	if !strings.Contains(text, "ca-certificates") || !strings.Contains(text, "AWS_CA_BUNDLE") || result.Requests > permanentRequests {
		t.Errorf("%d requests: %s", result.Requests, text)
	}
}

// Errors contain no passwords, and no control characters from outside.
func TestErrorsLeakNothing(t *testing.T) {
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
		_, err := newRole(endpoint)
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
	v := newCredentialsServer(t, func(w http.ResponseWriter, _ int, _ time.Time) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, stsError("Access\x1b[31mDenied", "\x00\u202e\nno"))
	})
	p, err := newRole(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Retrieve(t.Context())
	checkPrintable(t, badCredentials(err).Error())
	checkPrintable(t, badCredentials(fmt.Errorf("x: %w", &net.DNSError{Err: "\x1b\u202e"})).Error())
}
