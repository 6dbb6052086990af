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

// InitType says how the environment came to be. The zero value is on demand.
type InitType string

// The values are those of the variable AWS_LAMBDA_INITIALIZATION_TYPE.
const (
	OnDemand               InitType = "on-demand"
	ProvisionedConcurrency InitType = "provisioned-concurrency"
	SnapStart              InitType = "snap-start"
	ManagedInstances       InitType = "lambda-managed-instances"
)

// LogFormat is the function's log format. The zero value is text.
type LogFormat string

// The values are those of the variable AWS_LAMBDA_LOG_FORMAT.
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
	Layers     []string    // folders whose content is at /opt, a later one over an earlier one; where that can be had (Linux)
	InitType   InitType    // default OnDemand

	Region    string // default us-east-1
	AccountID string // default 123456789012

	// Credentials reach the processes as environment variables; under SnapStart by the container credentials endpoint.
	// Default: invented keys, with which no AWS service can be called.
	Credentials Credentials

	// TmpDir, if set, is the TMPDIR of every process. It lives as long as the caller lets it: as Lambda's /tmp it survives
	// freezes and resets.
	TmpDir string

	// Output, if set, gets a copy of what the processes print, each line with the name of who printed it, and at the end of
	// the processes a line of the sandbox about each subscriber that never took a POST. It is called
	// by one goroutine at a time. A writer that blocks holds up the environment itself; Extension.BlockOutput holds up an extension.
	Output io.Writer

	// OnEvent, if set, is called once for each telemetry event that extension ought to receive, in the order of delivery and
	// one call at a time for each extension (calls for different extensions may overlap). An event counts when its first
	// delivery is tried, or when it was dropped because the extension was too slow; between the SHUTDOWN event and the
	// exit of the extension it counts when the extension accepted it, because nobody can tell whether a process on its way
	// out was still listening. What is still buffered when the process is gone does not count. Of an extension with several
	// subscriptions each counts by itself: an event that two of them want is told twice.
	// OnEvent must not call the Environment's methods.
	OnEvent func(extension string, e Event)

	// OnAccepted, if set, is called once for each telemetry event that extension has answered with success. It is bound as OnEvent is.
	OnAccepted func(extension string, e Event)

	API       APIFaults
	Telemetry TelemetryFaults

	InitTimeout     time.Duration // default 10 s; under other init types than OnDemand 130 s
	ShutdownTimeout time.Duration // for the whole shutdown with external extensions, default 2 s

	// ReportDelay is the time from the end of the invoke phase to the moment when platform.report is handed to the
	// Telemetry API. Lambda gives no bound: it was seen after SHUTDOWN. 0: at once.
	ReportDelay time.Duration

	NoFreeze  bool // leave the processes running between invocations
	RetryInit bool // a failed init does not fail Start: the next Invoke tries again (suppressed init), as Lambda does
}

// Function describes the function.
type Function struct {
	Command []string          // program and arguments that run the Runtime API's loop; required
	Dir     string            // working directory and LAMBDA_TASK_ROOT, default the caller's
	Env     map[string]string // the function's own variables; extensions see them too

	Name     string        // default "function"
	Version  string        // default "$LATEST"
	Handler  string        // default "bootstrap"
	MemoryMB int           // size, default 128; only reported, not enforced
	Timeout  time.Duration // default 3 s

	LogFormat   LogFormat // default Text; always JSON on Managed Instances
	LogLevel    string    // AWS_LAMBDA_LOG_LEVEL, for the function alone; default none
	Concurrency int       // Managed Instances: AWS_LAMBDA_MAX_CONCURRENCY, default 10
}

// memoryBytes is the size as telemetry tells it. The guide's samples have megabytes, captures and the emulator bytes.
func (f *Function) memoryBytes() int { return f.MemoryMB << 20 }

// Extension describes an external extension.
type Extension struct {
	Path string            // program
	Args []string          // Lambda gives none; for wrappers and tests
	Name string            // the file name in /opt/extensions, default the base of Path
	Env  map[string]string // further variables, for this extension alone (Lambda has no such thing)

	// BlockOutput: nobody reads what it prints. Its pipes are full from the start, so that the first write blocks until the
	// process ends.
	BlockOutput bool
}

// StatusFault answers calls of an API with a status instead of serving them.
type StatusFault struct {
	Status int // 0: no fault
	Times  int // how many calls of each extension's process are answered so; negative: all
}

// APIFaults makes the Extensions API and the subscription misbehave.
type APIFaults struct {
	Extension string // the extension that it concerns, "" for all
	Register  StatusFault
	Next      StatusFault
	Subscribe StatusFault // with 202 the body is that of Lambda's emulator; nothing is ever delivered
}

// TelemetryFaults makes the delivery of telemetry misbehave. Events over the subscriber's maxBytes are always cut, and a
// slow subscriber always loses events, because Lambda does so too.
type TelemetryFaults struct {
	// Lose, if set, is asked once about each event whether it gets lost. A lost event is not emitted at all: no subscriber gets
	// it, and OnEvent is not told of it. typ is the event's type; invocation is the number of the invocation that it is of,
	// else of the one that began last: from 0, counted over all lives of the environment, and -1 before the first.
	// Lose is called by one goroutine at a time and must not call the Environment's methods.
	Lose func(typ string, invocation int) bool
	// EmitLogsDropped: a platform.logsDropped is emitted in the place of each event that Lose takes, an event as any other about which
	// Lose is not asked. Without it the loss is silent.
	EmitLogsDropped bool

	DuplicateRuntimeDone bool
	RuntimeDoneDelay     time.Duration // from the runtime's next to platform.runtimeDone
	QueueBytes           int           // bound of each subscriber's queue, default 16 MiB; beyond it events are dropped
	KeepNewline          bool          // text records keep the newline that ended the line
	NewConnections       bool          // each POST has a connection of its own
	DialHost             string        // address where subscribers are reached, default 127.0.0.1; 127.0.0.2 finds listeners bound to 127.0.0.1 alone (Linux)
}

// Event is one telemetry event. The slices must not be changed; they may be kept.
type Event struct {
	Time   time.Time // UTC, whole milliseconds
	Type   string    // function, extension, platform.start …
	Raw    []byte    // the bytes of the JSON object as posted
	Record []byte    // the bytes of its record member
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

// withDefaults returns cfg with every unset field set, or all its mistakes. It copies what the caller could change later.
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
	if cfg.InitType == ManagedInstances { // https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html: JSON always, no freeze
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
	setDefault(&cfg.Credentials, Credentials{"ASIASANDBOXSANDBOX00", "sandbox/sandbox/sandbox/sandbox/sandbox0", "sandbox-session-token"})
	if cfg.InitType == OnDemand {
		setDefault(&cfg.InitTimeout, defaultInitTimeout)
	}
	setDefault(&cfg.InitTimeout, max(longInitTimeout, min(f.Timeout, 900*time.Second)))
	setDefault(&cfg.ShutdownTimeout, defaultShutdownTimeout)
	setDefault(&cfg.Telemetry.QueueBytes, defaultQueueBytes)
	setDefault(&cfg.Telemetry.DialHost, "127.0.0.1")
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
