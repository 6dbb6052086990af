package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/sandbox"
)

// resource has the members of a CloudFormation resource that this test reads.
type resource struct {
	Type       string
	Properties json.RawMessage
	Metadata   map[string]any
}

// demoFunction is the demo function of a synthesised stack.
type demoFunction struct {
	Architectures []string
	Environment   struct{ Variables map[string]any }
	Layers        []any
	LoggingConfig struct{ LogFormat string }
	MemorySize    int
	Timeout       int
}

// The stack's demo function delivers, with the layer and settings of the template. CDK_OUT is the directory
// of the synthesised stack.
func TestDeployedStack(t *testing.T) {
	out := os.Getenv("CDK_OUT")
	if out == "" {
		t.Skip("CDK_OUT is not set: deploy/cdk/check.sh makes it")
	}
	content, err := os.ReadFile(filepath.Join(out, "TelemetryKinesisExtension.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	var template struct{ Resources map[string]resource }
	unmarshal(t, content, &template)
	asset := func(of resource) string { return filepath.Join(out, of.Metadata["aws:asset:path"].(string)) }
	// ref resolves a reference of the template. A stream is called by its logical name here.
	ref := func(value any) string {
		if text, ok := value.(string); ok {
			return text
		}
		name, ok := value.(map[string]any)["Ref"].(string)
		if _, known := template.Resources[name]; !ok || !known {
			t.Fatalf("%v refers to no resource of the template", value)
		}
		return name
	}
	var demo demoFunction
	var code string
	for _, r := range template.Resources {
		if r.Type == "AWS::Lambda::Function" {
			unmarshal(t, r.Properties, &demo)
			code = asset(r)
		}
	}
	if len(demo.Layers) != 1 || len(demo.Architectures) != 1 {
		t.Fatalf("the demo function: %+v", demo)
	}
	layer := template.Resources[ref(demo.Layers[0])]
	var layerProperties struct{ CompatibleArchitectures []string }
	unmarshal(t, layer.Properties, &layerProperties)
	if fmt.Sprint(layerProperties.CompatibleArchitectures) != fmt.Sprint(demo.Architectures) {
		t.Errorf("a layer for %v on a function for %v", layerProperties.CompatibleArchitectures, demo.Architectures)
	}
	variables := map[string]string{}
	for name, value := range demo.Environment.Variables {
		variables[name] = ref(value)
	}
	stream := variables["KINESIS_TELEMETRY_STREAM"]
	if template.Resources[stream].Type != "AWS::Kinesis::Stream" {
		t.Fatalf("it ships to %q, which is not a stream of the template", stream)
	}

	opt := t.TempDir()
	unpack(t, asset(layer), opt)
	emulator := os.Getenv("QEMU_AARCH64")
	if demo.Architectures[0] != "arm64" || emulator == "" {
		t.Fatalf("a function for %v; QEMU_AARCH64=%q", demo.Architectures, emulator)
	}
	r := newTrial(t, setup{
		stream: stream,
		sandbox: func(c *sandbox.Config) {
			c.Function = sandbox.Function{
				Command: []string{emulator, filepath.Join(code, "bootstrap")}, Env: variables, Name: "demo",
				MemoryMB:  demo.MemorySize,
				Timeout:   time.Duration(demo.Timeout) * time.Second,
				LogFormat: sandbox.LogFormat(demo.LoggingConfig.LogFormat),
			}
			c.Extensions[0] = sandbox.Extension{
				Path: emulator, Args: []string{filepath.Join(opt, "extensions", extensionName)}, Name: extensionName,
				// Only the endpoint and the folder of the journal differ from the template.
				Env: map[string]string{
					"KINESIS_TELEMETRY_ENDPOINT_URL": c.Extensions[0].Env["KINESIS_TELEMETRY_ENDPOINT_URL"],
					"KINESIS_TELEMETRY_SPILL_DIR":    c.Extensions[0].Env["KINESIS_TELEMETRY_SPILL_DIR"],
				},
			}
		},
	})
	for range 5 {
		r.invoke(mixed)
	}
	r.checkComplete(r.end(), 5*13)
}
