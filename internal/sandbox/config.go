//go:build unix

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// InitType is the way in which Lambda creates the environment. The zero value means OnDemand.
type InitType string

// The values of the variable AWS_LAMBDA_INITIALIZATION_TYPE.
const (
	OnDemand               InitType = "on-demand"
	ProvisionedConcurrency InitType = "provisioned-concurrency"
	SnapStart              InitType = "snap-start"
	ManagedInstances       InitType = "lambda-managed-instances"
)

// LogFormat is the function's log format. The zero value means Text.
type LogFormat string

// The values of the variable AWS_LAMBDA_LOG_FORMAT.
const (
	Text LogFormat = "Text"
	JSON LogFormat = "JSON"
)

// Credentials are the keys of the function's role.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
}

// Config describes the function and the extensions of one execution environment.
type Config struct {
	Function   Function
	Extensions []Extension // external extensions, at most 10; started before the runtime, in parallel
	Layers     []string    // folders to mount at /opt, a later one over an earlier one (Linux with mount namespaces)
	InitType   InitType    // default OnDemand

	Region    string // default us-east-1
	AccountID string // default 123456789012

	// Credentials are passed to the processes as environment variables, under SnapStart by the container credentials
	// endpoint. Default: invented keys, which no AWS service accepts.
	Credentials Credentials

	// TmpDir, if set, is the TMPDIR of every process. The sandbox never deletes it: like Lambda's /tmp it survives freezes
	// and resets.
	TmpDir string

	// Output, if set, gets a copy of the processes' output, each line with the process's name. When the processes have
	// exited, it also gets a line about each subscriber that never accepted a POST. One goroutine at a time calls it. A
	// writer that blocks stalls the environment itself; to stall one extension, set Extension.BlockOutput.
	Output io.Writer

	// OnEvent, if set, is called once for each telemetry event that the extension should receive, in the order of
	// delivery. Calls for one extension never overlap; calls for different extensions may.
	//
	// An event counts at its first delivery attempt, or when it is dropped because the extension is too slow. Between
	// SHUTDOWN and the extension's exit, an event counts only if the extension accepted it, because a process that is
	// exiting may no longer be listening. Events that are still buffered at the exit do not count. If two
	// subscriptions of an extension want an event, OnEvent is called twice.
	//
	// OnEvent must not call the Environment's methods.
	OnEvent func(extension string, e Event)

	// OnAccepted, if set, is called once for each telemetry event that the extension answered with 200. OnEvent's rules
	// for calls apply.
	OnAccepted func(extension string, e Event)

	API       APIFaults
	Telemetry TelemetryFaults

	InitTimeout     time.Duration // default 10 s; under init types other than OnDemand 130 s
	ShutdownTimeout time.Duration // for the whole shutdown with external extensions, default 2 s

	// ReportDelay is the time from the end of the invoke phase to platform.report. 0: at once. AWS documents no bound:
	// platform.report has been seen after SHUTDOWN.
	ReportDelay time.Duration

	NoFreeze  bool // leave the processes running between invocations
	RetryInit bool // a failed init does not fail Start: the next Invoke runs init again (suppressed init), as Lambda does
}

// Function describes the function.
type Function struct {
	Command []string          // program and arguments of a Runtime API client; required
	Dir     string            // working directory and LAMBDA_TASK_ROOT, default the caller's working directory
	Env     map[string]string // the function's own variables; extensions see them too

	Name     string        // default "function"
	Version  string        // default "$LATEST"
	Handler  string        // default "bootstrap"
	MemoryMB int           // size, default 128; only reported, not enforced
	Timeout  time.Duration // default 3 s
	// Grace is how long after its deadline an invocation is ended. It is for a loaded machine, where processes that keep the
	// deadline may be late. The default, 0, is as Lambda does.
	Grace time.Duration

	LogFormat   LogFormat // default Text; always JSON on Managed Instances
	LogLevel    string    // AWS_LAMBDA_LOG_LEVEL, for the function alone; default none
	Concurrency int       // Managed Instances: AWS_LAMBDA_MAX_CONCURRENCY, default 10
}

// memoryBytes is the memory size as telemetry reports it. The guide's samples have megabytes; captures and the emulator
// have bytes.
func (f *Function) memoryBytes() int { return f.MemoryMB << 20 }

// Extension describes an external extension.
type Extension struct {
	Path string            // program
	Args []string          // Lambda gives none; for wrappers and tests
	Name string            // the file name in /opt/extensions, default the base of Path
	Env  map[string]string // further variables, for this extension alone (Lambda has no such thing)

	// BlockOutput leaves the extension's output unread. Its pipes are full from the start, so its first write blocks until
	// the process is killed.
	BlockOutput bool
}

// StatusFault makes an API answer calls with a status instead of serving them.
type StatusFault struct {
	Status int // 0: no fault
	Times  int // how many calls of each extension's process; negative: all
}

// APIFaults makes the Extensions API and the subscription misbehave.
type APIFaults struct {
	Extension string // name of the only extension affected, "" for all
	Register  StatusFault
	Next      StatusFault
	Subscribe StatusFault // with 202 the answer has the emulator's body, and no telemetry is delivered
}

// TelemetryFaults makes the delivery of telemetry misbehave. Two faults are Lambda's own and always present: events above
// the subscriber's maxBytes are cut, and a slow subscriber loses events.
type TelemetryFaults struct {
	// Lose, if set, is called once for each event and reports whether to lose it. A lost event is not emitted: no
	// subscriber gets it, and OnEvent is not called. typ is the event's type. invocation is the number of the event's
	// invocation, or of the last invocation that began if the event has none. Numbers start at 0 and count through all
	// generations; -1 means before the first invocation. One goroutine at a time calls Lose. It must not call the
	// Environment's methods.
	Lose func(typ string, invocation int) bool
	// EmitLogsDropped emits a platform.logsDropped in place of each lost event. Lose is not called for it. Without
	// EmitLogsDropped the loss is silent.
	EmitLogsDropped bool

	DuplicateRuntimeDone bool
	RuntimeDoneDelay     time.Duration // from the runtime's next to platform.runtimeDone
	QueueBytes           int           // bound of each subscriber's queue, default 16 MiB; above it events are dropped
	NewConnections       bool          // each POST uses a new connection
}

// Event is one telemetry event. The receiver may keep the slices but must not change them.
type Event struct {
	Time   time.Time // UTC, whole milliseconds
	Type   string    // function, extension, platform.start …
	Raw    []byte    // the JSON object as posted
	Record []byte    // the value of its record member
}

// ErrConfig is in the chain of every error about a mistake in a Config.
var ErrConfig = errors.New("sandbox: invalid configuration")

const (
	maxExtensions          = 10 // https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
	defaultQueueBytes      = 16 << 20
	defaultInitTimeout     = 10 * time.Second
	longInitTimeout        = 130 * time.Second // all init types but on-demand
	defaultShutdownTimeout = 2 * time.Second
)

// withDefaults returns cfg with defaults for all unset fields, or an error that lists all mistakes. It clones Command, Env
// and Extensions, so later changes by the caller have no effect.
func (cfg Config) withDefaults() (Config, error) {
	var errs []error
	f := &cfg.Function
	if len(f.Command) == 0 || f.Command[0] == "" {
		errs = append(errs, errors.New("Function.Command is empty"))
	}
	f.Command, f.Env = slices.Clone(f.Command), maps.Clone(f.Env)
	cfg.Extensions = slices.Clone(cfg.Extensions)
	names := map[string]bool{}
	for i := range cfg.Extensions {
		x := &cfg.Extensions[i]
		if x.Path == "" {
			errs = append(errs, fmt.Errorf("Extensions[%d].Path is empty", i))
		}
		setDefault(&x.Name, filepath.Base(x.Path))
		if names[x.Name] {
			errs = append(errs, fmt.Errorf("two extensions are named %q", x.Name))
		}
		names[x.Name] = true
	}
	if len(cfg.Extensions) > maxExtensions {
		errs = append(errs, fmt.Errorf("%d extensions, at most %d are allowed", len(cfg.Extensions), maxExtensions))
	}
	setDefault(&cfg.InitType, OnDemand)
	switch cfg.InitType {
	case OnDemand, ProvisionedConcurrency, SnapStart, ManagedInstances:
	default:
		errs = append(errs, fmt.Errorf("unknown InitType %q", cfg.InitType))
	}
	setDefault(&f.LogFormat, Text)
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html: always JSON, never frozen
	if cfg.InitType == ManagedInstances {
		f.LogFormat, cfg.NoFreeze = JSON, true
	}
	if f.LogFormat != Text && f.LogFormat != JSON {
		errs = append(errs, fmt.Errorf("unknown LogFormat %q", f.LogFormat))
	}
	setDefault(&f.Name, "function")
	setDefault(&f.Version, "$LATEST")
	setDefault(&f.Handler, "bootstrap")
	setDefault(&f.MemoryMB, 128)
	setDefault(&f.Timeout, 3*time.Second)
	setDefault(&f.Concurrency, 10)
	setDefault(&cfg.Region, "us-east-1")
	setDefault(&cfg.AccountID, "123456789012")
	setDefault(&cfg.Credentials, Credentials{
		AccessKeyID:     "ASIASANDBOXSANDBOX00",
		SecretAccessKey: "sandbox/sandbox/sandbox/sandbox/sandbox0",
		SessionToken:    "sandbox-session-token",
	})
	if cfg.InitType == OnDemand {
		setDefault(&cfg.InitTimeout, defaultInitTimeout)
	}
	setDefault(&cfg.InitTimeout, max(longInitTimeout, min(f.Timeout, 900*time.Second)))
	setDefault(&cfg.ShutdownTimeout, defaultShutdownTimeout)
	setDefault(&cfg.Telemetry.QueueBytes, defaultQueueBytes)

	if len(errs) > 0 {
		return cfg, fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return cfg, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
