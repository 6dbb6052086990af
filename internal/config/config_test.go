package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/record"
)

// lambda are the variables that Lambda itself sets.
var lambda = []string{
	"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=s",
	"AWS_SESSION_TOKEN=t", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1024", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
}

// Without settings, the Config has the defaults of the README.
func TestDefaults(t *testing.T) {
	got, mistakes := Load(lambda)
	want := Config{
		RuntimeAPI: "127.0.0.1:9001", Enabled: true, OnError: OnErrorIdle, LogLevel: LogWarn,
		Events:   []lambdaapi.TelemetryType{lambdaapi.Platform, lambdaapi.Function},
		Delivery: flush.Adaptive, MaxDelay: 10 * time.Second, FlushTimeout: time.Second,
		Format: record.NDJSON, Compression: record.Uncompressed, RecordBytes: 100_000, MaxRecordBytes: 1 << 20,
		Oversize: "truncate", PartitionKey: dispatcher.ByEnvironment, BufferBytes: 64 << 20, SpillDir: "/tmp/kinesis-telemetry",
		AWS: AWS{
			Stream: "telemetry-kinesis-stream", Region: "eu-west-1",
			Credentials: kinesis.CredentialsConfig{AccessKeyID: "AKID", SecretAccessKey: "s", SessionToken: "t"},
			Proxies:     map[string]string{},
		},
	}
	if !reflect.DeepEqual(got, want) || len(mistakes) > 0 {
		t.Errorf("got  %+v\nwant %+v\nmistakes %v", got, want, mistakes)
	}
}

// Every setting is read.
func TestEverySettingIsRead(t *testing.T) {
	got, mistakes := with([]string{
		Prefix + "STREAM=arn:aws-cn:kinesis:cn-north-1:210987654321:stream/s", Prefix + "EVENTS=function, Extension",
		Prefix + "DELIVERY=Sync", Prefix + "MAX_DELAY=1m", Prefix + "FLUSH_TIMEOUT=250ms", Prefix + "FORMAT=json",
		Prefix + "COMPRESSION=none", Prefix + "RECORD_BYTES=25000", Prefix + "MAX_RECORD_BYTES=10485760", Prefix + "OVERSIZE=drop",
		Prefix + "PARTITION_KEY=tenant", Prefix + "BUFFER_BYTES=2000000", Prefix + "SPILL_DIR=", Prefix + "TAGS=team=shop, stage=a=b",
		Prefix + "ENDPOINT_URL=http://127.0.0.1:4567", Prefix + "ENABLED=false", Prefix + "ON_ERROR=fail", Prefix + "LOG_LEVEL=debug",
		Prefix + "ROLE_ARN=arn:aws-cn:iam::210987654321:role/r", Prefix + "ROLE_EXTERNAL_ID=a/b", Prefix + "ROLE_SESSION_NAME=a@b",
		"AWS_ENDPOINT_URL=http://other", "AWS_USE_FIPS_ENDPOINT=true", "AWS_USE_DUALSTACK_ENDPOINT=true",
	})
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	summary := fmt.Sprint(got.AWS.Stream, got.Events, got.Delivery, got.MaxDelay, got.FlushTimeout, got.Format, got.RecordBytes,
		got.MaxRecordBytes, got.Oversize, got.PartitionKey, got.BufferBytes, got.SpillDir, got.Tags, got.AWS.EndpointURL,
		got.Enabled, got.OnError, got.LogLevel, fmt.Sprint(got.AWS.FIPS, "/", got.AWS.DualStack),
		got.AWS.RoleARN, got.AWS.RoleExternalID, got.AWS.RoleSessionName)
	const want = "arn:aws-cn:kinesis:cn-north-1:210987654321:stream/s [function extension] sync 1m0s 250ms json 25000 " +
		"10485760 drop tenant 2000000  map[stage:a=b team:shop] http://127.0.0.1:4567 false fail DEBUG true/true " +
		"arn:aws-cn:iam::210987654321:role/r a/b a@b"
	if strings.Join(strings.Fields(summary), "") != strings.Join(strings.Fields(want), "") {
		t.Errorf("got  %s\nwant %s", summary, want)
	}
}

// All mistakes are reported together, each with its variable. A wrong word or number is shown, and other values are
// hidden.
func TestAllMistakesAreReported(t *testing.T) {
	wrong := map[string]string{
		"EVENTS": "logs", "DELIVERY": "soon", "MAX_DELAY": "10", "FLUSH_TIMEOUT": "-1s", "FORMAT": "xml", "COMPRESSION": "lz4",
		"RECORD_BYTES": "2000000", "MAX_RECORD_BYTES": "11000000", "OVERSIZE": "cut", "PARTITION_KEY": "shard", "BUFFER_BYTES": "8mb",
		"ENABLED": "perhaps", "ON_ERROR": "panic",
	}
	hidden := map[string]string{
		"STREAM": "a stream", "TAGS": "team", "ENDPOINT_URL": "localhost:4567", "ROLE_ARN": "admin", "ROLE_EXTERNAL_ID": "#",
		"ROLE_SESSION_NAME": "a b",
	}
	cfg, mistakes := with(variables(wrong), variables(hidden))
	for _, m := range mistakes {
		name := strings.TrimPrefix(m.Variable, Prefix)
		problem := "cannot be used"
		if value, shown := wrong[name]; shown {
			problem = fmt.Sprintf("is %q", value)
		}
		if m.Problem != problem || m.Expected == "" || !strings.Contains(Join(mistakes), m.Variable+" "+problem+": "+m.Expected) {
			t.Errorf("unexpected: %v", m)
		}
		delete(wrong, name)
		delete(hidden, name)
	}
	if len(wrong)+len(hidden) > 0 {
		t.Errorf("not reported: %v %v", wrong, hidden)
	}
	if cfg.OnError != OnErrorIdle || cfg.RecordBytes != 100_000 || cfg.AWS.Stream != "" || cfg.AWS.EndpointURL != "" {
		t.Errorf("%+v", cfg)
	}
}

// with loads the variables that Lambda sets, and the given ones.
func with(settings ...[]string) (Config, []Mistake) {
	return Load(slices.Concat(append([][]string{lambda}, settings...)...))
}

// variables returns settings in the form of the environment.
func variables(settings map[string]string) (environ []string) {
	for name, value := range settings {
		environ = append(environ, Prefix+name+"="+value)
	}
	return environ
}

// A missing variable is a mistake, an unknown setting a warning.
func TestMissingAndUnknown(t *testing.T) {
	cfg, mistakes := Load([]string{Prefix + "STREEM=x", "AWS_LAMBDA_RUNTIME_API=a"})
	if len(mistakes) != 2 || !strings.HasPrefix(mistakes[0].String(), "AWS_REGION is not set: ") ||
		!strings.HasPrefix(mistakes[1].String(), "AWS_ACCESS_KEY_ID is not set: ") {
		t.Errorf("mistakes: %v", mistakes)
	}
	if len(cfg.Warnings) != 1 || !strings.HasPrefix(cfg.Warnings[0].String(), Prefix+"STREEM has no effect: ") ||
		!strings.Contains(cfg.Warnings[0].String(), "STREAM, TAGS") {
		t.Errorf("warnings: %v", cfg.Warnings)
	}
}

// The bounds themselves are valid, and values beyond them are not.
func TestBounds(t *testing.T) {
	many := func(n int) string {
		pairs := make([]string, n)
		for i := range pairs {
			pairs[i] = fmt.Sprintf("k%d=v", i)
		}
		return strings.Join(pairs, ",")
	}
	for _, test := range []struct {
		name      string
		good, bad []string
	}{
		{"MAX_DELAY", []string{"100ms", "15m"}, []string{"99ms", "15m1ms"}},
		{"FLUSH_TIMEOUT", []string{"10ms", "15m"}, []string{"9ms", "15m1ms"}},
		{"MAX_RECORD_BYTES", []string{"1024", "10485760"}, []string{"1023", "10485761"}},
		{"RECORD_BYTES", []string{"1024", "1048576"}, []string{"1023", "1048577"}},
		{"BUFFER_BYTES", []string{"1048576", "1073741824"}, []string{"1048575", "1073741825"}},
		{
			"TAGS",
			[]string{strings.Repeat("ö", 256) + "=" + strings.Repeat("ö", 256), many(50), "a=", ""},
			[]string{strings.Repeat("k", 257) + "=", "k=" + strings.Repeat("v", 257), many(51), "=v", "a=1,a=2", "a=1,b"},
		},
	} {
		for i, value := range slices.Concat(test.good, test.bad) {
			_, mistakes := with(variables(map[string]string{test.name: value}))
			if good := i < len(test.good); good != (len(mistakes) == 0) {
				t.Errorf("%s of %d bytes, %.60s: %v", test.name, len(value), value, mistakes)
			}
		}
	}
}

// The buffer is a sixteenth of the function's memory, within bounds, and the memory limit follows from it.
func TestBufferFollowsTheMemory(t *testing.T) {
	for memory, want := range map[string]int{"128": 8, "": 8, "x": 8, "512": 32, "1024": 64, "10240": 64} {
		cfg, _ := Load(append([]string{}, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE="+memory))
		if cfg.BufferBytes != want*mib {
			t.Errorf("%s MB: %d bytes", memory, cfg.BufferBytes)
		}
		if limit := cfg.MemoryLimit(); limit != int64(cfg.BufferBytes+cfg.RequestBytes()*5/2+12*mib) || want == 8 && limit != 25*mib {
			t.Errorf("%s MB: GOMEMLIMIT %d", memory, limit)
		}
	}
}

// The limit of a request is a quarter of the buffer, at most 5 MiB, and at least the largest record.
func TestRequestBytes(t *testing.T) {
	for _, test := range []struct{ buffer, record, want int }{
		{8 * mib, mib, 2 * mib}, {64 * mib, mib, 5 * mib}, {2 * mib, mib, mib}, {8 * mib, 3 * mib, 3 * mib}, {64 * mib, 10 * mib, 10 * mib},
	} {
		cfg := Config{BufferBytes: test.buffer, MaxRecordBytes: test.record}
		if got := cfg.RequestBytes(); got != test.want {
			t.Errorf("buffer %d, records of %d: %d, want %d", test.buffer, test.record, got, test.want)
		}
	}
}

// Some formats allow only one compression. The default record size depends on the compression.
func TestCompression(t *testing.T) {
	for _, test := range []struct {
		format, compression string
		want                record.Compression
		recordBytes         int
		mistake             bool
	}{
		{"ndjson", "", record.Uncompressed, 100_000, false},
		{"ndjson", "gzip", record.Gzip, 500_000, false},
		{"json", "zstd", record.Zstd, 500_000, false},
		{"kpl", "", record.Uncompressed, 100_000, false},
		{"kpl", "none", record.Uncompressed, 100_000, false},
		{"kpl", "gzip", record.Uncompressed, 100_000, true},
		{"cloudwatch", "", record.Gzip, 500_000, false},
		{"cloudwatch", "gzip", record.Gzip, 500_000, false},
		{"cloudwatch", "none", record.Gzip, 500_000, true},
		{"cloudwatch", "zstd", record.Gzip, 500_000, true},
		{"ndjson", "lz4", record.Uncompressed, 100_000, true},
	} {
		c, mistakes := Load([]string{Prefix + "FORMAT=" + test.format, Prefix + "COMPRESSION=" + test.compression})
		mistake := slices.ContainsFunc(mistakes, func(m Mistake) bool { return strings.Contains(m.String(), "COMPRESSION") })
		if string(c.Format) != test.format || c.Compression != test.want || c.RecordBytes != test.recordBytes || mistake != test.mistake {
			t.Errorf("%s %s: %s, %d bytes, mistakes %v", test.format, test.compression, c.Compression, c.RecordBytes, mistakes)
		}
	}
	c, _ := Load([]string{Prefix + "COMPRESSION=gzip", Prefix + "MAX_RECORD_BYTES=200000"})
	if c.RecordBytes != 200_000 || c.EventBytes() != c.BufferBytes/4 {
		t.Errorf("records of %d bytes, events of %d", c.RecordBytes, c.EventBytes())
	}
}
