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
	// reportTimeout is how long SHUTDOWN waits for the platform.report of the last invocation. Lambda emits it when the
	// environment is told to shut down; a few milliseconds are usual, plus the 25 ms of the buffering.
	reportTimeout = 200 * time.Millisecond
	// maxShutdown is what Lambda gives to the runtime and the extensions together. usualShutdown is what the runtime leaves of it,
	// where the event names no usable deadline; minShutdown what is used of a deadline that is about over, since the process
	// still runs.
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
	maxShutdown     = 2 * time.Second
	defaultShutdown = 1600 * time.Millisecond
	minShutdown     = 50 * time.Millisecond
	// maxDeadlineAge is how far in the past a SHUTDOWN's deadline may lie.
	maxDeadlineAge = time.Second
	// maxInvocation is more than any function's timeout, which is a quarter of an hour at most.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxInvocation = 16 * time.Minute
)

// invoke serves one invocation. When it returns the extension asks for the next event, and the environment may freeze as
// soon as the function has ended, too. What the policy wants shipped beside the handler is shipped in the background.
func (x *Extension) invoke(ctx context.Context, event lambdaapi.Event) {
	deadline := event.Deadline.Add(-flush.DeadlineMargin)
	if left := time.Until(event.Deadline); left < 0 || left > maxInvocation { // none, or not one in milliseconds of this age
		deadline = time.Now().Add(x.config.FlushTimeout)
	}
	if x.config.SnapStart {
		x.intake.restore(x.dispatcher) // no restore event came before the first invocation since the snapshot
	}
	x.dispatcher.Note(x.invocations.noteInvoke(event.RequestID, deadline)...)
	if x.dispatcher.AwaitEnd(ctx) {
		x.dispatcher.Ship(ctx, flush.AtEnd)
	}
	x.dispatcher.Note(flush.NextCalled{})
}

// shutdownTime returns the time that SHUTDOWN leaves, from the time until its deadline, and which part of it is kept free for what
// follows the last request.
func shutdownTime(deadline time.Duration) (left, margin time.Duration) {
	if left = deadline; left < -maxDeadlineAge {
		left = defaultShutdown
	}
	left = min(max(left, minShutdown), maxShutdown)
	return left, min(flush.DeadlineMargin, left/4)
}

// boundWait is a wait, or a quarter of the time that ctx has left where that is less: the last flush needs most of it.
func boundWait(ctx context.Context, wait time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/4)
	}
	return wait
}

// shutdown ends the extension's life, all before ctx is done:
//  1. late telemetry is awaited, above all the last platform.report;
//  2. the listener takes no more, so that the figures are final;
//  3. a request that hangs is called off, the figures go into the stream, and all that is held is shipped;
//  4. what is left stays in the journal, where the environment may live on;
//  5. one line sums up.
func (x *Extension) shutdown(ctx context.Context, reason string) {
	x.dispatcher.Note(flush.ShuttingDown{})
	x.awaitLateTelemetry(ctx)
	x.closeListener(ctx)
	x.dispatcher.EmitStats()
	x.dispatcher.Ship(ctx, flush.AtShutdown)
	kept := x.dispatcher.Close(!strings.EqualFold(reason, "spindown"))
	x.logSummary(reason, kept)
}

// closeListener waits but a moment for POSTs under way: a connection on which nothing comes would take all of the time.
func (x *Extension) closeListener(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, boundWait(ctx, flush.LateTelemetryWait))
	defer cancel()
	if err := x.listener.Shutdown(ctx); err != nil {
		x.log.Info("a connection to the listener was cut off: " + err.Error())
	}
}

func (x *Extension) awaitLateTelemetry(ctx context.Context) {
	words, cancel := context.WithTimeout(ctx, boundWait(ctx, flush.LateTelemetryWait))
	defer cancel()
	report, cancel := context.WithTimeout(ctx, boundWait(ctx, reportTimeout))
	defer cancel()
	x.invocations.awaitReport(report)
	<-words.Done()
}

// logSummary writes one line when something was lost or left, else none.
func (x *Extension) logSummary(reason string, kept int) {
	stats := x.dispatcher.Stats()
	line := fmt.Sprintf("summary: received %d, sent %d, dropped %d, undelivered %d events, %d of them saved for the next life; %d records, %d bytes, %d PutRecords, %d records sent again; shutdown: %s",
		stats.Received, stats.Sent, stats.Dropped, stats.Buffered, kept, stats.Records, stats.Bytes, stats.Requests, stats.Retried, reason)
	switch {
	case stats.Dropped > 0 || int(stats.Buffered) > kept:
		x.log.Error(line)
	case stats.Buffered > 0:
		x.log.Warn(line)
	default:
		x.log.Info(line)
	}
}
