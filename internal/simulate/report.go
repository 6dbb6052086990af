package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Result is a scenario and what came of it in each of Modes.
type Result struct {
	Scenario
	Figures []*Figures
}

// All runs all scenarios in all modes.
func All() []Result {
	var all []Result
	for _, s := range Scenarios() {
		all = append(all, result(s))
	}
	return all
}

func result(s Scenario) Result {
	r := Result{Scenario: s}
	for _, mode := range Modes {
		r.Figures = append(r.Figures, Run(s, mode))
	}
	return r
}

// meanObjectives returns for each of Modes the mean of the scenarios' objectives.
func meanObjectives(all []Result) []float64 {
	means := make([]float64, len(Modes))
	for _, r := range all {
		for m, f := range r.Figures {
			means[m] += f.Objective() / float64(len(all))
		}
	}
	return means
}

const preface = `# Simulation

What the flush policy (internal/policy) does in each mode under given traffic, on fake time. Written by
` + "`go run ./internal/simulate/docs docs`" + `, the same on each run; do not edit. The figures are also drawn in
[simulation.svg](simulation.svg).

## What is modelled

- **Environment.** INVOKEs arrive at absolute times; one that finds its environment busy waits, it is not served by
  another. The environment freezes when the handler has ended and the extension has asked for the next event. After 6 to
  10 minutes without an INVOKE comes a SHUTDOWN, which delivers what is held; its delay counts.
- **Telemetry.** Log lines are spread over the handler. A POST comes 25 ms after the first event of a batch, in time that
  the environment is awake: the rest of the wait goes on after the thaw. platform.report is emitted at the freeze; it is
  shipped like all else, but no mode can have it before the next INVOKE, so it is left out of delays and late batches.
- **Extension.** The policy is the real one, at the default settings in a function of 128 MB: MAX_DELAY 10 s,
  FLUSH_TIMEOUT 1 s, records of 100,000 bytes, flights of 2 MiB. The main loop and the background shipper around it do
  as the extension's do. A background flight that a freeze catches is finished after the thaw; its request is stored.
- **Stream.** Each environment's partition key is one shard, drawn at random. A shard takes 1 MiB and 1,000 records a
  second, and a second's worth at once. A PutRecords takes 5 ms and 1 s for each 25 MB. What is throttled is sent again
  in the flight, after a pause between 0 and 200 ms, doubling to 2 s while nothing gets through; after a 500, 50 ms.

## What is not

Init and cold starts, the extension's own CPU beside the handler, TLS and connections that a freeze breaks, the way of a
POST and of ` + "`/next`" + `, the rounding of billed time to a millisecond, timeouts and crashes of the function, the bound of
the buffer, scaling to more environments, other writers on the stream, on-demand streams.

## The objective

What ` + "`adaptive`" + ` minimises, in ms for an invocation: the billed time added, plus 600 ms for each late batch. A late batch
is an invocation with an event that was stored later than MAX_DELAY after its emission; 600 ms is 20 waits of 30 ms, as
the policy weighs them (farShare). Requests and records are not in it.

`

// Markdown is the document.
func Markdown(all []Result) string {
	var b strings.Builder
	b.WriteString(preface)
	writeObjectives(&b, all)
	writeFigures(&b, all)
	writeOutage(&b, all)
	return b.String()
}

func writeObjectives(b *strings.Builder, all []Result) {
	b.WriteString("| scenario | traffic | function | sync | deferred | adaptive | adaptive above the best |\n|---|---|---|--:|--:|--:|--:|\n")
	row := func(name, traffic, function string, objectives []float64) {
		best := slices.Min(objectives)
		above := objectives[slices.Index(Modes, "adaptive")] - best
		verdict := "best"
		switch {
		case above > 0.05*best && above >= 0.05:
			verdict = fmt.Sprintf("**%.1f ms**", above)
		case above > 0:
			verdict = fmt.Sprintf("%.1f ms", above)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, traffic, function, joined(objectives, "%.1f"), verdict)
	}
	for _, r := range all {
		var objectives []float64
		for _, f := range r.Figures {
			objectives = append(objectives, f.Objective())
		}
		row(r.Name, fmt.Sprintf("%s, for %s", r.What, brief(r.Length)),
			fmt.Sprintf("%s, %.1f KB of logs", brief(r.Handler), float64(r.Lines*r.LineBytes)/1000), objectives)
	}
	row("**mean**", "", "", meanObjectives(all))
	b.WriteString("\nBold in the last column: more than 5 % and more than 0.05 ms above the best mode.\n")
	b.WriteString("The herds' traffic goes on for 15 s behind the minute that is counted, so that they are not measured by their end.\n\n")
}

func joined(values []float64, format string) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprintf(format, v))
	}
	return strings.Join(texts, " | ")
}

func writeFigures(b *strings.Builder, all []Result) {
	b.WriteString("## Figures\n\nAdded: billed time, mean of an invocation, and its share of all billed time. Held back and delay (emission to storage):\n" +
		"p50, p95 or p99, and max. Late: share of events, and of invocations. Cost: USD for a million invocations; added GB-seconds\n")
	fmt.Fprintf(b, "of a function of 128 MB on x86 at %.10f a GB-second ([AWS Lambda](https://aws.amazon.com/lambda/pricing)), and PUT\n", gbSecond)
	fmt.Fprintf(b, "payload units of 25 KB at %v a million, provisioned ([Kinesis Data Streams](https://aws.amazon.com/kinesis/data-streams/pricing));\nboth us-east-1.\n\n", millionUnits)
	b.WriteString("| scenario | mode | invocations | added ms | % | held back p50 / p95 / p99 | delay p50 / p99 / max | late events % | late inv. % |" +
		" PutRecords/s | records/inv. | throttled % | undelivered | Lambda $ | Kinesis $ |\n|---|---|" + strings.Repeat("--:|", 13) + "\n")
	for _, r := range all {
		for m, f := range r.Figures {
			h, d := &f.HeldBack, &f.Delay
			fmt.Fprintf(b, "| %s | %s | %d | %.2f | %.1f | %s / %s / %s | %s / %s / %s | %.2f | %.2f | %.2f | %.3f | %.1f | %d | %.4f | %.4f |\n",
				r.Name, Modes[m], f.Invocations, f.AddedMillis(), f.AddedShare(),
				brief(h.Quantile(0.5)), brief(h.Quantile(0.95)), brief(h.Quantile(0.99)),
				brief(d.Quantile(0.5)), brief(d.Quantile(0.99)), brief(d.longest),
				f.LateEventShare(), f.LateShare(), f.RequestRate(), f.RecordsEach(), f.ThrottledShare(), f.Undelivered,
				f.LambdaCost(), f.StreamCost())
		}
	}
	b.WriteString("\nUndelivered are events that the last SHUTDOWN of an environment could not deliver in its two seconds.\n\n")
}

// writeOutage tells whether the environments come back all at once.
func writeOutage(b *strings.Builder, all []Result) {
	for _, r := range all {
		if r.Outage == 0 {
			continue
		}
		end := int(r.Outage / time.Second)
		fmt.Fprintf(b, "## PutRecords a second: %s\n\n", r.Name)
		fmt.Fprintf(b, "| mode | mean over %s | peak in the outage | mean of its second half | peak after the outage | peak / mean |\n|---|%s\n",
			brief(r.Length), strings.Repeat("--:|", 5))
		for m, f := range r.Figures {
			peak := slices.Max(f.PerSecond[end:])
			fmt.Fprintf(b, "| %s | %.0f | %d | %.0f | %d (second %d) | %.1f |\n", Modes[m], f.RequestRate(), slices.Max(f.PerSecond[:end]),
				mean(f.PerSecond[end/2:end]), peak, end+slices.Index(f.PerSecond[end:], peak), float64(peak)/f.RequestRate())
		}
	}
}

func mean(values []int) float64 {
	total := 0
	for _, v := range values {
		total += v
	}
	return float64(total) / float64(max(len(values), 1))
}

// brief writes a duration with two or three digits that count.
func brief(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if d >= unit.size {
			value := float64(d) / float64(unit.size)
			decimals := 0
			if value < 10 {
				decimals = 1
			}
			text := fmt.Sprintf("%.*f", decimals, value)
			return strings.TrimSuffix(text, ".0") + " " + unit.name
		}
	}
	return "0"
}
