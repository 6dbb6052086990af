package simulate

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Geometry of the drawing, in pixels.
const (
	width                 = 980
	rowsTop, rowHeight    = 92, 50
	barHeight             = 11
	billedLeft, delayLeft = 150, 590
	panelWidth            = 320
	chartHeight           = 200
	chartLeft, chartWidth = 90, 820
)

// Axes: billed time is linear up to billedMost ms, delays are logarithmic.
const (
	billedMost               = 40.0
	delayLeast, delayDecades = 0.01, 5 // s, powers of ten
)

// colours of Modes; they differ in lightness, too.
var colours = []string{"#c8553d", "#7ba7d0", "#1d4e5f"}

// SVG draws the figures: bars for each scenario, and PutRecords over time after the outage.
func SVG(all []Result) string {
	var b strings.Builder
	rowsBottom := rowsTop + rowHeight*len(all)
	height := rowsBottom + 90 + chartHeight + 60
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11" fill="#222">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text(&b, 20, 26, "start", "What each mode costs and how late it delivers", `font-size="16" font-weight="bold"`)
	for m, mode := range Modes {
		x := 20 + 90*m
		fmt.Fprintf(&b, `<rect x="%d" y="38" width="12" height="12" fill="%s"/>`, x, colours[m])
		text(&b, x+17, 48, "start", string(mode), "")
	}
	axes(&b, rowsBottom)
	for i, r := range all {
		row(&b, r, rowsTop+rowHeight*i)
	}
	for _, r := range all {
		if r.Outage > 0 {
			chart(&b, r, rowsBottom+90)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func text(b *strings.Builder, x, y int, anchor, words, more string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, more, words)
}

func line(b *strings.Builder, x1, y1, x2, y2 int, colour string) {
	fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

const (
	grid = "#ddd"
	bold = `font-weight="bold"`
)

// axes draws the scales of both panels.
func axes(b *strings.Builder, bottom int) {
	text(b, billedLeft, rowsTop-24, "start", "billed time added, mean of an invocation (ms)", bold)
	for tick := 0; tick <= int(billedMost); tick += 10 {
		x := billedLeft + tick*panelWidth/int(billedMost)
		line(b, x, rowsTop-4, x, bottom, grid)
		text(b, x, rowsTop-8, "middle", fmt.Sprint(tick), "")
	}
	text(b, delayLeft, rowsTop-24, "start", "delay from emission to storage, p99 (logarithmic)", bold)
	for decade, label := range []string{"10 ms", "100 ms", "1 s", "10 s", "100 s", "1000 s"} {
		x := delayLeft + decade*panelWidth/delayDecades
		colour := grid
		if label == brief(maxDelay) {
			colour = "#b00"
			text(b, x, bottom+14, "middle", "MAX_DELAY", `fill="#b00"`)
		}
		line(b, x, rowsTop-4, x, bottom, colour)
		text(b, x, rowsTop-8, "middle", label, "")
	}
}

// row draws a scenario.
func row(b *strings.Builder, r Result, top int) {
	line(b, 20, top, width-20, top, grid)
	text(b, 20, top+30, "start", r.Name, bold)
	for m, f := range r.Figures {
		y := top + 8 + m*(barHeight+1)
		added := f.AddedMillis()
		bar(b, billedLeft, y, int(min(added/billedMost, 1)*panelWidth), colours[m], fmt.Sprintf("%.1f", added))
		delay := f.Delay.Quantile(0.99)
		decades := math.Log10(max(delay.Seconds(), delayLeast) / delayLeast)
		bar(b, delayLeft, y, int(min(decades/delayDecades, 1)*panelWidth), colours[m], brief(delay))
	}
}

func bar(b *strings.Builder, x, y, length int, colour, label string) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, x, y, max(length, 1), barHeight, colour)
	text(b, x+max(length, 1)+4, y+barHeight-2, "start", label, `font-size="10" paint-order="stroke" stroke="#fff" stroke-width="3"`)
}

// chart draws PutRecords a second over time.
func chart(b *strings.Builder, r Result, top int) {
	seconds := int((r.Length + r.RunOn) / time.Second)
	most := 0
	for _, f := range r.Figures {
		for _, n := range f.PerSecond[:min(seconds, len(f.PerSecond))] {
			most = max(most, n)
		}
	}
	const step = 5000
	most = (most + step - 1) / step * step
	bottom := top + chartHeight
	at := func(second int) int { return chartLeft + second*chartWidth/seconds }
	text(b, 20, top-34, "start", r.Name+": PutRecords a second over time", `font-size="14" font-weight="bold"`)
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="#f6e9e6"/>`+"\n",
		chartLeft, top, at(int(r.Outage/time.Second))-chartLeft, chartHeight)
	text(b, chartLeft+6, top-8, "start", "the stream answers 500", `fill="#b00"`)
	for n := 0; n <= most; n += step {
		y := bottom - n*chartHeight/most
		line(b, chartLeft, y, chartLeft+chartWidth, y, grid)
		text(b, chartLeft-6, y+4, "end", fmt.Sprint(n), "")
	}
	for s := 0; s <= seconds; s += 5 {
		text(b, at(s), bottom+16, "middle", fmt.Sprint(s), "")
	}
	text(b, chartLeft+chartWidth/2, bottom+36, "middle", "time (s)", bold)
	text(b, 0, 0, "middle", "PutRecords a second", fmt.Sprintf(`font-weight="bold" transform="translate(30 %d) rotate(-90)"`, top+chartHeight/2))
	for m, f := range r.Figures {
		var points []string
		for s, n := range f.PerSecond[:min(seconds, len(f.PerSecond))] {
			points = append(points, fmt.Sprintf("%d,%d", (at(s)+at(s+1))/2, bottom-n*chartHeight/most))
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", colours[m], strings.Join(points, " "))
	}
}
