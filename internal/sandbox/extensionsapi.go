//go:build unix

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers of the Extensions API, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html.
const (
	headerExtensionName    = "Lambda-Extension-Name"
	headerExtensionID      = "Lambda-Extension-Identifier"
	headerExtensionFeature = "Lambda-Extension-Accept-Feature"
	headerExtensionError   = "Lambda-Extension-Function-Error-Type"
	headerExtensionEvent   = "Lambda-Extension-Event-Identifier"
)

const maxAPIBody = 1 << 20

type registerBody struct {
	Events            []string `json:"events"`
	ConfigurationKeys []string `json:"configurationKeys"`
}

type registerReply struct {
	FunctionName    string `json:"functionName"`
	FunctionVersion string `json:"functionVersion"`
	Handler         string `json:"handler"`
	AccountID       string `json:"accountId,omitempty"`
}

// forbidden is an error that the API answers with 403.
type forbidden struct{ typ, msg string }

func (f *forbidden) Error() string { return f.typ + ": " + f.msg }

func forbid(typ, format string, args ...any) error {
	return &forbidden{typ, fmt.Sprintf(format, args...)}
}

func writeRefusal(w http.ResponseWriter, err error) {
	var f *forbidden
	if errors.As(err, &f) {
		writeError(w, http.StatusForbidden, f.typ, f.msg)
		return
	}
	writeError(w, http.StatusInternalServerError, "InternalServerError", err.Error())
}

// readBody reads the body of a request. If that fails, it answers the request and returns false.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		writeRefusal(w, forbid("InvalidRequestFormat", "%v", err))
		return nil, false
	}
	return body, true
}

func (g *generation) serveRegister(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(headerExtensionName)
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	if status := g.registerFaultStatus(name); status != 0 {
		writeError(w, status, "Extension.InternalError", "injected fault")
		return
	}
	reg, err := g.register(name, body)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	reg.process.markFirst(func(s *ProcessStats) *time.Duration { return &s.Register })
	f := &g.env.cfg.Function
	reply := registerReply{FunctionName: f.Name, FunctionVersion: f.Version, Handler: f.Handler}
	features := strings.FieldsFunc(r.Header.Get(headerExtensionFeature), func(c rune) bool { return c == ',' || c == ' ' })
	if slices.Contains(features, "accountId") {
		reply.AccountID = g.env.cfg.AccountID
	}
	w.Header().Set(headerExtensionID, reg.id)
	writeJSON(w, http.StatusOK, reply)
}

func (g *generation) registerFaultStatus(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, reg := range g.registrations {
		if reg.external && reg.name == name {
			return g.faultStatusLocked(reg, &g.env.cfg.API.Register)
		}
	}
	return 0
}

// faultStatusLocked returns the status with which fault f answers a call of reg, or 0 if the call is to be served.
func (g *generation) faultStatusLocked(reg *registration, f *StatusFault) int {
	if f.Status == 0 || (g.env.cfg.API.Extension != "" && g.env.cfg.API.Extension != reg.name) || !reg.external {
		return 0
	}
	if f.Times >= 0 && reg.faultedCalls[f] >= f.Times {
		return 0
	}
	if reg.faultedCalls == nil {
		reg.faultedCalls = map[*StatusFault]int{}
	}
	reg.faultedCalls[f]++
	return f.Status
}

// register registers an extension. If no external extension has the name, the extension is internal: a part of the
// runtime's process, such as aws-lambda-go's GoLangEnableSIGTERM. It cannot get SHUTDOWN.
//
// The runtime starts only when all external extensions have registered. Before that, an unknown name must be a mistake.
// Lambda's emulator still treats it as an internal extension: it refuses SHUTDOWN, or the init phase times out. Here the
// answer names the mistake.
func (g *generation) register(name string, data []byte) (*registration, error) {
	if name == "" {
		return nil, forbid("Extension.InvalidExtensionName", "Empty extension name")
	}
	var body registerBody
	if err := json.Unmarshal(data, &body); err != nil {
		return nil, forbid("InvalidRequestFormat", "%v", err)
	}
	if len(body.ConfigurationKeys) > 0 {
		return nil, forbid("InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.registrations, func(reg *registration) bool { return reg.name == name })
	external := i >= 0 && g.registrations[i].external
	if missing := g.unregisteredLocked(); !external && len(missing) > 0 {
		if quoted := strconv.Quote(name); !slices.Contains(g.refusedNames, quoted) {
			g.refusedNames = append(g.refusedNames, quoted)
		}
		return nil, forbid("Extension.InvalidExtensionName",
			"Lambda-Extension-Name %q is not the file name of an extension that has not registered: %s", name, strings.Join(missing, ", "))
	}
	for _, event := range body.Events {
		if !g.canRegister(event, external) {
			return nil, forbid("Extension.InvalidEventType", "%s: this extension cannot register for this event", event)
		}
	}
	switch {
	case external && g.registrations[i].state != stateStarted:
		return nil, forbid("Extension.InvalidExtensionState", "extension %s is in state %s and cannot register", name, g.registrations[i].state)
	case !external && g.registrationClosed:
		return nil, forbid("Extension.RegistrationClosed", "Extension registration closed already")
	case !external && i >= 0:
		return nil, forbid("Extension.InvalidExtensionState", "Extension with this name already registered")
	case !external && len(g.registrations) >= maxExtensions:
		return nil, forbid("Extension.TooManyExtensions", "Extension limit (%d) reached", maxExtensions)
	case !external:
		g.registrations = append(g.registrations, &registration{id: newUUID(), name: name, wake: make(chan struct{}, 1)})
		i = len(g.registrations) - 1
	}
	reg := g.registrations[i]
	reg.state = stateRegistered
	for _, event := range body.Events {
		if !reg.wants(event) {
			reg.events = append(reg.events, event)
		}
	}
	g.changedLocked()
	return reg, nil
}

// unregisteredLocked returns the names of the external extensions that have not registered.
func (g *generation) unregisteredLocked() []string {
	var names []string
	for _, reg := range g.registrations {
		if reg.external && (reg.state == "" || reg.state == stateStarted) {
			names = append(names, reg.name)
		}
	}
	return names
}

// canRegister reports whether an extension can register for an event. Internal extensions cannot get SHUTDOWN. Managed
// Instances have no INVOKE, and no events at all for internal extensions
// (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html).
func (g *generation) canRegister(event string, external bool) bool {
	managed := g.env.cfg.InitType == ManagedInstances
	switch event {
	case eventInvoke:
		return !managed
	case eventShutdown:
		return external
	default:
		return false
	}
}

// caller returns the registration of the extension that sent the request.
func (g *generation) caller(r *http.Request) (*registration, error) {
	id := r.Header.Get(headerExtensionID)
	if id == "" {
		return nil, forbid("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
	}
	if !uuidPattern.MatchString(id) {
		return nil, forbid("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, reg := range g.registrations {
		if reg.id == strings.ToLower(id) && reg.registered() {
			return reg, nil
		}
	}
	return nil, forbid("Extension.UnknownExtensionIdentifier", "Unknown extension %s", id)
}

var (
	uuidPattern      = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	errorTypePattern = regexp.MustCompile(`^Extension\.[A-Z][a-zA-Z]+$`)
)

// serveEvent serves next: it blocks until the extension has an event.
func (g *generation) serveEvent(w http.ResponseWriter, r *http.Request) {
	reg, err := g.caller(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	g.mu.Lock()
	if status := g.faultStatusLocked(reg, &g.env.cfg.API.Next); status != 0 {
		g.mu.Unlock()
		writeError(w, status, "Extension.InternalError", "injected fault")
		return
	}
	if reg.reportedError() || reg.state == stateExited || reg.state == stateShutdownFailed {
		state := reg.state
		g.mu.Unlock()
		writeRefusal(w, forbid("Extension.InvalidExtensionState", "extension %s is in state %s and gets no events", reg.name, state))
		return
	}
	if reg.pendingEvent == nil && !reg.waiting {
		reg.ready, reg.waiting, reg.waitingSince, reg.state = true, true, time.Now(), stateReady
		g.changedLocked()
	}
	g.mu.Unlock()
	reg.process.markFirst(func(s *ProcessStats) *time.Duration { return &s.FirstNext })
	for {
		g.mu.Lock()
		event := reg.pendingEvent
		if event != nil {
			reg.pendingEvent, reg.state = nil, stateRunning
		}
		g.mu.Unlock()
		if event != nil {
			w.Header().Set(headerExtensionEvent, newUUID())
			writeBody(w, http.StatusOK, event)
			return
		}
		select {
		case <-reg.wake:
		case <-r.Context().Done():
			return
		case <-g.ctx.Done():
			return
		}
	}
}

func (g *generation) serveExtensionInitError(w http.ResponseWriter, r *http.Request) {
	g.serveExtensionError(w, r, stateInitError, "Extension.InitError")
}

func (g *generation) serveExtensionExitError(w http.ResponseWriter, r *http.Request) {
	g.serveExtensionError(w, r, stateExitError, "Extension.ExitError")
}

// serveExtensionError serves an extension's report that it cannot continue. The report ends the generation.
func (g *generation) serveExtensionError(w http.ResponseWriter, r *http.Request, state, fallback string) {
	reg, err := g.caller(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	typ := r.Header.Get(headerExtensionError)
	if typ == "" {
		writeRefusal(w, forbid("Extension.MissingHeader", "%s not found", headerExtensionError))
		return
	}
	if !errorTypePattern.MatchString(typ) {
		typ = fallback // as the emulator does
	}
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	g.mu.Lock()
	if reg.reportedError() {
		state := reg.state
		g.mu.Unlock()
		writeRefusal(w, forbid("Extension.InvalidExtensionState", "extension %s is in state %s already", reg.name, state))
		return
	}
	reg.state, reg.errType, reg.waiting = state, typ, false
	rec := reg.record()
	g.failLocked(typ, fmt.Sprintf("extension %s reported %s: %s", reg.name, state, explainReport(body, typ)))
	g.mu.Unlock()
	g.hub.platform("platform.extension", rec)
	writeStatusOK(w)
}
