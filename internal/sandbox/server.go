//go:build unix

package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// generationKey is the context key of the generation in which a connection was accepted.
type generationKey struct{}

// connContext records the generation of a connection. A killed process may leave a request that is read after the reset.
func (e *Environment) connContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, generationKey{}, e.currentGeneration())
}

// routes returns the handler of all APIs that Lambda serves on one address, http://${AWS_LAMBDA_RUNTIME_API}.
func (e *Environment) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, serve func(*generation, http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			g := e.currentGeneration()
			if g == nil || r.Context().Value(generationKey{}) != g {
				writeError(w, http.StatusInternalServerError, "InternalServerError", "the execution environment is being reset")
				return
			}
			serve(g, w, r)
		})
	}
	const runtimeAPI, extensionsAPI = "/2018-06-01/runtime", "/2020-01-01/extension"
	handle("GET "+runtimeAPI+"/invocation/next", (*generation).serveInvocation)
	handle("POST "+runtimeAPI+"/invocation/{id}/response", (*generation).serveResponse)
	handle("POST "+runtimeAPI+"/invocation/{id}/error", (*generation).serveFunctionError)
	handle("POST "+runtimeAPI+"/init/error", (*generation).serveRuntimeInitError)
	handle("POST "+extensionsAPI+"/register", (*generation).serveRegister)
	handle("GET "+extensionsAPI+"/event/next", (*generation).serveEvent)
	handle("POST "+extensionsAPI+"/init/error", (*generation).serveExtensionInitError)
	handle("POST "+extensionsAPI+"/exit/error", (*generation).serveExtensionExitError)
	handle("PUT /2022-07-01/telemetry", (*generation).serveTelemetry)
	handle("PUT /2020-08-15/logs", (*generation).serveLogs)
	mux.HandleFunc("GET "+credentialsPath, e.serveCredentials)
	mux.HandleFunc("GET "+metadataPath, e.serveMetadata)
	return mux
}

const (
	credentialsPath = "/2021-04-23/credentials"
	metadataPath    = "/2026-01-15/metadata/execution-environment"
)

// serveCredentials serves AWS_CONTAINER_CREDENTIALS_FULL_URI, which SnapStart functions have instead of keys in
// environment variables (https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html).
func (e *Environment) serveCredentials(w http.ResponseWriter, r *http.Request) {
	if e.cfg.InitType != SnapStart || !e.authorized(r, "") {
		writeError(w, http.StatusNotFound, "CredentialsNotFound", "no credentials for this token")
		return
	}
	c := e.cfg.Credentials
	writeJSON(w, http.StatusOK, map[string]string{
		"AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey, "Token": c.SessionToken,
		"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	})
}

// serveMetadata serves AWS_LAMBDA_METADATA_API,
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-metadata-endpoint.html. In every region it returns the
// emulator's availability zone.
func (e *Environment) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if !e.authorized(r, "Bearer ") {
		writeError(w, http.StatusUnauthorized, "Unauthorized", "Authorization must be Bearer ${AWS_LAMBDA_METADATA_TOKEN}")
		return
	}
	w.Header().Set("Cache-Control", "private, max-age=43200, immutable")
	writeJSON(w, http.StatusOK, map[string]string{"AvailabilityZoneID": "use1-az1"})
}

// authorized reports whether the request's Authorization header is the scheme followed by the environment's token.
func (e *Environment) authorized(r *http.Request, scheme string) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(scheme+e.token)) == 1
}

type errorBody struct {
	ErrorMessage string `json:"errorMessage"`
	ErrorType    string `json:"errorType"`
}

func writeError(w http.ResponseWriter, status int, typ, msg string) {
	writeJSON(w, status, errorBody{ErrorMessage: msg, ErrorType: typ})
}

func writeStatusOK(w http.ResponseWriter) {
	writeJSON(w, http.StatusAccepted, map[string]string{"status": "OK"})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeBody(w, status, data)
}

func writeBody(w http.ResponseWriter, status int, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the process is gone; process.wait handles that
}

// newUUID returns a random (version 4) UUID. Package kinesislocal has a copy: neither package imports another
// package of this module.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
