// Package lambdaapi is a client of the two local APIs that Lambda offers to extensions: the Extensions API (2020-01-01) and the
// Telemetry API (2022-07-01). It only uses the standard library.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html
package lambdaapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	extensionPath = "/2020-01-01/extension/"
	telemetryPath = "/2022-07-01/telemetry" // the same for every schema version

	headerName       = "Lambda-Extension-Name"
	headerIdentifier = "Lambda-Extension-Identifier"
	headerFeatures   = "Lambda-Extension-Accept-Feature"
	headerErrorType  = "Lambda-Extension-Function-Error-Type"
)

// EventType is the type of an event of the Extensions API. An extension only receives the types that it registered for.
type EventType string

// The events of the Extensions API.
const (
	Invoke   EventType = "INVOKE"
	Shutdown EventType = "SHUTDOWN"
)

// Registration is Lambda's response to Register.
type Registration struct {
	FunctionName    string `json:"functionName"`
	FunctionVersion string `json:"functionVersion"`
	AccountID       string `json:"accountId"` // empty if Lambda does not know the accountId feature
}

// Event is an event of the Extensions API.
type Event struct {
	Type           EventType
	Deadline       time.Time // when Lambda ends the phase; zero if the event has none
	RequestID      string    // INVOKE
	ShutdownReason string    // SHUTDOWN: "spindown", "timeout" or "failure", in lower case
}

// StatusError is a response with another status than the one that is documented for the call's success.
type StatusError struct {
	Call   string
	Status int
	Type   string // errorType of the body, if there is one
	Detail string // errorMessage, or the body itself
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s returned status %d", e.Call, e.Status)
	for _, part := range []string{e.Type, e.Detail} {
		if part != "" {
			text += ": " + part
		}
	}
	return text
}

// Client calls the APIs at one address. Only one goroutine at a time may use it, except that Next may block in another one.
type Client struct {
	address    string
	kept       atomic.Pointer[connection] // idle, for the next call
	identifier string
}

// New returns a client of the APIs at address, the value of AWS_LAMBDA_RUNTIME_API (host:port).
//
// No call has a timeout. Next blocks for as long as the environment is idle or frozen. If Next gave up, every later invocation
// would wait for an extension that no longer asks for events. The client never uses a proxy, whatever the function's variables
// contain.
func New(address string) *Client { return &Client{address: address} }

// Register registers the extension under name, the file name of its executable, for the given events. Lambda starts the function's
// runtime only after every extension has registered.
func (c *Client) Register(ctx context.Context, name string, events ...EventType) (Registration, error) {
	fields := []field{{headerName, name}, {headerFeatures, "accountId"}}
	response, err := c.call(ctx, "register", http.MethodPost, extensionPath+"register", fields, `{"events":`+array(events)+`}`)
	if err != nil {
		return Registration{}, err
	}
	c.identifier = response.header.Get(headerIdentifier)
	if c.identifier == "" {
		return Registration{}, fmt.Errorf("the response to register has no %s header", headerIdentifier)
	}
	var registration Registration
	if err := json.Unmarshal(response.body, &registration); err != nil {
		return Registration{}, fmt.Errorf("read the response to register: %w", err)
	}
	return registration, nil
}

// Next reports to Lambda that the extension is done with the last event, and waits for the next event, without a timeout.
func (c *Client) Next(ctx context.Context) (Event, error) {
	response, err := c.call(ctx, "next", http.MethodGet, extensionPath+"event/next", c.identified(), "")
	if err != nil {
		return Event{}, err
	}
	var wire struct {
		EventType      EventType `json:"eventType"`
		DeadlineMs     int64     `json:"deadlineMs"`
		RequestID      string    `json:"requestId"`
		ShutdownReason string    `json:"shutdownReason"`
	}
	if err := json.Unmarshal(response.body, &wire); err != nil {
		return Event{}, fmt.Errorf("read the response to next: %w", err)
	}
	event := Event{
		Type:           wire.EventType,
		RequestID:      wire.RequestID,
		ShutdownReason: strings.ToLower(wire.ShutdownReason), // upper case in the docs, lower case on the wire
	}
	if wire.DeadlineMs > 0 {
		event.Deadline = time.UnixMilli(wire.DeadlineMs)
	}
	return event, nil
}

// InitError reports to Lambda that the extension cannot start. The environment fails, and no later call succeeds. errorType has the
// form Extension.Reason.
func (c *Client) InitError(ctx context.Context, errorType, message string) error {
	body, _ := json.Marshal(map[string]string{"errorType": errorType, "errorMessage": message}) // strings always encode
	fields := append(c.identified(), field{headerErrorType, errorType})
	_, err := c.call(ctx, "init/error", http.MethodPost, extensionPath+"init/error", fields, string(body))
	return err
}

// identified returns the header of every call after Register.
func (c *Client) identified() []field { return []field{{headerIdentifier, c.identifier}} }

// call sends one request and reads the whole response. It returns a StatusError for every status except 200, and 202 for init/error.
func (c *Client) call(ctx context.Context, call, method, path string, fields []field, body string) (response, error) {
	reply, err := c.do(ctx, c.message(method, path, fields, body))
	if err != nil {
		return response{}, fmt.Errorf("%s: %w", call, err)
	}
	accepted := reply.status == http.StatusAccepted && call == "init/error"
	if reply.status != http.StatusOK && !accepted {
		return response{}, newStatusError(call, reply.status, reply.body)
	}
	return reply, nil
}

// array returns the JSON of names that need no escapes. With encoding/json the extension would register 0.05 ms later.
func array[T ~string](names []T) string {
	text := "["
	for i, name := range names {
		if i > 0 {
			text += ","
		}
		text += `"` + string(name) + `"`
	}
	return text + "]"
}

func newStatusError(call string, status int, body []byte) *StatusError {
	var wire struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal(body, &wire) == nil && wire.ErrorType+wire.ErrorMessage != "" {
		return &StatusError{Call: call, Status: status, Type: wire.ErrorType, Detail: wire.ErrorMessage}
	}
	detail := strings.TrimSpace(string(body))
	return &StatusError{Call: call, Status: status, Detail: detail[:min(len(detail), 200)]}
}
