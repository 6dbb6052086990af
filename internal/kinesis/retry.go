package kinesis

import (
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"time"
)

// verdict is what follows from an answer.
type verdict uint8

const (
	split    verdict = iota // some record of the request is not acceptable: find it; a record by itself: reject it
	doubt                   // nobody knows: send the record again, and reject it if it is refused for finalAfter
	again                   // send it again after a pause
	throttle                // send it again after a longer pause
	renew                   // correct the clock or get new credentials, then once again at once; else as halt
	halt                    // another try within this Put would end the same way: leave it to the caller
)

// rule is what an error means and what to do.
type rule struct {
	code string
	kind Kind
	do   verdict
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
		return rule{code, KindThrottled, throttle}
	case "KMSThrottlingException": // the SDK does not try this one again, but it is of the same nature
		return rule{code, KindKMS, throttle}
	// The service's own trouble: passes.
	case "InternalFailure", "InternalFailureException", "InternalServerError", "ServiceUnavailable", "ServiceUnavailableException",
		"RequestTimeout", "RequestTimeoutException":
		return rule{code, KindService, again}
	// Credentials that ran out, or a clock that is wrong after a freeze: can be fixed here, once.
	case "ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignatureException", "MissingAuthenticationTokenException", "RequestTimeTooSkewed", "RequestExpired":
		return rule{code, KindCredentials, renew}
	// Permissions and the stream's own state: somebody has to fix them; the records may go later.
	case "ResourceNotFoundException":
		return rule{code, KindNotFound, halt}
	case "AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired":
		return rule{code, KindAccessDenied, halt}
	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return rule{code, KindKMS, halt}
	case "UnknownOperationException": // the endpoint is not Kinesis
		return rule{code, KindService, halt}
	// What the request carries: one bad record poisons its neighbours.
	case "ValidationException", "InvalidArgumentException", "InvalidParameterValueException", "SerializationException":
		return rule{code, KindInvalid, split}
	}
	switch status { // a code that is not known says nothing
	case 0:
		return rule{code, KindInvalid, doubt}
	case http.StatusRequestEntityTooLarge:
		return rule{code, KindInvalid, split}
	case http.StatusTooManyRequests:
		return rule{code, KindThrottled, throttle}
	case http.StatusUnauthorized, http.StatusForbidden:
		if code != "" { // what has no code is not AWS's
			return rule{code, KindAccessDenied, halt}
		}
	}
	if status == http.StatusRequestTimeout || status >= 500 {
		return rule{code, KindService, again}
	}
	return rule{code, KindService, halt} // a redirect, or an error that has no second answer
}

// Pauses between requests. They are drawn from zero to the bound, which doubles while nothing gets through. The cap is
// far below the SDK's 20 s: what waits for a PutRecords is an invocation or a shutdown.
const (
	basePause     = 50 * time.Millisecond
	throttlePause = 200 * time.Millisecond
	maxPause      = 2 * time.Second
)

// BackoffBound is the bound of the pause after so many fruitless requests in a row (0: something got through). The simulator of
// the flush policy knows it, too.
func BackoffBound(throttled bool, fruitless int) time.Duration {
	base := basePause
	if throttled {
		base = throttlePause
	}
	return min(base<<min(max(fruitless-1, 0), 10), maxPause)
}

// draw gives a duration from 0 to bound, evenly. The kernel's randomness it is because environments that resume from one
// SnapStart snapshot share the state of math/rand, and would all come back at the same instant.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
func draw(bound time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return time.Duration(binary.NativeEndian.Uint64(b[:]) % uint64(bound+1))
}
