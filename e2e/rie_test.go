package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/kinesislocal"
	"kinesis-telemetry-extension/record"
)

// emulator is AWS's own Lambda Runtime Interface Emulator with the real extension and function. It has its own
// /opt and /var, where it looks for extensions and for the runtime.
type emulator struct {
	*testing.T
	command *exec.Cmd
	said    *output
	url     string
	kinesis *kinesislocal.Server
}

func startEmulator(t *testing.T, environ ...string) *emulator {
	program := foreign(t, "LAMBDA_RIE", "AWS's Lambda Runtime Interface Emulator")
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		if os.Getenv("CONFORMANCE") == "required" {
			t.Fatalf("this test needs a mount namespace: %v", err)
		}
		t.Skipf("no mount namespace: %v", err)
	}
	e := &emulator{T: t, said: new(output)}
	var err error
	if e.kinesis, err = kinesislocal.Start(kinesislocal.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.kinesis.Close() })
	if err := e.kinesis.CreateStream(stream, 1); err != nil {
		t.Fatal(err)
	}
	root, api, front := t.TempDir(), freePort(t), freePort(t)
	e.url = fmt.Sprintf("http://127.0.0.1:%d/2015-03-31/functions/function/invocations", front)
	for target, source := range map[string]string{
		"opt/extensions/" + extensionName: binaries.extension,
		"var/runtime/bootstrap":           binaries.function,
		"var/task/bootstrap":              binaries.function,
	} {
		path := filepath.Join(root, target)
		content, err := os.ReadFile(source)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	e.command = exec.Command("unshare", "--mount", "sh", "-c",
		fmt.Sprintf(`mount --bind "$1/opt" /opt && mount --bind "$1/var" /var && cd /var/task &&
exec "$2" --runtime-api-address 127.0.0.1:%d --runtime-interface-emulator-address 127.0.0.1:%d /var/runtime/bootstrap`, api, front),
		"sh", root, program)
	e.command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t",
		"AWS_LAMBDA_FUNCTION_NAME=hello", "AWS_LAMBDA_FUNCTION_TIMEOUT=30",
		"KINESIS_TELEMETRY_ENDPOINT_URL=" + e.kinesis.URL(), "KINESIS_TELEMETRY_SPILL_DIR=" + t.TempDir(),
	}, environ...)
	e.command.Stdout, e.command.Stderr = e.said, e.said
	e.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-e.command.Process.Pid, syscall.SIGKILL) // its processes, if they still run
		_ = e.command.Wait()
		if t.Failed() {
			t.Logf("log of the emulator:\n%s", e.said.text.String())
		}
	})
	awaitServer(t, fmt.Sprintf("http://127.0.0.1:%d/", front))
	return e
}

// invoke invokes the function. The emulator answers before the runtime has called next, and refuses an invocation that
// comes too early.
func (e *emulator) invoke(payload string) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		response, err := http.Post(e.url, "application/json", strings.NewReader(payload))
		if err != nil {
			e.Error(err)
			return
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err == nil && response.StatusCode == http.StatusOK && bytes.Contains(body, []byte(`"lines"`)) {
			return
		}
		if !bytes.Contains(body, []byte("Runtime.Unavailable")) || time.Now().After(deadline) {
			e.Errorf("invoke: status %d, %v, %s", response.StatusCode, err, body)
			return
		}
	}
}

// shutdown stops the emulator and waits for its end.
func (e *emulator) shutdown() {
	if err := e.command.Process.Signal(syscall.SIGTERM); err != nil {
		e.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = e.command.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		e.Fatal("it does not end")
	}
}

// With AWS's own code for Managed Instances, 20 invocations of 10 lines run, two at a time. Every line arrives once, and the
// extension exits in time. The emulator deadlocks on larger bursts.
func TestConformanceEmulatorManagedInstances(t *testing.T) {
	e := startEmulator(t, "AWS_LAMBDA_MAX_CONCURRENCY=2", "AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances")
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for range 10 {
				e.invoke(`{"json":10}`)
			}
		})
	}
	work.Wait()
	e.shutdown()
	seen, types := map[string]int{}, map[string]int{}
	for _, stored := range e.kinesis.Records(stream) {
		for line, err := range record.Unpack(stored.Data) {
			if err != nil {
				t.Fatal(err)
			}
			types[line.Type]++
			if line.Type == "function" {
				seen[string(line.Record)]++
			}
		}
	}
	for line, n := range seen {
		if n != 1 {
			t.Errorf("%s arrived %d times", line, n)
		}
	}
	t.Logf("events on the stream: %v", types)
	if types["function"] != 20*10 || types["platform.report"] != 20 || types["kinesis-telemetry.stats"] != 1 {
		t.Errorf("events on the stream: %v", types)
	}
	if said := e.said.text.String(); strings.Contains(said, "level=ERROR msg=\"summary") || strings.Contains(said, "Killing") {
		t.Error("the extension was killed, or lost events")
	}
}

// On demand AWS's emulator has no telemetry. The extension logs that and does not disturb the function.
func TestConformanceEmulatorOnDemand(t *testing.T) {
	e := startEmulator(t)
	for range 5 {
		e.invoke(`{"text":10}`)
	}
	e.shutdown()
	if said := e.said.text.String(); !strings.Contains(said, "no telemetry is delivered, the function is not affected") {
		t.Error("it does not log that there is no telemetry")
	}
}
