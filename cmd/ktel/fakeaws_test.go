package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/doctor"
	"kinesis-telemetry-extension/internal/kinesislocal"
)

const (
	testRegion  = "eu-west-1"
	testAccount = "123456789012"
)

// foreignVariables returns the names of AWS's and the extension's variables in this process.
func foreignVariables() []string {
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "KINESIS_TELEMETRY_") {
			names = append(names, name)
		}
	}
	return names
}

// accountEnviron returns the variables of a shell with the credentials of the test account.
func accountEnviron() map[string]string {
	return map[string]string{
		"AWS_REGION": testRegion, "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	}
}

// setEnviron gives the test the environment of accountEnviron and these variables, which override it.
// No other variable of AWS or of the extension remains.
func setEnviron(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range foreignVariables() {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	all := accountEnviron()
	maps.Copy(all, variables)
	for name, value := range all {
		t.Setenv(name, value)
	}
}

// runKtel runs ktel in this process.
func runKtel(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var out, errs bytes.Buffer
	// A long command writes its progress beside its results, which standard error allows.
	status = run(ctx, args, strings.NewReader(""), guarded{&mu, &out}, guarded{&mu, &errs})
	return status, out.String(), errs.String()
}

// wantFinding is an expected finding. Its seen and fix are parts of the finding's.
type wantFinding struct {
	check     string
	status    doctor.Status
	seen, fix string
}

// runDoctor runs 'ktel doctor --json', which must exit with the status and report these findings.
func runDoctor(t *testing.T, status int, args []string, want ...wantFinding) {
	t.Helper()
	got, stdout, stderr := runKtel(t, append([]string{"doctor", "--json"}, args...)...)
	if got != status {
		t.Errorf("exit status %d, want %d: %s", got, status, stderr)
	}
	var report doctor.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %q, standard error %q", err, stdout, stderr)
	}
	for _, w := range want {
		found := false
		for _, f := range report.Findings {
			found = found || f.Check == w.check && f.Status == w.status && strings.Contains(f.Seen, w.seen) && strings.Contains(f.Fix, w.fix)
		}
		if !found {
			t.Errorf("not found: %+v\nin %s", w, stdout)
		}
	}
	for _, f := range report.Findings {
		if (f.Fix == "") != (f.Status == doctor.OK) || f.Seen == "" || strings.Contains(f.Seen+f.Fix, "\n") {
			t.Errorf("%+v", f)
		}
	}
}

// startKinesis starts a Kinesis endpoint with a stream named orders.
func startKinesis(t *testing.T, o kinesislocal.Options) *kinesislocal.Server {
	t.Helper()
	o.Region = testRegion
	server, err := kinesislocal.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if err := server.CreateStream("orders", 2); err != nil {
		t.Fatal(err)
	}
	return server
}

// answer is the answer of fakeAWS to an operation.
type answer struct {
	status int
	body   string
}

// fakeAWS starts an endpoint of all AWS services and returns its URL. It gives the answers to operations, which are
// named as in the Query and JSON protocols, or by method and path. AssumeRole can also be named with its session name
// and external id. It denies other operations, except GetCallerIdentity, which returns the test account.
func fakeAWS(t *testing.T, answers map[string]answer) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		name := r.Method + " " + r.URL.Path
		if _, operation, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
			name = operation
		} else if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
			name = form.Get("Action")
			if session := name + " " + form.Get("RoleSessionName") + " " + form.Get("ExternalId"); answers[session].status != 0 {
				name = session
			}
		}
		a, known := answers[name]
		switch {
		case !known && name == "GetCallerIdentity":
			a = answer{200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::` + testAccount +
				`:user/me</Arn><Account>` + testAccount + `</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`}
		case !known:
			t.Logf("fakeAWS has no answer for %s", name)
			a = xmlError("AccessDenied", "not authorized to perform "+name)
			if !strings.Contains(r.Header.Get("Content-Type"), "form") {
				a = jsonError("AccessDeniedException", "not authorized to perform "+name)
			}
		}
		if strings.HasPrefix(a.body, "{") {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		}
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func xmlError(code, message string) answer {
	return answer{403, `<ErrorResponse><Error><Code>` + code + `</Code><Message>` + message + `</Message></Error></ErrorResponse>`}
}

func jsonError(code, message string) answer {
	return answer{400, `{"__type":"` + code + `","message":"` + message + `"}`}
}

// startMoto starts the emulator that MOTO_SERVER names. .ci/run installs it and requires it by CONFORMANCE=required.
func startMoto(t *testing.T) string {
	t.Helper()
	program := os.Getenv("MOTO_SERVER")
	if program == "" && os.Getenv("CONFORMANCE") == "required" {
		t.Fatal("MOTO_SERVER must name the program moto_server")
	}
	if program == "" {
		t.Skip("MOTO_SERVER does not name the program moto_server; .ci/run installs it")
	}
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	return startServer(t, address, exec.Command(program, "-H", "127.0.0.1", "-p", port))
}

// startServer starts a server and waits until it answers at the address.
func startServer(t *testing.T, address string, server *exec.Cmd) string {
	t.Helper()
	var output bytes.Buffer
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() {
			t.Logf("output of the server:\n%s", output.String())
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		response, err := http.Get("http://" + address)
		if err == nil {
			response.Body.Close()
			return "http://" + address
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", server.Path, err)
		}
	}
}

// closedPort is an address where no server listens. A free port would not do: another test may listen there later.
const closedPort = "127.0.0.1:1"

// freePort returns an address where a server can listen.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
