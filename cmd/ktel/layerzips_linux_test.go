package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	insideVariable = "KTEL_TEST_INSIDE" // set in the namespaces of TestConformanceLayerZips: the zip of our layer
	theirsVariable = "OTEL_EXTENSION_ZIP"
)

// Two layers run side by side from their zips: ours, and the extension of Serverless Console, written by others. Each line of the
// function arrives in the stream. Their extension sends each line, and the duration of each invocation, to its own backend.
//
// Their extension uses fixed ports and files in /tmp, so the test runs itself again with its own network and /tmp.
func TestConformanceLayerZips(t *testing.T) {
	theirs := os.Getenv(theirsVariable)
	if theirs == "" {
		const text = theirsVariable + " does not name extension.zip of the npm package @serverless/aws-lambda-otel-extension-dist"
		if os.Getenv("CONFORMANCE") == "required" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	if ours := os.Getenv(insideVariable); ours != "" {
		layerZipsArrive(t, ours, theirs)
		return
	}
	inside := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	inside.Env = append(os.Environ(), insideVariable+"="+ourLayer(t))
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	output, err := inside.CombinedOutput()
	t.Logf("%s", output)
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Fatalf("in its own namespaces: %v", err)
	}
}

// ourLayer returns the path of our layer's zip for this machine: from the folder that LAYERS names (make layer), or built here.
func ourLayer(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("LAYERS"); dir != "" {
		architecture := strings.Replace(runtime.GOARCH, "amd64", "x86_64", 1)
		return filepath.Join(dir, extensionName+"-"+architecture+".zip")
	}
	dir, err := buildPrograms()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ours.zip")
	archive := exec.CommandContext(t.Context(), "go", "run", "../../internal/layerzip", filepath.Join(dir, extensionName), path)
	if output, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return path
}

// lineHandler prints three lines. It reports an invocation with its lines to their extension, as the Node.js wrapper in their layer does.
const lineHandler = `
import { deflateSync } from 'node:zlib'
export async function handler(event, context) {
	const startTime = new Date().toISOString()
	const lines = [1, 2, 3].map((n) => 'order ' + event.order + ' line ' + n + '.')
	lines.forEach((line) => console.log(line))
	const spans = lines.map((name) => ({ name, attributes: {} }))
	const instrumentationLibrarySpans = [{ instrumentationLibrary: { name: 'orders', version: '1' }, spans }]
	const report = { function: { startTime, endTime: new Date().toISOString() }, traces: { resourceSpans: [{ instrumentationLibrarySpans }] } }
	const packed = deflateSync(JSON.stringify(report)).toString('base64')
	const record = startTime + '\t' + context.awsRequestId + '\tINFO\t⚡.' + packed
	await fetch('http://127.0.0.1:2772/', { method: 'POST', body: JSON.stringify([{ type: 'function', record }]) })
}
`

// layerZipsArrive runs in its own namespaces.
func layerZipsArrive(t *testing.T, ours, theirs string) {
	zips := map[string][]byte{}
	for name, path := range map[string]string{"ours.zip": ours, "theirs.zip": theirs} { // before /tmp is hidden: the zips may be there
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		zips[name] = content
	}
	if err := syscall.Mount("none", "/tmp", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	enableLoopback(t)
	backend := startBackend(t)
	t.Chdir(t.TempDir())
	zips["index.mjs"] = []byte(lineHandler)
	var events, lines []string
	for order := range 5 {
		events = append(events, fmt.Sprintf(`{"order":%d}`, order))
		for line := range 3 {
			lines = append(lines, fmt.Sprintf("order %d line %d.", order, line+1))
		}
	}
	zips["events.json"] = []byte(strings.Join(events, "\n"))
	for name, content := range zips {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, stdout, stderr := runKtel(t, "run", "-o", "ndjson", "--layer-extension", "ours.zip", "--extension", "theirs.zip",
		"--env", "SLS_OTEL_REPORT_METRICS_URL="+backend.url+"/metrics", "--env", "SLS_OTEL_REPORT_TRACES_URL="+backend.url+"/traces",
		"--events", "events.json", "--handler", "index.handler")
	t.Logf("exit status %d: %s", status, stderr)
	if status != 0 {
		t.FailNow()
	}
	inStream, requests := logged(t, stdout)
	traces, metrics := backend.received()
	for _, line := range lines {
		if n := strings.Count(inStream, line); n != 1 {
			t.Errorf("%q is %d times in the stream", line, n)
		}
		if n := strings.Count(traces, line); n != 1 {
			t.Errorf("%q is %d times in their traces", line, n)
		}
	}
	if len(requests) != len(events) {
		t.Errorf("reports of %q", requests)
	}
	for _, id := range requests {
		if !strings.Contains(metrics, id) {
			t.Errorf("no metrics of %s", id)
		}
	}
	// Their extension sends the duration of each invocation from its platform.report.
	if n := strings.Count(metrics, "faas.memory"); n != len(events) {
		t.Errorf("%d metrics from reports, want %d", n, len(events))
	}
}

// enableLoopback brings up the loopback interface of a new network namespace.
func enableLoopback(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
}

// otlpBackend is the backend of their extension. The bodies are protobuf, which contains texts unchanged.
type otlpBackend struct {
	url    string
	mu     sync.Mutex // guards the fields below
	bodies map[string]string
}

func startBackend(t *testing.T) *otlpBackend {
	t.Helper()
	b := &otlpBackend{bodies: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // an extension that is killed cuts its request off
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.bodies[r.URL.Path] += string(body) + "\n"
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *otlpBackend) received() (traces, metrics string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bodies["/traces"], b.bodies["/metrics"]
}

// logged returns the log lines of events, and the request ids of the reports.
func logged(t *testing.T, ndjson string) (text string, requests []string) {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(ndjson) {
		var event struct {
			Type, RequestID string
			Record          json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch event.Type {
		case "function":
			b.Write(event.Record)
			b.WriteByte('\n')
		case "platform.report":
			requests = append(requests, event.RequestID)
		}
	}
	return b.String(), requests
}
