// Cdk is the CDK app of the stack TelemetryKinesisExtension. It reads its settings from the context: `cdk deploy -c KEY=VALUE`,
// or "context" in cdk.json.
//
//	stackName           TelemetryKinesisExtension
//	parameterPrefix     prefix of the SSM parameters; /telemetry/kinesis, followed by the stack's name if that is not the default
//	layerDir            ../../build; folder of the zips that `make layer` writes
//	demo                true; false leaves the demo function out
//	demoDir             ../../build/demo; folder of the bootstrap that `make demo-function` writes
//	streamArn           an existing stream to use, instead of a new one
//	streamName          the new stream's name; derived from the stack's by default
//	retentionHours      24; up to 8760
//	retainStream        false; true keeps the new stream when the stack is deleted
//	keyArn              your own KMS key for the stream, instead of alias/aws/kinesis
//	roleArn             a role that the extension assumes to write to the stream
//	roleExternalId      external id that the role's trust policy requires
//	roleSessionName     name of its sessions; kinesis-telemetry-extension
//	denyCloudWatchLogs  false; true denies the functions with the policy to write to CloudWatch Logs
package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"kinesis-telemetry-extension/deploy/cdk/telemetry"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run writes the cloud assembly. It returns panics that the user can fix as an error.
func run() (err error) {
	defer jsii.Close()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case telemetry.UsageError:
			err = r
		default:
			panic(r)
		}
	}()
	app := awscdk.NewApp(nil)
	name, props, err := settings(func(key string) any { return app.Node().TryGetContext(&key) })
	if err != nil {
		return err
	}
	telemetry.NewStack(app, name, props)
	app.Synth(nil)
	return nil
}

// settings reads the context. Its values are strings from the command line, and may be other JSON types from a file.
func settings(context func(key string) any) (name string, props telemetry.StackProps, err error) {
	text := func(key, otherwise string) string {
		if value := context(key); value != nil {
			return cmp.Or(fmt.Sprint(value), otherwise)
		}
		return otherwise
	}
	yes := func(key string, otherwise bool) bool {
		value, e := strconv.ParseBool(text(key, strconv.FormatBool(otherwise)))
		if e != nil {
			err = fmt.Errorf("%s is %q: it must be true or false", key, text(key, ""))
		}
		return value
	}
	props.ParameterPrefix = text("parameterPrefix", "")
	props.LayerDir = text("layerDir", "../../build")
	props.StreamARN = text("streamArn", "")
	props.StreamName = text("streamName", "")
	props.KeyARN = text("keyArn", "")
	props.Role = telemetry.Role{ARN: text("roleArn", ""), ExternalID: text("roleExternalId", ""), SessionName: text("roleSessionName", "")}
	props.RetainStream = yes("retainStream", false)
	props.DenyCloudWatchLogs = yes("denyCloudWatchLogs", false)
	if yes("demo", true) {
		props.DemoDir = text("demoDir", "../../build/demo")
	}
	if value := text("retentionHours", ""); value != "" {
		hours, e := strconv.ParseInt(value, 10, 64)
		if e != nil || hours < 1 || hours > math.MaxInt64/int64(time.Hour) {
			err = fmt.Errorf("retentionHours is %q: it must be a whole number from 24 to 8760", value)
		}
		props.Retention = time.Duration(hours) * time.Hour
	}
	return text("stackName", telemetry.DefaultStackName), props, err
}
