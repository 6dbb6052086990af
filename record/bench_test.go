package record_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"kinesis-telemetry-extension/record"
)

// corpus returns lines with a total of about size bytes, of a function that logs text or JSON. Each tenth line is a platform
// event.
func corpus(size int, jsonLogs bool) (lines [][]byte) {
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{
		"order", "received", "payment", "authorized", "inventory", "reserved", "cache", "miss", "retrying", "upstream", "timeout", "after",
		"customer", "basket", "updated", "shipment", "label", "printed", "warehouse", "queue", "depth", "latency", "within", "budget",
	}
	seq := uint64(0)
	request := ""
	for total := 0; total < size; seq++ {
		at := fmt.Sprintf("2026-11-23T18:%02d:%02d.%03dZ", seq/60%60, seq%60, random.IntN(1000))
		if seq%10 == 0 {
			request = fmt.Sprintf("%08x-%04x-4%03x-9739-%012x", random.Uint32(), random.IntN(1<<16), random.IntN(1<<12), random.Uint64N(1<<48))
		}
		message := ""
		for range 20 + random.IntN(20) {
			message += words[random.IntN(len(words))] + " "
			if random.IntN(6) == 0 {
				message += fmt.Sprintf("%x ", random.Uint32())
			}
		}
		raw := fmt.Sprintf(`{"time":"%s","type":"function","record":"%s\t%s\tINFO\t%s\n"}`, at, at, request, message)
		switch {
		case seq%10 == 9:
			raw = fmt.Sprintf(`{"time":"%s","type":"platform.report","record":{"requestId":"%s","status":"success","metrics":{"durationMs":%d.%03d,`+
				`"billedDurationMs":2521,"memorySizeMB":512,"maxMemoryUsedMB":173}}}`, at, request, random.IntN(3000), random.IntN(1000))
		case jsonLogs:
			raw = fmt.Sprintf(`{"time":"%s","type":"function","record":{"timestamp":"%s","level":"INFO","requestId":"%s","message":"%s",`+
				`"order":%d,"duration_ms":%d.%d}}`, at, at, request, message, random.IntN(1e6), random.IntN(3000), random.IntN(1000))
		}
		e := record.Event{Raw: []byte(raw), RequestID: request, Seq: seq, Source: source}
		lines = append(lines, append(record.AppendEvent(nil, &e), '\n'))
		total += len(lines[len(lines)-1])
	}
	return lines
}

// BenchmarkEncode measures the time per event, the compression ratio, and the memory that an encoder keeps.
func BenchmarkEncode(b *testing.B) {
	for _, of := range []struct {
		logs string
		size int
	}{
		{"text", 100_000},
		{"json", 100_000},
		{"text", 500_000},
		{"json", 500_000},
	} {
		logs := of.logs
		lines := corpus(of.size, logs == "json")
		size := len(bytes.Join(lines, nil))
		var pages [][]byte // of the dispatcher's size
		for all := bytes.Join(lines, nil); len(all) > 0; {
			n := min(len(all), 16<<10)
			pages, all = append(pages, all[:n]), all[n:]
		}
		dst := make([]byte, 0, 1<<20)
		for _, encoder := range []struct {
			name string
			new  func() func()
		}{
			{"gzip", func() func() {
				c := record.NewCompressor(record.Gzip)
				return func() { dst = c.Append(dst[:0], pages) }
			}},
			{"zstd", func() func() {
				c := record.NewCompressor(record.Zstd)
				return func() { dst = c.Append(dst[:0], pages) }
			}},
			{"cloudwatch", func() func() {
				c := &record.CloudWatchEncoder{Owner: "123456789012", LogGroup: "/aws/lambda/checkout", JSONLogs: logs == "json"}
				return func() {
					c.Begin(dst[:0], source.Instance(), logStream)
					for _, line := range lines {
						c.Add(line)
					}
					dst = c.End()
				}
			}},
			{"kpl", func() func() {
				c := new(record.KPLEncoder)
				return func() {
					c.Begin(dst[:0], source.Instance())
					for _, line := range lines {
						c.Add(line)
					}
					dst = c.End()
				}
			}},
		} {
			b.Run(fmt.Sprintf("%s/%s/%dKB", encoder.name, logs, of.size/1000), func(b *testing.B) {
				before := heap()
				run := encoder.new()
				run()
				kept := heap() - before
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					run()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(lines)), "ns/event")
				b.ReportMetric(float64(size)/float64(len(dst)), "ratio")
				b.ReportMetric(float64(kept)/1024, "KiB-kept")
				b.ReportMetric(0, "ns/op")
				runtime.KeepAlive(run)
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
