// Package extension is the Telemetry API Extension: the life of the extension from its registration to its ordered
// shutdown. It is never in the function's way: whatever goes wrong, it says so once and goes on asking for events.
package extension

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	smithytime "github.com/aws/smithy-go/time"

	"kinesis-telemetry-extension/internal/awake"
	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/internal/listener"
	"kinesis-telemetry-extension/record"
)

// buffering asks Lambda for telemetry as soon as it is to be had, in POSTs as large as are allowed: an event above
// MaxBytes arrives in pieces. All is said explicitly, since the documents disagree on the defaults.
var buffering = lambdaapi.Buffering{MaxItems: 10000, MaxBytes: 1 << 20, Timeout: flush.BufferingTimeout}

// Extension is one life of the extension's process.
type Extension struct {
	config config.Config
	name   string
	log    *slog.Logger
	api    lambdaAPI

	invocations *invocations
	dispatcher  *dispatcher.Dispatcher
	listener    *listener.Listener
	intake      intake

	warming    sync.WaitGroup
	subscribed bool

	abandon  context.CancelFunc // ends all work for telemetry
	panicked atomic.Bool
}

// lambdaAPI is Lambda's Extensions API and Telemetry API, as lambdaapi.Client speaks them.
type lambdaAPI interface {
	Register(ctx context.Context, name string, events ...lambdaapi.EventType) (lambdaapi.Registration, error)
	Subscribe(ctx context.Context, port int, buffering lambdaapi.Buffering, types ...lambdaapi.TelemetryType) error
	Next(ctx context.Context) (lambdaapi.Event, error)
	InitError(ctx context.Context, errorType, message string) error
}

// Run registers the extension under name (the file name of the executable, by which Lambda knows it) and serves until
// SHUTDOWN. It returns an error only where the process shall fail: outside Lambda, and for mistakes in the settings
// where the user has asked for it.
func Run(ctx context.Context, name string, cfg config.Config, mistakes []config.Mistake, log *slog.Logger) error {
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
	// Lambda sends extensions no signal; whoever else does wants an ordered end. Only now, since nothing shall delay the
	// registration: the runtime starts when it is made.
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
		log.Error("no telemetry is delivered, the function is not affected: " + config.Join(mistakes))
	case active:
		x.start(work, registration)
	}
	x.serve(ctx, work)
	return nil
}

// guard is deferred wherever our code runs. A panic is a mistake of ours, and must not be the function's: it is said once, nothing
// more is done for telemetry before SHUTDOWN, and the main loop goes on asking for events.
func (x *Extension) guard() {
	if value := recover(); value != nil {
		x.abandon()
		if !x.panicked.Swap(true) {
			x.log.Error("no telemetry is delivered from now on, the function is not affected; this is a bug of the extension, please report it",
				"panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		}
	}
}

// register registers for the events that this life needs. Lambda starts the runtime only when it has succeeded, so it
// is tried again for as long as it takes.
func (x *Extension) register(ctx context.Context, active bool) (lambdaapi.Registration, error) {
	events := []lambdaapi.EventType{lambdaapi.Invoke, lambdaapi.Shutdown}
	if !active || x.config.ManagedRuntime { // Managed Instances refuse INVOKE; who delivers nothing need not be waited for
		events = events[1:]
	}
	var wait backoff
	for {
		registration, err := x.api.Register(ctx, x.name, events...)
		if err == nil {
			return registration, nil
		}
		var status *lambdaapi.StatusError
		if len(events) > 1 && errors.As(err, &status) && status.Type == "Extension.InvalidEventType" {
			x.config.ManagedRuntime = true // a kind of environment that does not tell its name in a variable
			events = events[1:]
			continue
		}
		if wait.first() {
			x.log.Error("cannot register with Lambda, trying again: " + err.Error())
		}
		if err := wait.sleep(ctx); err != nil {
			return lambdaapi.Registration{}, fmt.Errorf("register: %w", err)
		}
	}
}

// failInit makes the environment's init fail because of mistakes in the settings.
func (x *Extension) failInit(ctx context.Context, mistakes []config.Mistake) error {
	err := errors.New("mistakes in the settings: " + config.Join(mistakes))
	apiErr := callWithTimeout(ctx, "init/error", func(ctx context.Context) error {
		return x.api.InitError(ctx, "Extension.InvalidSettings", err.Error())
	})
	return errors.Join(err, apiErr)
}

// answerTimeout bounds how long init waits for an answer of Lambda's local APIs without which the extension can go on, in time
// that the environment is awake. Init as a whole has ten seconds.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
const answerTimeout = 5 * time.Second

// callWithTimeout makes a call for as long as answerTimeout.
func callWithTimeout(ctx context.Context, what string, call func(context.Context) error) error {
	ctx, span := awake.WithTimeout(ctx, answerTimeout)
	defer span.Stop()
	err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("%s: no answer within %s", what, answerTimeout)
	}
	return err
}

// start makes the way of the events, from its end to its beginning, and subscribes. Where that is not to be, the
// extension stays without telemetry.
func (x *Extension) start(ctx context.Context, registration lambdaapi.Registration) {
	defer x.guard()
	// The function's own GOGC and GOMEMLIMIT are in this environment, too, and not meant for this program.
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(x.config.MemoryLimit())
	stream, err := newClient(&x.config, registration.AccountID)
	if err != nil {
		x.log.Error("no telemetry is delivered, the function is not affected: " + err.Error())
		return
	}
	if s, err := kinesis.ParseStream(x.config.AWS.Stream); err == nil && s.Warning() != "" {
		x.log.Warn(s.Warning())
	}
	spillDir := x.config.SpillDir
	if x.config.ManagedRuntime {
		spillDir = "" // a process that dies ends the environment
	}
	x.dispatcher = dispatcher.New(dispatcher.Options{ //nolint:contextcheck // it ships on while this context is done: shutdown ends it
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
	}, stream)
	if !x.config.SnapStart { // what a snapshot has open, each environment of it would
		x.dispatcher.StartJournal()
	}
	if x.listener, err = listener.Listen(x.config.EventBytes(), x.receive, x.guard); err == nil {
		err = x.subscribe(ctx)
	}
	if err != nil {
		x.log.Error("no telemetry is delivered, the function is not affected: " + explainRefusal(err))
		return
	}
	x.subscribed = true
	x.warming.Go(func() { // beside the runtime's init and the first call of next: neither waits for it
		defer x.guard()
		stream.Warm(ctx)
	})
	switch {
	case x.config.ManagedRuntime:
		x.dispatcher.Note(flush.NeverFrozen{})
	case !x.config.SnapStart: // a snapshot must not hold a request under way: each environment of it would begin with that
		x.dispatcher.Note(flush.Initialising{})
	}
}

// subscribe asks for the user's selection and for platform events, which say when an invocation ends. What is no refusal is tried
// again.
func (x *Extension) subscribe(ctx context.Context) error {
	types := x.config.Events
	if !slices.Contains(types, lambdaapi.Platform) {
		types = append([]lambdaapi.TelemetryType{lambdaapi.Platform}, types...)
	}
	return callWithTimeout(ctx, "subscribe to telemetry", func(ctx context.Context) error {
		const attempts = 4
		var wait backoff
		for attempt := 1; ; attempt++ {
			err := x.api.Subscribe(ctx, x.listener.Port(), buffering, types...)
			var status *lambdaapi.StatusError
			final := errors.As(err, &status) && status.Status < http.StatusInternalServerError
			if err == nil || final || attempt == attempts || wait.sleep(ctx) != nil {
				return err
			}
		}
	})
}

// explainRefusal says what a refused subscription means.
func explainRefusal(err error) string {
	text := err.Error()
	var status *lambdaapi.StatusError
	if !errors.As(err, &status) {
		return text
	}
	switch status.Status {
	case http.StatusAccepted:
		return text + " (this environment is an emulation that has no telemetry; `ktel run` has)"
	case http.StatusNotFound:
		return text + " (this environment has no Telemetry API)"
	case http.StatusForbidden:
		return text + " (the environment's init phase is over, or another extension of this name is registered)"
	}
	return text
}

// serve is the main loop: one event of the Extensions API after the other, until SHUTDOWN. work ends before ctx when the
// extension is broken; then it goes on asking for events, and does nothing about them.
func (x *Extension) serve(ctx, work context.Context) {
	var wait backoff
	for ctx.Err() == nil {
		event, err := x.api.Next(ctx)
		if err != nil {
			if ctx.Err() == nil && wait.first() {
				x.log.Error("cannot ask Lambda for the next event, trying again: " + err.Error())
			}
			_ = wait.sleep(ctx) // a done ctx ends the loop
			continue
		}
		wait = backoff{}
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
	x.handleShutdown(ctx, lambdaapi.Event{ShutdownReason: "signal"}) // the process is told to end otherwise than by Lambda
}

// handleShutdown shuts down within Lambda's deadline, also where a panic has left something behind that never ends.
func (x *Extension) handleShutdown(ctx context.Context, event lambdaapi.Event) {
	if !x.subscribed {
		return
	}
	left, margin := shutdownTime(time.Until(event.Deadline))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left-margin)
	defer cancel()
	over := time.After(left - margin/2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer x.guard()
		x.shutdown(ctx, event.ShutdownReason)
	}()
	select {
	case <-done:
	case <-over:
	}
}

// backoff is the pause between tries of a local API. The zero value is ready.
type backoff struct{ pause time.Duration }

// While /next fails every invocation waits for it, so the pauses stay short; but there are pauses.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// first tells whether nothing has been slept yet, that is, whether the failure is worth a line.
func (b *backoff) first() bool { return b.pause == 0 }

// sleep waits, twice as long each time, and returns ctx's error when that ends it.
func (b *backoff) sleep(ctx context.Context) error {
	b.pause = min(max(b.pause*2, minPause), maxPause)
	return smithytime.SleepWithContext(ctx, b.pause)
}
