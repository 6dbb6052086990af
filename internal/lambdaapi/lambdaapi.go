// Package lambdaapi speaks the two local APIs that Lambda offers to extensions: the Extensions API (2020-01-01) and the
// Telemetry API (2022-07-01). It uses the standard library alone and starts no goroutine.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html
package lambdaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	extensionPath = "/2020-01-01/extension/"
	telemetryPath = "/2022-07-01/telemetry" // the same for every schema version

	headerName       = "Lambda-Extension-Name"
	headerIdentifier = "Lambda-Extension-Identifier"
	headerFeatures   = "Lambda-Extension-Accept-Feature"
	headerErrorType  = "Lambda-Extension-Function-Error-Type"

	// maxReply bounds what is read of an answer, bytes. The longest, an INVOKE event, has about 500.
	maxReply = 1 << 20
)

// EventType is what the Extensions API sends to whoever registered for it.
type EventType string

// The events of the Extensions API.
const (
	Invoke   EventType = "INVOKE"
	Shutdown EventType = "SHUTDOWN"
)

// Registration is Lambda's answer to Register.
type Registration struct {
	FunctionName    string `json:"functionName"`
	FunctionVersion string `json:"functionVersion"`
	AccountID       string `json:"accountId"` // empty where Lambda does not know the accountId feature
}

// Event is what Next returns.
type Event struct {
	Type           EventType
	Deadline       time.Time // when Lambda ends the phase; zero where the event names none
	RequestID      string    // INVOKE
	ShutdownReason string    // SHUTDOWN: "spindown", "timeout" or "failure", in lower case
}

// StatusError is an answer that is not the one that the call is documented to give.
type StatusError struct {
	Call   string
	Status int
	Type   string // errorType of the body, where there is one
	Detail string // errorMessage, or the body itself
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s was answered %d", e.Call, e.Status)
	for _, part := range []string{e.Type, e.Detail} {
		if part != "" {
			text += ": " + part
		}
	}
	return text
}

// Client calls the APIs at one address. It is for one goroutine at a time, save that Next may block meanwhile.
type Client struct {
	base       string
	http       *http.Client
	identifier string
}

// New returns a client of the APIs at address, the value of AWS_LAMBDA_RUNTIME_API (host:port).
//
// No timeout stands on any call: Next blocks for as long as the environment is idle or frozen, and one that gives up
// leaves every later invocation waiting for an extension that no longer asks. The local APIs are never asked through a
// proxy, whatever the function's variables say.
func New(address string) *Client {
	return &Client{
		base: "http://" + address,
		http: &http.Client{Transport: &http.Transport{DisableCompression: true}},
	}
}

// Register makes the extension known under name, the file name of its executable, for the given events. Lambda starts
// the function's runtime only when every extension has registered.
func (c *Client) Register(ctx context.Context, name string, events ...EventType) (Registration, error) {
	header := http.Header{headerName: {name}, headerFeatures: {"accountId"}}
	body := struct {
		Events []EventType `json:"events"`
	}{events}
	reply, err := c.call(ctx, "register", http.MethodPost, extensionPath+"register", header, body)
	if err != nil {
		return Registration{}, err
	}
	c.identifier = reply.header.Get(headerIdentifier)
	if c.identifier == "" {
		return Registration{}, fmt.Errorf("register was answered without a %s header", headerIdentifier)
	}
	var registration Registration
	if err := json.Unmarshal(reply.body, &registration); err != nil {
		return Registration{}, fmt.Errorf("read the answer to register: %w", err)
	}
	return registration, nil
}

// Next says that the extension is done with the last event and waits for the next one, for as long as it takes.
func (c *Client) Next(ctx context.Context) (Event, error) {
	reply, err := c.call(ctx, "next", http.MethodGet, extensionPath+"event/next", c.identified(), nil)
	if err != nil {
		return Event{}, err
	}
	var wire struct {
		EventType      EventType `json:"eventType"`
		DeadlineMs     int64     `json:"deadlineMs"`
		RequestID      string    `json:"requestId"`
		ShutdownReason string    `json:"shutdownReason"`
	}
	if err := json.Unmarshal(reply.body, &wire); err != nil {
		return Event{}, fmt.Errorf("read the answer to next: %w", err)
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

// InitError tells Lambda that the extension cannot start. The environment fails, and no later call succeeds.
// errorType is of the form Extension.Reason.
func (c *Client) InitError(ctx context.Context, errorType, message string) error {
	header := c.identified()
	header.Set(headerErrorType, errorType)
	body := map[string]string{"errorType": errorType, "errorMessage": message}
	_, err := c.call(ctx, "init/error", http.MethodPost, extensionPath+"init/error", header, body)
	return err
}

func (c *Client) identified() http.Header { return http.Header{headerIdentifier: {c.identifier}} }

type reply struct {
	header http.Header
	body   []byte
}

// call sends one request and reads the whole answer. Anything but 200, or 202 for an error report, is a StatusError.
func (c *Client) call(ctx context.Context, call, method, path string, header http.Header, body any) (reply, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return reply{}, fmt.Errorf("%s: encode the request: %w", call, err)
		}
		content = bytes.NewReader(encoded)
		header.Set("Content-Type", "application/json")
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", call, err)
	}
	request.Header = header
	response, err := c.http.Do(request)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", call, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return reply{}, fmt.Errorf("%s: read the answer: %w", call, err)
	}
	accepted := response.StatusCode == http.StatusAccepted && call == "init/error"
	if response.StatusCode != http.StatusOK && !accepted {
		return reply{}, newStatusError(call, response.StatusCode, answer)
	}
	return reply{header: response.Header, body: answer}, nil
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
