package doctor

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/aws/smithy-go"

	"kinesis-telemetry-extension/internal/awsapi"
)

// Reason is the innermost part of an SDK's error that tells something, on one line.
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

// denied tells whether the credentials are good, but not for this.
func denied(err error) bool {
	switch awsapi.ErrorCode(err) {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationErrorException":
		return true
	}
	return false
}

// badCredentials tells whether AWS does not take the credentials at all.
func badCredentials(err error) bool {
	switch awsapi.ErrorCode(err) {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "InvalidAccessKeyId", "RequestExpired":
		return true
	}
	return false
}
