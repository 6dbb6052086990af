// Package config reads every setting of the extension once, from the environment, and validates them together. It
// reports all mistakes, each with the variable and the expected value. The only file that it reads is AWS_CA_BUNDLE.
package config

import (
	"strconv"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/record"
)

// Prefix begins the names of the extension's own variables.
const Prefix = "KINESIS_TELEMETRY_"

// OnError is the reaction to a mistake in the settings.
type OnError string

// The reactions to a mistake.
const (
	OnErrorIdle OnError = "idle" // the extension does nothing, and the function runs
	OnErrorFail OnError = "fail" // the environment's init fails, so that a mistake shows at deployment
)

// LogLevel is the lowest level of the lines that the extension logs.
type LogLevel int

// The levels of the extension's log. LogOff is that of a log without lines.
const (
	LogDebug LogLevel = iota
	LogInfo
	LogWarn
	LogError
	LogOff
)

// String returns the level's name.
func (l LogLevel) String() string { return [...]string{"DEBUG", "INFO", "WARN", "ERROR", "OFF"}[l] }

// Config is the extension's whole configuration.
type Config struct {
	RuntimeAPI     string // host:port of Lambda's local APIs
	ManagedRuntime bool   // Lambda Managed Instances: SHUTDOWN events only, never frozen
	SnapStart      bool

	Enabled      bool
	OnError      OnError
	LogLevel     LogLevel
	Events       []lambdaapi.TelemetryType
	Delivery     flush.Mode
	MaxDelay     time.Duration
	FlushTimeout time.Duration

	Format         record.Format
	Compression    record.Compression
	LogGroup       string // empty: the function's default log group
	JSONLogs       bool   // the function's log format is known to be JSON
	RecordBytes    int
	MaxRecordBytes int
	Oversize       dispatcher.Oversize
	PartitionKey   dispatcher.PartitionKey
	BufferBytes    int
	SpillDir       string
	Tags           map[string]string

	AWS AWS

	// Warnings are mistakes that do not stop delivery.
	Warnings []Mistake
}

// Mistake is a problem with a variable.
type Mistake struct {
	Variable string
	Problem  string // contains the value only if that cannot be a secret
	Expected string
}

// String returns the mistake as one sentence.
func (m Mistake) String() string { return m.Variable + " " + m.Problem + ": " + m.Expected }

const (
	mib = 1 << 20

	defaultRecordBytes = 100_000 // DESIGN.md, Record size
	// defaultCompressedBytes is the size before compression, which leaves about a sixth.
	defaultCompressedBytes = 500_000
	minRecordBytes         = 1 << 10
	defaultMaxRecord       = kinesis.MaxRecordBytes
	maxMaxRecord           = 10 * mib // https://docs.aws.amazon.com/streams/latest/dev/large-records.html

	minBuffer     = 1 * mib
	maxBuffer     = 1024 * mib
	defaultMemory = 128 // MB, Lambda's own default
)

// Load reads the settings from environ, which has the form "NAME=value" of os.Environ. A setting with a mistake gets
// its default or no value, and the rest of the Config is valid.
func Load(environ []string) (Config, []Mistake) {
	r := newReader(environ)
	c := Config{
		RuntimeAPI:     r.get("AWS_LAMBDA_RUNTIME_API"),
		ManagedRuntime: r.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "lambda-managed-instances",
		SnapStart:      r.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start",

		Enabled:  r.boolean(Prefix+"ENABLED", true),
		OnError:  choice(r, Prefix+"ON_ERROR", OnErrorIdle, OnErrorFail),
		LogLevel: r.level(Prefix + "LOG_LEVEL"),
		Events:   r.events(Prefix + "EVENTS"),
		Delivery: choice(r, Prefix+"DELIVERY", flush.Adaptive, flush.Sync, flush.Deferred),
		// The minimum is about the time of a request, the maximum is that of an invocation.
		MaxDelay:     r.duration(Prefix+"MAX_DELAY", 10*time.Second, 100*time.Millisecond, 15*time.Minute),
		FlushTimeout: r.duration(Prefix+"FLUSH_TIMEOUT", time.Second, 10*time.Millisecond, 15*time.Minute),

		Format:   choice(r, Prefix+"FORMAT", record.NDJSON, record.JSON, record.KPL, record.CloudWatch),
		LogGroup: r.get(Prefix + "LOG_GROUP"),
		JSONLogs: r.get("AWS_LAMBDA_LOG_FORMAT") == "JSON",
		PartitionKey: choice(r, Prefix+"PARTITION_KEY", dispatcher.ByEnvironment, dispatcher.ByRequest,
			dispatcher.ByFunction, dispatcher.ByTenant, dispatcher.ByRandom),
		MaxRecordBytes: r.integer(Prefix+"MAX_RECORD_BYTES", defaultMaxRecord, minRecordBytes, maxMaxRecord),
		Oversize:       choice(r, Prefix+"OVERSIZE", dispatcher.Truncate, dispatcher.Drop),
		SpillDir:       r.getOr(Prefix+"SPILL_DIR", "/tmp/kinesis-telemetry"),
		Tags:           r.tags(Prefix + "TAGS"),
	}
	c.Compression = r.compression(c.Format)
	recordBytes := defaultRecordBytes
	if c.Compression != record.Uncompressed {
		recordBytes = defaultCompressedBytes
	}
	c.RecordBytes = r.integer(Prefix+"RECORD_BYTES", min(recordBytes, c.MaxRecordBytes), minRecordBytes, c.MaxRecordBytes)
	c.BufferBytes = r.integer(Prefix+"BUFFER_BYTES", bufferFor(r.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")), minBuffer, maxBuffer)
	c.AWS = r.aws()
	r.unknown()
	c.Warnings = r.warnings
	return c, r.mistakes
}

// Flush returns the settings of the flush policy.
func (c *Config) Flush() flush.Settings {
	return flush.Settings{
		Mode: c.Delivery, MaxDelay: c.MaxDelay, FlushTimeout: c.FlushTimeout, RecordBytes: c.RecordBytes, BufferBytes: c.BufferBytes,
	}
}

// RequestBytes returns the limit of one PutRecords request: Kinesis's own 5 MiB, less in a function with little memory,
// and never less than one record of the largest size.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
func (c *Config) RequestBytes() int {
	return max(min(c.BufferBytes/4, kinesis.MaxRequestBytes), c.MaxRecordBytes)
}

// EventBytes returns how much is kept of an event that Lambda posts in pieces: as much as can fit into a record. With
// compression more can fit, so the limit is a quarter of the buffer.
func (c *Config) EventBytes() int {
	if c.Compression == record.Uncompressed {
		return c.MaxRecordBytes
	}
	return max(c.MaxRecordBytes, c.BufferBytes/4)
}

// MemoryLimit returns the value of GOMEMLIMIT: the buffer, two and a half requests (formats other than ndjson pack a
// request, and its memory grows), and the memory of the program itself. Near the limit the garbage collector works
// harder, and nothing fails.
func (c *Config) MemoryLimit() int64 {
	const program = 12 * mib
	return int64(c.BufferBytes + 5*c.RequestBytes()/2 + program)
}

// bufferFor returns the default of BUFFER_BYTES: a sixteenth of the function's memory, at least 4 and at most 64 MiB.
func bufferFor(memoryMB string) int {
	mb, err := strconv.Atoi(memoryMB)
	if err != nil {
		mb = defaultMemory
	}
	return min(max(mb/16, 4), 64) * mib
}

// Join returns the mistakes as one line.
func Join(mistakes []Mistake) string {
	lines := make([]string, len(mistakes))
	for i, m := range mistakes {
		lines[i] = m.String()
	}
	return strings.Join(lines, "; ")
}
