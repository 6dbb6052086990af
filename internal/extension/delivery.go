package extension

import (
	"context"
	"fmt"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/lambdaapi"
)

const (
	// reportTimeout is how long SHUTDOWN waits for the platform.report of the last invocation. Lambda emits it when the environment
	// starts to shut down. It usually arrives after a few milliseconds, plus the 25 ms of the buffering.
	reportTimeout = 200 * time.Millisecond
	// minShutdown applies if the deadline of SHUTDOWN is near or just past, because the process still runs.
	minShutdown = 50 * time.Millisecond
	// maxDeadlineAge is how far in the past a SHUTDOWN's deadline may be and still count as a deadline.
	maxDeadlineAge = time.Second
	// maxInvocation is longer than any function's timeout, which is at most 15 minutes.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxInvocation = 16 * time.Minute
)

// maxShutdown is the time that Lambda gives to the runtime and the extensions together. defaultShutdown applies if the event has no
// usable deadline: it is the part that the runtime leaves to the extensions. They are variables because tests on a loaded machine
// need more time.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
var (
	maxShutdown     = 2 * time.Second
	defaultShutdown = 1600 * time.Millisecond
)

// invoke serves one invocation. After it returns, the extension asks for the next event, and Lambda may freeze the environment as
// soon as the function has ended as well. The background shipper ships during the handler, as the policy decides.
func (x *Extension) invoke(ctx context.Context, event lambdaapi.Event) {
	deadline := event.Deadline.Add(-flush.DeadlineMargin)
	if left := time.Until(event.Deadline); left < 0 || left > maxInvocation { // no deadline, or one in another unit
		deadline = time.Now().Add(x.config.FlushTimeout)
	}
	if x.config.SnapStart {
		x.intake.restore(x.dispatcher) // in case no restore event arrived before the first invocation after the snapshot
	}
	x.dispatcher.Note(x.invocations.noteInvoke(event.RequestID, deadline)...)
	if x.dispatcher.AwaitEnd(ctx) {
		x.dispatcher.Ship(ctx, flush.AtEnd)
	}
	x.dispatcher.Note(flush.NextCalled{})
}

// shutdownTime returns how much time SHUTDOWN leaves, given the time until its deadline. margin is the part of it that stays free
// for the steps after the last request.
func shutdownTime(deadline time.Duration) (left, margin time.Duration) {
	if left = deadline; left < -maxDeadlineAge {
		left = defaultShutdown
	}
	left = min(max(left, minShutdown), maxShutdown)
	return left, min(flush.DeadlineMargin, left/4)
}

// boundWait shortens a wait to a quarter of the time that ctx has left: the last flush needs most of that time.
func boundWait(ctx context.Context, wait time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/4)
	}
	return wait
}

// shutdown ends the extension before ctx is done, in this order:
//  1. wait for late telemetry, above all for the last platform.report;
//  2. stop the listener, so that the figures are final;
//  3. cancel a request that hangs, add the figures as an event, and ship the whole buffer;
//  4. keep undelivered events in the journal if the environment may continue;
//  5. log a summary.
func (x *Extension) shutdown(ctx context.Context, reason string) {
	x.dispatcher.Note(flush.ShuttingDown{})
	x.awaitLateTelemetry(ctx)
	x.closeListener(ctx)
	x.dispatcher.EmitStats()
	x.dispatcher.Ship(ctx, flush.AtShutdown)
	saved := x.dispatcher.Close(!strings.EqualFold(reason, "spindown"))
	x.logSummary(reason, saved)
}

// closeListener waits only briefly for POSTs in progress, because a silent connection would use up all of the time.
func (x *Extension) closeListener(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, boundWait(ctx, flush.LateTelemetryWait))
	defer cancel()
	if err := x.listener.Shutdown(ctx); err != nil {
		x.log.Info("closed a connection to the telemetry listener that was still open: " + err.Error())
	}
}

// awaitLateTelemetry waits for LateTelemetryWait, and longer if a platform.report is still to come.
func (x *Extension) awaitLateTelemetry(ctx context.Context) {
	late, cancel := context.WithTimeout(ctx, boundWait(ctx, flush.LateTelemetryWait))
	defer cancel()
	report, cancel := context.WithTimeout(ctx, boundWait(ctx, reportTimeout))
	defer cancel()
	x.invocations.awaitReport(report)
	<-late.Done()
}

// logSummary logs one line. At the default log level the line appears only if events were dropped or stay undelivered.
func (x *Extension) logSummary(reason string, saved int) {
	stats := x.dispatcher.Stats()
	line := fmt.Sprintf("summary: received %d, sent %d, dropped %d, undelivered %d events, %d of them saved for the extension's next start; "+
		"%d records, %d bytes, %d PutRecords, %d records retried; shutdown: %s",
		stats.Received, stats.Sent, stats.Dropped, stats.Buffered, saved,
		stats.Records, stats.Bytes, stats.Requests, stats.Retried, reason)
	switch {
	case stats.Dropped > 0 || int(stats.Buffered) > saved:
		x.log.Error(line)
	case stats.Buffered > 0:
		x.log.Warn(line)
	default:
		x.log.Info(line)
	}
}
