package input_test

import (
	"bytes"
	"testing"

	"kinesis-telemetry-extension/internal/input"
)

func BenchmarkRead(b *testing.B) {
	line := `{"time":"2026-11-23T18:00:00.123Z","type":"function","record":"2026-11-23T18:00:00.123Z INFO order received, with a text\n",` +
		`"requestId":"8476a536-e9f4-11e8-9739-2dfe598c3fcd","seq":42,"source":{"function":"checkout","version":"7","account":"123456789012",` +
		`"region":"eu-west-1","instance":"0f4c2a6e8b1d4f3a9c5e7d0b2a4c6e8f"}}` + "\n"
	data := bytes.Repeat([]byte(line), 1000)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for left := b.N; left > 0; left -= 1000 {
		for _, err := range input.Read(b.Context(), bytes.NewReader(data)) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
