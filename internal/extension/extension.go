// Package extension is the Telemetry API Extension: it runs the extension from its registration to its orderly shutdown. It
// never harms the function: on any failure it logs one line and keeps asking Lambda for events.
package extension

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kinesis-telemetry-extension/internal/awake"
	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// buffering asks for the shortest delay and the largest POSTs that Lambda allows, because an event above MaxBytes arrives in
// pieces. Every value is explicit, because AWS's documents disagree on the defaults.
var buffering = lambdaapi.Buffering{MaxItems: 10000, MaxBytes: 1 << 20, Timeout: flush.BufferingTimeout}

// Extension is one run of the extension's process.
type Extension struct {
	config config.Config
	name   string
	log    Logger
	api    lambdaAPI

	invocations *invocations
	dispatcher  *dispatcher.Dispatcher
	listener    *listener.Listener
	intake      intake

	warming    sync.WaitGroup
	subscribed bool

	abandon  context.CancelFunc // stops all work for telemetry
	panicked atomic.Bool
}

// lambdaAPI is Lambda's Extensions API and Telemetry API. lambdaapi.Client implements it.
type lambdaAPI interface {
	Register(ctx context.Context, name string, events ...lambdaapi.EventType) (lambdaapi.Registration, error)
	Subscribe(ctx context.Context, port int, buffering lambdaapi.Buffering, types ...lambdaapi.TelemetryType) error
	Next(ctx context.Context) (lambdaapi.Event, error)
	InitError(ctx context.Context, errorType, message string) error
}

// Run registers the extension under name and serves until SHUTDOWN. Lambda knows an extension by the file name of its
// executable, so name must be that. Run returns an error only if the process must fail: outside Lambda, and for mistakes in the
// settings with ON_ERROR=fail.
func Run(ctx context.Context, name string, cfg config.Config, mistakes []config.Mistake, log Logger) error {
	if cfg.RuntimeAPI == "" {
		return errors.New("AWS_LAMBDA_RUNTIME_API is not set: this program is a Lambda extension and runs in Lambda only; " +
			"`ktel run` runs a function with it on your machine")
	}
	x := &Extension{config: cfg, name: name, log: log, api: lambdaapi.New(cfg.RuntimeAPI), invocations: newInvocations()}
	active := cfg.Enabled && len(mistakes) == 0

	registration, err := x.register(ctx, active)
	if err != nil {
		return err
	}
	// Lambda never signals extensions, so SIGTERM comes from someone else, who wants an orderly shutdown. The handler is
	// installed only now, because nothing may delay the registration: Lambda starts the runtime after it.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	work, abandon := context.WithCancel(ctx)
	x.abandon = abandon
	defer x.warming.Wait()
	defer abandon()
	for _, warning := range cfg.Warnings {
		log.Warn(warning.String())
	}
	switch {
	case len(mistakes) > 0 && cfg.OnError == config.OnErrorFail:
		return x.failInit(ctx, mistakes)
	case len(mistakes) > 0:
		log.Error(noTelemetry + config.Join(mistakes))
	case active:
		x.start(work, registration)
	}
	x.serve(ctx, work)
	return nil
}

// noTelemetry starts each log line about a failure after which the extension delivers nothing.
const noTelemetry = "no telemetry is delivered, the function is not affected: "

// guard recovers from a panic. Every goroutine and callback of the extension defers it, because a bug in the extension must not
// harm the function. guard logs the first panic and stops all work for telemetry until SHUTDOWN. The main loop keeps asking for
// events.
func (x *Extension) guard() {
	if value := recover(); value != nil {
		x.abandon()
		if !x.panicked.Swap(true) {
			x.log.Error("no telemetry is delivered from now on, the function is not affected; this is a bug in the extension, please report it",
				"panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		}
	}
}

// register registers for the events that this run needs. Lambda starts the runtime only after every extension has registered,
// so register retries until it succeeds.
func (x *Extension) register(ctx context.Context, active bool) (lambdaapi.Registration, error) {
	events := []lambdaapi.EventType{lambdaapi.Invoke, lambdaapi.Shutdown}
	if !active || x.config.ManagedRuntime { // Managed Instances refuse INVOKE; an inactive extension must not delay invocations
		events = events[1:]
	}
	var retry backoff
	for {
		registration, err := x.api.Register(ctx, x.name, events...)
		if err == nil {
			return registration, nil
		}
		var status *lambdaapi.StatusError
		if len(events) > 1 && errors.As(err, &status) && status.Type == "Extension.InvalidEventType" {
			x.config.ManagedRuntime = true // this environment does not name its kind in a variable
			events = events[1:]
			continue
		}
		if retry.first() {
			x.log.Error("cannot register with Lambda, retrying: " + err.Error())
		}
		if err := retry.sleep(ctx); err != nil {
			return lambdaapi.Registration{}, fmt.Errorf("register: %w", err)
		}
	}
}

// failInit reports mistakes in the settings to Lambda, which then fails the environment's init. It returns them as an error.
func (x *Extension) failInit(ctx context.Context, mistakes []config.Mistake) error {
	err := errors.New("mistakes in the settings: " + config.Join(mistakes))
	apiErr := callWithTimeout(ctx, "init/error", func(ctx context.Context) error {
		return x.api.InitError(ctx, "Extension.InvalidSettings", err.Error())
	})
	return errors.Join(err, apiErr)
}

// responseTimeout bounds how long init waits for a response from Lambda's local APIs, if the extension can go on without it. Only
// time in which the environment is awake counts. Init as a whole has ten seconds.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
const responseTimeout = 5 * time.Second

// callWithTimeout makes a call and cancels it after responseTimeout. name is the call's name in the error.
func callWithTimeout(ctx context.Context, name string, call func(context.Context) error) error {
	ctx, span := awake.WithTimeout(ctx, responseTimeout)
	defer span.Stop()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("%s: no response within %s", name, responseTimeout)
	}
	return err
}

// start builds the pipeline back to front (client, dispatcher, listener) and subscribes to telemetry. If a step fails, start logs
// the error, and the extension runs on without telemetry.
func (x *Extension) start(ctx context.Context, registration lambdaapi.Registration) {
	defer x.guard()
	// This environment also contains GOGC and GOMEMLIMIT of the function. They are not meant for this program.
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(x.config.MemoryLimit())
	client, err := newClient(&x.config, registration.AccountID)
	if err != nil {
		x.log.Error(noTelemetry + err.Error())
		return
	}
	if s, err := kinesis.ParseStream(x.config.AWS.Stream); err == nil && s.Warning() != "" {
		x.log.Warn(s.Warning())
	}
	spillDir := x.config.SpillDir
	if x.config.ManagedRuntime {
		spillDir = "" // a process that dies ends the environment
	}
	x.dispatcher = dispatcher.New(dispatcher.Options{ //nolint:contextcheck // it keeps shipping after this context is done: shutdown stops it
		Source: record.SourceFields{
			Function: registration.FunctionName,
			Version:  registration.FunctionVersion,
			Account:  registration.AccountID,
			Region:   x.config.AWS.Region,
			Tags:     x.config.Tags,
		},
		Format:         x.config.Format,
		Compression:    x.config.Compression,
		LogGroup:       x.config.LogGroup,
		JSONLogs:       x.config.JSONLogs,
		PartitionKey:   x.config.PartitionKey,
		Flush:          x.config.Flush(),
		MaxRecordBytes: x.config.MaxRecordBytes,
		Oversize:       x.config.Oversize,
		RequestBytes:   x.config.RequestBytes(),
		SpillDir:       spillDir,
		SpillOwner:     x.config.AWS.Stream,
		Log:            x.log,
		Guard:          x.guard,
	}, client)
	if !x.config.SnapStart { // every environment restored from a snapshot would share an open journal
		x.dispatcher.StartJournal()
	}
	if x.listener, err = listener.Listen(x.config.EventBytes(), x.receive, x.guard); err == nil {
		err = x.subscribe(ctx)
	}
	if err != nil {
		x.log.Error(noTelemetry + explainRefusal(err))
		return
	}
	x.subscribed = true
	x.warming.Go(func() { // in parallel with the runtime's init and the first call of next: neither waits for it
		defer x.guard()
		client.Warm(ctx)
		runtime.GOMAXPROCS(1) // DESIGN.md, One thread at a time; the call stops the world, and nothing waits for it here
	})
	switch {
	case x.config.ManagedRuntime:
		x.dispatcher.Note(flush.NeverFrozen{})
	case !x.config.SnapStart: // a snapshot must not contain a request in flight: every environment would start with it
		x.dispatcher.Note(flush.Initialising{})
	}
}

// subscribe subscribes to the selected types and to platform events, which report when an invocation ends. It retries every
// failure except a refusal.
func (x *Extension) subscribe(ctx context.Context) error {
	types := x.config.Events
	if !slices.Contains(types, lambdaapi.Platform) {
		types = append([]lambdaapi.TelemetryType{lambdaapi.Platform}, types...)
	}
	return callWithTimeout(ctx, "subscribe to telemetry", func(ctx context.Context) error {
		const attempts = 4
		var retry backoff
		for attempt := 1; ; attempt++ {
			err := x.api.Subscribe(ctx, x.listener.Port(), buffering, types...)
			var status *lambdaapi.StatusError
			refused := errors.As(err, &status) && status.Status < http.StatusInternalServerError
			if err == nil || refused || attempt == attempts || retry.sleep(ctx) != nil {
				return err
			}
		}
	})
}

// explainRefusal returns the error's text, with the cause of a refused subscription.
func explainRefusal(err error) string {
	text := err.Error()
	var status *lambdaapi.StatusError
	if !errors.As(err, &status) {
		return text
	}
	switch status.Status {
	case http.StatusAccepted:
		return text + " (this environment is an emulation without telemetry; `ktel run` has it)"
	case http.StatusNotFound:
		return text + " (this environment has no Telemetry API)"
	case http.StatusForbidden:
		return text + " (the environment's init phase is over, or another extension with this name is registered)"
	}
	return text
}

// serve is the main loop: it handles one event of the Extensions API after the other, until SHUTDOWN. If a panic ends work before
// ctx, serve keeps asking for events and ignores every INVOKE.
func (x *Extension) serve(ctx, work context.Context) {
	var retry backoff
	for ctx.Err() == nil {
		event, err := x.api.Next(ctx)
		if err != nil {
			if ctx.Err() == nil && retry.first() {
				x.log.Error("cannot get the next event from Lambda, retrying: " + err.Error())
			}
			_ = retry.sleep(ctx) // the loop ends when ctx is done
			continue
		}
		retry = backoff{}
		switch {
		case event.Type == lambdaapi.Shutdown:
			x.handleShutdown(ctx, event)
			return
		case event.Type != lambdaapi.Invoke:
			x.log.Warn("Lambda sent an event of an unknown type", "type", string(event.Type))
		case x.subscribed && work.Err() == nil:
			func() {
				defer x.guard()
				x.invoke(work, event)
			}()
		}
	}
	x.handleShutdown(ctx, lambdaapi.Event{ShutdownReason: "signal"}) // SIGTERM, not Lambda, ends the process
}

// handleShutdown shuts down within Lambda's deadline, even if an earlier panic left something that never ends.
func (x *Extension) handleShutdown(ctx context.Context, event lambdaapi.Event) {
	if !x.subscribed {
		return
	}
	left, margin := shutdownTime(time.Until(event.Deadline))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left-margin)
	defer cancel()
	timeout := time.After(left - margin/2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer x.guard()
		x.shutdown(ctx, event.ShutdownReason)
	}()
	select {
	case <-done:
	case <-timeout:
	}
}

// backoff is the pause between attempts to call a local API. The zero value is ready.
type backoff struct{ pause time.Duration }

// The pauses stay short, because every invocation waits while /next fails. They are not zero, so that a failing API costs no
// busy loop.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// first reports whether no pause has passed yet. Only the first failure of a series is logged.
func (b *backoff) first() bool { return b.pause == 0 }

// sleep waits, twice as long each time, up to maxPause. If ctx ends the wait, sleep returns ctx's error.
func (b *backoff) sleep(ctx context.Context) error {
	b.pause = min(max(b.pause*2, minPause), maxPause)
	return awake.Sleep(ctx, b.pause)
}
