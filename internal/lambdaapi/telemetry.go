package lambdaapi

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// schemaVersion is the version of the telemetry events that Subscribe requests. AWS recommends it for all functions, it is backward
// compatible, and Managed Instances accept no other version.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
const schemaVersion = "2025-01-29"

// TelemetryType is a type of telemetry to subscribe to.
type TelemetryType string

// The types of telemetry.
const (
	Platform  TelemetryType = "platform"
	Function  TelemetryType = "function"
	Extension TelemetryType = "extension"
)

// Buffering bounds how long Lambda collects events before it posts them. Lambda posts when any of the bounds is reached.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
type Buffering struct {
	MaxItems int           // 1,000 to 10,000 events
	MaxBytes int           // 262,144 to 1,048,576 bytes
	Timeout  time.Duration // 25 ms to 30 s
}

// Subscribe asks Lambda to post telemetry of the given types to port in this environment. The listener must be running before.
// Subscribe returns a StatusError for a refusal. Status 202 means that this environment accepts the call but has no telemetry.
func (c *Client) Subscribe(ctx context.Context, port int, buffering Buffering, types ...TelemetryType) error {
	body := fmt.Sprintf(`{"schemaVersion":"%s","types":%s,"buffering":{"maxItems":%d,"maxBytes":%d,"timeoutMs":%d},`+
		`"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:%d"}}`,
		schemaVersion, array(types), buffering.MaxItems, buffering.MaxBytes, buffering.Timeout.Milliseconds(), port)
	if _, err := c.call(ctx, "subscribe", http.MethodPut, telemetryPath, c.identified(), body); err != nil {
		return fmt.Errorf("subscribe to telemetry: %w", err)
	}
	return nil
}
