package extension

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

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

	// lastAnswer is how long a request that is under way when all else is done may still be. It had the time of the late
	// telemetry, too.
	lastAnswer = 200 * time.Millisecond
	// shutdownBudget is what Lambda gives extensions to shut down, about, where the event names no usable deadline.
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
	shutdownBudget = 1500 * time.Millisecond
)

// invoke serves one invocation as the policy plans it. When it returns the extension asks for the next event, and the
// environment may freeze as soon as the function has ended, too.
func (x *Extension) invoke(ctx context.Context, event lambdaapi.Event) {
	if !x.subscribed {
		return
	}
	if x.config.SnapStart && !x.intake.markRestored() {
		x.dispatcher.NewInstance() // the first invocation since the snapshot, and no restore event came before it
	}
	x.invocations.serve(event.RequestID)
	plan := x.dispatcher.Invoke()
	if _, ended := x.invocations.hasEnded(event.RequestID); ended {
		x.dispatcher.Suspend()
	}
	if plan.Hold == 0 {
		return
	}
	deadline := event.Deadline.Add(-deadlineMargin)
	if event.Deadline.Before(time.Now()) { // none, or not one in milliseconds of this age
		deadline = time.Now().Add(x.config.FlushTimeout)
	}
	holding, release := x.holding(ctx, event.RequestID, plan.Hold, deadline)
	defer release()
	if plan.Ship {
		x.dispatcher.Begin(holding)
	}
	if plan.Wait {
		x.flushAtEnd(holding, event.RequestID, plan.Hold)
	}
	end, ended := x.invocations.hasEnded(event.RequestID)
	if !ended {
		x.dispatcher.Expose()
		return
	}
	x.dispatcher.Idle(holding) // nothing may be on its way when the environment freezes
	if !end.IsZero() {
		x.dispatcher.HeldBack(max(time.Since(end), 0))
	}
}

// flushAtEnd waits for the function's end and ships everything. The end is known then, and so is how long there is: a request
// that hangs leaves time for another.
func (x *Extension) flushAtEnd(ctx context.Context, requestID string, hold time.Duration) {
	if !x.invocations.awaitEnd(ctx, requestID) {
		x.dispatcher.Missed()
		return
	}
	until := x.holdUntil(requestID, hold)
	x.dispatcher.Awaited(time.Now().Before(until))
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	x.dispatcher.Flush(ctx)
}

// holdUntil tells when hold has passed since the function's end, which was seen. A twentieth of it is kept for the way back
// to Lambda.
func (x *Extension) holdUntil(requestID string, hold time.Duration) time.Time {
	end, _ := x.invocations.hasEnded(requestID)
	if end.IsZero() {
		end = time.Now()
	}
	return end.Add(hold - hold/20)
}

// holding returns a context that ends when the invocation may be held back no longer: at the deadline, and when hold has
// passed since the function's end.
//
// Lambda tells at once that a function has begun. Where not even that comes within FLUSH_TIMEOUT telemetry is cut off, its
// end will not be told either, and nothing is held for longer.
func (x *Extension) holding(ctx context.Context, requestID string, hold time.Duration, deadline time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer cancel()
		beginning, done := context.WithTimeout(ctx, x.config.FlushTimeout)
		defer done()
		if !x.invocations.awaitStart(beginning, requestID) || !x.invocations.awaitEnd(ctx, requestID) {
			return
		}
		timer := time.NewTimer(time.Until(x.holdUntil(requestID, hold)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); watch.Wait() }
}

// shutdown ends the extension's life, all within Lambda's deadline:
//  1. late telemetry is awaited, above all the last platform.report;
//  2. the listener takes no more, so that the figures are final;
//  3. where the environment may live on, what is held is saved, since the process may be killed from now on;
//  4. a request that hangs is called off, the figures go into the stream, and all that is held is shipped; what is left is saved;
//  5. one line sums up.
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

	x.dispatcher.Suspend() // what the background began now would be called off
	x.awaitLastWords(ctx)
	x.closeListener(ctx)
	x.dispatcher.SayStats()
	livesOn := !strings.EqualFold(event.ShutdownReason, "spindown")
	if livesOn {
		x.save()
	}
	x.callOff(ctx)
	x.dispatcher.Drain(ctx)
	x.dispatcher.Close()
	saved := 0
	if livesOn {
		saved = x.save()
	}
	x.summarise(event.ShutdownReason, saved)
}

// closeListener waits but a moment for POSTs under way: a connection on which nothing comes would take all of the time.
func (x *Extension) closeListener(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := x.listener.Shutdown(ctx); err != nil {
		x.log.Info("a connection to the listener was cut off: " + err.Error())
	}
}

// callOff gives a request that is under way a moment more. One that hangs must not take the time of the last flush, which
// goes over a connection of its own then.
func (x *Extension) callOff(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastAnswer)
	defer cancel()
	x.dispatcher.Idle(ctx)
}

func (x *Extension) save() (saved int) {
	saved, err := x.dispatcher.Save()
	if err != nil && !x.saidUnsaved {
		x.saidUnsaved = true
		x.log.Warn("what is undelivered cannot be kept for the environment's next life: " + err.Error())
	}
	return saved
}

func (x *Extension) awaitLastWords(ctx context.Context) {
	words, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	report, cancel := context.WithTimeout(ctx, lateReport)
	defer cancel()
	x.invocations.awaitReport(report)
	<-words.Done()
}

// summarise writes one line when something was lost or left, else none.
func (x *Extension) summarise(reason string, saved int) {
	stats := x.dispatcher.Stats()
	line := fmt.Sprintf("summary: received %d, sent %d, dropped %d, undelivered %d events, %d of them saved for the next life; %d records, %d bytes, %d PutRecords, %d records sent again; shutdown: %s",
		stats.Received, stats.Sent, stats.Dropped, stats.Held, saved, stats.Records, stats.Bytes, stats.Requests, stats.Retried, reason)
	switch {
	case stats.Dropped > 0 || int(stats.Held) > saved:
		x.log.Error(line)
	case stats.Held > 0:
		x.log.Warn(line)
	default:
		x.log.Info(line)
	}
}
