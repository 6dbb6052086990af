package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// budgets skips a test unless BUDGETS is set, as in .ci/run: budgets need cross-compilation and a quiet machine.
func budgets(t *testing.T) {
	t.Helper()
	if os.Getenv("BUDGETS") == "" {
		t.Skip("BUDGETS is not set")
	}
}

func TestBudgetBinarySize(t *testing.T) {
	budgets(t)
	for architecture, bound := range map[string]int64{"amd64": 7_100_000, "arm64": 6_600_000} {
		output := filepath.Join(t.TempDir(), architecture)
		if err := build(output, "kinesis-telemetry-extension/cmd/kinesis-telemetry-extension", "GOOS=linux", "GOARCH="+architecture); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(output)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes of %d", architecture, info.Size(), bound)
		if info.Size() > bound {
			t.Errorf("%s: %d bytes, more than %d", architecture, info.Size(), bound)
		}
	}
}

// From exec to register, and to the first next, the extension takes at most 1.2 times as long as a bare net/http program
// with the same three calls. Both run in turn against the same server. The test compares lower quartiles, because other
// load on the machine only adds to a time.
func TestBudgetStart(t *testing.T) {
	budgets(t)
	floor := filepath.Join(t.TempDir(), "floor")
	if err := build(floor, "./testdata/floor"); err != nil {
		t.Fatal(err)
	}
	api := newStartAPI(t)
	const rounds, attempts = 150, 4
	for attempt := 1; ; attempt++ { // a retry helps on a noisy machine, not with a slow program
		var ours, bare startTimes
		for range rounds {
			ours.add(api.measure(t, binaries.extension))
			bare.add(api.measure(t, floor))
		}
		register := float64(quartile(ours.register)) / float64(quartile(bare.register))
		next := float64(quartile(ours.next)) / float64(quartile(bare.next))
		t.Logf("exec to register: %v, floor %v, ratio %.2f; exec to next: %v, floor %v, ratio %.2f",
			quartile(ours.register), quartile(bare.register), register, quartile(ours.next), quartile(bare.next), next)
		if register <= 1.2 && next <= 1.2 {
			return
		}
		if attempt == attempts {
			t.Fatal("more than 1.2 times the floor")
		}
	}
}

type startTimes struct{ register, next []time.Duration }

func (s *startTimes) add(register, next time.Duration) {
	s.register = append(s.register, register)
	s.next = append(s.next, next)
}

func quartile(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/4]
}

// startAPI answers the APIs' calls at once and records their times. It never answers next.
type startAPI struct {
	address string
	calls   chan startCall
}

type startCall struct {
	path string
	at   time.Time
}

func newStartAPI(t *testing.T) *startAPI {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := &startAPI{listener.Addr().String(), make(chan startCall, 10)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		w.Header().Set("Lambda-Extension-Identifier", "id")
		api.calls <- startCall{r.URL.Path, at}
		if strings.HasSuffix(r.URL.Path, "/next") {
			<-r.Context().Done()
		}
		fmt.Fprint(w, `{"functionName":"f","functionVersion":"1","handler":"h"}`)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return api
}

// measure runs a program until its first next.
func (api *startAPI) measure(t *testing.T, program string, variables ...string) (register, next time.Duration) {
	t.Helper()
	command := exec.Command(program)
	command.Env = append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + api.address, "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t",
	}, variables...)
	began := time.Now()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Wait()
	defer command.Process.Kill()
	for {
		select {
		case c := <-api.calls:
			switch {
			case strings.HasSuffix(c.path, "/register"):
				register = c.at.Sub(began)
			case strings.HasSuffix(c.path, "/next"):
				return register, c.at.Sub(began)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s did not call next", program)
		}
	}
}
