//go:build unix

package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// serveTelemetry serves PUT /2022-07-01/telemetry,
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html.
func (g *generation) serveTelemetry(w http.ResponseWriter, r *http.Request) {
	api := telemetryAPI
	if g.env.cfg.InitType == ManagedInstances {
		api = managedTelemetryAPI
	}
	g.serveSubscribe(w, r, "Telemetry", "ValidationError", api) //nolint:contextcheck // a subscription outlives its request
}

// serveLogs serves PUT /2020-08-15/logs, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html. Managed
// Instances do not have the Logs API; their emulator answers 404.
func (g *generation) serveLogs(w http.ResponseWriter, r *http.Request) {
	if g.env.cfg.InitType == ManagedInstances {
		http.NotFound(w, r)
		return
	}
	g.serveSubscribe(w, r, "Logs", "Logs.ValidationError", logsAPI) //nolint:contextcheck // as above
}

// serveSubscribe serves a subscription to the API called name. invalid is that API's error type for an invalid body.
func (g *generation) serveSubscribe(w http.ResponseWriter, r *http.Request, name, invalid string, api apiVersion) {
	reg, err := g.caller(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	g.mu.Lock()
	status := g.faultStatusLocked(reg, &g.env.cfg.API.Subscribe)
	g.mu.Unlock()
	if status != 0 {
		typ, msg := name+".InternalError", "injected fault"
		if status == http.StatusAccepted { // the answer of Lambda's emulator
			typ, msg = name+".NotSupported", name+" API is not supported"
		}
		writeError(w, status, typ, msg)
		return
	}
	closed := forbid(name+".SubscriptionClosed", "%s API subscription is closed already", name)
	if !g.hub.acceptsSubscriptions() {
		writeRefusal(w, closed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		writeError(w, http.StatusBadRequest, invalid, "Failed to read request body: "+err.Error())
		return
	}
	sub, err := parseSubscription(body, api)
	if err != nil {
		writeError(w, http.StatusBadRequest, invalid, err.Error())
		return
	}
	switch err := g.hub.subscribe(reg.name, sub, g.processContext(reg)); {
	case errors.Is(err, errSubscribedAlready):
		writeJSON(w, http.StatusOK, "AlreadySubcribed") // the spelling is that of a fixture in the emulator's tests
		return
	case errors.Is(err, errOtherAPI): // the guide documents only "an error"; this type is a guess
		writeRefusal(w, forbid(name+".AlreadySubscribed", "extension %s: %v", reg.name, err))
		return
	case errors.Is(err, errSecondSubscription): // the emulator has the status
		writeError(w, http.StatusInternalServerError, name+".AlreadySubscribed", "extension "+reg.name+": "+err.Error())
		return
	case err != nil: // closed since acceptsSubscriptions
		writeRefusal(w, closed)
		return
	}
	record := subscriptionRecord{Name: reg.name, State: "Subscribed", Types: sub.types}
	if api.logs {
		g.hub.logsAPIOnly(latestInvocation, "platform.logsSubscription", record)
	} else {
		g.hub.platform("platform.telemetrySubscription", record)
	}
	writeJSON(w, http.StatusOK, "OK")
}

// processContext returns a context that ends with the extension's process.
func (g *generation) processContext(reg *registration) context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case reg.process != nil:
		return reg.process.exited
	case g.runtime != nil:
		return g.runtime.exited
	default:
		return g.ctx // an internal extension before the runtime runs: the sandbox did not start the caller
	}
}
