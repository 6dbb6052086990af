//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
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
		{OnDemand, slices.Concat(both, keys), slices.Concat(functionOnly, logStream, logFormat), slices.Concat(container, []string{"AWS_LAMBDA_MAX_CONCURRENCY"})},
		{SnapStart, slices.Concat(both, container), functionOnly, slices.Concat(keys, logStream)},
	} {
		t.Run(string(tc.typ), func(t *testing.T) {
			c := newCollector(t)
			cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
			cfg.InitType = tc.typ
			cfg.Function.Env["STREAM"], cfg.Function.Env["_CUSTOM"] = "s", "1"
			cfg.Extensions[0].Env = map[string]string{"ONLY_ME": "1"}
			e := start(t, cfg)
			function := parseEnviron(t, invoke(t, e, task{Env: true}).Payload)
			ext := parseEnviron(t, c.ofKind("env")[0].Body)
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
			if ext["ONLY_ME"] != "1" || function["AWS_LAMBDA_INITIALIZATION_TYPE"] != string(tc.typ) || function["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] != "256" {
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
	if status != 200 || body["AccessKeyId"] != e.cfg.Credentials.AccessKeyID || body["SecretAccessKey"] == "" || body["Token"] == "" || err != nil || time.Until(expires) < time.Minute {
		t.Errorf("credentials: %d %v", status, body)
	}
	if status, _ := get(t, http.MethodGet, uri, "wrong"); status == 200 {
		t.Error("credentials for a wrong token")
	}
}

// Powertools read the metadata as these requests do.
func checkMetadata(t *testing.T, env map[string]string) {
	t.Helper()
	uri, token := "http://"+env["AWS_LAMBDA_METADATA_API"]+"/2026-01-15/metadata/execution-environment", "Bearer "+env["AWS_LAMBDA_METADATA_TOKEN"]
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

// get returns the status and the members of an answer, if it is JSON.
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

func TestManagedInstances(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Events: []string{eventShutdown}, Subscribe: subscribeAll, MoreSubscriptions: []string{subscribeAll}})
	cfg.InitType = ManagedInstances
	cfg.Function.Command[1] = argPoller
	cfg.Function.Concurrency = 3
	e := start(t, cfg)
	var wg sync.WaitGroup
	for i := range 3 { // each is answered only when all are there
		wg.Go(func() {
			r, err := e.Invoke(t.Context(), fmt.Appendf(nil, `"n%d"`, i))
			if err != nil || r.Status != "success" || string(r.Payload) != fmt.Sprintf(`"n%d"`, i) {
				t.Errorf("%v %+v %s", err, r, r.Payload)
			}
		})
	}
	wg.Wait()
	if r, err := e.Invoke(t.Context(), []byte(`"crash"`)); err != nil || r.ErrorType != "Runtime.ExitError" {
		t.Errorf("%v %+v", err, r)
	}
	if _, err := e.Invoke(t.Context(), nil); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("after a crash: %v", err)
	}
	shutdown(t, e)
	if answers := c.ofKind("subscribe"); answers[0].Status != 200 || answers[1].Status != 500 {
		t.Errorf("two subscriptions: %d, %d %s", answers[0].Status, answers[1].Status, answers[1].Body)
	}
	got := c.checkDelivered("x0")
	reports := ofType(got, "platform.report")
	if len(ofType(got, "platform.runtimeDone")) != 0 || len(reports) != 4 || len(ofType(got, "platform.start")) != 4 {
		t.Errorf("%q", typesOf(got))
	}
	for _, r := range reports {
		if m := r.field(t, "metrics").(map[string]any); len(m) != 1 || m["durationMs"] == nil {
			t.Errorf("%s", r.Raw)
		}
	}
	for _, l := range ofType(got, "function")[:3] {
		if m, ok := l.field(t, "message").(string); !ok || m[0] != 'n' {
			t.Errorf("%s", l.Raw)
		}
	}
	env := parseEnviron(t, c.ofKind("env")[0].Body)
	if env["AWS_LAMBDA_MAX_CONCURRENCY"] != "" || env["AWS_LAMBDA_LOG_FORMAT"] != "JSON" {
		t.Errorf("%v", env)
	}
}

func TestFaults(t *testing.T) {
	t.Run("register and next answer 5xx, runtimeDone comes twice", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll}, plan{})
		cfg.API = APIFaults{Extension: "x0", Register: StatusFault{503, 2}, Next: StatusFault{500, 3}}
		cfg.Telemetry.DuplicateRuntimeDone = true
		e := start(t, cfg)
		if r := invoke(t, e, task{}); r.Status != "success" {
			t.Errorf("%+v", r)
		}
		shutdown(t, e)
		statuses := map[int]int{}
		for _, m := range slices.Concat(c.ofKind("register"), c.ofKind("event")) {
			if m.Name == "x0" {
				statuses[m.Status]++
			} else if m.Status != 200 {
				t.Errorf("%s: %s got %d", m.Name, m.Kind, m.Status)
			}
		}
		if statuses[503] != 2 || statuses[500] != 3 {
			t.Errorf("%v", statuses)
		}
		if n := len(ofType(c.checkDelivered("x0"), "platform.runtimeDone")); n != 2 {
			t.Errorf("%d runtimeDone", n)
		}
	})
	for _, status := range []int{202, 403, 404, 500} {
		t.Run(fmt.Sprint("subscription answered ", status), func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
			cfg.API.Subscribe = StatusFault{status, -1}
			e := start(t, cfg)
			invoke(t, e, task{Lines: 3})
			shutdown(t, e)
			if m := c.ofKind("subscribe"); m[0].Status != status || len(c.ofKind("post")) != 0 || len(c.emitted) != 0 {
				t.Errorf("%d %s, %d posts, %d told", m[0].Status, m[0].Body, len(c.ofKind("post")), len(c.emitted))
			}
		})
	}
	t.Run("one end lost, which is told", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
		var asked []string
		cfg.Telemetry.EmitLogsDropped = true
		cfg.Telemetry.Lose = func(typ string, invocation int) bool {
			asked = append(asked, fmt.Sprint(typ, " ", invocation))
			return typ == "platform.runtimeDone" && invocation == 2
		}
		e := start(t, cfg)
		for n, o := range []task{{}, {Exit: 3}, {}, {}} { // the second one ends a life, and a suppressed init belongs to the third
			invoke(t, e, o, WithRequestID(fmt.Sprint(n)))
		}
		shutdown(t, e)
		got := c.checkDelivered("x0")
		var ends []any
		for _, done := range ofType(got, "platform.runtimeDone") {
			ends = append(ends, done.field(t, "requestId"))
		}
		if dropped := ofType(got, "platform.logsDropped"); len(dropped) != 1 || !slices.Equal(ends, []any{"0", "1", "3"}) {
			t.Errorf("ends of %q, %q", ends, dropped)
		}
		for _, about := range []string{"platform.initStart -1", "platform.start 0", "platform.report 1", "platform.initStart 2", "platform.report 3"} {
			if !slices.Contains(asked, about) {
				t.Errorf("not asked about %s: %q", about, asked)
			}
		}
	})
	t.Run("everything lost", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "said"})
		cfg.Telemetry.Lose = func(string, int) bool { return true }
		e := start(t, cfg)
		invoke(t, e, task{Lines: 3})
		shutdown(t, e)
		subscribed := c.await("subscription", func(m message) bool { return m.Kind == "subscribe" })
		c.readers.Wait()
		if subscribed.Status != 200 || len(c.ofKind("post")) != 0 || len(c.emitted) != 0 {
			t.Errorf("subscribed with %d, %d posts, %d told", subscribed.Status, len(c.ofKind("post")), len(c.emitted))
		}
	})
	t.Run("output blocked", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Print: "reader"}, plan{}, plan{Print: "blocked"})
		cfg.Extensions[1].BlockOutput, cfg.Extensions[2].BlockOutput = true, true
		cfg.Function.Timeout, cfg.ShutdownTimeout = 2*time.Second, 3*time.Second
		e := start(t, cfg)
		if r := invoke(t, e, task{}); r.Status != "timeout" || !strings.Contains(r.Error, "x2 did not ask") {
			t.Errorf("%+v", r)
		}
		shutdown(t, e)
		for _, p := range e.Processes() { // who prints nothing does not notice, and who is blocked can be killed
			if p.Kind == ExtensionProcess && p.Killed != (p.Name == "x2") {
				t.Errorf("%+v", p)
			}
		}
		lines := ofType(c.checkDelivered("x0"), "extension")
		if len(lines) != 1 || lines[0].field(t) != "reader" {
			t.Errorf("%q", lines)
		}
	})
	t.Run("runtimeDone late", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll})
		cfg.Telemetry.RuntimeDoneDelay, cfg.NoFreeze = 200*time.Millisecond, true
		e := start(t, cfg)
		invoke(t, e, task{})
		c.await("runtimeDone", func(m message) bool { return strings.Contains(string(m.Body), `"platform.runtimeDone"`) })
		shutdown(t, e)
		if types := typesOf(c.checkDelivered("x0")); slices.Index(types, "platform.report") > slices.Index(types, "platform.runtimeDone") {
			t.Errorf("%q", types)
		}
	})
	t.Run("runtimeDone dropped, odd bodies, refused batches", func(t *testing.T) {
		t.Parallel()
		c := newCollector(t)
		cfg := testConfig(t, c, "", plan{Subscribe: subscribeAll, Answers: []int{500, 404, 200}})
		cfg.Telemetry.Lose = func(typ string, _ int) bool { return typ == "platform.runtimeDone" }
		e := start(t, cfg)
		invoke(t, e, task{})
		e.Thaw()
		c.await("POST answered with 200", func(m message) bool { return m.Kind == "post" && m.Status == 200 })
		posts := c.ofKind("post")
		if string(posts[0].Body) != string(posts[1].Body) || string(posts[0].Body) != string(posts[2].Body) {
			t.Error("a refused batch must come again as it was")
		}
		status, took, err := e.Inject("x0", []byte("not JSON"))
		if status != 200 || took <= 0 || err != nil {
			t.Errorf("Inject: %d %v %v", status, took, err)
		}
		c.await("odd body", func(m message) bool { return string(m.Body) == "not JSON" })
		if _, _, err := e.Inject("nobody", nil); !errors.Is(err, ErrNotSubscribed) {
			t.Errorf("%v", err)
		}
		shutdown(t, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, ev := range c.emitted["x0"] {
			if ev.Type == "platform.runtimeDone" {
				t.Error("runtimeDone was not dropped")
			}
		}
	})
}

// 5,000 lines at once reach two subscribers, one over TCP, without a drop; so does a line longer than any buffer.
func TestManyAndLongLines(t *testing.T) {
	c := newCollector(t)
	tcp := strings.Replace(subscribeAll, `"protocol":"HTTP","URI":"http://sandbox.localdomain:PORT/telemetry"`, `"protocol":"TCP","port":PORT`, 1)
	big := strings.NewReplacer("262144", "1048576", `"maxItems":1000`, `"maxItems":10000`).Replace(subscribeAll)
	e := start(t, testConfig(t, c, "", plan{Subscribe: big}, plan{Subscribe: tcp, TCP: true}))
	long := strings.Repeat("0123456789", 50_000)
	for range 2 {
		invoke(t, e, task{Lines: 5000, Text: strings.Repeat("x", 250)})
	}
	invoke(t, e, task{Text: long + "\n", Err: "one\n\ntwo\n"}, WithRequestID("last"))
	e.Thaw()
	c.await("report over TCP", func(m message) bool { // TCP has no acknowledgment: wait before the process ends
		return m.Kind == "post" && m.Name == "x1" && strings.Contains(string(m.Body), `"platform.report","record":{"requestId":"last"`)
	})
	shutdown(t, e)
	c.checkDelivered("x0")
	for _, name := range []string{"x0", "x1"} {
		got := c.delivered(name)
		lines := ofType(got, "function")
		if len(lines) != 10_004 || len(ofType(got, "platform.logsDropped")) != 0 {
			t.Fatalf("%s: %d lines", name, len(lines))
		}
		for i, l := range lines[:5000] {
			if !strings.HasPrefix(l.field(t).(string), fmt.Sprint(i, " ")) {
				t.Fatalf("%s: line %d is %.300s", name, i, l.Raw)
			}
		}
		var last []string
		for _, l := range lines[10_000:] {
			last = append(last, l.field(t).(string))
		}
		slices.Sort(last)
		if !slices.Equal(last, []string{"", long, "one", "two"}) {
			t.Errorf("%s: last lines %.100q", name, last)
		}
	}
}

func TestStreamedResponse(t *testing.T) {
	c := newCollector(t)
	e := start(t, testConfig(t, c, "stream", plan{}))
	r := invoke(t, e, task{})
	if string(r.Payload) != "part 0;part 1;part 2;" || r.Response-r.FirstByte < 20*time.Millisecond {
		t.Errorf("%+v %s", r, r.Payload)
	}
	shutdown(t, e)
}

// The APIs as such, called without processes.
func TestAPIs(t *testing.T) {
	cfg, err := Config{Function: Function{Command: []string{"true"}}, Extensions: []Extension{{Path: "ext"}, {Path: "idle"}}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e, err := listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := e.newGeneration("init")
	g.registrations[0].state, g.registrations[1].state = stateStarted, stateStarted
	transport := &http.Transport{DisableKeepAlives: true}
	id := ""
	call := func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+e.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if id != "" {
			req.Header.Set(headerExtensionID, id)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if got := resp.Header.Get(headerExtensionID); got != "" {
			id = got
		}
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(data)
	}
	check := func(wantStatus int, wantBody string) func(int, string) {
		return func(status int, body string) {
			t.Helper()
			if status != wantStatus || !strings.Contains(body, wantBody) {
				t.Errorf("got %d %s, want %d %s", status, body, wantStatus, wantBody)
			}
		}
	}
	const register, next = "/2020-01-01/extension/register", "/2020-01-01/extension/event/next"
	const telemetry, logs = "/2022-07-01/telemetry", "/2020-08-15/logs"
	good := strings.Replace(subscribeAll, "PORT", "4243", 1)
	check(403, "Extension.InvalidExtensionName")(call("POST", register, `{}`))
	check(403, "InvalidRequestFormat")(call("POST", register, `{`, headerExtensionName, "ext"))
	check(403, "InvalidRequestFormat")(call("POST", register, `{"configurationKeys":["a"]}`, headerExtensionName, "ext"))
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["SOMETHING"]}`, headerExtensionName, "ext"))
	check(403, `"Lambda-Extension-Name \"internal\" is not the file name of an extension that has not registered: ext, idle"`)(
		call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "internal"))
	check(403, "Extension.MissingExtensionIdentifier")(call("GET", next, ""))
	check(403, "Extension.MissingExtensionIdentifier")(call("PUT", telemetry, good))
	id = "not-a-uuid"
	check(403, "Extension.InvalidExtensionIdentifier")(call("GET", next, ""))
	id = newUUID()
	check(403, "Extension.UnknownExtensionIdentifier")(call("GET", next, ""))
	check(200, `{"functionName":"function","functionVersion":"$LATEST","handler":"bootstrap"}`)(call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "ext"))
	check(403, "Extension.InvalidExtensionState")(call("POST", register, `{}`, headerExtensionName, "ext"))
	g.mu.Lock()
	g.registrations[1].state = stateRegistered // internal extensions come when all external ones have registered
	g.mu.Unlock()
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "internal"))
	check(400, "ValidationError")(call("PUT", telemetry, strings.Replace(good, "4243", "9001", 1)))
	check(200, `"OK"`)(call("PUT", telemetry, good))
	check(200, `"AlreadySubcribed"`)(call("PUT", telemetry, strings.Replace(good, "sandbox.localdomain", "sandbox", 1)))
	check(200, `"OK"`)(call("PUT", telemetry, strings.Replace(good, "4243", "4244", 1)))
	check(400, "Logs.ValidationError")(call("PUT", logs, good))
	check(403, "Logs.AlreadySubscribed")(call("PUT", logs, strings.Replace(good, "2025-01-29", "2021-03-18", 1)))
	check(403, "Extension.MissingHeader")(call("POST", "/2020-01-01/extension/init/error", `{}`))
	check(200, `"accountId":"123456789012"`)(call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "internal", headerExtensionFeature, "other, accountId"))
	check(403, "Extension.InvalidExtensionState")(call("POST", register, `{}`, headerExtensionName, "internal"))
	for i := range 7 {
		check(200, "")(call("POST", register, `{}`, headerExtensionName, fmt.Sprint("internal", i)))
	}
	check(403, "Extension.TooManyExtensions")(call("POST", register, `{}`, headerExtensionName, "one more"))
	g.hub.closeSubscriptions()
	check(403, "Telemetry.SubscriptionClosed")(call("PUT", telemetry, good))
	check(403, "Logs.SubscriptionClosed")(call("PUT", logs, good))
	check(400, "InvalidRequestID")(call("POST", "/2018-06-01/runtime/invocation/none/response", ""))
	check(404, "")(call("GET", "/2018-06-01/other", ""))
	g.mu.Lock()
	g.registrationClosed, g.registrations = true, g.registrations[:2]
	g.registrations[1].state = stateStarted
	g.env.cfg.InitType = ManagedInstances
	g.mu.Unlock()
	check(404, "")(call("PUT", logs, good))
	check(403, "Extension.InvalidEventType")(call("POST", register, `{"events":["INVOKE"]}`, headerExtensionName, "idle"))
	check(200, "")(call("POST", register, `{"events":["SHUTDOWN"]}`, headerExtensionName, "idle"))
	check(403, "Extension.RegistrationClosed")(call("POST", register, `{}`, headerExtensionName, "late"))
	if err := e.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
