// Package cost computes the cost of the telemetry of a million invocations, for each destination and format: docs/cost.md. The
// prices are in prices.json. The extension's bytes, CPU and memory are in measurements.json, which a test writes.
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

// Prices are AWS's prices.
type Prices struct {
	Region   string           `json:"region"`
	Compiled string           `json:"compiled"`
	Source   string           `json:"source"`
	Prices   map[string]Price `json:"prices"`
}

// Price is one price.
type Price struct {
	USD   float64 `json:"usd"`
	Per   string  `json:"per"`
	What  string  `json:"what"`
	Page  string  `json:"page"`
	Dated string  `json:"dated"` // empty: the day of Prices.Compiled
}

// Measurements are measurements of the real extension.
type Measurements struct {
	Date    string `json:"date"`
	Machine string `json:"machine"`
	Go      string `json:"go"`
	// These are per invocation: the lines that the function prints, the bytes of a line, the events that Lambda posts, and the
	// bytes and lines in CloudWatch Logs, including START, END and REPORT.
	Lines           int     `json:"lines"`
	LineBytes       float64 `json:"lineBytes"`
	Events          float64 `json:"events"`
	CloudWatchBytes float64 `json:"cloudWatchBytes"`
	CloudWatchLines float64 `json:"cloudWatchLines"`

	Runs []Run `json:"runs"`
}

// Run has the measurements of one format and compression, per invocation.
type Run struct {
	Format      string `json:"format"`
	Compression string `json:"compression"`
	// EachInvocation means that records are shipped at the end of each invocation, not when they are full.
	EachInvocation bool `json:"eachInvocation,omitempty"`

	Traffic
	CPUMicros float64 `json:"cpuMicrosPerEvent"`
	MemoryMiB float64 `json:"memoryMiB"`
}

// Traffic has the amounts of a stream's records that AWS bills. Bytes are data and partition keys.
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

// Times returns n times the traffic.
func (t Traffic) Times(n float64) Traffic {
	return Traffic{t.Records * n, t.Bytes * n, t.Units * n, t.KiB * n, t.FiveKiB * n, t.WireBytes * n}
}

// Invocations is the number of invocations of each figure in the document.
const Invocations = 1e6

// A GB of Kinesis and Firehose is counted as 2^30 bytes, like the limits of a shard, and a GB of logs and NAT as 10^9. The
// difference is 7 %.
const (
	binaryGB  = 1 << 30
	decimalGB = 1e9
)

// Bill is the price of traffic with each kind of stream, in dollars, without a stream's hourly price.
type Bill struct {
	Provisioned, Shards          float64 // PUT units; hours of full shards, at 1 MB/s
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

// Bill returns the price of traffic.
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

// logEventBytes is the number of bytes that CloudWatch Logs bills per event in addition: https://aws.amazon.com/cloudwatch/pricing/
const logEventBytes = 26

// Logs has the prices of CloudWatch Logs and of Lambda's own delivery to S3 or Firehose. Firehose is the price of Firehose itself.
type Logs struct{ Standard, Delivery, Firehose float64 }

// Logs returns the prices of this number of lines and bytes of text.
func (p *Prices) Logs(lines, bytes float64) Logs {
	gb := (bytes + logEventBytes*lines) / decimalGB
	return Logs{gb * p.usd("logsIngestion"), gb * p.usd("logsDelivery"), gb * decimalGB / binaryGB * p.usd("firehose")}
}

// CPU returns the price of the extension's CPU time if it is billed, in a function of 128 MB, which has a fourteenth of a CPU.
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
