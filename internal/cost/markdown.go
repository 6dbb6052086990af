package cost

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is the text as it grows.
type document struct {
	strings.Builder
	prices   Prices
	measured Measurements
}

func (d *document) line(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// Markdown is the document.
func Markdown(p Prices, m Measurements) string {
	d := &document{prices: p, measured: m}
	d.head()
	d.others()
	d.ours()
	d.process()
	d.list()
	return d.String()
}

func (d *document) head() {
	p, m := d.prices, d.measured
	d.line("# What telemetry costs\n")
	d.line("What a million invocations of %d lines cost, in dollars, by each way that their telemetry can take. Written by", m.Lines)
	d.line("`go run ./internal/cost/docs docs`, the same on each run; do not edit.\n")
	d.line("![Dollars for a million invocations, by way](cost.svg)\n")
	d.line("- **Prices** are of %s, as of %s. %s.", p.Region, p.Compiled, p.Source)
	d.line("  They stand in `internal/cost/prices.json`, and in the table at the end.")
	d.line("- **Bytes, CPU and memory** were measured on %s, with %s on %s (`internal/cost/measurements.json`).",
		m.Date, m.Go, m.Machine)
	d.line("  An invocation logs %d lines of JSON, %.0f bytes each, in the log format Text, and Lambda posts %.0f events of it: platform.start, runtimeDone and",
		m.Lines, m.LineBytes, m.Events)
	d.line("  report are among them. The lines are generated, of words, ids and numbers. Yours compress better or worse.")
	d.line("- **Ours comes on top of CloudWatch Logs**, unless its writes are denied ([deploy](../deploy/README.md#cloudwatchs-own-copy)).")
	d.line("- A GB of Kinesis and Firehose is counted as 2^30 bytes, one of logs and NAT as 10^9. The difference is 7 %%.\n")
}

func (d *document) others() {
	m := d.measured
	logs := d.prices.Logs(m.CloudWatchLines*Invocations, m.CloudWatchBytes*Invocations)
	d.line("## AWS's own ways\n")
	d.line("CloudWatch Logs has %.0f bytes of an invocation, in %.0f log events, and bills %d bytes more for each.\n",
		m.CloudWatchBytes, m.CloudWatchLines, logEventBytes)
	d.line("| way | $ |")
	d.line("|---|---|")
	d.line("| CloudWatch Logs, Standard | **%.2f**, then storage and queries |", logs.Standard)
	d.line("| Lambda to S3 | %.2f |", logs.Delivery)
	d.line("| Lambda to Firehose | %.2f, and %.2f for Firehose |\n", logs.Delivery, logs.Firehose)
}

func (d *document) ours() {
	d.line("## Ours\n")
	d.table(false)
	d.line("")
	d.line("- **provisioned**: PUT units, and hours of full shards (1 MB/s). A shard costs its hour whether it is full or not: $%.2f a day.",
		24*d.prices.usd("shardHour"))
	d.line("- **on-demand**: in, and out to one consumer. A stream costs $%.2f a day besides.", 24*d.prices.usd("onDemandStreamHour"))
	d.line("- **Advantage**: the same without the stream's fee, but 25 MiB/s each way are billed at least: it is for fleets.")
	d.line("- **NAT**: on top, where the function is in a VPC and reaches Kinesis by a NAT gateway. Without one there is nothing to add.")
	d.line("  PutRecords carries data as base64, which is a third more.")
	d.line("- **Firehose**, **Kinesis delivery**: on top, to S3.\n")
	d.line("## A flush at the end of each invocation\n")
	d.line("`DELIVERY=sync`, and `adaptive` where invocations are rare: records are small, and Kinesis rounds each one up.\n")
	d.table(true)
}

func (d *document) table(each bool) {
	d.line("| format | compression | bytes an event | KB an invocation | records | " +
		"provisioned | on-demand | Advantage | NAT | Firehose | Kinesis delivery |")
	d.line("|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range d.measured.Runs {
		if r.EachInvocation != each {
			continue
		}
		b := d.prices.Bill(r.Times(Invocations))
		d.line("| `%s` | `%s` | %.0f | %.2f | %.3f | %.3f + %.3f | %.2f + %.2f | %.2f + %.2f | %.2f | %.2f | %.2f |",
			r.Format, r.Compression, r.Bytes/d.measured.Events, r.Bytes/1000, r.Records,
			b.Provisioned, b.Shards, b.OnDemand, b.OnDemandOut, b.Advantage, b.AdvantageOut, b.NAT, b.Firehose, b.ToS3ByKinesis)
	}
}

func (d *document) process() {
	d.line("\n## CPU and memory\n")
	d.line("Of the extension's process, from the first invocation to its end. Its CPU time is beside the function's, and is billed only")
	d.line("where it delays that: the dollars are what a million invocations cost at most, in a function of 128 MB.\n")
	d.line("| format | compression | leaves | µs an event | µs an invocation | $ | memory, MiB |")
	d.line("|---|---|---|---|---|---|---|")
	for _, r := range d.measured.Runs {
		leaves := "in full records"
		if r.EachInvocation {
			leaves = "each invocation"
		}
		micros := r.CPUMicros * d.measured.Events
		d.line("| `%s` | `%s` | %s | %.1f | %.0f | %.4f | %.1f |",
			r.Format, r.Compression, leaves, r.CPUMicros, micros, d.prices.CPU(micros)*Invocations, r.MemoryMiB)
	}
}

func (d *document) list() {
	d.line("\n## Prices\n")
	d.line("| what | $ | a | |")
	d.line("|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(d.prices.Prices)) {
		price := d.prices.Prices[name]
		dated := ""
		if price.Dated != "" {
			dated = ", as of " + price.Dated
		}
		d.line("| %s | %s | %s | [page](%s)%s |", price.What, decimal(price.USD), price.Per, price.Page, dated)
	}
}

// decimal is a number without an exponent, and no more digits than it has.
func decimal(x float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.10f", x), "0"), ".")
}
