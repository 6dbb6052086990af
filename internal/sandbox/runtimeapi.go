//go:build unix

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of a response: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (6 MB; the emulator
// adds 100 bytes) and …/dg/configuration-response-streaming.html (200 MB).
const (
	maxResponse = 6<<20 + 100
	maxStreamed = 200 << 20
)

// invocation is one request from Invoke to the function. The generation's mu guards its outcome.
type invocation struct {
	id, arn, trace, tenant string

	payload  []byte
	start    time.Time
	deadline time.Time

	// The outcome.
	responding  bool      // the runtime is posting the response or error
	firstByte   time.Time // of the response
	responseEnd time.Time // zero: no response
	done        time.Time // when the runtime called next again
	response    []byte
	functionErr string // "" or Unhandled
	errType     string
}

// functionErrorType matches the error types that telemetry reports. Others become Function.Unknown, as in the emulator.
var functionErrorType = regexp.MustCompile(`^(Runtime|Function)\.[A-Z][a-zA-Z]+$`)

// serveInvocation serves the runtime's next: it ends the runtime's current invocation and blocks until there is another.
func (g *generation) serveInvocation(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if inv := g.current; inv != nil {
		if inv.responseEnd.IsZero() {
			g.mu.Unlock()
			writeRefusal(w, forbid("InvalidStateTransition", "invocation %s has no response yet", inv.id))
			return
		}
		inv.done, g.current = time.Now(), nil
	}
	if g.runtimeReady.IsZero() {
		g.runtimeReady, g.registrationClosed = time.Now(), true
	}
	g.changedLocked()
	runtime := g.runtime
	g.mu.Unlock()
	runtime.markFirst(func(s *ProcessStats) *time.Duration { return &s.FirstNext })
	select {
	case inv := <-g.invokes:
		inv.writeTo(w)
	case <-r.Context().Done():
	case <-g.ctx.Done():
	}
}

func (inv *invocation) writeTo(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
	h.Set("Lambda-Runtime-Trace-Id", inv.trace)
	if inv.tenant != "" {
		h.Set("Lambda-Runtime-Aws-Tenant-Id", inv.tenant)
	}
	writeBody(w, http.StatusOK, inv.payload)
}

// claim returns the invocation that the request answers. An invocation accepts only one answer.
func (g *generation) claim(w http.ResponseWriter, r *http.Request) *invocation {
	g.mu.Lock()
	inv := g.invocations[r.PathValue("id")]
	ok := inv != nil && !inv.responding
	if ok {
		inv.responding = true
	}
	g.mu.Unlock()
	switch {
	case inv == nil:
		writeError(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case !ok:
		writeRefusal(w, forbid("InvalidStateTransition", "invocation %s has a response already", inv.id))
	default:
		return inv
	}
	return nil
}

// firstByteReader records when the first byte was read.
type firstByteReader struct {
	io.Reader
	firstByte time.Time
}

func (f *firstByteReader) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if f.firstByte.IsZero() {
		f.firstByte = time.Now()
	}
	return n, err
}

// serveResponse serves the function's response, buffered or streamed in chunks. A streamed response that fails midway ends
// with trailers that name the error (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html).
func (g *generation) serveResponse(w http.ResponseWriter, r *http.Request) {
	inv := g.claim(w, r)
	if inv == nil {
		return
	}
	limit := maxResponse
	if r.Header.Get("Lambda-Runtime-Function-Response-Mode") == "streaming" {
		limit = maxStreamed
	}
	reader := &firstByteReader{Reader: http.MaxBytesReader(w, r.Body, int64(limit))}
	body, err := io.ReadAll(reader)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		msg := fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit)
		g.respond(inv, reader.firstByte, errorJSON("Function.ResponseSizeTooLarge", msg), "Function.ResponseSizeTooLarge")
		writeError(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", msg)
		return
	case err != nil: // the connection broke: the process is gone, or it may post again
		g.mu.Lock()
		inv.responding = false
		g.mu.Unlock()
		return
	}
	g.respond(inv, reader.firstByte, body, r.Trailer.Get("Lambda-Runtime-Function-Error-Type"))
	writeStatusOK(w)
}

func (g *generation) serveFunctionError(w http.ResponseWriter, r *http.Request) {
	inv := g.claim(w, r)
	if inv == nil {
		return
	}
	reader := &firstByteReader{Reader: http.MaxBytesReader(w, r.Body, maxResponse)}
	body, err := io.ReadAll(reader)
	typ := r.Header.Get("Lambda-Runtime-Function-Error-Type")
	if err != nil || typ == "" {
		typ = "Function.Unknown"
	}
	g.respond(inv, reader.firstByte, body, typ)
	writeStatusOK(w)
}

// respond records the outcome; errType is "" for success.
func (g *generation) respond(inv *invocation, firstByte time.Time, body []byte, errType string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.invocations, inv.id)
	inv.firstByte, inv.responseEnd, inv.response = firstByte, time.Now(), body
	if errType != "" {
		inv.functionErr, inv.errType = "Unhandled", errType
		if !functionErrorType.MatchString(errType) {
			inv.errType = "Function.Unknown"
		}
	}
	g.changedLocked()
}

// serveRuntimeInitError serves the runtime's report that it cannot start the function.
func (g *generation) serveRuntimeInitError(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	typ := r.Header.Get("Lambda-Runtime-Function-Error-Type")
	if !functionErrorType.MatchString(typ) {
		typ = "Runtime.Unknown"
	}
	g.fail(typ, "the runtime reported an error in init: "+explainReport(body, typ))
	writeStatusOK(w)
}

// explainReport formats an error report of a runtime or an extension. Node.js has its stack in trace, Python in
// stackTrace; others have none.
func explainReport(body []byte, typ string) string {
	var report struct {
		ErrorType    string
		ErrorMessage string
		Trace        []string
		StackTrace   []string
	}
	if json.Unmarshal(body, &report) != nil || report.ErrorMessage == "" {
		return string(body)
	}
	text := report.ErrorMessage
	if report.ErrorType != typ {
		text = report.ErrorType + ": " + text
	}
	for _, line := range append(report.Trace, report.StackTrace...) {
		if !strings.HasSuffix(line, report.ErrorMessage) { // the stack of Node.js begins with the message
			text += "\n" + strings.TrimSuffix(line, "\n")
		}
	}
	return text
}

// errorJSON returns the payload that the caller of a failed function gets.
func errorJSON(typ, msg string) []byte {
	data, err := json.Marshal(errorBody{ErrorMessage: msg, ErrorType: typ})
	if err != nil {
		return nil // two strings always encode
	}
	return data
}
