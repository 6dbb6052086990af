package cost_test

import (
	"math"
	"os"
	"testing"

	"kinesis-telemetry-extension/internal/cost"
)

func load(t *testing.T) (cost.Prices, cost.Measurements) {
	t.Helper()
	prices, measured, err := cost.Load()
	if err != nil {
		t.Fatal(err)
	}
	return prices, measured
}

// The committed documents match the prices and the measurements.
func TestDocuments(t *testing.T) {
	prices, measured := load(t)
	for path, text := range map[string]string{
		"../../docs/cost.md": cost.Markdown(prices, measured), "../../docs/cost.svg": cost.SVG(prices, measured),
	} {
		committed, err := os.ReadFile(path)
		if err != nil || string(committed) != text {
			t.Errorf("%s differs from the output of `go run ./internal/cost/docs docs`: %v", path, err)
		}
	}
}

// The prices match a computation by hand for a million invocations of ten lines of 300 bytes: 8.4 GB of ndjson, in records of
// 100 KB before compression.
func TestBill(t *testing.T) {
	prices, _ := load(t)
	const records = 84_000
	traffic := func(count, each int) (sum cost.Traffic) {
		var one cost.Traffic
		one.Add(each, 0)
		return one.Times(float64(count))
	}
	none := prices.Bill(traffic(records, 100_000))
	gzip, zstd := prices.Bill(traffic(records, 16_800)), prices.Bill(traffic(records, 14_900))
	flush, flushGzip := prices.Bill(traffic(1_000_000, 8_400)), prices.Bill(traffic(1_000_000, 1_500))
	single := prices.Bill(traffic(13_000_000, 650))
	logs, logsMost := prices.Logs(0, 3.3e9), prices.Logs(13e6, 3.3e9)
	for _, test := range []struct {
		what      string
		got, want float64
	}{
		{"CloudWatch Logs", logs.Standard, 1.65},
		{"CloudWatch Logs with 26 bytes per event", logsMost.Standard, 1.82},
		{"Lambda to S3", logs.Delivery, .83},
		{"Lambda to S3 with 26 bytes per event", logsMost.Delivery, .91},
		{"shards, none", none.Shards, .035},
		{"shards, gzip", gzip.Shards, .006},
		{"shards, zstd", zstd.Shards, .005},
		{"units, none", none.Provisioned, .005},
		{"units, gzip", gzip.Provisioned, .001},
		{"units, zstd", zstd.Provisioned, .001},
		{"units, a flush per invocation", flush.Provisioned, .014},
		{"units, the same with gzip", flushGzip.Provisioned, .014},
		{"on-demand in, none", none.OnDemand, .63},
		{"on-demand in, gzip", gzip.OnDemand, .11},
		{"on-demand in, zstd", zstd.OnDemand, .1},
		{"on-demand out, none", none.OnDemandOut, .31},
		{"on-demand out, gzip", gzip.OnDemandOut, .05},
		{"on-demand out, zstd", zstd.OnDemandOut, .05},
		{"on-demand, a flush per invocation", flush.OnDemand, .69},
		{"on-demand, the same with gzip", flushGzip.OnDemand, .15},
		{"Advantage, none", none.Advantage, .25},
		{"Advantage, gzip", gzip.Advantage, .043},
		{"Advantage, zstd", zstd.Advantage, .038},
		{"Firehose, none", none.Firehose, .23},
		{"Firehose, gzip", gzip.Firehose, .046},
		{"Firehose, zstd", zstd.Firehose, .035},
		{"Kinesis delivery, none", none.ToS3ByKinesis, .21},
		{"Kinesis delivery, gzip", gzip.ToS3ByKinesis, .035},
		{"Kinesis delivery, zstd", zstd.ToS3ByKinesis, .032},
		{"units, one event per record", single.Provisioned, .18},
		{"on-demand, one event per record", single.OnDemand, .99},
		{"NAT, none: 8.4 GB, and a third more for base64", none.NAT, .38 * 4 / 3},
		{"NAT, gzip", gzip.NAT, .063 * 4 / 3},
		{"CPU of a million times 26 µs", prices.CPU(26) * 1e6, .00075},
	} {
		if tolerance := math.Max(.0005, .07*test.want); math.Abs(test.got-test.want) > tolerance { // want has one to three digits
			t.Errorf("%s: %.4f, want %.4f", test.what, test.got, test.want)
		}
	}
}
