//go:build unix

package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func parseEnviron(t *testing.T, list []byte) map[string]string {
	t.Helper()
	var vars []string
	if err := json.Unmarshal(list, &vars); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return env
}

// The function and the extensions see the variables that Lambda gives each of them, and no others of the host.
func TestEnvironmentVariables(t *testing.T) {
	t.Setenv("LEAK", "from the host")
	t.Setenv("AWS_PROFILE", "mine")
	keys := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
	container := []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"}
	both := []string{
		"PATH", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
		"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN", "TZ", "STREAM",
	}
	functionOnly := []string{"_HANDLER", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_EXECUTION_ENV", "_CUSTOM"}
	logStream := []string{"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
	logFormat := []string{"AWS_LAMBDA_LOG_FORMAT"}
	for _, tc := range []struct {
		typ                     InitType
		both, functionOnly, not []string
	}{
		{
			typ:          OnDemand,
			both:         slices.Concat(both, keys),
			functionOnly: slices.Concat(functionOnly, logStream, logFormat),
			not:          slices.Concat(container, []string{"AWS_LAMBDA_MAX_CONCURRENCY"}),
		},
		{
			typ:          SnapStart,
			both:         slices.Concat(both, container),
			functionOnly: functionOnly,
			not:          slices.Concat(keys, logStream),
		},
	} {
		t.Run(string(tc.typ), func(t *testing.T) {
			c := newCollector(t)
			cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
			cfg.InitType = tc.typ
			cfg.Function.Env["STREAM"], cfg.Function.Env["_CUSTOM"] = "s", "1"
			cfg.Extensions[0].Env = map[string]string{"ONLY_ME": "1"}
			e := start(t, cfg)
			function := parseEnviron(t, invoke(t, e, task{Env: true}).Payload)
			ext := parseEnviron(t, c.await("environment", isEnv).Body)
			for _, name := range slices.Concat(tc.both, tc.functionOnly) {
				if function[name] == "" {
					t.Errorf("the function does not see %s", name)
				}
			}
			for _, name := range tc.both {
				if ext[name] != function[name] {
					t.Errorf("%s is %q for the extension, %q for the function", name, ext[name], function[name])
				}
			}
			for _, name := range slices.Concat(tc.functionOnly, tc.not, []string{"LEAK", "AWS_PROFILE"}) {
				if v, ok := ext[name]; ok {
					t.Errorf("the extension sees %s=%s", name, v)
				}
			}
			for _, name := range slices.Concat(tc.not, []string{"LEAK", "AWS_PROFILE", "ONLY_ME"}) {
				if v, ok := function[name]; ok {
					t.Errorf("the function sees %s=%s", name, v)
				}
			}
			if ext["ONLY_ME"] != "1" || function["AWS_LAMBDA_INITIALIZATION_TYPE"] != string(tc.typ) ||
				function["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] != "256" {
				t.Error("wrong values", ext["ONLY_ME"], function)
			}
			if tc.typ == SnapStart {
				checkCredentials(t, e, ext)
			}
			checkMetadata(t, ext)
			shutdown(t, e)
			events := c.checkDelivered("x0")
			if start := ofType(events, "platform.start")[0]; start.field(t, "functionArn") != "arn:aws:lambda:us-east-1:123456789012:function:fn" {
				t.Errorf("%s", start.Raw)
			}
			if init := ofType(events, "platform.initStart")[0]; init.field(t, "instanceMaxMemory") != 256.0*1024*1024 {
				t.Errorf("%s", init.Raw)
			}
			restored := len(ofType(events, "platform.restoreReport"))
			if (tc.typ == SnapStart) != (restored == 1) {
				t.Errorf("%d restore reports", restored)
			}
		})
	}
}

func checkCredentials(t *testing.T, e *Environment, env map[string]string) {
	t.Helper()
	uri := env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
	status, body := get(t, http.MethodGet, uri, env["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
	expires, err := time.Parse(time.RFC3339, body["Expiration"])
	if status != 200 || body["AccessKeyId"] != e.cfg.Credentials.AccessKeyID || body["SecretAccessKey"] == "" || body["Token"] == "" ||
		err != nil || time.Until(expires) < time.Minute {
		t.Errorf("credentials: %d %v", status, body)
	}
	if status, _ := get(t, http.MethodGet, uri, "wrong"); status == 200 {
		t.Error("credentials for a wrong token")
	}
}

// checkMetadata reads the metadata as Powertools does.
func checkMetadata(t *testing.T, env map[string]string) {
	t.Helper()
	uri := "http://" + env["AWS_LAMBDA_METADATA_API"] + "/2026-01-15/metadata/execution-environment"
	token := "Bearer " + env["AWS_LAMBDA_METADATA_TOKEN"]
	if status, body := get(t, http.MethodGet, uri, token); status != 200 || len(body) != 1 || body["AvailabilityZoneID"] != "use1-az1" {
		t.Errorf("metadata: %d %v", status, body)
	}
	if status, _ := get(t, http.MethodGet, uri, "Bearer wrong"); status != http.StatusUnauthorized {
		t.Errorf("metadata for a wrong token: %d", status)
	}
	if status, _ := get(t, http.MethodPut, uri, token); status != http.StatusMethodNotAllowed {
		t.Errorf("PUT of metadata: %d", status)
	}
}

// get returns an answer's status and, if its body is a JSON object of strings, the members.
func get(t *testing.T, method, uri, token string) (int, map[string]string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]string
	_ = json.Unmarshal(body, &members)
	return resp.StatusCode, members
}
