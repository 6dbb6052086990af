package extension

import (
	"context"
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/lambdaapi"
)

const (
	// deadlineMargin is kept free before Lambda's deadlines, for what comes behind the last send: an answer that is on
	// its way, the call of next, the exit.
	deadlineMargin = 100 * time.Millisecond

	// lateReport is how long SHUTDOWN is made to wait for the platform.report of the last invocation. Lambda emits it
	// when the environment is told to shut down; a few milliseconds are usual, plus the 25 ms of the buffering.
	lateReport = 200 * time.Millisecond
	// lastWords is how long telemetry that was emitted just before SHUTDOWN may be on its way: the buffering, twice.
	lastWords = 50 * time.Millisecond

	// shutdownBudget is what Lambda gives extensions to shut down, about, where the event names no usable deadline.
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
	shutdownBudget = 1500 * time.Millisecond
)

// invoke serves one invocation. When it returns the extension asks for the next event, and the environment may freeze
// as soon as the function has ended, too.
func (x *Extension) invoke(ctx context.Context, event lambdaapi.Event) {
	if !x.subscribed {
		return
	}
	if x.config.SnapStart && !x.intake.markRestored() {
		x.dispatcher.NewInstance() // the first invocation since the snapshot, and no restore event came before it
	}
	x.dispatcher.Resume()
	deadline := event.Deadline.Add(-deadlineMargin)
	if event.Deadline.Before(time.Now()) { // none, or not one in milliseconds of this age
		deadline = time.Now().Add(x.config.FlushTimeout)
	}
	if x.waitsForEnd() {
		waiting, cancel := context.WithDeadline(ctx, deadline)
		x.missedEnd = !x.invocations.awaitEnd(waiting, event.RequestID)
		x.missedAt = x.invocations.endingsSeen()
		cancel()
	}
	shipping, cancel := context.WithDeadline(ctx, earlier(time.Now().Add(x.config.FlushTimeout), deadline))
	defer cancel()
	x.dispatcher.Flush(shipping)
	if end, ended := x.invocations.hasEnded(event.RequestID); ended {
		x.dispatcher.Suspend()
		x.dispatcher.Idle(shipping) // nothing may be on its way when the environment freezes
		if !end.IsZero() {
			x.heldBack += max(time.Since(end), 0)
		}
	}
}

// waitsForEnd tells whether an invocation is kept open until the function has ended and everything is shipped. Where
// the last end did not come within the invocation's time the next ones are not waited for, until one is seen again.
func (x *Extension) waitsForEnd() bool {
	blind := x.missedEnd && x.invocations.endingsSeen() == x.missedAt
	return x.config.Delivery != config.Deferred && !blind
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// shutdown ends the extension's life, all within Lambda's deadline:
//  1. late telemetry is awaited, above all the last platform.report;
//  2. the listener takes no more, so that the figures are final;
//  3. the figures go into the stream, and all that is held is shipped;
//  4. one line sums up.
func (x *Extension) shutdown(ctx context.Context, event lambdaapi.Event) {
	if !x.subscribed {
		return
	}
	deadline := event.Deadline.Add(-deadlineMargin)
	if time.Until(deadline) <= 0 {
		deadline = time.Now().Add(shutdownBudget)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()

	x.dispatcher.Resume()
	x.awaitLastWords(ctx)
	if err := x.listener.Shutdown(ctx); err != nil {
		x.log.Warn("the listener did not end in time: " + err.Error())
	}
	x.dispatcher.SayStats(x.heldBack)
	x.dispatcher.Drain(ctx)
	x.dispatcher.Close()
	x.summarise(ctx, event.ShutdownReason)
}

func (x *Extension) awaitLastWords(ctx context.Context) {
	words, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	report, cancel := context.WithTimeout(ctx, lateReport)
	defer cancel()
	x.invocations.awaitReport(report)
	<-words.Done()
}

// summarise writes the one line that every life ends with.
func (x *Extension) summarise(ctx context.Context, reason string) {
	stats := x.dispatcher.Stats()
	line := fmt.Sprintf("summary: received %d, sent %d, dropped %d, undelivered %d events; %d records, %d bytes, %d PutRecords, %d records sent again; shutdown: %s",
		stats.Received, stats.Sent, stats.Dropped, stats.Held, stats.Records, stats.Bytes, stats.Requests, stats.Retried, reason)
	if stats.Dropped+stats.Held > 0 {
		x.log.Error(line)
		return
	}
	x.log.Log(ctx, levelAlways, line)
}
