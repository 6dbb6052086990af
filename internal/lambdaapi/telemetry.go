package lambdaapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// SchemaVersion is the version of the telemetry events that Subscribe asks for: the only one that Managed Instances
// accept, backward compatible, recommended for all.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
const SchemaVersion = "2025-01-29"

// TelemetryType is a kind of telemetry to subscribe to.
type TelemetryType string

// The kinds of telemetry.
const (
	Platform  TelemetryType = "platform"
	Function  TelemetryType = "function"
	Extension TelemetryType = "extension"
)

// Buffering says when Lambda posts the events it has collected: when any of the bounds is reached.
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
type Buffering struct {
	MaxItems int           // 1,000 to 10,000 events
	MaxBytes int           // 262,144 to 1,048,576 bytes
	Timeout  time.Duration // 25 ms to 30 s
}

// Subscribe asks Lambda to post telemetry of the given types to port on this environment. The listener must be up
// before. A StatusError tells of a refusal: 202 means that this environment accepts the call but has no telemetry.
func (c *Client) Subscribe(ctx context.Context, port int, buffering Buffering, types ...TelemetryType) error {
	type destination struct {
		Protocol string `json:"protocol"`
		URI      string `json:"URI"`
	}
	type bounds struct {
		MaxItems  int   `json:"maxItems"`
		MaxBytes  int   `json:"maxBytes"`
		TimeoutMs int64 `json:"timeoutMs"`
	}
	body := struct {
		SchemaVersion string          `json:"schemaVersion"`
		Types         []TelemetryType `json:"types"`
		Buffering     bounds          `json:"buffering"`
		Destination   destination     `json:"destination"`
	}{
		SchemaVersion: SchemaVersion,
		Types:         types,
		Buffering:     bounds{buffering.MaxItems, buffering.MaxBytes, buffering.Timeout.Milliseconds()},
		Destination:   destination{"HTTP", "http://sandbox.localdomain:" + strconv.Itoa(port)},
	}
	if _, err := c.call(ctx, "subscribe", http.MethodPut, telemetryPath, c.identified(), body); err != nil {
		return fmt.Errorf("subscribe to telemetry: %w", err)
	}
	return nil
}
