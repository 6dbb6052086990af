package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
)

// Result is a scenario and its Figures in each of Modes.
type Result struct {
	Scenario
	Figures []*Figures
}

// All runs scenarios in all modes.
func All(scenarios []Scenario) (all []Result) {
	for _, s := range scenarios {
		r := Result{Scenario: s}
		for _, mode := range Modes {
			r.Figures = append(r.Figures, Run(s, mode))
		}
		all = append(all, r)
	}
	return all
}

// objectives returns for each of Modes the mean of the results' objectives.
func objectives(results ...Result) []float64 {
	means := make([]float64, len(Modes))
	for _, r := range results {
		for m, f := range r.Figures {
			means[m] += f.Objective() / float64(len(results))
		}
	}
	return means
}

// before are the objectives of the policy before one machine decided (commit ce4f551, its stream set to 20 ms): of each scenario
// and the mean, in the order of Modes. They were measured with that commit's simulator, which is gone.
var before = [...][3]float64{
	{25.2, 0.2, 0.3},
	{28.5, 0.3, 0.3},
	{45.2, 549.7, 45.5},
	{25.2, 109.3, 26.3},
	{25.2, 2.6, 29.1},
	{28.5, 1.8, 1.1},
	{45.9, 600.0, 45.9},
	{25.2, 0.2, 1.0},
	{236.0, 240.6, 236.0},
	{562.2, 563.5, 561.9},
	{104.7, 206.8, 94.7},
}

const preface = `# Simulation

What the flush policy (internal/flush) does in each mode under given traffic, on fake time. Written by
` + "`go run ./internal/simulate/docs docs`" + `, the same on each run; do not edit.

## What is modelled

- **Environment.** INVOKEs arrive at fixed times. One that finds its environment busy waits; no other environment serves it. The
  environment freezes when the handler has ended and the extension has asked for the next event. After 6 to 10 minutes without an
  INVOKE Lambda sends SHUTDOWN: what is still buffered is delivered then, and the delay counts.
- **Telemetry.** Log lines are spread over the handler. A POST comes %[1]s after the first event of a batch, in time that the
  environment is awake: the rest of the wait follows after the thaw. platform.report is emitted at the freeze. It is shipped like
  all other events, but no mode can receive it before the next INVOKE, so delays and late batches leave it out.
- **Extension.** The policy is the real one, with the default settings in a function of %[2]d MB: MAX_DELAY %[3]s, FLUSH_TIMEOUT
  %[4]s, records of %[5]d bytes, requests of %[6]d bytes. The main loop and the background around it do what the extension's
  do: a test puts both through the same traffic and compares each step.
- **Freeze.** A freeze may catch a request of the background. The stream has stored its records; the extension reads the answer
  after the thaw.
- **Stream.** All records of an environment go to one shard, drawn at random. A shard takes 1 MiB and 1,000 records a second, and a
  second's worth at once. A PutRecords takes %[7]s, and 1 s for each 25 MB. Throttled records are sent again in the same flight
  after a pause of up to %[8]s, which doubles up to %[9]s while the stream takes nothing. After a 500 the first pause is up to %[10]s.

## What is not modelled

Init and cold starts, the CPU that the extension takes from the handler, TLS, connections that a freeze breaks, the time of a POST
and of ` + "`/next`" + `, the rounding of billed time to a millisecond, timeouts and crashes of the function, a full buffer, scaling to more
environments, other writers on the stream, on-demand streams, the extension's own events.

## The objective

What ` + "`adaptive`" + ` minimises, in ms for an invocation: the billed time added, plus %[11]d ms for each late batch. A late batch is an
invocation with an event that was stored later than MAX_DELAY after its emission; %[11]d ms is 20 waits of 30 ms, as the policy
weighs them (farShare). Requests and records are not in it. "Before" is the extension at commit ce4f551, before one policy decided
everything, with the same stream.

| scenario | traffic | function | sync before | sync | deferred before | deferred | adaptive before | adaptive |
|---|---|---|--:|--:|--:|--:|--:|--:|
`

const figuresHead = `
The herds' traffic goes on for 15 s after the minute that is counted, so that its end does not show in the figures.

## Figures

Added: billed time, mean of an invocation. Held back (after the function's end, for the extension) and delay (from emission to
storage): p50, p95 or p99, and max. Late: invocations with a late event. PutRecords a second: the mean over the time that is counted,
and the peak, after the outage if there is one: environments should not all come back at once. Undelivered: events that the last
SHUTDOWN of an environment could not deliver in its two seconds. Cost: USD for a million invocations; added GB-seconds of a function
of %d MB on x86 at %.10f a GB-second ([AWS Lambda](https://aws.amazon.com/lambda/pricing)), and PUT payload units of 25 KB at %v a
million, provisioned ([Kinesis Data Streams](https://aws.amazon.com/kinesis/data-streams/pricing)); both us-east-1.

| scenario | mode | invocations | added ms | held back p50 / p95 / p99 | delay p50 / p99 / max |` +
	` late %% | PutRecords/s mean / peak | records/inv. | throttled %% | undelivered | Lambda $ | Kinesis $ |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
`

// Markdown is the document.
func Markdown(all []Result) string {
	var b strings.Builder
	cfg := defaults(flush.Adaptive)
	fmt.Fprintf(&b, preface, brief(flush.BufferingTimeout), functionMB, brief(cfg.MaxDelay), brief(cfg.FlushTimeout), cfg.RecordBytes,
		cfg.RequestBytes(), brief(roundTrip), brief(kinesis.BackoffBound(true, 1)), brief(kinesis.BackoffBound(true, 20)),
		brief(kinesis.BackoffBound(false, 1)), lateCost)
	row := func(i int, name, traffic, function string, now []float64) {
		fmt.Fprintf(&b, "| %s | %s | %s |", name, traffic, function)
		for m := range Modes {
			fmt.Fprintf(&b, " %.1f | %.1f |", before[i][m], now[m])
		}
		b.WriteByte('\n')
	}
	for i, r := range all {
		row(i, r.Name, fmt.Sprintf("%s, for %s", r.What, brief(r.Length)),
			fmt.Sprintf("%s, %.1f KB of logs", brief(r.Handler), float64(r.Lines*r.LineBytes)/1000), objectives(r))
	}
	row(len(all), "**mean**", "", "", objectives(all...))
	fmt.Fprintf(&b, figuresHead, functionMB, gbSecond, millionUnits)
	for _, r := range all {
		for m, f := range r.Figures {
			h, d, begun := &f.HeldBack, &f.Delay, float64(f.Begun)
			fmt.Fprintf(&b, "| %s | %s | %d | %.2f | %s / %s / %s | %s / %s / %s | %.2f | %.2f / %d | %.3f | %.1f | %d | %.4f | %.4f |\n",
				r.Name, Modes[m], f.Invocations, f.Added(), brief(h.Quantile(0.5)), brief(h.Quantile(0.95)), brief(h.Quantile(0.99)),
				brief(d.Quantile(0.5)), brief(d.Quantile(0.99)), brief(d.longest), 100*float64(f.Late)/float64(f.Invocations),
				f.RequestRate(), slices.Max(f.PerSecond[r.Outage/time.Second:]), float64(f.Records)/begun,
				100*float64(f.Throttled)/float64(f.Throttled+f.Records), f.Undelivered,
				f.Added()/1000*functionMB/1024*gbSecond*1e6, float64(f.Units)/begun*millionUnits)
		}
	}
	return b.String()
}

// brief writes a duration with two or three digits that count.
func brief(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if value := float64(d) / float64(unit.size); value >= 10 {
			return fmt.Sprintf("%.0f %s", value, unit.name)
		} else if value >= 1 {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + unit.name
		}
	}
	return "0"
}
