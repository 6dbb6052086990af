package sandbox

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Serverless Console's extension runs unmodified. It listens on the host name sandbox, subscribes to the Logs API with
// schema 2021-03-18, and derives metrics from platform.report. It needs its files in /opt and writes to /tmp, so it
// gets its own /opt and /tmp. .ci/run installs it and requires it with CONFORMANCE=required.
func TestConformanceServerlessExtension(t *testing.T) {
	folder := os.Getenv("OTEL_EXTENSION")
	if folder == "" {
		const text = "OTEL_EXTENSION does not name the unpacked extension.zip of the npm package @serverless/aws-lambda-otel-extension-dist"
		if os.Getenv("CONFORMANCE") == "required" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	const name = "otel-extension"
	path := filepath.Join(t.TempDir(), name)
	script := `#!/bin/sh
export OPT='` + folder + `'
exec unshare --user --map-root-user --mount \
	sh -c 'mount --bind "$OPT" /opt && mount -t tmpfs none /tmp && exec /opt/extensions/` + name + `'
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	cfg := testConfig(t, c, "")
	var output syncBuffer
	var mu sync.Mutex
	accepted := map[string]int{}
	cfg.Output, cfg.NoFreeze = &output, true
	cfg.ShutdownTimeout = 5 * time.Second // the extension takes all of it
	cfg.OnAccepted = func(_ string, e Event) {
		mu.Lock()
		defer mu.Unlock()
		accepted[e.Type]++
	}
	cfg.Extensions = []Extension{{Path: path, Env: map[string]string{"SLS_OTEL_REPORT_TYPE": "json"}}}
	requireHostNames(t)
	e := start(t, cfg)
	ids := []string{"first", "second"}
	for _, id := range ids {
		var wg sync.WaitGroup
		wg.Go(func() { invoke(t, e, task{}, WithRequestID(id)) }) // the extension holds the invocation until it has the layer's report
		reportAsLayer(t, id)
		wg.Wait()
	}
	for _, id := range ids {
		await(t, "metrics of "+id, func() bool { return hasDuration(output.String(), id) })
	}
	// After SHUTDOWN the extension waits for a report. This test never sends it, so the sandbox kills the extension, as Lambda does.
	if err := e.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("shutdown: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("accepted: %v", accepted)
	for typ, n := range map[string]int{
		"platform.logsSubscription": 1, "platform.extension": 1,
		"platform.start": 2, "platform.runtimeDone": 2, "platform.end": 2, "platform.report": 2,
	} {
		if accepted[typ] != n {
			t.Errorf("%d of %s, want %d", accepted[typ], typ, n)
		}
	}
}

// reportAsLayer sends the extension the report of an invocation that its layer would send.
func reportAsLayer(t *testing.T, id string) {
	t.Helper()
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	now := time.Now().Format(time.RFC3339)
	_, _ = fmt.Fprintf(w, `{"function":{"startTime":%q,"endTime":%q},"traces":{"resourceSpans":[{"instrumentationLibrarySpans":[]}]}}`,
		now, now)
	_ = w.Close()
	body, err := json.Marshal([]map[string]string{{
		"type": "function", "record": now + "\t" + id + "\tINFO\t⚡." + base64.StdEncoding.EncodeToString(packed.Bytes()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://127.0.0.1:2772/", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}

// hasDuration reports whether the extension's printed metrics include the duration of an invocation, which it can know
// only from platform.report.
func hasDuration(printed, id string) bool {
	for line := range strings.Lines(printed) {
		if strings.Contains(line, `"name":"faas.duration"`) && strings.Contains(line, `"stringValue":"`+id+`"`) {
			return true
		}
	}
	return false
}

// await waits until is returns true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("no %s within 20 s", what)
		}
	}
}
