package cost

import (
	"fmt"
	"math"
	"strings"
)

// bar is a destination and its price.
type bar struct {
	name  string
	usd   float64
	class string
}

// bars returns the bars of the chart.
func bars(p Prices, m Measurements) []bar {
	logs := p.Logs(m.CloudWatchLines*Invocations, m.CloudWatchBytes*Invocations)
	all := []bar{
		{"CloudWatch Logs", logs.Standard, "aws"},
		{"Lambda to Firehose", logs.Delivery + logs.Firehose, "aws"},
		{"Lambda to S3", logs.Delivery, "aws"},
	}
	for _, r := range m.Runs {
		if r.Format != "ndjson" || r.EachInvocation {
			continue
		}
		b := p.Bill(r.Times(Invocations))
		all = append(all, bar{"on-demand, " + r.Compression, b.OnDemand + b.OnDemandOut, "ours"})
		all = append(all, bar{"provisioned, " + r.Compression, b.Provisioned + b.Shards, "ours"})
	}
	return all
}

// SVG returns the chart. Its colors follow the reader's theme, light or dark.
func SVG(p Prices, m Measurements) string {
	const width, left, top, step, height, room = 720, 190, 52, 26, 16, 440
	all := bars(p, m)
	most := 0.
	for _, bar := range all {
		most = math.Max(most, bar.usd)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	title := fmt.Sprintf("$ for a million invocations of %d lines", m.Lines)
	line(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, top+step*len(all)+14, title)
	line(`<style>
text { font: 13px sans-serif; fill: #1f2328 }
.title { font-weight: bold }
.aws { fill: #8c959f }
.ours { fill: #1a7f37 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .aws { fill: #6e7681 } .ours { fill: #3fb950 } }
</style>`)
	line(`<text class="title" x="12" y="22">%s</text>`, title)
	line(`<text x="12" y="40">green: this extension, ndjson, one consumer, full shards, without on-demand's $%.2f a day</text>`,
		24*p.usd("onDemandStreamHour"))
	for i, bar := range all {
		y := top + step*i
		length := math.Max(1, bar.usd/most*room)
		line(`<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+13, bar.name)
		line(`<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, bar.class, left, y, length, height)
		line(`<text x="%.1f" y="%d">%.3f</text>`, left+length+8, y+13, bar.usd)
	}
	line("</svg>")
	return b.String()
}
