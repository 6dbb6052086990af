package kinesis

import (
	"net/http"
	"time"

	"kinesis-telemetry-extension/internal/kernelrand"
)

// verdict is what follows from an answer.
type action uint8

const (
	bisect         action = iota // some record of the request is not acceptable: find it; a record by itself: reject it
	retryUnknown                 // nobody knows: send the record again, and reject it if it is refused for finalAfter
	retry                        // send it again after a pause
	retryThrottled               // send it again after a longer pause
	renew                        // correct the clock or get new credentials, then once again at once; else as halt
	giveUp                       // another try within this Put would end the same way: leave it to the caller
)

// rule is what an error means and what to do.
type rule struct {
	code   string
	kind   Kind
	action action
}

// ruleOf is the one table of what is tried again and why, for the codes of whole requests and of single records; those have
// no status.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html#API_PutRecords_Errors
// https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html
func ruleOf(status int, code string) rule {
	switch code {
	// Capacity: a matter of time.
	case "ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException", "Throttling", "ThrottledException",
		"RequestThrottledException", "RequestThrottled", "RequestLimitExceeded", "TooManyRequestsException", "BandwidthLimitExceeded", "SlowDown":
		return rule{code, KindThrottled, retryThrottled}
	case "KMSThrottlingException": // the SDK does not try this one again, but it is of the same nature
		return rule{code, KindKMS, retryThrottled}
	// The service's own trouble: passes.
	case "InternalFailure", "InternalFailureException", "InternalServerError", "ServiceUnavailable", "ServiceUnavailableException",
		"RequestTimeout", "RequestTimeoutException":
		return rule{code, KindService, retry}
	// Credentials that ran out, or a clock that is wrong after a freeze: can be fixed here, once.
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignatureException", "MissingAuthenticationTokenException", "RequestTimeTooSkewed", "RequestExpired":
		return rule{code, KindCredentials, renew}
	// Permissions and the stream's own state: somebody has to fix them; the records may go later.
	case "ResourceNotFoundException":
		return rule{code, KindNotFound, giveUp}
	case "AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired":
		return rule{code, KindAccessDenied, giveUp}
	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return rule{code, KindKMS, giveUp}
	case "UnknownOperationException": // the endpoint is not Kinesis
		return rule{code, KindService, giveUp}
	// What the request carries: one bad record poisons its neighbours.
	case "ValidationException", "InvalidArgumentException", "InvalidParameterValueException", "SerializationException":
		return rule{code, KindInvalid, bisect}
	}
	switch status { // a code that is not known says nothing
	case 0:
		return rule{code, KindInvalid, retryUnknown}
	case http.StatusRequestEntityTooLarge:
		return rule{code, KindInvalid, bisect}
	case http.StatusTooManyRequests:
		return rule{code, KindThrottled, retryThrottled}
	case http.StatusUnauthorized, http.StatusForbidden:
		if code != "" { // what has no code is not AWS's
			return rule{code, KindAccessDenied, giveUp}
		}
	}
	if status == http.StatusRequestTimeout || status >= 500 {
		return rule{code, KindService, retry}
	}
	return rule{code, KindService, giveUp} // a redirect, or an error that has no second answer
}

// Pauses between requests. They are drawn from zero to the bound, which doubles while nothing gets through. The cap is
// far below the SDK's 20 s: what waits for a PutRecords is an invocation or a shutdown.
const (
	baseBackoff     = 50 * time.Millisecond
	throttleBackoff = 200 * time.Millisecond
	maxBackoff      = 2 * time.Second
)

// BackoffBound is the bound of the pause after so many fruitless requests in a row (0: something got through). The simulator of
// the flush policy knows it, too.
func BackoffBound(throttled bool, fruitless int) time.Duration {
	base := baseBackoff
	if throttled {
		base = throttleBackoff
	}
	return min(base<<min(max(fruitless-1, 0), 10), maxBackoff)
}

// jitter returns a duration below bound, evenly distributed.
func jitter(bound time.Duration) time.Duration {
	return time.Duration(kernelrand.Fraction() * float64(bound))
}
