package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"kinesis-telemetry-extension/deploy/cdk/telemetry"
)

func TestSettings(t *testing.T) {
	for name, test := range map[string]struct {
		context map[string]any
		stack   string
		want    telemetry.StackProps
	}{
		"none": {nil, "TelemetryKinesisExtension", telemetry.StackProps{
			DemoDir: "../../build/demo", Props: telemetry.Props{LayerDir: "../../build"},
		}},
		"all, as -c gives them": {
			map[string]any{
				"stackName": "Mine", "parameterPrefix": "/orders", "layerDir": "zips", "demoDir": "hello", "streamName": "orders",
				"retentionHours": "48", "retainStream": "true", "keyArn": "key", "streamArn": "stream",
				"roleArn": "role", "roleExternalId": "id", "roleSessionName": "session", "denyCloudWatchLogs": "true",
			}, "Mine", telemetry.StackProps{ParameterPrefix: "/orders", DemoDir: "hello", Props: telemetry.Props{
				LayerDir: "zips", StreamName: "orders", Retention: 48 * time.Hour, RetainStream: true, KeyARN: "key", StreamARN: "stream",
				Role: telemetry.Role{ARN: "role", ExternalID: "id", SessionName: "session"}, DenyCloudWatchLogs: true,
			}},
		},
		"as JSON gives them": {
			map[string]any{"retentionHours": 48.0, "demo": false, "retainStream": true, "streamName": ""},
			"TelemetryKinesisExtension",
			telemetry.StackProps{Props: telemetry.Props{LayerDir: "../../build", Retention: 48 * time.Hour, RetainStream: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			stack, props, err := settings(func(key string) any { return test.context[key] })
			if err != nil || stack != test.stack || !reflect.DeepEqual(props, test.want) {
				t.Errorf("got %s, %+v, %v; want %s, %+v", stack, props, err, test.stack, test.want)
			}
		})
	}
}

func TestSettingsRefuses(t *testing.T) {
	for key, value := range map[string]string{
		"demo": "perhaps", "denyCloudWatchLogs": "never", "retainStream": "1 day", "retentionHours": "2 days",
	} {
		_, _, err := settings(func(asked string) any {
			if asked == key {
				return value
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}
