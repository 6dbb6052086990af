package record

import (
	"bytes"
	"testing"
)

// The bound of a record's size holds, and is close to the size.
func TestMaxKPLSize(t *testing.T) {
	var encoder KPLEncoder
	for _, size := range []int{1, 2, 120, 127, 128, 129, 16380, 16400, 1 << 20, 3 << 20} {
		for _, events := range []int{1, 2, 500} {
			if events*size > 4<<20 {
				continue
			}
			key := "0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f"
			line := bytes.Repeat([]byte("x"), size)
			line[size-1] = '\n'
			encoder.Begin(nil, key)
			for range events {
				encoder.Add(line)
			}
			got, bound := len(encoder.End()), MaxKPLSize(key, events, events*size)
			if got > bound || got < bound-events*6 {
				t.Errorf("%d events of %d bytes: %d bytes, the bound is %d", events, size, got, bound)
			}
		}
	}
}

// A record has exactly these bytes.
func TestKPLGolden(t *testing.T) {
	var encoder KPLEncoder
	encoder.Begin([]byte("before"), "key")
	encoder.Add([]byte(`{"a":1}` + "\n"))
	encoder.Add([]byte(`{}`))
	const want = "before\xf3\x89\x9a\xc2\x0a\x03key\x1a\x0b\x08\x00\x1a\x07{\"a\":1}\x1a\x06\x08\x00\x1a\x02{}"
	if got := encoder.End(); string(got[:len(got)-16]) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// An event id is parsed into the time, the number and the instance that it was made of.
func TestEventID(t *testing.T) {
	for _, at := range []int64{0, 1, 448415508583, 1795456800123, maxEventTime} {
		for _, seq := range []uint64{0, 1, 1 << 16, 1<<48 + 5, 1<<64 - 1} {
			for _, instance := range []string{"0f4c2a6e8b1d4f3a9c5e", "ffffffffffffffffffff", "00000000000000000000"} {
				id := appendEventID(nil, at, seq, instanceBits(instance+"7d0b2a4c6e8f"))
				gotAt, gotSeq, gotInstance, ok := parseEventID(string(id))
				if !ok || gotAt != at || gotSeq != seq || gotInstance != instance {
					t.Errorf("%d %d %s: %s is %d %d %s", at, seq, instance, id, gotAt, gotSeq, gotInstance)
				}
			}
		}
	}
	if got := instanceBits("no hexadecimal"); got == instanceBits("another") {
		t.Errorf("instances that are not hexadecimal have the same bits: %x", got)
	}
}

// Data that cannot be compressed grows by at most a thousandth and 64 bytes.
func TestCompressionOverhead(t *testing.T) {
	noise := make([]byte, 600_000)
	state := uint32(1)
	for i := range noise {
		state = state*1664525 + 1013904223
		noise[i] = byte(state >> 24)
	}
	for _, with := range []Compression{Gzip, Zstd} {
		compressor := NewCompressor(with)
		for _, size := range []int{0, 1, 10, 1000, 100_000, 1<<17 - 1, 1 << 17, 1<<17 + 1, 1 << 18, 600_000} {
			data := compressor.Append([]byte("before"), [][]byte{noise[:size/2], noise[size/2 : size]})[len("before"):]
			if bound := size + size/1000 + 64; len(data) > bound {
				t.Errorf("%s: %d bytes of %d, the bound is %d", with, len(data), size, bound)
			}
			plain, found, err := Decompress(append(data, data...))
			if err != nil || found != with || !bytes.Equal(plain, append(noise[:size:size], noise[:size]...)) {
				t.Errorf("%s of %d bytes: %d bytes, %s, %v", with, size, len(plain), found, err)
			}
		}
	}
}

// Encoders with grown buffers do not allocate per event. With zstd a record costs two allocations of a few bytes.
func TestEncodersDoNotAllocate(t *testing.T) {
	source := NewSource(SourceFields{Function: "checkout", Account: "123456789012", Instance: "0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f"})
	var lines [][]byte
	for seq := range uint64(200) {
		for _, raw := range []string{
			`{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"some text \"quoted\"\n"}`,
			`{"time":"2026-11-23T18:00:00.123Z","type":"extension","record":{"level":"INFO","message":"some text"}}`,
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.report","record":{"requestId":"8476a536","status":"success",` +
				`"metrics":{"durationMs":2338.66,"billedDurationMs":2521,"memorySizeMB":3009,"maxMemoryUsedMB":173}}}`,
			`{"time":"2026-11-23T18:00:00.123Z","type":"platform.telemetrySubscription",` +
				`"record":{"name":"x","state":"Subscribed","types":["platform","function"]}}`,
		} {
			lines = append(lines, append(AppendEvent(nil, &Event{Raw: []byte(raw), Seq: seq, Source: source}), '\n'))
		}
	}
	var dst []byte
	var kpl KPLEncoder
	cloudWatch := CloudWatchEncoder{Owner: "123456789012", LogGroup: "/aws/lambda/checkout"}
	withGzip, withZstd := NewCompressor(Gzip), NewCompressor(Zstd)
	for _, test := range []struct {
		name string
		most float64
		run  func()
	}{
		{"gzip", 0, func() { dst = withGzip.Append(dst[:0], lines) }},
		{"zstd", 2, func() { dst = withZstd.Append(dst[:0], lines) }},
		{"kpl", 0, func() {
			kpl.Begin(dst[:0], "key")
			for _, line := range lines {
				kpl.Add(line)
			}
			dst = kpl.End()
		}},
		{"cloudwatch", 0, func() {
			cloudWatch.Begin(dst[:0], source.Instance(), "2026/11/23/[7]x")
			for _, line := range lines {
				cloudWatch.Add(line)
			}
			dst = cloudWatch.End()
		}},
	} {
		test.run()
		if allocs := testing.AllocsPerRun(20, test.run); allocs > test.most {
			t.Errorf("%s: %v allocations", test.name, allocs)
		}
	}
}
