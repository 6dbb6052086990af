package kinesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kinesis-telemetry-extension/internal/awake"
)

// credentialsServer is an endpoint that provides credentials.
type credentialsServer struct {
	*httptest.Server
	mu    sync.Mutex
	lives time.Duration // guarded by mu, as are the next three
	down  bool
	asked []*http.Request
	forms []url.Values
}

func newCredentialsServer(t *testing.T, answer func(w http.ResponseWriter, n int, expires time.Time)) *credentialsServer {
	v := &credentialsServer{lives: time.Hour}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		defer v.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Error(err)
		}
		v.asked, v.forms = append(v.asked, r), append(v.forms, form)
		if v.down {
			http.Error(w, "down", http.StatusBadRequest)
			return
		}
		answer(w, len(v.asked), time.Now().Add(v.lives))
	}))
	t.Cleanup(v.Close)
	return v
}

func containerAnswer(w http.ResponseWriter, n int, expires time.Time) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"AccessKeyId":"AKID%d","SecretAccessKey":"secret","Token":"token","Expiration":%q}`,
		n, expires.UTC().Format(time.RFC3339))
}

func retrieve(t *testing.T, p CredentialsProvider, key string) Credentials {
	t.Helper()
	got, err := p.Retrieve(t.Context())
	if err != nil || got.AccessKeyID != key {
		t.Errorf("got key %q: %v, want %q", got.AccessKeyID, err, key)
	}
	return got
}

// The keys take precedence over the container endpoint, and never expire.
func TestStaticCredentials(t *testing.T) {
	p, err := NewCredentials(CredentialsConfig{
		AccessKeyID:     "AKID",
		SecretAccessKey: "secret",
		SessionToken:    "token",
		ContainerURI:    "http://127.0.0.1:1/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := retrieve(t, p, "AKID"); got.SecretAccessKey != "secret" || got.SessionToken != "token" || !got.Expires.IsZero() {
		t.Errorf("%+v", got)
	}
}

// With SnapStart the credentials come from the container endpoint. They are fetched again before they expire, and never
// through a proxy.
func TestContainerCredentials(t *testing.T) {
	if containerTransport().Proxy != nil { // Go uses no proxy for this machine; the container's address may be another
		t.Error("the transport has a proxy")
	}
	v := newCredentialsServer(t, containerAnswer)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := NewCredentials(CredentialsConfig{ContainerURI: v.URL + "/creds", ContainerTokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.asked) != 0 {
		t.Error("a request before credentials were needed")
	}
	v.lives = expiryWindow + time.Minute
	if got := retrieve(t, p, "AKID1"); got.SessionToken != "token" || got.Expires.IsZero() {
		t.Errorf("%+v", got)
	}
	retrieve(t, p, "AKID1")
	p.(*cache).invalidate()
	if err := os.WriteFile(token, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.lives = expiryWindow - time.Minute // about to expire: fetched again each time
	retrieve(t, p, "AKID2")
	retrieve(t, p, "AKID3")
	v.mu.Lock()
	v.down = true
	v.mu.Unlock()
	retrieve(t, p, "AKID3") // still valid
	p.(*cache).invalidate()
	if got, err := p.Retrieve(t.Context()); err == nil {
		t.Errorf("from an endpoint that is down: %+v", got)
	}
	for i, want := range []string{"first", "second", "second"} {
		if got := v.asked[i].Header.Get("Authorization"); got != want || v.asked[i].URL.Path != "/creds" {
			t.Errorf("request %d: %s with token %q, want %q", i, v.asked[i].URL, got, want)
		}
	}
	p.(*cache).invalidate()
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	const says = "read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: no such file or directory"
	if _, err := p.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), token) {
		t.Errorf("without the token's file: %v", err)
	}
}

// Valid and invalid answers of the endpoint have the same result as with the SDK. Our errors have more detail.
func TestContainerAnswers(t *testing.T) {
	for answer, says := range map[string]string{
		`{"AccessKeyId":"AKID","SecretAccessKey":"secret","Token":"token","Expiration":"2030-01-02T03:04:05Z","AccountId":"123456789012"}`: "",
		`{"AccessKeyId":"AKID","SecretAccessKey":"secret"}`:            "",
		`{"AccessKeyId":"AKID","SecretAccessKey":"secret","Expiration`: "cut short",
		``: "cut short",
		`503 {"code":"Throttled","message":"slow down"}`: "503 Throttled: slow down",
		`403 <html>`: "403 : <html>",
	} {
		v := newCredentialsServer(t, func(w http.ResponseWriter, _ int, _ time.Time) {
			body := answer
			if status, rest, found := strings.Cut(answer, " "); found {
				code, err := strconv.Atoi(status)
				if err != nil {
					t.Fatal(err)
				}
				w.WriteHeader(code)
				body = rest
			}
			_, _ = io.WriteString(w, body)
		})
		p, err := NewCredentials(CredentialsConfig{ContainerURI: v.URL, ContainerToken: "let me in"})
		if err != nil {
			t.Fatal(err)
		}
		ours, err := p.Retrieve(t.Context())
		theirs, theirErr := endpointcreds.New(v.URL, func(o *endpointcreds.Options) {
			o.AuthorizationToken, o.Retryer = "let me in", aws.NopRetryer{}
		}).Retrieve(t.Context())
		if (err == nil) != (says == "") || (theirErr == nil) != (err == nil) || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, the SDK %v, want %q", answer, err, theirErr, says)
		}
		if ours.AccessKeyID != theirs.AccessKeyID || ours.SecretAccessKey != theirs.SecretAccessKey || ours.SessionToken != theirs.SessionToken ||
			ours.Expires.IsZero() == theirs.CanExpire || !ours.Expires.Equal(theirs.Expires) {
			t.Errorf("%s: got %+v, the SDK %+v", answer, ours, theirs)
		}
		for _, name := range []string{"Authorization", "Accept"} {
			if got, want := v.asked[0].Header.Get(name), v.asked[1].Header.Get(name); got != want {
				t.Errorf("%s: %s, the SDK has %s", name, got, want)
			}
		}
	}
}

// Plain HTTP is allowed only for this machine and for AWS's own addresses.
func TestContainerEndpoints(t *testing.T) {
	for uri, good := range map[string]bool{
		"http://127.0.0.1:9001/2021-04-23/credentials": true, "http://[::1]/": true, "http://localhost/": true, "http://127.8.9.1/": true,
		"http://169.254.170.2/": true, "http://169.254.170.23/": true, "http://[fd00:ec2::23]/": true, "https://example.com/": true,
		"http://169.254.169.254/": false, "http://example.com/": false, "http://127.0.0.1.example.com/": false, "http://[fd00:ec2::24]/": false,
		"no URL": false, "": false,
	} {
		if _, err := NewCredentials(CredentialsConfig{ContainerURI: uri}); (err == nil) != good {
			t.Errorf("%q: %v", uri, err)
		}
	}
	if _, err := NewCredentials(CredentialsConfig{ContainerRelativeURI: "/v2/credentials"}); err != nil {
		t.Error(err)
	}
}

func stsAnswer(w http.ResponseWriter, n int, expires time.Time) {
	fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::210987654321:assumed-role/writer/x</Arn></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>a/b+c&amp;d</SecretAccessKey>
      <SessionToken>token//==</SessionToken><Expiration>%s</Expiration>
    </Credentials>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>c6104cbe</RequestId></ResponseMetadata>
</AssumeRoleResponse>`, n, expires.UTC().Format(time.RFC3339))
}

const roleToAssume = "arn:aws:iam::210987654321:role/team/writer"

// The request and its signed headers are the same as the SDK's, and so is the result of the answer.
func TestAssumeRole(t *testing.T) {
	for _, externalID := range []string{"", "a1+=,.@:/-_"} {
		testAssumeRole(t, externalID)
	}
}

func testAssumeRole(t *testing.T, externalID string) {
	v := newCredentialsServer(t, stsAnswer)
	p, err := NewRole(Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", SessionToken: "base token"}, RoleConfig{
		ARN:         roleToAssume,
		ExternalID:  externalID,
		SessionName: "a@b,c",
		Region:      "eu-west-1",
		EndpointURL: v.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := retrieve(t, p, "ASIA1")
	retrieve(t, p, "ASIA1") // cached

	input := &sts.AssumeRoleInput{RoleArn: aws.String(roleToAssume), RoleSessionName: aws.String("a@b,c")}
	if externalID != "" {
		input.ExternalId = &externalID
	}
	base := credentials.NewStaticCredentialsProvider("AKID", "secret", "base token")
	theirs, err := sts.New(sts.Options{Region: "eu-west-1", BaseEndpoint: &v.URL, Credentials: base}).AssumeRole(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.forms) != 2 || v.forms[0].Encode() != v.forms[1].Encode() || v.forms[0].Get("ExternalId") != externalID {
		t.Errorf("forms %v", v.forms)
	}
	want := theirs.Credentials
	if ours.SecretAccessKey != *want.SecretAccessKey || ours.SessionToken != *want.SessionToken ||
		ours.Expires.Sub(*want.Expiration).Abs() > 10*time.Second {
		t.Errorf("got %+v, the SDK %+v", ours, want)
	}
	authorization := v.asked[0].Header.Get("Authorization")
	for _, text := range []string{"Credential=AKID/", "/eu-west-1/sts/aws4_request", "x-amz-security-token"} {
		if !strings.Contains(authorization, text) {
			t.Errorf("%q is not in %q", text, authorization)
		}
	}
	if got, want := v.asked[0].Header.Get("Content-Type"), v.asked[1].Header.Get("Content-Type"); got != want {
		t.Errorf("Content-Type %q, the SDK's %q", got, want)
	}
}

// An answer of STS that a proxy has compressed is decompressed.
func TestAssumeRoleGzip(t *testing.T) {
	v := newCredentialsServer(t, func(w http.ResponseWriter, n int, expires time.Time) {
		plain := httptest.NewRecorder()
		stsAnswer(plain, n, expires)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, zipped(plain.Body.String()))
	})
	p, err := newRole(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	retrieve(t, p, "ASIA1")
}

// newRole returns the provider of a role that the STS at that URL knows.
func newRole(endpoint string) (CredentialsProvider, error) {
	return NewRole(Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, RoleConfig{
		ARN: roleToAssume, SessionName: "session", Region: "eu-west-1", EndpointURL: endpoint,
	})
}

func stsError(code, message string) string {
	return `<ErrorResponse><Error><Type>Sender</Type><Code>` + code + `</Code><Message>` + message + `</Message></Error></ErrorResponse>`
}

// The error names the role, the cause and whether a retry can help.
func TestAssumeRoleFails(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		body, says string
		permanent  bool
	}{
		"denied": {
			status:    403,
			body:      stsError("AccessDenied", "User x is not\n authorized"),
			says:      "sts:AssumeRole on it (403 AccessDenied: User x is not authorized)",
			permanent: true,
		},
		"throttled": {status: 400, body: stsError("Throttling", "Rate exceeded"), says: "Throttling"},
		"down":      {status: 503, says: "503"},
		"firewall":  {status: 403, body: "<html>no</html>", says: "is there a proxy or a firewall in between? (403", permanent: true},
		"garbled":   {status: 200, body: `<AssumeRoleResponse><AccessKeyId>AS`, says: "cut short"},
		"no token": {
			status: 200,
			body:   `<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><Expiration>2026-11-24T00:00:00Z</Expiration>`,
			says:   "cut short",
		},
		"not XML": {status: 200, body: `hello`, says: "cut short"},
		"no expiry": {
			status: 200,
			body:   `<AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>`,
			says:   "cut short",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newCredentialsServer(t, func(w http.ResponseWriter, _ int, _ time.Time) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			p, err := newRole(v.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Retrieve(t.Context())
			if err == nil || !strings.Contains(err.Error(), roleToAssume) {
				t.Fatalf("got %+v, %v", got, err)
			}
			known := badCredentials(err)
			checkError(t, known, true, KindCredentials, c.says)
			if known.Permanent != c.permanent {
				t.Errorf("permanent: %t", known.Permanent)
			}
		})
	}
}

// The Date of a refusal by STS corrects the clock.
func TestAssumeRoleClockSkew(t *testing.T) {
	v := newCredentialsServer(t, func(w http.ResponseWriter, n int, _ time.Time) {
		theirs := time.Now().Add(time.Hour)
		w.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
		if n == 1 {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, stsError("SignatureDoesNotMatch", "Signature expired"))
			return
		}
		stsAnswer(w, n, theirs.Add(time.Hour))
	})
	p, err := newRole(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	retrieve(t, p, "ASIA2")
	signed, err := time.Parse("20060102T150405Z", v.asked[1].Header.Get("X-Amz-Date"))
	if err != nil || time.Until(signed.Add(-time.Hour)).Abs() > time.Minute {
		t.Errorf("signed at %s (%v), an hour behind STS", signed, err)
	}
}

// If each answer has another Date, the clock is corrected once.
func TestAssumeRoleClockJumps(t *testing.T) {
	v := newCredentialsServer(t, func(w http.ResponseWriter, n int, _ time.Time) {
		w.Header().Set("Date", time.Now().Add(time.Duration(n)*time.Hour).UTC().Format(http.TimeFormat))
		if n <= 2 {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	p, err := newRole(v.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Retrieve(t.Context()); err == nil || len(v.asked) != 2 {
		t.Errorf("got %+v, %v after %d requests", got, err, len(v.asked))
	}
}

// A request to STS without an answer ends by timeout: without its timeout the fetch would go on for ever.
func TestAssumeRoleHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(r *http.Request) (*url.URL, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		p, err := NewRole(Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, RoleConfig{
			ARN:    roleToAssume,
			Region: "eu-west-1",
			Proxy:  hang,
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got, err := p.Retrieve(t.Context()); err == nil || time.Since(began) != credentialsTimeout {
			t.Errorf("got %+v, %v after %s", got, err, time.Since(began))
		}
	})
}

// expiringOnce provides credentials for an hour. Later calls fail after a while.
type expiringOnce struct {
	asked int
	fails time.Duration
}

func (p *expiringOnce) Retrieve(context.Context) (Credentials, error) {
	if p.asked++; p.asked > 100 {
		panic("requests without end")
	}
	if p.asked == 1 {
		return Credentials{AccessKeyID: "A", SecretAccessKey: "s", Expires: time.Now().Add(time.Hour)}, nil
	}
	time.Sleep(p.fails)
	return Credentials{}, errors.New("no answer")
}

// While the old credentials are valid, a request waits only refreshTimeout for new ones. Later it waits for them, and
// its error names the cause.
func TestRefreshFails(t *testing.T) {
	for _, fails := range []time.Duration{0, credentialsTimeout} {
		t.Run(fails.String(), func(t *testing.T) { testRefreshFails(t, fails) })
	}
}

func testRefreshFails(t *testing.T, fails time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newFake(t, func(c *Config) { c.Credentials = &cache{provider: &expiringOnce{fails: fails}} })
		put := func(want string, atMost time.Duration) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if result := c.Put(ctx, recordsOf("a")); outcomesOf(result) != want || time.Since(began) > atMost {
				t.Errorf("outcome %s after %s: %v", outcomesOf(result), time.Since(began), result.Err)
			}
		}
		put("s", 0)
		time.Sleep(55*time.Minute + time.Second)
		for range 4 {
			put("s", refreshTimeout)
			time.Sleep(time.Minute)
		}
		if len(f.seen) != 5 {
			t.Errorf("%d requests", len(f.seen))
		}
		time.Sleep(time.Minute)
		put("u", time.Second)
		if len(f.seen) != 5 {
			t.Error("a request was signed with credentials that have expired")
		}
		time.Sleep(time.Minute) // until the last fetch has ended
	})
}

// Concurrent calls share one fetch and its result. After a failure, the next call fetches again.
func TestConcurrentRetrieve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := &slowTokens{tokens{err: errors.New("no answer")}}
		c := &cache{provider: provider}
		for _, want := range []string{"", "B"} {
			for range 10 {
				go func() {
					got, err := c.Retrieve(t.Context())
					if got.AccessKeyID != want || (err == nil) != (want != "") {
						t.Errorf("got %+v, %v, want key %q", got, err, want)
					}
				}()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			provider.err = nil
		}
		if provider.retrieved != 2 {
			t.Errorf("fetched %d times", provider.retrieved)
		}
	})
}

// slowTokens takes a second for each credentials, or until the context ends.
type slowTokens struct{ tokens }

func (p *slowTokens) Retrieve(ctx context.Context) (Credentials, error) {
	if err := awake.Sleep(ctx, time.Second); err != nil {
		return Credentials{}, err
	}
	return p.tokens.Retrieve(ctx)
}

// A fetch goes on when the caller has no time left. A later call gets its result.
func TestFetchOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider := &slowTokens{}
		c := &cache{provider: provider}
		for _, want := range []string{"", "A"} {
			ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
			got, err := c.Retrieve(ctx)
			if got.AccessKeyID != want || (err == nil) != (want != "") {
				t.Errorf("got %+v, %v, want key %q", got, err, want)
			}
			cancel()
		}
	})
}

// Credentials that do not expire are fetched once.
func TestLastingCredentials(t *testing.T) {
	v := newCredentialsServer(t, func(w http.ResponseWriter, _ int, _ time.Time) {
		fmt.Fprint(w, `{"AccessKeyId":"AKID","SecretAccessKey":"secret"}`)
	})
	p, err := NewCredentials(CredentialsConfig{ContainerURI: v.URL})
	if err != nil {
		t.Fatal(err)
	}
	retrieve(t, p, "AKID")
	retrieve(t, p, "AKID")
	if len(v.asked) != 1 {
		t.Errorf("%d requests", len(v.asked))
	}
}

// A request for credentials ends after credentialsTimeout, also in the middle of the answer. The error names the source.
func TestCredentialsDoNotCome(t *testing.T) {
	for name, transport := range map[string]hangingTransport{"no answer": {}, "no body": {header: true}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			c := &container{config: CredentialsConfig{ContainerURI: "http://localhost/"}, transport: transport}
			_, err := c.Retrieve(t.Context())
			if err == nil || err.Error() != "the container's endpoint localhost: no answer in time" || time.Since(began) != credentialsTimeout {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		})
	}
}

// hangingTransport never completes an answer.
type hangingTransport struct{ header bool }

func (h hangingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if h.header {
		body, server := io.Pipe()
		context.AfterFunc(ctx, func() { _ = server.CloseWithError(ctx.Err()) })
		return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A panic of a provider is an error of the Put.
func TestPanicOfProvider(t *testing.T) {
	c := &cache{provider: &container{}} // without a transport
	if got, err := c.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "panic: ") {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Session names, external ids and regions are checked as STS does.
func TestValidateSessionAndRegion(t *testing.T) {
	const all = "abcxyzABCXYZ0189_+=,.@-"
	for text, good := range map[string]struct{ session, external bool }{
		"": {}, "a": {}, "ab": {true, true}, all: {true, true}, all + ":/": {false, true},
		"a b": {}, "ab\n": {}, "ö1": {}, "a#b": {}, "a\x1bb": {},
		strings.Repeat("x", 64): {true, true}, strings.Repeat("x", 65): {false, true},
		strings.Repeat("x", 1224): {false, true}, strings.Repeat("x", 1225): {},
	} {
		session, external := ValidateSessionName(text) == nil, ValidateExternalID(text) == nil
		if session != good.session || external != good.external {
			t.Errorf("%q: session %t, external id %t", text, session, external)
		}
	}
	for text, good := range map[string]bool{
		"eu-west-1":  true,
		"x":          true,
		"":           false,
		"eu west":    false,
		"-":          false,
		"eu-west-1/": false,
		"eu\x1b":     false,
	} {
		if err := ValidateRegion(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Only the ARN of a role is accepted, and it contains the role's account.
func TestValidateRole(t *testing.T) {
	for text, good := range map[string]bool{
		roleToAssume: true, "arn:aws-cn:iam::123456789012:role/x": true, "arn:aws:iam::123456789012:role/": false,
		"arn:aws:iam::123456789012:user/x": false, "arn:aws:sts::123456789012:assumed-role/x/y": false, "writer": false,
		"arn:aws:iam::1234:role/x": false, "": false, "arn:aws:iam::123456789012:role/!~/x": true, "arn:aws:iam::123456789012:role/a b": false,
		"arn:aws:iam::123456789012:role/x\x1b": false, "arn:aws:iam::123456789012:role/\u202e": false,
		"foo:aws:iam::123456789012:role/x":     false,
		"arn:aws\x1b:iam::123456789012:role/x": false, "arn:aws~:iam::123456789012:role/x": false, "arn:gcp:iam::123456789012:role/x": false,
	} {
		if err := ValidateRole(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := RoleAccount(roleToAssume); got != "210987654321" {
		t.Errorf("the role's account is %q", got)
	}
	if got := RoleAccount("writer"); got != "" {
		t.Errorf("the account of no ARN is %q", got)
	}
}

// The text of an element is read unchanged, whatever surrounds it.
func FuzzAssumeRoleReply(f *testing.F) {
	f.Add("ASIA", "a/b+c==", "token")
	f.Fuzz(func(t *testing.T, key, secret, token string) {
		for _, s := range []string{key, secret, token} {
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' || r == '&' }) {
				return
			}
		}
		body := `<A><Credentials><SessionToken>` + token + `</SessionToken><SecretAccessKey>` + secret + `</SecretAccessKey><AccessKeyId>` + key +
			`</AccessKeyId><Expiration>2026-11-24T00:00:00Z</Expiration></Credentials></A>`
		got, err := readAssumeRole(roleToAssume, 200, []byte(body))
		if err != nil || got.AccessKeyID != key || got.SecretAccessKey != secret || got.SessionToken != token {
			t.Errorf("%q became %+v, %v", body, got, err)
		}
	})
}

// A provider that hangs does not hold a Put beyond its context.
func TestHangingProviderDoesNotHoldPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := newFake(t, func(c *Config) { c.Credentials = &cache{provider: stuck{}} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		result := c.Put(ctx, recordsOf("a"))
		if took := time.Since(start); len(f.seen) != 0 || outcomesOf(result) != "u" || took != time.Second {
			t.Errorf("%+v after %v", result, took)
		}
		checkError(t, result.Err, true, KindCredentials, "cannot get credentials")
		time.Sleep(time.Minute) // until the provider's goroutine has ended
	})
}

// stuck answers after credentialsTimeout.
type stuck struct{}

func (stuck) Retrieve(context.Context) (Credentials, error) {
	time.Sleep(credentialsTimeout)
	return Credentials{}, errors.New("too late")
}
