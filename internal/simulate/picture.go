package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/flush"
)

// The two timelines of the picture have one scale, so that they can be compared.
const (
	shown     = 800 * time.Millisecond // of each timeline
	lineLeft  = 20
	lineWidth = 820
)

// pictureHead is the data path of an event. The picture has its own background: the page's may be dark although the browser
// reports a light theme.
const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 350" role="img"
  font-family="system-ui, sans-serif" font-size="13">
<title>From a function to the readers of its telemetry, and when an invocation is held back</title>
<!-- Written by go run ./internal/simulate/docs docs; do not edit. -->
<style>
  .ground { fill: #ffffff } text, .tip { fill: #1f2328 } .small { font-size: 11.5px } .bold { font-weight: 600 }
  .box { fill: #f6f8fa; stroke: #818b98 } .outer { fill: none; stroke: #818b98; stroke-dasharray: 4 3 }
  .arrow { stroke: #1f2328; fill: none }
  .frozen { fill: #e4e8ec } .handler { fill: #0969da } .put { fill: #1a7f37 } .held { fill: #d1242f }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text, .tip { fill: #f0f6fc }
    .box { fill: #151b23; stroke: #656c76 } .outer { stroke: #656c76 } .arrow { stroke: #f0f6fc }
    .frozen { fill: #2a313c } .handler { fill: #4493f8 } .put { fill: #3fb950 } .held { fill: #f85149 }
  }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
  <path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="ground" width="860" height="350" rx="6"/>
<rect class="outer" x="12" y="12" width="494" height="122" rx="6"/>
<text class="small" x="22" y="30">Lambda execution environment</text>
<rect class="box" x="24" y="56" width="96" height="60" rx="4"/>
<text class="bold" x="72" y="82" text-anchor="middle">function</text>
<text class="small" x="72" y="100" text-anchor="middle">any runtime</text>
<path class="arrow" d="M120 86H208" marker-end="url(#tip)"/>
<text class="small" x="163" y="78" text-anchor="middle">Telemetry API</text>
<rect class="box" x="210" y="42" width="284" height="82" rx="4"/>
<text class="bold" x="352" y="60" text-anchor="middle">kinesis-telemetry-extension</text>
<rect class="box" x="220" y="72" width="66" height="42" rx="4"/>
<text class="small" x="253" y="97" text-anchor="middle">Listener</text>
<path class="arrow" d="M286 93H306" marker-end="url(#tip)"/>
<rect class="box" x="308" y="72" width="94" height="42" rx="4"/>
<text class="small" x="355" y="89" text-anchor="middle">Dispatcher</text>
<text class="small" x="355" y="105" text-anchor="middle">buffer, journal</text>
<path class="arrow" d="M402 93H422" marker-end="url(#tip)"/>
<rect class="box" x="424" y="72" width="60" height="42" rx="4"/>
<text class="small" x="454" y="89" text-anchor="middle">Kinesis</text>
<text class="small" x="454" y="105" text-anchor="middle">Client</text>
<path class="arrow" d="M484 93H588" marker-end="url(#tip)"/>
<text class="small" x="547" y="85" text-anchor="middle">PutRecords</text>
<rect class="box" x="590" y="56" width="92" height="60" rx="4"/>
<text class="bold" x="636" y="82" text-anchor="middle">Kinesis</text>
<text class="small" x="636" y="100" text-anchor="middle">data stream</text>
<path class="arrow" d="M682 86H712" marker-end="url(#tip)"/>
<text class="small" x="720" y="54">Lambda</text>
<text class="small" x="720" y="72">Firehose: S3, Athena,</text>
<text class="small" x="720" y="90">DuckDB, OpenSearch</text>
<text class="small" x="720" y="108">KCL, Flink</text>
<text class="small" x="720" y="126">ktel, on your machine</text>
`

// Picture returns an SVG of an event's data path, and of the times at which the extension holds an invocation back, in steady and
// in sparse traffic.
func Picture(all []Result) string {
	var b strings.Builder
	b.WriteString(pictureHead)
	steady, heldSteady := adaptive(all, "steady")
	sparse, heldSparse := adaptive(all, "sparse")

	steps := traceOf(steady, 5*time.Second)
	sends := slices.IndexFunc(steps, func(s Step) bool { return s.At > time.Second && strings.HasPrefix(s.What, "sends ") })
	var events, records, bytes int
	var probe bool
	fmt.Sscanf(steps[sends].What, Sends, &events, &records, &bytes, &probe) //nolint:errcheck // Trace wrote it with this format
	fmt.Fprintf(&b, `<text x="20" y="172"><tspan class="bold">An invocation every 100 ms: held back %s.</tspan>`+
		" Each PutRecords ships many invocations' events, here %d, during a handler.</text>\n", inMilliseconds(heldSteady), events)
	drawLine(&b, 182, steady, steps, steps[sends].At-shown/2)

	steps = traceOf(sparse, 5*time.Minute)
	second := slices.IndexFunc(steps, func(s Step) bool { return s.What == Invoke && s.Number == 2 })
	fmt.Fprintf(&b, `<text x="20" y="236"><tspan class="bold">An invocation a minute: held back %s</tspan>`+
		" of billed time, after the response: its telemetry does not wait for the next one.</text>\n", inMilliseconds(heldSparse))
	drawLine(&b, 246, sparse, steps, steps[second].At-shown/8)

	for at := shown / 8; at < shown; at += shown / 8 {
		fmt.Fprintf(&b, `<text class="small" x="%d" y="290" text-anchor="middle">%s</text>`+"\n", place(at), inMilliseconds(at))
	}
	for i, kind := range []struct{ class, text string }{
		{"handler", "the handler runs"}, {"put", "PutRecords"}, {"held", "held back"}, {"frozen", "frozen"},
	} {
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="308" width="12" height="12"/><text class="small" x="%d" y="318">%s</text>`+"\n",
			kind.class, 20+130*i, 37+130*i, kind.text)
	}
	b.WriteString(`<text class="small" x="20" y="339">Simulated with the extension's own flush policy, mode adaptive. ` +
		"The times are 99th percentiles.</text>\n</svg>\n")
	return b.String()
}

// adaptive returns a scenario, and the 99th percentile of its holds in the mode adaptive.
func adaptive(all []Result, name string) (Scenario, time.Duration) {
	r := all[slices.IndexFunc(all, func(r Result) bool { return r.Name == name })]
	return r.Scenario, r.Figures[slices.Index(Modes, flush.Adaptive)].Hold.Quantile(0.99)
}

func traceOf(s Scenario, length time.Duration) []Step {
	s.Length = length
	return Trace(s, defaults(flush.Adaptive), func() float64 { return 0.5 })
}

func inMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// place returns the x coordinate of a time on its timeline.
func place(at time.Duration) int { return lineLeft + int(lineWidth*at/shown) }

// drawLine draws a timeline that begins at from.
func drawLine(b *strings.Builder, y int, s Scenario, steps []Step, from time.Duration) {
	bar := func(class string, y, height int, begin, end time.Duration) {
		begin, end = max(begin-from, 0), min(end-from, shown)
		if begin < end {
			fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`+"\n",
				class, place(begin), y, place(end)-place(begin), height)
		}
	}
	bar("frozen", y, 30, from, from+shown)
	var begun, sent time.Duration
	inFlight := false
	endRequest := func(at time.Duration) {
		if inFlight {
			bar("put", y+18, 12, sent, at)
		}
		inFlight = false
	}
	for _, step := range steps {
		switch {
		case step.What == Invoke:
			begun = step.At
		case strings.HasPrefix(step.What, "sends "):
			sent, inFlight = step.At, true
		case strings.HasPrefix(step.What, "reads "):
			endRequest(step.At)
		case step.What == Frozen:
			endRequest(step.At) // the extension reads the reply after the thaw
			bar("handler", y, 18, begun, begun+s.Handler)
			bar("held", y, 18, begun+s.Handler, step.At)
		}
	}
}
