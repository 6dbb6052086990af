package telemetry_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"kinesis-telemetry-extension/deploy/cdk/telemetry"
)

// TestMain ends the jsii process that all tests of this package share.
func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// object is a part of a template.
type object = map[string]any

// synth returns the templates of the stacks that build adds to an app, by the stacks' names.
func synth(t *testing.T, build func(app awscdk.App)) map[string]object {
	t.Helper()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir())})
	build(app)
	templates := map[string]object{}
	for _, artifact := range *app.Synth(nil).Stacks() {
		templates[*artifact.StackName()] = artifact.Template().(object)
	}
	return templates
}

// stack returns the template of one stack of stand-in zips.
func stack(t *testing.T, id string, props telemetry.StackProps) object {
	t.Helper()
	props.LayerDir = layers(t)
	return synth(t, func(app awscdk.App) { telemetry.NewStack(app, id, props) })[id]
}

// mistake returns the text of the function's UsageError.
func mistake(t *testing.T, f func()) (said string) {
	t.Helper()
	defer func() {
		t.Helper()
		var m telemetry.UsageError
		if err, ok := recover().(error); !ok || !errors.As(err, &m) {
			t.Errorf("got %v, want a UsageError", err)
		}
		said = string(m)
	}()
	f()
	return ""
}

// layers returns a directory of stand-ins for the layer's zips.
func layers(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, architecture := range []string{"x86_64", "arm64"} {
		write(t, filepath.Join(dir, "kinesis-telemetry-extension-"+architecture+".zip"), architecture)
	}
	return dir
}

// demo returns a directory of a stand-in for the demo function.
func demo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bootstrap"), "demo")
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

// function adds a function to a stack. Its architecture is x86_64, as Lambda's default is, unless another is given.
func function(stack awscdk.Stack, id string, architecture awslambda.Architecture) awslambda.Function {
	return awslambda.NewFunction(stack, &id, &awslambda.FunctionProps{
		Runtime:      awslambda.Runtime_NODEJS_22_X(),
		Handler:      jsii.String("index.handler"),
		Code:         awslambda.Code_FromInline(jsii.String("exports.handler = async () => {}")),
		Architecture: architecture,
	})
}

// all returns the resources of a type, by their logical ids.
func all(template object, kind string) map[string]object {
	found := map[string]object{}
	for id, resource := range template["Resources"].(object) {
		if resource := resource.(object); resource["Type"] == kind {
			found[id] = resource
		}
	}
	return found
}

// only returns the one resource of a type.
func only(t *testing.T, template object, kind string) (id string, resource object) {
	t.Helper()
	found := all(template, kind)
	if len(found) != 1 {
		t.Fatalf("%d resources of type %s, want 1", len(found), kind)
	}
	for id, resource = range found {
		break
	}
	return id, resource
}

// layerOf returns the logical id of an architecture's layer.
func layerOf(t *testing.T, template object, architecture string) string {
	t.Helper()
	for id, layer := range all(template, "AWS::Lambda::LayerVersion") {
		if same(layer["Properties"].(object)["CompatibleArchitectures"], `["`+architecture+`"]`) {
			return id
		}
	}
	t.Fatalf("no layer for %s", architecture)
	return ""
}

// want compares a part of a template with JSON, in which 'single' quotes stand for double ones.
func want(t *testing.T, what string, got any, json string) {
	t.Helper()
	if !same(got, json) {
		t.Errorf("%s is\n%s, want\n%s", what, text(got), strings.ReplaceAll(json, "'", `"`))
	}
}

func same(got any, wanted string) bool {
	var a, b any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(wanted, "'", `"`)), &b); err != nil {
		panic(err)
	}
	if err := json.Unmarshal([]byte(text(got)), &a); err != nil {
		panic(err)
	}
	return reflect.DeepEqual(a, b)
}

func text(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(data)
}
