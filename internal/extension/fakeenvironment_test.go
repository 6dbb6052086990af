package extension

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// newExtension makes an extension that has started and subscribed, with variables such as KINESIS_TELEMETRY_DELIVERY=sync. It has no
// listener, so that it can run on fake time.
func newExtension(t *testing.T, s fakeClient, variables ...string) *Extension {
	t.Helper()
	return newExtensionWithLog(slog.New(slog.NewTextHandler(t.Output(), nil)), s, variables...)
}

// newExtensionWithLog is newExtension with the given log.
func newExtensionWithLog(log Logger, s fakeClient, variables ...string) *Extension {
	cfg, _ := config.Load(append([]string{"KINESIS_TELEMETRY_SPILL_DIR="}, variables...))
	x := &Extension{config: cfg, log: log, invocations: newInvocations(), subscribed: true, abandon: func() {}}
	x.dispatcher = dispatcher.New(dispatcher.Options{
		Source:         record.SourceFields{Function: "f"},
		Format:         cfg.Format,
		PartitionKey:   cfg.PartitionKey,
		Flush:          cfg.Flush(),
		MaxRecordBytes: cfg.MaxRecordBytes,
		Oversize:       cfg.Oversize,
		RequestBytes:   cfg.RequestBytes(),
		SpillDir:       cfg.SpillDir,
		Log:            x.log,
		Guard:          x.guard,
	}, s)
	x.dispatcher.StartJournal()
	return x
}

// idleListener makes a listener that nobody posts to. Tests make it outside of the synctest bubble and shut it down on fake time.
func idleListener(t *testing.T) *listener.Listener {
	t.Helper()
	l, err := listener.Listen(0, func(listener.Batch) {}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// logFunc is a log handler that calls a function for each line.
type logFunc func(slog.Record)

func (logFunc) Enabled(context.Context, slog.Level) bool        { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler            { return f }
func (f logFunc) WithGroup(string) slog.Handler                 { return f }
func (f logFunc) Handle(_ context.Context, r slog.Record) error { f(r); return nil }

// post passes a POST's body to the extension.
func post(x *Extension, body string) {
	p := listener.Splitter{Limit: x.config.MaxRecordBytes}
	x.receive(listener.Batch{Events: p.Finish(p.Split(nil, []byte(body), true))})
}

// timeLayout is the format of Lambda's times.
const timeLayout = "2006-01-02T15:04:05.000Z"

// eventNow returns an event with the current time. id is the requestId of its record, empty for a log line.
func eventNow(kind, id string) string {
	return fmt.Sprintf(`{"time":%q,"type":%q,"record":{"requestId":%q}}`, time.Now().UTC().Format(timeLayout), kind, id)
}

// lateLine is a log line that is older than MAX_DELAY.
const lateLine = `{"time":"1999-01-01T00:00:00.000Z","type":"function","record":"late already"}`

// elapsed returns how long a call takes.
func elapsed(call func()) time.Duration {
	start := time.Now()
	call()
	return time.Since(start)
}

// fakeEnvironment drives an extension as Lambda does, on fake time. It freezes after the function has ended and the extension has
// asked for the next event. It posts telemetry that was not posted before the freeze after the thaw.
type fakeEnvironment struct {
	*testing.T
	*Extension
	number   int
	unposted []string // events that the freeze kept from being posted
}

// postDelay is how long Lambda collects telemetry before it posts.
const postDelay = 25 * time.Millisecond

// run runs one invocation, whose handler takes at least 5 ms and logs one line. It returns how long after the handler's end the
// extension asked for the next event.
func (e *fakeEnvironment) run(handler time.Duration) (hold time.Duration) {
	e.Helper()
	e.number++
	id, returned := fmt.Sprint(e.number), make(chan struct{})
	deadline := time.Now().Add(handler + 30*time.Second)
	start := eventNow("platform.start", id)
	go func() {
		defer close(returned)
		e.invoke(e.Context(), lambdaapi.Event{RequestID: id, Deadline: deadline})
	}()
	time.Sleep(5 * time.Millisecond)
	post(e.Extension, "["+strings.Join(append(e.unposted, start, eventNow("function", "")), ",")+"]")
	time.Sleep(handler - 5*time.Millisecond)
	ended, end := time.Now(), eventNow("platform.runtimeDone", id)
	e.unposted = []string{eventNow("platform.report", id)}
	synctest.Wait()
	select {
	case <-returned:
		e.unposted = slices.Insert(e.unposted, 0, end)
		return 0
	default:
	}
	time.Sleep(postDelay)
	post(e.Extension, "["+end+"]")
	<-returned
	return time.Since(ended)
}
