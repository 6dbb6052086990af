package kinesis

import (
	"net/http"
	"time"

	"kinesis-telemetry-extension/internal/kernelrand"
)

// action is the Client's reaction to an answer. If several records of a request fail, the highest action applies.
type action uint8

const (
	bisect         action = iota // some record of the request is bad: find it; a single record: reject it
	retryUnknown                 // unknown code: retry the record, and reject it if the refusals last for rejectUnknownAfter
	retry                        // temporary: retry after a backoff
	retryThrottled               // throttled: retry after a longer backoff
	renew                        // correct the clock or get new credentials, then retry once without a pause; otherwise like giveUp
	giveUp                       // a retry within this Put would fail the same way: leave it to the caller
)

// rule is the meaning of an error code, and the action that it requires.
type rule struct {
	code   string
	kind   Kind
	action action
}

// ruleOf is the retry table, for the codes of whole requests and of single records. For a single record, status is 0.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html#API_PutRecords_Errors
// https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html
func ruleOf(status int, code string) rule {
	switch code {
	// Capacity: a later retry can succeed.
	case "ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException", "Throttling", "ThrottledException",
		"RequestThrottledException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequestsException", "BandwidthLimitExceeded", "SlowDown":
		return rule{code, KindThrottled, retryThrottled}
	case "KMSThrottlingException": // the SDK does not retry this code, although it is throttling, too
		return rule{code, KindKMS, retryThrottled}
	// Failures of the service: temporary.
	case "InternalFailure", "InternalFailureException", "InternalServerError", "ServiceUnavailable", "ServiceUnavailableException",
		"RequestTimeout", "RequestTimeoutException":
		return rule{code, KindService, retry}
	// Expired credentials, or a clock that is wrong after a freeze: the Client can fix these once.
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignatureException", "MissingAuthenticationTokenException", "RequestTimeTooSkewed", "RequestExpired":
		return rule{code, KindCredentials, renew}
	// Permissions and the state of the stream: the user has to fix them. The records may be stored later.
	case "ResourceNotFoundException":
		return rule{code, KindNotFound, giveUp}
	case "AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired":
		return rule{code, KindAccessDenied, giveUp}
	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return rule{code, KindKMS, giveUp}
	case "UnknownOperationException": // the endpoint is not Kinesis
		return rule{code, KindService, giveUp}
	// The content of the request: one bad record makes Kinesis refuse the whole request.
	case "ValidationException", "InvalidArgumentException", "InvalidParameterValueException", "SerializationException":
		return rule{code, KindInvalid, bisect}
	}
	switch status { // an unknown code means nothing: the status decides
	case 0:
		return rule{code, KindInvalid, retryUnknown}
	case http.StatusRequestEntityTooLarge:
		return rule{code, KindInvalid, bisect}
	case http.StatusTooManyRequests:
		return rule{code, KindThrottled, retryThrottled}
	case http.StatusUnauthorized, http.StatusForbidden:
		if code != "" { // an answer without a code is not from AWS
			return rule{code, KindAccessDenied, giveUp}
		}
	}
	if status == http.StatusRequestTimeout || status >= 500 {
		return rule{code, KindService, retry}
	}
	return rule{code, KindService, giveUp} // a redirect, or an error that a retry would not change
}

// Pauses between requests have full jitter: they are drawn from zero to a bound, which doubles while the stream stores
// nothing. The cap is far below the SDK's 20 s, because an invocation or a shutdown waits for the PutRecords.
const (
	baseBackoff     = 50 * time.Millisecond
	throttleBackoff = 200 * time.Millisecond
	maxBackoff      = 2 * time.Second
)

// BackoffBound returns the longest pause after a number of failed requests in a row (0: the last one stored something).
// The simulator of the flush policy uses it, too.
func BackoffBound(throttled bool, failures int) time.Duration {
	base := baseBackoff
	if throttled {
		base = throttleBackoff
	}
	return min(base<<min(max(failures-1, 0), 10), maxBackoff)
}

// jitter returns a duration below bound, evenly distributed.
func jitter(bound time.Duration) time.Duration {
	return time.Duration(kernelrand.Fraction() * float64(bound))
}
