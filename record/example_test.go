package record_test

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"kinesis-telemetry-extension/record"
)

// show prints the first two events of a record, as a consumer reads a record of any format.
func show(file string) {
	data, err := os.ReadFile("testdata/vectors/" + file) // a record's Data
	if err != nil {
		fmt.Println(err)
		return
	}
	shown := 0
	for event, err := range record.Unpack(data) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(event.Format, event.Compression, event.Seq, event.Type)
		if shown++; shown == 2 {
			return
		}
	}
}

func ExampleUnpack() {
	for event, err := range record.Unpack([]byte(`{"time":"2026-11-26T05:18:23.729Z","type":"function","record":"order 7 received",` +
		`"requestId":"8ab7728d","seq":6,"source":{"function":"hello","instance":"a6ccf84e86c2ea85a827f6ab11133759"}}` + "\n")) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(event.Source.Function, event.RequestID, event.Seq, string(event.Record))
	}
	// Output: hello 8ab7728d 6 "order 7 received"
}

func ExampleUnpack_ndjson() {
	show("ndjson.bin")
	// Output:
	// ndjson none 0 platform.initStart
	// ndjson none 1 platform.telemetrySubscription
}

func ExampleUnpack_json() {
	show("json.bin")
	// Output: json none 5 platform.start
}

func ExampleUnpack_gzip() {
	show("ndjson.gzip.bin")
	// Output:
	// ndjson gzip 0 platform.initStart
	// ndjson gzip 1 platform.telemetrySubscription
}

func ExampleUnpack_zstd() {
	show("ndjson.zstd.bin")
	// Output:
	// ndjson zstd 0 platform.initStart
	// ndjson zstd 1 platform.telemetrySubscription
}

func ExampleUnpack_cloudwatch() {
	show("cloudwatch-text.bin")
	// Output:
	// cloudwatch gzip 0 platform.initStart
	// cloudwatch gzip 1 platform.telemetrySubscription
}

func ExampleUnpack_kpl() {
	show("kpl.bin")
	// Output:
	// kpl none 0 platform.initStart
	// kpl none 1 platform.telemetrySubscription
}

// Data of another writer are an error that names their kind.
func ExampleUnpack_foreign() {
	for _, err := range record.Unpack([]byte(`H4sIAAAAAAAA/6tWKkktLlGyUlAqS8wpTlWqBQBU1GnaEwAAAA==`)) {
		fmt.Println(errors.Is(err, record.ErrForeign), err)
	}
	// Output: true not written by the extension: base64 of gzip: decode it first
}

func ExampleCompressor() {
	lines := [][]byte{[]byte(`{"seq":1,"source":{"instance":"a"}}` + "\n"), []byte(`{"seq":2,"source":{"instance":"a"}}` + "\n")}
	compressor := record.NewCompressor(record.Gzip)
	data := compressor.Append(nil, lines)
	plain, with, err := record.Decompress(data)
	fmt.Println(with, len(plain), err)
	// Output: gzip 72 <nil>
}

func ExampleCloudWatchEncoder() {
	encoder := record.CloudWatchEncoder{Owner: "123456789012", LogGroup: "/aws/lambda/hello"}
	encoder.Begin(nil, "a6ccf84e86c2ea85a827f6ab11133759", "2026/11/26/[7]f8763df56ada4a4cb652a99b7d3d9d4a")
	encoder.Add([]byte(`{"time":"2026-11-26T05:18:23.729Z","type":"function","record":"order 7 received\n","seq":6,"source":{}}`))
	plain, _, _ := record.Decompress(encoder.End())
	fmt.Println(strings.ReplaceAll(string(plain), ",", ",\n"))
	// Output:
	// {"messageType":"DATA_MESSAGE",
	// "owner":"123456789012",
	// "logGroup":"/aws/lambda/hello",
	// "logStream":"2026/11/26/[7]f8763df56ada4a4cb652a99b7d3d9d4a",
	// "subscriptionFilters":["kinesis-telemetry-extension"],
	// "logEvents":[{"id":"40044785904028522461069079386156699787440067162853976103",
	// "timestamp":1795670303729,
	// "message":"order 7 received\n"}]}
}

func ExampleKPLEncoder() {
	var encoder record.KPLEncoder
	encoder.Begin(nil, "a6ccf84e86c2ea85a827f6ab11133759")
	encoder.Add([]byte(`{"seq":6,"source":{"instance":"a"}}`))
	for event := range record.Unpack(encoder.End()) {
		fmt.Println(event.Format, string(event.Raw))
	}
	// Output: kpl {"seq":6,"source":{"instance":"a"}}
}
