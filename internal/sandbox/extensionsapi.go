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

// forbidden is a refusal, which the API answers with 403.
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

func (l *life) serveRegister(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get(headerExtensionName)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		writeRefusal(w, forbid("InvalidRequestFormat", "%v", err))
		return
	}
	if status := l.registerFault(name); status != 0 {
		writeError(w, status, "Extension.InternalError", "injected fault")
		return
	}
	a, err := l.register(name, body)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	a.proc.mark(func(s *ProcessStats) *time.Duration { return &s.Register })
	f := &l.env.cfg.Function
	reply := registerReply{FunctionName: f.Name, FunctionVersion: f.Version, Handler: f.Handler}
	features := strings.FieldsFunc(r.Header.Get(headerExtensionFeature), func(c rune) bool { return c == ',' || c == ' ' })
	if slices.Contains(features, "accountId") {
		reply.AccountID = l.env.cfg.AccountID
	}
	w.Header().Set(headerExtensionID, a.id)
	writeJSON(w, http.StatusOK, reply)
}

func (l *life) registerFault(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.agents {
		if a.external && a.name == name {
			return l.faultLocked(a, &l.env.cfg.API.Register)
		}
	}
	return 0
}

// faultLocked is the status with which a call of a is answered instead of being served, or 0.
func (l *life) faultLocked(a *agent, f *StatusFault) int {
	if f.Status == 0 || (l.env.cfg.API.Extension != "" && l.env.cfg.API.Extension != a.name) || !a.external {
		return 0
	}
	if f.Times >= 0 && a.faulted[f] >= f.Times {
		return 0
	}
	if a.faulted == nil {
		a.faulted = map[*StatusFault]int{}
	}
	a.faulted[f]++
	return f.Status
}

// register registers an extension. A name that no external extension's file has is an internal extension: part of the runtime's
// process, as aws-lambda-go's GoLangEnableSIGTERM, and without SHUTDOWN. While an external one has yet to register, so that the
// runtime does not run, it can only be a wrong name. Lambda's emulator takes it for an internal extension all the same: it
// refuses SHUTDOWN, or lets the init phase end by time. Here the answer says what is wrong.
func (l *life) register(name string, data []byte) (*agent, error) {
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
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.agents, func(a *agent) bool { return a.name == name })
	external := i >= 0 && l.agents[i].external
	if missing := l.unregisteredLocked(); !external && len(missing) > 0 {
		if quoted := strconv.Quote(name); !slices.Contains(l.misnamed, quoted) {
			l.misnamed = append(l.misnamed, quoted)
		}
		return nil, forbid("Extension.InvalidExtensionName",
			"Lambda-Extension-Name %q is not the file name of an extension that has yet to register: %s", name, strings.Join(missing, ", "))
	}
	for _, event := range body.Events {
		if !l.mayRegister(event, external) {
			return nil, forbid("Extension.InvalidEventType", "%s: this extension cannot register for this event", event)
		}
	}
	switch {
	case external && l.agents[i].state != stateStarted:
		return nil, forbid("Extension.InvalidExtensionState", "extension %s is in state %s and cannot register", name, l.agents[i].state)
	case !external && l.agentsClosed:
		return nil, forbid("Extension.RegistrationClosed", "Extension registration closed already")
	case !external && i >= 0:
		return nil, forbid("Extension.InvalidExtensionState", "Extension with this name already registered")
	case !external && len(l.agents) >= maxExtensions:
		return nil, forbid("Extension.TooManyExtensions", "Extension limit (%d) reached", maxExtensions)
	case !external:
		l.agents = append(l.agents, &agent{id: newUUID(), name: name, wake: make(chan struct{}, 1)})
		i = len(l.agents) - 1
	}
	a := l.agents[i]
	a.state = stateRegistered
	for _, event := range body.Events {
		if !a.wants(event) {
			a.events = append(a.events, event)
		}
	}
	l.changedLocked()
	return a, nil
}

// unregisteredLocked names the external extensions that have yet to register.
func (l *life) unregisteredLocked() []string {
	var names []string
	for _, a := range l.agents {
		if a.external && (a.state == "" || a.state == stateStarted) {
			names = append(names, a.name)
		}
	}
	return names
}

// mayRegister: internal extensions cannot have SHUTDOWN; Managed Instances have no INVOKE, and no events at all for internal
// ones (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html).
func (l *life) mayRegister(event string, external bool) bool {
	managed := l.env.cfg.InitType == ManagedInstances
	switch event {
	case eventInvoke:
		return !managed
	case eventShutdown:
		return external
	default:
		return false
	}
}

// caller finds the extension that makes the request.
func (l *life) caller(r *http.Request) (*agent, error) {
	id := r.Header.Get(headerExtensionID)
	if id == "" {
		return nil, forbid("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
	}
	if !uuidPattern.MatchString(id) {
		return nil, forbid("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.agents {
		if a.id == strings.ToLower(id) && a.registered() {
			return a, nil
		}
	}
	return nil, forbid("Extension.UnknownExtensionIdentifier", "Unknown extension %s", id)
}

var (
	uuidPattern      = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	errorTypePattern = regexp.MustCompile(`^Extension\.[A-Z][a-zA-Z]+$`)
)

// serveEvent is next: it blocks until there is an event for the extension.
func (l *life) serveEvent(w http.ResponseWriter, r *http.Request) {
	a, err := l.caller(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	l.mu.Lock()
	if status := l.faultLocked(a, &l.env.cfg.API.Next); status != 0 {
		l.mu.Unlock()
		writeError(w, status, "Extension.InternalError", "injected fault")
		return
	}
	if a.failed() || a.state == stateExited || a.state == stateShutdownFailed {
		state := a.state
		l.mu.Unlock()
		writeRefusal(w, forbid("Extension.InvalidExtensionState", "extension %s is in state %s and gets no events", a.name, state))
		return
	}
	if a.pending == nil && !a.idle {
		a.ready, a.idle, a.idleSince, a.state = true, true, time.Now(), stateReady
		l.changedLocked()
	}
	l.mu.Unlock()
	a.proc.mark(func(s *ProcessStats) *time.Duration { return &s.FirstNext })
	for {
		l.mu.Lock()
		event := a.pending
		if event != nil {
			a.pending, a.state = nil, stateRunning
		}
		l.mu.Unlock()
		if event != nil {
			w.Header().Set(headerExtensionEvent, newUUID())
			writeBody(w, http.StatusOK, event)
			return
		}
		select {
		case <-a.wake:
		case <-r.Context().Done():
			return
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *life) serveExtensionInitError(w http.ResponseWriter, r *http.Request) {
	l.serveExtensionError(w, r, stateInitError, "Extension.InitError")
}

func (l *life) serveExtensionExitError(w http.ResponseWriter, r *http.Request) {
	l.serveExtensionError(w, r, stateExitError, "Extension.ExitError")
}

// serveExtensionError takes an extension's report that it cannot go on, which ends this life of the environment.
func (l *life) serveExtensionError(w http.ResponseWriter, r *http.Request, state, fallback string) {
	a, err := l.caller(r)
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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		writeRefusal(w, forbid("InvalidRequestFormat", "%v", err))
		return
	}
	l.mu.Lock()
	if a.failed() {
		state := a.state
		l.mu.Unlock()
		writeRefusal(w, forbid("Extension.InvalidExtensionState", "extension %s is in state %s already", a.name, state))
		return
	}
	a.state, a.errType, a.idle = state, typ, false
	rec := a.record()
	l.failLocked(typ, fmt.Sprintf("extension %s reported %s: %s", a.name, state, explainReport(body, typ)))
	l.mu.Unlock()
	l.hub.platform("platform.extension", rec)
	writeStatusOK(w)
}
