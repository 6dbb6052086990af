//go:build unix

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits and defaults of a subscription, https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html. AWS's
// pages disagree on the default of maxItems (1,000 or 10,000). The emulator's code has 10,000, and so has the page of the
// Logs API, which has the same limits.
const (
	minItems, maxItems, defaultItems       = 1000, 10_000, 10_000
	minBytes, maxBytes, defaultBytes       = 256 << 10, 1 << 20, 256 << 10
	minTimeout, maxTimeout, defaultTimeout = 25, 30_000, 1000 // ms
	reservedPort                           = 9001             // Lambda's Runtime API
)

const (
	schema20220701 = "2022-07-01"
	schema20221213 = "2022-12-13"
	schema20250129 = "2025-01-29"
)

// subscription is a valid request to subscribe to the Telemetry API or the Logs API.
type subscription struct {
	logs    bool // to the Logs API rather than the Telemetry API
	schema  string
	types   []category
	tcp     bool
	port    int
	path    string // HTTP: path and query of the URI
	host    string // HTTP: host and port of the URI
	method  string // HTTP: POST; PUT if a subscription to the Logs API requests it
	items   int
	bytes   int
	timeout time.Duration
}

func (s *subscription) wants(c category) bool { return slices.Contains(s.types, c) }

// address returns the destination as text. Both host names give the same text.
func (s *subscription) address() string {
	if s.tcp {
		return "tcp://sandbox.localdomain:" + strconv.Itoa(s.port)
	}
	return "http://sandbox.localdomain:" + strconv.Itoa(s.port) + s.path
}

type subscriptionBody struct {
	SchemaVersion *string    `json:"schemaVersion"`
	Types         []category `json:"types"`
	Destination   *struct {
		Protocol string   `json:"protocol"`
		URI      string   `json:"URI"`
		Method   string   `json:"method"`
		Port     *float64 `json:"port"`
	} `json:"destination"`
	Buffering *struct {
		MaxItems  *float64 `json:"maxItems"`
		MaxBytes  *float64 `json:"maxBytes"`
		TimeoutMs *float64 `json:"timeoutMs"`
	} `json:"buffering"`
}

// apiVersion describes the subscriptions that an API accepts.
type apiVersion struct {
	logs          bool
	schemas       []string
	defaultSchema string // of a request without schemaVersion; "": schemaVersion is required
}

var (
	telemetryAPI        = apiVersion{schemas: []string{schema20220701, schema20221213, schema20250129}}
	managedTelemetryAPI = apiVersion{schemas: []string{schema20250129}}
	logsAPI             = apiVersion{logs: true, schemas: []string{schema20200815, schema20210318}, defaultSchema: schema20200815}
)

// parseSubscription parses the body of PUT /2022-07-01/telemetry or /2020-08-15/logs. It ignores unknown members, as the
// emulator's JSON schema does.
func parseSubscription(data []byte, api apiVersion) (*subscription, error) {
	var body subscriptionBody
	if err := json.Unmarshal(data, &body); err != nil {
		return nil, fmt.Errorf("body is not valid: %w", err)
	}
	s := &subscription{logs: api.logs, schema: api.defaultSchema}
	if body.SchemaVersion != nil {
		s.schema = *body.SchemaVersion
	}
	switch {
	case s.schema == "":
		return nil, errors.New("schemaVersion is required")
	case !slices.Contains(api.schemas, s.schema):
		return nil, fmt.Errorf("schemaVersion %q is not supported, only %s", s.schema, strings.Join(api.schemas, ", "))
	}
	if len(body.Types) == 0 {
		return nil, errors.New("types is required and must name at least one type")
	}
	for _, c := range body.Types {
		if c != categoryPlatform && c != categoryFunction && c != categoryExtension {
			return nil, fmt.Errorf("type %q is not one of platform, function, extension", c)
		}
		if !s.wants(c) {
			s.types = append(s.types, c)
		}
	}
	if err := s.setDestination(&body); err != nil {
		return nil, err
	}
	return s, s.setBuffering(&body)
}

func (s *subscription) setDestination(body *subscriptionBody) error {
	if body.Destination == nil {
		return errors.New("destination is required")
	}
	switch d := body.Destination; d.Protocol {
	case "TCP":
		s.tcp = true
		port, err := boundedInt("destination.port", d.Port, 1, 65535, 0)
		if err != nil {
			return err
		}
		s.port = port
		if port == 0 {
			return errors.New("destination.port is required for TCP")
		}
	case "HTTP":
		u, err := url.Parse(d.URI)
		if err != nil {
			return fmt.Errorf("destination.URI is not valid: %w", err)
		}
		if u.Scheme != "http" {
			return errors.New("destination.URI must start with http://")
		}
		if h := u.Hostname(); h != "sandbox.localdomain" && h != "sandbox" {
			return fmt.Errorf("destination.URI host must be sandbox.localdomain, not %q", h)
		}
		if u.Port() == "" {
			return errors.New("URI port is not provided")
		}
		if s.port, err = strconv.Atoi(u.Port()); err != nil || s.port < 1 || s.port > 65535 {
			return fmt.Errorf("URI port %q is not valid", u.Port())
		}
		s.host, s.path, s.method = u.Host, u.RequestURI(), http.MethodPost
		if s.logs && d.Method != "" {
			s.method = d.Method
		}
		if s.method != http.MethodPost && s.method != http.MethodPut {
			return fmt.Errorf("destination.method %q is not one of POST, PUT", d.Method)
		}
	default:
		return fmt.Errorf("destination.protocol %q is not one of HTTP, TCP", d.Protocol)
	}
	if s.port == reservedPort {
		return fmt.Errorf("port %d is reserved", reservedPort)
	}
	return nil
}

func (s *subscription) setBuffering(body *subscriptionBody) error {
	var items, size, timeout *float64
	if b := body.Buffering; b != nil {
		items, size, timeout = b.MaxItems, b.MaxBytes, b.TimeoutMs
	}
	var err error
	if s.items, err = boundedInt("buffering.maxItems", items, minItems, maxItems, defaultItems); err != nil {
		return err
	}
	if s.bytes, err = boundedInt("buffering.maxBytes", size, minBytes, maxBytes, defaultBytes); err != nil {
		return err
	}
	ms, err := boundedInt("buffering.timeoutMs", timeout, minTimeout, maxTimeout, defaultTimeout)
	s.timeout = time.Duration(ms) * time.Millisecond
	return err
}

func boundedInt(name string, value *float64, lowest, highest, def int) (int, error) {
	if value == nil {
		return def, nil
	}
	if *value != math.Trunc(*value) || *value < float64(lowest) || *value > float64(highest) {
		return 0, fmt.Errorf("%s must be an integer between %d and %d", name, lowest, highest)
	}
	return int(*value), nil
}
