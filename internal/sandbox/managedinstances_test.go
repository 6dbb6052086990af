//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

// On Managed Instances invocations run concurrently, telemetry has its own form, a second subscription is refused, and
// a crash makes the environment unhealthy.
func TestManagedInstances(t *testing.T) {
	c := newCollector(t)
	cfg := testConfig(t, c, "", plan{Events: []string{eventShutdown}, Subscribe: subscribeAll, MoreSubscriptions: []string{subscribeAll}})
	cfg.InitType = ManagedInstances
	cfg.Function.Command[1] = argPoller
	cfg.Function.Concurrency = 3
	e := start(t, cfg)
	var wg sync.WaitGroup
	for i := range 3 { // the runtime answers only when it has all three
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
	env := parseEnviron(t, c.await("environment", isEnv).Body)
	if env["AWS_LAMBDA_MAX_CONCURRENCY"] != "" || env["AWS_LAMBDA_LOG_FORMAT"] != "JSON" {
		t.Errorf("%v", env)
	}
}
