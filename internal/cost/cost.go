// Package cost says what a million invocations cost by each way that their telemetry can take: docs/cost.md. The prices stand in
// prices.json, and what the extension ships and takes in measurements.json, which a test measures.
package cost

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
)

//go:embed prices.json
var pricesJSON []byte

//go:embed measurements.json
var measurementsJSON []byte

// Prices are AWS's.
type Prices struct {
	Region   string           `json:"region"`
	Compiled string           `json:"compiled"`
	Source   string           `json:"source"`
	Prices   map[string]Price `json:"prices"`
}

// Price is one of them.
type Price struct {
	USD   float64 `json:"usd"`
	Per   string  `json:"per"`
	What  string  `json:"what"`
	Page  string  `json:"page"`
	Dated string  `json:"dated"` // where it is of another day than Prices.Compiled
}

// Measurements are of runs of the real extension.
type Measurements struct {
	Date    string `json:"date"`
	Machine string `json:"machine"`
	Go      string `json:"go"`
	// Of an invocation: the lines that the function prints, their bytes, the events that Lambda posts, and what CloudWatch Logs has of
	// them, START, END and REPORT included.
	Lines           int     `json:"lines"`
	LineBytes       float64 `json:"lineBytes"`
	Events          float64 `json:"events"`
	CloudWatchBytes float64 `json:"cloudWatchBytes"`
	CloudWatchLines float64 `json:"cloudWatchLines"`

	Runs []Run `json:"runs"`
}

// Run is what the extension made of an invocation's telemetry, in a format and compression.
type Run struct {
	Format      string `json:"format"`
	Compression string `json:"compression"`
	// EachInvocation: records leave at the end of each invocation, and not when they are full.
	EachInvocation bool `json:"eachInvocation,omitempty"`

	Traffic
	CPUMicros float64 `json:"cpuMicrosPerEvent"`
	MemoryMiB float64 `json:"memoryMiB"`
}

// Traffic is what an invocation adds to a stream, and how it is billed. Bytes are data and partition keys.
type Traffic struct {
	Records   float64 `json:"records"`
	Bytes     float64 `json:"bytes"`
	Units     float64 `json:"units"`     // of 25 KiB, each record rounded up
	KiB       float64 `json:"kib"`       // each record rounded up to 1 KiB
	FiveKiB   float64 `json:"fiveKiB"`   // each record rounded up to 5 KiB, in units of 5 KiB
	WireBytes float64 `json:"wireBytes"` // data as base64
}

// Add adds a record.
func (t *Traffic) Add(data, key int) {
	size := float64(data + key)
	t.Records++
	t.Bytes += size
	t.Units += math.Ceil(size / (25 << 10))
	t.KiB += math.Ceil(size / (1 << 10))
	t.FiveKiB += math.Ceil(float64(data) / (5 << 10))
	t.WireBytes += 4*math.Ceil(float64(data)/3) + float64(key)
}

// Times is the traffic of n as much; of a million invocations it is what the document bills.
func (t Traffic) Times(n float64) Traffic {
	return Traffic{t.Records * n, t.Bytes * n, t.Units * n, t.KiB * n, t.FiveKiB * n, t.WireBytes * n}
}

// Invocations are what each figure is for.
const Invocations = 1e6

// Kinesis and Firehose count a GB as 2^30 bytes, as the limits of a shard have it; logs and NAT are counted with 10^9. The
// difference is 7 %.
const (
	binaryGB  = 1 << 30
	decimalGB = 1e9
)

// Bill is what the traffic costs by each kind of stream, in dollars, without what is paid by the hour for a stream.
type Bill struct {
	Provisioned, Shards          float64 // PUT units; hours of shards that are full, at 1 MB/s
	OnDemand, OnDemandOut        float64
	Advantage, AdvantageOut      float64
	NAT, Firehose, ToS3ByKinesis float64
}

func (p *Prices) usd(name string) float64 {
	price, ok := p.Prices[name]
	if !ok {
		panic("prices.json has no " + name)
	}
	return price.USD
}

// Bill says what traffic costs.
func (p *Prices) Bill(t Traffic) Bill {
	rounded, data := t.KiB*1024/binaryGB, t.Bytes/binaryGB
	return Bill{
		Provisioned: t.Units / 1e6 * p.usd("putUnits"), Shards: t.Bytes / 1e6 / 3600 * p.usd("shardHour"),
		OnDemand: rounded * p.usd("onDemandIn"), OnDemandOut: data * p.usd("onDemandOut"),
		Advantage: rounded * p.usd("advantageIn"), AdvantageOut: data * p.usd("advantageOut"),
		NAT: t.WireBytes / decimalGB * p.usd("nat"), Firehose: t.FiveKiB * 5 * 1024 / binaryGB * p.usd("firehose"),
		ToS3ByKinesis: data * p.usd("streamDelivery"),
	}
}

// logEventBytes is what CloudWatch Logs adds to each event when it bills: https://aws.amazon.com/cloudwatch/pricing/
const logEventBytes = 26

// Logs is what CloudWatch's own ways cost for so many lines and bytes of text: Logs itself, and Lambda's delivery to S3 or to
// Firehose, which bills on its own.
type Logs struct{ Standard, Delivery, Firehose float64 }

// Logs says what they cost.
func (p *Prices) Logs(lines, bytes float64) Logs {
	gb := (bytes + logEventBytes*lines) / decimalGB
	return Logs{gb * p.usd("logsIngestion"), gb * p.usd("logsDelivery"), gb * decimalGB / binaryGB * p.usd("firehose")}
}

// CPU is what the extension's own CPU time would cost where it is billed, in a function of 128 MB, which has a fourteenth of a CPU.
func (p *Prices) CPU(micros float64) float64 {
	const cpuMB, memoryMB = 1769, 128 // a whole CPU: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	return micros / 1e6 * cpuMB / memoryMB * memoryMB / 1024 * p.usd("lambda")
}

// Load reads the prices and the measurements.
func Load() (prices Prices, measured Measurements, err error) {
	if err := json.Unmarshal(pricesJSON, &prices); err != nil {
		return prices, measured, fmt.Errorf("internal/cost/prices.json: %w", err)
	}
	if err := json.Unmarshal(measurementsJSON, &measured); err != nil {
		return prices, measured, fmt.Errorf("internal/cost/measurements.json: %w", err)
	}
	return prices, measured, nil
}
