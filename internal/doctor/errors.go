package doctor

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/aws/smithy-go"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/session"
)

// Reason returns the innermost informative part of an SDK's error, on one line.
func Reason(err error) string {
	text := err.Error()
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text = api.ErrorCode() + ": " + api.ErrorMessage()
	} else if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		text = lookup.Error()
	} else if dial, ok := errors.AsType[*net.OpError](err); ok {
		text = dial.Error()
	} else if errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ": ")
}

// denied reports whether AWS accepts the credentials and denies the action.
func denied(err error) bool { return session.IsAccessDenied(awsapi.ErrorCode(err)) }

// badCredentials reports whether AWS does not accept the credentials at all.
func badCredentials(err error) bool { return session.IsCredentialError(awsapi.ErrorCode(err)) }
