//go:build unix

package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// serveSubscribe is PUT /2022-07-01/telemetry, https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html.
func (l *life) serveSubscribe(w http.ResponseWriter, r *http.Request) {
	a, err := l.caller(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	l.mu.Lock()
	status := l.faultLocked(a, &l.env.cfg.API.Subscribe)
	l.mu.Unlock()
	if status != 0 {
		typ, msg := "Telemetry.InternalError", "injected fault"
		if status == http.StatusAccepted { // the answer of Lambda's emulator
			typ, msg = "Telemetry.NotSupported", "Telemetry API is not supported"
		}
		writeError(w, status, typ, msg)
		return
	}
	if !l.hub.isOpen() {
		writeRefusal(w, subscriptionClosed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAPIBody))
	if err != nil {
		writeError(w, http.StatusBadRequest, "ValidationError", "Failed to read request body: "+err.Error())
		return
	}
	sub, err := parseSubscription(body, l.env.cfg.InitType == ManagedInstances)
	if err != nil {
		writeError(w, http.StatusBadRequest, "ValidationError", err.Error())
		return
	}
	switch err := l.hub.subscribe(a.name, sub, l.processContext(a)); { //nolint:contextcheck // a subscription outlives its request
	case errors.Is(err, errSubscribedAlready):
		writeJSON(w, http.StatusOK, "AlreadySubcribed") // the spelling is that of a fixture in the emulator's tests
		return
	case errors.Is(err, errSecondSubscription): // the emulator has the status
		writeError(w, http.StatusInternalServerError, "Telemetry.AlreadySubscribed", "extension "+a.name+": "+err.Error())
		return
	case err != nil: // closed since isOpen
		writeRefusal(w, subscriptionClosed)
		return
	}
	l.hub.platform("platform.telemetrySubscription", subscriptionRecord{Name: a.name, State: "Subscribed", Types: sub.types})
	writeJSON(w, http.StatusOK, "OK")
}

var subscriptionClosed = forbid("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed already")

// processContext ends with the process that the agent lives in.
func (l *life) processContext(a *agent) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.proc != nil:
		return a.proc.exited
	case l.runtime != nil:
		return l.runtime.exited
	default:
		return l.ctx // an internal registration before the runtime runs: a stranger
	}
}
