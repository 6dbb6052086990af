package extension

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/listener"
)

// dataPath is the path of events from a POST body to records, without the network.
type dataPath struct {
	*Extension
	splitter listener.Splitter
	events   []listener.Event
	body     []byte
}

// newDataPath makes an extension that has received a platform.start, and a body of lines that belong to its request, ten in each
// millisecond.
func newDataPath(dir string, lines int) *dataPath {
	outcomes := make([]kinesis.Outcome, kinesis.MaxRequestRecords)
	for i := range outcomes {
		outcomes[i] = kinesis.Sent
	}
	accept := func(_ context.Context, records []kinesis.Record) kinesis.Result {
		return kinesis.Result{Outcomes: outcomes[:len(records)], Requests: 1}
	}
	p := &dataPath{
		Extension: newExtensionWithLog(slog.New(slog.DiscardHandler), accept,
			"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1024", "KINESIS_TELEMETRY_SPILL_DIR="+dir),
		splitter: listener.Splitter{Limit: 1 << 20},
	}
	start := time.Now().UTC()
	const requestID = "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa"
	post(p.Extension, fmt.Sprintf(`[{"time":%q,"type":"platform.start","record":{"requestId":%q}}]`, start.Format(timeLayout), requestID))
	p.body = []byte("[")
	for n := range lines {
		at := start.Add(time.Duration(n/10) * time.Millisecond)
		p.body = fmt.Appendf(p.body, `{"time":%q,"type":"function","record":"line %d %s"},`, at.Format(timeLayout), n, strings.Repeat(".", 290))
	}
	p.body[len(p.body)-1] = ']'
	return p
}

func (p *dataPath) receive() {
	p.events = p.splitter.Split(p.events[:0], p.body, true)
	p.Extension.receive(listener.Batch{Events: p.events})
}

func (p *dataPath) ship(ctx context.Context) { p.dispatcher.Ship(ctx, flush.AtShutdown) }

// The allocations of receiving and shipping a POST do not depend on the number of its events.
func TestAllocationsPerEvent(t *testing.T) {
	allocations := func(lines int) float64 {
		p := newDataPath(t.TempDir(), lines)
		defer p.dispatcher.Close(false)
		return testing.AllocsPerRun(20, func() {
			p.receive()
			p.ship(t.Context())
		})
	}
	few, many := allocations(10), allocations(2500)
	t.Logf("%.0f allocations with 10 events, %.0f with 2,500", few, many)
	if (many-few)/2490 > .05 { // a batch and a flight may allocate, an event may not
		t.Errorf("%.3f allocations an event", (many-few)/2490)
	}
}

func BenchmarkDataPath(b *testing.B) {
	for _, dir := range []string{"", b.TempDir()} {
		b.Run("journal="+fmt.Sprint(dir != ""), func(b *testing.B) {
			const lines = 2500
			p := newDataPath(dir, lines)
			defer p.dispatcher.Close(false)
			b.ReportAllocs()
			for b.Loop() {
				p.receive()
				b.StopTimer()
				p.ship(b.Context())
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/event")
		})
	}
}
