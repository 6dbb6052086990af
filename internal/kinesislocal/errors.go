package kinesislocal

import (
	"fmt"
	"net/http"
)

// Error types of the service and of its front end, the values of "__type".
// https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html
const (
	codeAccessDenied        = "AccessDeniedException"
	codeDryRun              = "DryRunOperationException"
	codeExpiredIterator     = "ExpiredIteratorException"
	codeExpiredNextToken    = "ExpiredNextTokenException"
	codeExpiredToken        = "ExpiredTokenException"
	codeIncompleteSignature = "IncompleteSignatureException"
	codeInternalFailure     = "InternalFailure" // the ErrorCode of a record
	codeInternalFailureEx   = "InternalFailureException"
	codeInvalidArgument     = "InvalidArgumentException"
	codeInvalidSignature    = "InvalidSignatureException"
	codeLimitExceeded       = "LimitExceededException"
	codeMissingToken        = "MissingAuthenticationTokenException"
	codeResourceInUse       = "ResourceInUseException"
	codeResourceNotFound    = "ResourceNotFoundException"
	codeSerialization       = "SerializationException"
	codeServiceUnavailable  = "ServiceUnavailable"
	codeThroughputExceeded  = "ProvisionedThroughputExceededException"
	codeUnknownOperation    = "UnknownOperationException"
	codeUnrecognizedClient  = "UnrecognizedClientException"
	codeValidation          = "ValidationException"
)

// apiError is an error reply. With an empty code it has no body.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func newError(code, format string, args ...any) *apiError {
	return &apiError{statusOf(code), code, fmt.Sprintf(format, args...)}
}

func statusOf(code string) int {
	switch code {
	case codeInternalFailure, codeInternalFailureEx:
		return http.StatusInternalServerError
	case codeServiceUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func invalidArgument(format string, args ...any) *apiError {
	return newError(codeInvalidArgument, format, args...)
}

// constraint returns the ValidationException for a member of the request. at is its path, such as records.1.member.data.
func constraint(at, format string, args ...any) *apiError {
	return newError(codeValidation, "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must %s",
		at, fmt.Sprintf(format, args...))
}

// defaultMessage returns AWS's message for a code, for a fault without a message.
func defaultMessage(code string) string {
	switch code {
	case codeInternalFailure, codeInternalFailureEx:
		return "Internal Service Failure"
	case codeServiceUnavailable:
		return "Service Unavailable"
	case codeExpiredToken:
		return "The security token included in the request is expired"
	case codeUnrecognizedClient:
		return "The security token included in the request is invalid."
	case codeThroughputExceeded, "KMSThrottlingException", "ThrottlingException":
		return "Rate exceeded"
	}
	return "Injected fault"
}
