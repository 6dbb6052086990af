package extension

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// The buffered events use no more memory than the buffer's bound, even if they are a small part of the posted bodies.
func TestSmallEventsOfLargeBodies(t *testing.T) {
	x := newExtension(t, acceptAll)
	defer x.dispatcher.Close(false)
	const small = `{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"a line before the large one"}`
	for range 100 {
		post(x, `[`+small+`,{"time":"2026-11-23T18:00:00.001Z","type":"function","record":"`+strings.Repeat("x", 1<<20)+`}]`)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if buffered := x.dispatcher.Stats().Buffered; buffered != 100 || memory.HeapAlloc > 20<<20 {
		t.Errorf("%d events of %d bytes are buffered, the heap has %d bytes", buffered, len(small), memory.HeapAlloc)
	}
}

// The extension keeps no reference to a POST's body after it has processed it.
func TestBodiesAreReleased(t *testing.T) {
	x := newExtension(t, acceptAll)
	defer x.dispatcher.Close(false)
	post(x, "["+lateLine+","+lateLine+"]")
	for _, e := range x.intake.events[:2] {
		if e.Raw != nil {
			t.Errorf("kept %s", e.Raw)
		}
	}
}

// The extension logs each kind of problem in POSTs once, however often it occurs.
func TestWarnsOnce(t *testing.T) {
	var logged []string
	x := newExtensionWithLog(slog.New(logFunc(func(r slog.Record) { logged = append(logged, r.Message) })), acceptAll)
	defer x.dispatcher.Close(false)
	for range 3 {
		x.receive(listener.Batch{})
		x.receive(listener.Batch{Events: make([]listener.Event, 2)})
		x.receive(listener.Batch{Events: []listener.Event{{Raw: []byte("{}"), Repaired: true}}})
		x.receive(listener.Batch{Truncated: true})
	}
	want := []string{
		"Lambda posted telemetry that is not an event",
		"telemetry contained bytes that are not UTF-8",
		"a POST of telemetry ended early",
	}
	if !slices.EqualFunc(logged, want, strings.HasPrefix) {
		t.Errorf("logged %q", logged)
	}
}

// With PARTITION_KEY=tenant, the partition key of an event is the tenant that the platform named last. Until the platform has named
// one, it is the tenant in the event itself. An id that is too long for a partition key counts as none.
func TestPartitionKeyIsTheTenant(t *testing.T) {
	long := strings.Repeat("l", 257)
	for _, test := range []struct{ name, events, want string }{ // events with their tenants
		{"the platform names it", "platform.start a, function, function b, platform.report", "a,a,a,a"},
		{"a line names it before the platform does", "function b, function, platform.start a, function b", "b,-,a,a"},
		{"another tenant", "platform.start a, platform.start b, function", "a,b,b"},
		{
			"too long",
			"function LONG, platform.start LONG, function " + long[1:] + ", platform.start a, platform.start LONG",
			"-,-," + long[1:] + ",a,a",
		},
	} {
		var keys []string
		x := newExtension(t, func(ctx context.Context, records []kinesis.Record) kinesis.Result {
			for _, r := range records {
				for l := range record.Unpack(bytes.Join(r.Data, nil)) {
					if r.PartitionKey == l.Source.Instance {
						r.PartitionKey = "-"
					}
					keys = append(keys, r.PartitionKey)
				}
			}
			return acceptAll(ctx, records)
		}, "KINESIS_TELEMETRY_PARTITION_KEY=tenant")
		for event := range strings.SplitSeq(strings.ReplaceAll(test.events, "LONG", long), ", ") {
			kind, tenant, _ := strings.Cut(event, " ")
			post(x, fmt.Sprintf(`[{"time":"t","type":%q,"record":{"tenantId":%q}}]`, kind, tenant))
		}
		x.dispatcher.Ship(t.Context(), flush.AtShutdown)
		x.dispatcher.Close(false)
		if got := strings.Join(keys, ","); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The extension ignores tenants unless PARTITION_KEY is tenant.
func TestTenantsOnlyIfSelected(t *testing.T) {
	x := newExtension(t, acceptAll)
	defer x.dispatcher.Close(false)
	post(x, `[{"time":"t","type":"platform.start","record":{"tenantId":"a"}}]`)
	if x.intake.tenant != "" {
		t.Errorf("%q", x.intake.tenant)
	}
}

// A request id has at most 128 bytes, because a log line may contain anything. A longer id counts as none, and starts and ends no
// invocation.
func TestLongRequestIDsCountAsNone(t *testing.T) {
	long := strings.Repeat("r", 129)
	for kind, want := range map[string][]string{
		"on-demand":                {"a", "a", "a", "a", "a", long[1:], long[1:]},
		"lambda-managed-instances": {"a", "", "", "", "", long[1:], ""},
	} {
		var s recorder
		x := newExtension(t, s.put, "AWS_LAMBDA_INITIALIZATION_TYPE="+kind)
		post(x, "["+strings.Join([]string{
			eventNow("platform.start", "a"),
			eventNow("function", long),
			eventNow("function", long[1:]),
			eventNow("platform.start", long),
			eventNow("platform.runtimeDone", long),
			eventNow("platform.start", long[1:]),
			eventNow("function", long[1:]),
		}, ",")+"]")
		x.dispatcher.Ship(t.Context(), flush.AtShutdown)
		x.dispatcher.Close(false)
		var got []string
		for _, l := range s.lines {
			got = append(got, l.RequestID)
		}
		a := x.invocations.runsOfLocked("a")
		if !slices.Equal(got, want) || kind == "on-demand" && (a.starts != 1 || a.ends != 0) {
			t.Errorf("%s: %q, want %q; %+v", kind, got, want, a)
		}
	}
}

// With SnapStart, events from before the restore belong to the old instance, events after it to a new one. Its event or the first
// INVOKE shows the restore, and the second of both does not start a third instance.
func TestRestoreStartsNewInstance(t *testing.T) {
	restore := func(_ *testing.T, x *Extension) {
		post(x, `[`+lateLine+`,{"time":"2026-11-24T00:00:00.000Z","type":"platform.restoreStart","record":{}},`+lateLine+`]`)
	}
	invoke := func(t *testing.T, x *Extension) {
		x.invoke(t.Context(), lambdaapi.Event{RequestID: "a", Deadline: time.Now().Add(200 * time.Millisecond)})
	}
	for name, test := range map[string]struct {
		kind  string
		steps []func(*testing.T, *Extension)
		want  string
	}{
		"restoreStart first": {"snap-start", []func(*testing.T, *Extension){restore, invoke}, "0 0 1 1 1"},
		"INVOKE first":       {"snap-start", []func(*testing.T, *Extension){invoke, restore}, "0 1 1 1 1"},
		"no SnapStart":       {"on-demand", []func(*testing.T, *Extension){restore, invoke}, "0 0 0 0 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var s recorder
			x := newExtension(t, s.put, "AWS_LAMBDA_INITIALIZATION_TYPE="+test.kind)
			defer x.dispatcher.Close(false)
			post(x, `[`+lateLine+`]`)
			for _, step := range test.steps {
				step(t, x)
			}
			post(x, `[`+lateLine+`]`)
			x.dispatcher.Ship(t.Context(), flush.AtShutdown)
			var instances []string
			got := ""
			for _, l := range s.lines {
				i := slices.Index(instances, l.Source.Instance)
				if i < 0 {
					i, instances = len(instances), append(instances, l.Source.Instance)
				}
				got += fmt.Sprint(" ", i)
			}
			if strings.TrimSpace(got) != test.want {
				t.Errorf("%s: instances%s, want %s", name, got, test.want)
			}
		})
	}
}
