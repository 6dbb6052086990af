package listener

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	lambdaID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd" // Lambda's
	otherID  = "c6af9ac6-7b61-41e6-9a41-93e8deadbeef" // API Gateway's, an order's
)

// loggers are lines as common loggers write them in JSON, each with its source. OURS is replaced with lambdaID, OTHERS with otherID.
var loggers = []struct{ name, source, record string }{
	// Lambda's own runtimes.
	{
		"Node.js, console", "aws-lambda-nodejs-runtime-interface-client: src/LogPatch.js",
		`{"timestamp":"t","level":"INFO","requestId":"OURS","message":"m"}`,
	},
	{
		"Python, logging", "aws-lambda-python-runtime-interface-client: awslambdaric/lambda_runtime_log_utils.py",
		`{"timestamp":"t","level":"INFO","message":"m","logger":"root","requestId":"OURS"}`,
	},
	{
		"Java, LambdaLogger", "aws-lambda-java-libs: StructuredLogMessage.java",
		`{"timestamp":"t","message":"m","level":"INFO","AWSRequestId":"OURS"}`,
	},
	{
		"Java, Log4j2", "aws-lambda-java-libs: EventHandlerLoader.java, LambdaLayout.json",
		`{"timestamp":"t","level":"INFO","message":"m","logger":"l","AWSRequestId":"OURS"}`,
	},
	{
		"Java, in the guide", "Lambda Developer Guide: monitoring-cloudwatchlogs-logformat",
		`{"timestamp":"t","level":"INFO","message":"m","AWSrequestId":"OURS"}`,
	},
	{
		".NET, ILambdaLogger", "aws-lambda-dotnet: JsonLogMessageFormatter.cs",
		`{"timestamp":"t","level":"Information","requestId":"OURS","traceId":"x","message":"m"}`,
	},
	{
		"Ruby, Logger", "Lambda Developer Guide: ruby-logging",
		`{"timestamp":"t","level":"INFO","message":"m","requestId":"OURS"}`,
	},
	{
		"Go, lambdacontext", "aws-lambda-go: lambdacontext/logger.go",
		`{"timestamp":"t","level":"INFO","message":"m","requestId":"OURS"}`,
	},
	{
		"Rust, tracing", "aws-lambda-rust-runtime: lambda-runtime/src/layers/trace.rs",
		`{"level":"INFO","fields":{"message":"m"},"span":{"requestId":"OURS","name":"Lambda runtime invoke"},` +
			`"spans":[{"requestId":"OURS","name":"Lambda runtime invoke"}]}`,
	},
	{
		"Rust, in the function's own span", "docs.rs: metrics_cloudwatch_embedded",
		`{"level":"INFO","fields":{"message":"m"},"span":{"requestId":"OTHERS","name":"order"},"spans":[{"name":"cold start"},` +
			`{"requestId":"OURS","xrayTraceId":"x","name":"Lambda runtime invoke"},{"requestId":"OTHERS","name":"order"}]}`,
	},
	{
		"Rust, only spans", "tracing-subscriber: with_current_span(false)",
		`{"level":"INFO","fields":{"message":"m"},"spans":[ {"name":"a"} , {"requestId":"OURS"} ]}`,
	},
	{
		"Rust, only the span", "tracing-subscriber: with_span_list(false)",
		`{"level":"INFO","fields":{"message":"m"},"span":{"requestId":"OURS","name":"Lambda runtime invoke"}}`,
	},
	{
		"Rust, OpenTelemetry", "aws-lambda-rust-runtime: lambda-runtime/src/layers/otel.rs",
		`{"level":"INFO","spans":[{"faas.trigger":"http","faas.invocation_id":"OURS","faas.coldstart":true}]}`,
	},

	// Powertools for AWS Lambda.
	{
		"Powertools for Python", "powertools-lambda-python: logging/lambda_context.py",
		`{"level":"INFO","message":"m","service":"s","function_request_id":"OURS","xray_trace_id":"x"}`,
	},
	{
		"Powertools for TypeScript", "powertools-lambda-typescript: PowertoolsLogFormatter.ts",
		`{"level":"INFO","message":"m","function_request_id":"OURS"}`,
	},
	{
		"Powertools for TypeScript, custom formatter", "powertools-lambda-typescript: bringYourOwnFormatterClass.ts",
		`{"message":"m","correlationIds":{"awsRequestId":"OURS","xRayTraceId":"x"},"lambdaFunction":{"name":"f"}}`,
	},
	{
		"Powertools for Java", "powertools-lambda-java: LambdaJsonLayout.json",
		`{"level":"INFO","message":"m","function_request_id":"OURS"}`,
	},
	{
		"Powertools for Java, ECS", "powertools-lambda-java: LambdaEcsLayout.json",
		`{"@timestamp":"t","message":"m","faas.id":"arn","faas.execution":"OURS","trace.id":"x"}`,
	},
	{
		"Powertools for .NET", "powertools-lambda-dotnet: LoggingConstants.cs",
		`{"level":"Information","function_request_id":"OURS"}`,
	},
	{
		"Powertools for .NET, camel case", "powertools-lambda-dotnet: docs/core/logging.md",
		`{"level":"Information","functionRequestId":"OURS"}`,
	},
	{
		"Powertools for .NET, Pascal case", "powertools-lambda-dotnet: docs/core/logging.md",
		`{"Level":"Information","FunctionRequestId":"OURS"}`,
	},
	{
		"Powertools for .NET, custom formatter", "powertools-lambda-dotnet: docs/core/logging.md",
		`{"Message":"m","CorrelationIds":{"AwsRequestId":"OURS"}}`,
	},
	{
		"the same in snake case", "powertools-lambda-dotnet: docs/core/logging.md",
		`{"message":"m","correlation_ids":{"aws_request_id":"OURS"}}`,
	},

	// Others.
	{
		"pino-lambda", "pino-lambda: src/request.ts, PinoLogFormatter",
		`{"awsRequestId":"OURS","apiRequestId":"OTHERS","x-correlation-id":"OTHERS","level":30,"time":1480572000000,"msg":"m"}`,
	},
	{
		"pino-lambda, structured", "pino-lambda: src/formatters/structured.ts",
		`{"timestamp":"t","level":"INFO","requestId":"OURS","message":{"msg":"m","apiRequestId":"OTHERS"}}`,
	},
	{
		"structlog", "structlog: bind_contextvars(aws_request_id=context.aws_request_id)",
		`{"event":"m","level":"info","aws_request_id":"OURS"}`,
	},
	{
		"python-json-logger", "aws-lambda-python-runtime-interface-client: bootstrap.py, LambdaLoggerFilter",
		`{"message":"m","aws_request_id":"OURS"}`,
	},
	{
		"Log4j2, JsonLayout", "Log4j: manual, JSON Layout, thread context",
		`{"level":"INFO","message":"m","contextMap":{"AWSRequestId":"OURS"}}`,
	},
	{
		"Log4j2, Logstash", "Log4j: LogstashJsonEventLayoutV1.json",
		`{"level":"INFO","message":"m","mdc":{"AWSRequestId":"OURS"}}`,
	},
	{
		"custom member", "many functions: lambda_request_id=context.aws_request_id",
		`{"message":"m","lambda_request_id":"OURS"}`,
	},
	{
		"custom member, camel case", "many functions: lambdaRequestId: context.awsRequestId",
		`{"message":"m","requestId":"OTHERS","lambdaRequestId":"OURS"}`,
	},
	{
		"Lambda's context, Node.js", "aws-lambda-nodejs-runtime-interface-client: src/InvokeContext.js",
		`{"message":"m","context":{"functionName":"f","awsRequestId":"OURS"}}`,
	},
	{
		"Lambda's context, Java", "aws-lambda-java-libs: LambdaContext.java",
		`{"message":"m","lambdaContext":{"awsRequestId":"OURS"}}`,
	},
	{
		"Lambda's context, shortened", "many functions: lambdaContext: { requestId: context.awsRequestId }",
		`{"message":"m","lambdaContext":{"requestId":"OURS"}}`,
	},
	{
		"the same in snake case", "many functions",
		`{"message":"m","lambda_context":{"requestId":"OURS"}}`,
	},
}

// The Splitter finds Lambda's request id in the lines of common loggers.
func TestLoggers(t *testing.T) {
	for _, test := range loggers {
		if got := requestIDOf(t, test.record); got != lambdaID {
			t.Errorf("%s (%s): %q in %s", test.name, test.source, got, test.record)
		}
	}
}

// If a line has several ids, the id of the most certain member counts. Ids in unknown members do not count. A
// requestId that is not a UUID is only Lambda's in an emulation, and the caller must check whether it is.
func TestMostCertainIDCounts(t *testing.T) {
	for record, want := range map[string]string{
		`{"requestId":"OTHERS","aws_request_id":"OURS"}`:                               lambdaID,
		`{"aws_request_id":"OURS","requestId":"OTHERS"}`:                               lambdaID,
		`{"requestId":"OTHERS","context":{"awsRequestId":"OURS"}}`:                     lambdaID,
		`{"function_request_id":"OURS","correlationIds":{"awsRequestId":"OTHERS"}}`:    lambdaID,
		`{"requestId":"OURS","aws_request_id":"UNDEFINED"}`:                            lambdaID,
		`{"requestId":"OURS","aws_request_id":null,"spans":[]}`:                        lambdaID,
		`{"requestId":"OTHERS","requestId":"OURS"}`:                                    lambdaID, // as JSON readers do
		`{"requestId":"order-17","aws_request_id":"OURS"}`:                             lambdaID,
		`{"requestId":"OURS","requestId":"order-17"}`:                                  lambdaID,
		`{"requestId":"OURS","requestContext":{"requestId":"OTHERS"}}`:                 lambdaID,
		`{"requestId":"order-17"}`:                                                     "order-17",
		`{"requestId":""}`:                                                             "",
		`{"requestId":17,"AWSRequestId":["OTHERS"]}`:                                   "",
		`{"aws_request_id":"order-17"}`:                                                "",
		`{"aws_request_id":"8476a536-e9f4-11e8-9739-2dfe598c3fcdx"}`:                   "",
		`{"aws_request_id":"8476a536-e9f4-11e8-9739-2dfe598c3fc"}`:                     "",
		`{"aws_request_id":"8476a536_e9f4_11e8_9739_2dfe598c3fcd"}`:                    "",
		`{"aws_request_id":"8476a536-e9f4-11e8-9739-2dfe598c3fcg"}`:                    "",
		`{"requestContext":{"requestId":"OTHERS"},"$metadata":{"requestId":"OTHERS"}}`: "",
		`{"err":{"requestId":"OTHERS"},"response":{"aws_request_id":"OTHERS"}}`:        "",
		`{"context":{"requestId":"OTHERS"},"mdc":{"requestId":"OTHERS"}}`:              "",
		`{"context":{"deeper":{"awsRequestId":"OTHERS"}}}`:                             "",
		`{"spans":{"requestId":"OTHERS"},"span":[{"requestId":"OTHERS"}]}`:             "",
		`{"spans":["x",{"requestId":"OTHERS"}]}`:                                       "",
		`{"xray_trace_id":"OTHERS","correlation_id":"OTHERS","apiRequestId":"OTHERS"}`: "",
	} {
		if got := requestIDOf(t, record); got != want {
			t.Errorf("%q, want %q in %s", got, want, record)
		}
	}
}

func requestIDOf(t *testing.T, record string) string {
	t.Helper()
	record = strings.NewReplacer("OURS", lambdaID, "OTHERS", otherID).Replace(record)
	events := new(Splitter).Split(nil, []byte(`[{"time":"t","type":"function","record":`+record+`}]`), true)
	if len(events) != 1 || events[0].Raw == nil {
		t.Fatalf("%d events: %s", len(events), record)
	}
	return string(events[0].RequestID)
}

// A request id is always a string in the record. It is a UUID, or the value of a requestId.
func FuzzRequestID(f *testing.F) {
	for _, test := range loggers {
		f.Add(strings.NewReplacer("OURS", lambdaID, "OTHERS", otherID).Replace(test.record))
	}
	f.Add("{\"requestId\":\"\x8b\"}")
	f.Fuzz(func(t *testing.T, record string) {
		record = strings.ToValidUTF8(record, "\uFFFD") // as the Splitter replaces it
		if !json.Valid([]byte(record)) {
			return
		}
		events := new(Splitter).Split(nil, []byte(`[{"time":"t","type":"function","record":`+record+`}]`), true)
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		id := string(events[0].RequestID)
		if id != "" && (!strings.Contains(record, `"`+id+`"`) || !IsUUID([]byte(id)) && !strings.Contains(record, `"requestId"`)) {
			t.Errorf("%q in %s", id, record)
		}
	})
}
