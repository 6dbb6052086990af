package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/record"
)

// lambda is what Lambda itself sets.
var lambda = []string{
	"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001", "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=s",
	"AWS_SESSION_TOKEN=t", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1024", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
}

func TestDefaults(t *testing.T) {
	got, mistakes := Load(lambda)
	want := Config{
		RuntimeAPI: "127.0.0.1:9001", Enabled: true, OnError: Idle, LogLevel: 4,
		Events:   []lambdaapi.TelemetryType{lambdaapi.Platform, lambdaapi.Function},
		Delivery: flush.Adaptive, MaxDelay: 10 * time.Second, FlushTimeout: time.Second,
		Format: record.NDJSON, RecordBytes: 100_000, MaxRecordBytes: 1 << 20, PartitionKey: dispatcher.ByEnvironment,
		BufferBytes: 64 << 20, SpillDir: "/tmp/kinesis-telemetry",
		AWS: AWS{
			Stream: "telemetry-kinesis-stream", Region: "eu-west-1",
			Credentials: kinesis.CredentialsConfig{AccessKeyID: "AKID", SecretAccessKey: "s", SessionToken: "t"},
		},
	}
	if !reflect.DeepEqual(got, want) || len(mistakes) > 0 {
		t.Errorf("got  %+v\nwant %+v\nmistakes %v", got, want, mistakes)
	}
}

func TestEverySetting(t *testing.T) {
	got, mistakes := Load(append([]string{
		Prefix + "STREAM=arn:aws-cn:kinesis:cn-north-1:210987654321:stream/s", Prefix + "EVENTS=function, Extension",
		Prefix + "DELIVERY=Sync", Prefix + "MAX_DELAY=1m", Prefix + "FLUSH_TIMEOUT=250ms", Prefix + "FORMAT=json",
		Prefix + "COMPRESSION=none", Prefix + "RECORD_BYTES=25000", Prefix + "MAX_RECORD_BYTES=10485760",
		Prefix + "PARTITION_KEY=tenant", Prefix + "BUFFER_BYTES=2000000", Prefix + "SPILL_DIR=", Prefix + "TAGS=team=shop, stage=a=b",
		Prefix + "ENDPOINT_URL=http://127.0.0.1:4567", Prefix + "ENABLED=false", Prefix + "ON_ERROR=fail", Prefix + "LOG_LEVEL=debug",
		"AWS_ENDPOINT_URL=http://other", "AWS_USE_FIPS_ENDPOINT=true", "AWS_USE_DUALSTACK_ENDPOINT=true",
	}, lambda...))
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	summary := fmt.Sprint(got.AWS.Stream, got.Events, got.Delivery, got.MaxDelay, got.FlushTimeout, got.Format, got.RecordBytes,
		got.MaxRecordBytes, got.PartitionKey, got.BufferBytes, got.SpillDir, got.Tags, got.AWS.EndpointURL, got.Enabled, got.OnError,
		got.LogLevel, fmt.Sprint(got.AWS.FIPS, "/", got.AWS.DualStack))
	const want = "arn:aws-cn:kinesis:cn-north-1:210987654321:stream/s [function extension] sync 1m0s 250ms json 25000 " +
		"10485760 tenant 2000000  map[stage:a=b team:shop] http://127.0.0.1:4567 false fail DEBUG true/true"
	if strings.Join(strings.Fields(summary), "") != strings.Join(strings.Fields(want), "") {
		t.Errorf("got  %s\nwant %s", summary, want)
	}
}

// Every mistake is found, each by its variable, and all of them at once.
func TestMistakes(t *testing.T) {
	wrong := map[string]string{
		"STREAM": "a stream", "EVENTS": "platform,logs", "DELIVERY": "soon", "MAX_DELAY": "10", "FLUSH_TIMEOUT": "-1s",
		"FORMAT": "xml", "COMPRESSION": "lz4", "RECORD_BYTES": "2000000", "MAX_RECORD_BYTES": "11000000", "PARTITION_KEY": "shard",
		"BUFFER_BYTES": "8MB", "TAGS": "team", "ENDPOINT_URL": "localhost:4567", "ENABLED": "perhaps", "ON_ERROR": "panic",
		"LOG_LEVEL": "loud", "ROLE_ARN": "admin",
	}
	environ := append([]string{}, lambda...)
	for name, value := range wrong {
		environ = append(environ, Prefix+name+"="+value)
	}
	cfg, mistakes := Load(environ)
	for _, m := range mistakes {
		name := strings.TrimPrefix(m.Variable, Prefix)
		if wrong[name] != m.Value || m.Expected == "" || !strings.Contains(Join(mistakes), m.Variable) {
			t.Errorf("an odd mistake: %v", m)
		}
		delete(wrong, name)
	}
	if len(wrong) > 0 || cfg.OnError != Idle || cfg.RecordBytes != 100_000 {
		t.Errorf("not found: %v; %+v", wrong, cfg)
	}
}

func TestMissingAndUnknown(t *testing.T) {
	cfg, mistakes := Load([]string{Prefix + "STREEM=x", "AWS_LAMBDA_RUNTIME_API=a"})
	if len(mistakes) != 2 || mistakes[0].Variable != "AWS_REGION" || mistakes[1].Variable != "AWS_ACCESS_KEY_ID" {
		t.Errorf("mistakes: %v", mistakes)
	}
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0].String(), "STREAM, TAGS") {
		t.Errorf("warnings: %v", cfg.Warnings)
	}
}

func TestBuffer(t *testing.T) {
	for memory, want := range map[string]int{"128": 8, "": 8, "x": 8, "512": 32, "1024": 64, "10240": 64} {
		cfg, _ := Load(append([]string{}, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE="+memory))
		if cfg.BufferBytes != want*mib {
			t.Errorf("%s MB: %d bytes", memory, cfg.BufferBytes)
		}
		if limit := cfg.MemoryLimit(); limit != int64(cfg.BufferBytes+cfg.RequestBytes()*5/2+12*mib) || want == 8 && limit != 25*mib {
			t.Errorf("%s MB: GOMEMLIMIT %d", memory, limit)
		}
		if r := cfg.RequestBytes(); r > 5*mib || r < cfg.MaxRecordBytes {
			t.Errorf("%s MB: requests of %d bytes", memory, r)
		}
	}
}
