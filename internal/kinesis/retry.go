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

// rule is a line of the table: what an error means and what to do.
type rule struct {
	code string
	kind Kind
	do   verdict
}

const (
	codeThroughput = "ProvisionedThroughputExceededException"
	codeInternal   = "InternalFailure"
)

// ruleOf says what to do about a refused request. Without a code that the table knows the HTTP status decides.
func ruleOf(status int, code string) rule {
	if r, ok := lookup(code); ok {
		return r
	}
	return ruleOfStatus(status, code)
}

// ruleOfRecord is ruleOf for the code of a single record.
func ruleOfRecord(code string) rule {
	if r, ok := lookup(code); ok {
		return r
	}
	return rule{code, KindInvalid, doubt}
}

// lookup is the one table of what is tried again and why, for the codes of single records and of whole requests.
// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html#API_PutRecords_Errors
// https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html
func lookup(code string) (rule, bool) {
	for _, r := range [...]rule{
		// Capacity: a matter of time.
		{codeThroughput, KindThrottled, throttle},
		{"LimitExceededException", KindThrottled, throttle},
		{"ThrottlingException", KindThrottled, throttle},
		{"Throttling", KindThrottled, throttle},
		{"ThrottledException", KindThrottled, throttle},
		{"RequestThrottledException", KindThrottled, throttle},
		{"RequestThrottled", KindThrottled, throttle},
		{"RequestLimitExceeded", KindThrottled, throttle},
		{"TooManyRequestsException", KindThrottled, throttle},
		{"BandwidthLimitExceeded", KindThrottled, throttle},
		{"SlowDown", KindThrottled, throttle},
		{"KMSThrottlingException", KindKMS, throttle}, // the SDK does not try this one again, but it is of the same nature
		// The service's own trouble: passes.
		{codeInternal, KindService, again},
		{"InternalFailureException", KindService, again},
		{"InternalServerError", KindService, again},
		{"ServiceUnavailable", KindService, again},
		{"ServiceUnavailableException", KindService, again},
		{"RequestTimeout", KindService, again},
		{"RequestTimeoutException", KindService, again},
		// Credentials that ran out, or a clock that is wrong after a freeze: can be mended here, once.
		{"ExpiredTokenException", KindCredentials, renew},
		{"ExpiredToken", KindCredentials, renew},
		{"UnrecognizedClientException", KindCredentials, renew},
		{"InvalidClientTokenId", KindCredentials, renew},
		{"InvalidSignatureException", KindCredentials, renew},
		{"SignatureDoesNotMatch", KindCredentials, renew},
		{"IncompleteSignatureException", KindCredentials, renew},
		{"MissingAuthenticationTokenException", KindCredentials, renew},
		{"RequestTimeTooSkewed", KindCredentials, renew},
		{"RequestExpired", KindCredentials, renew},
		// Permissions and the stream's own state: somebody has to mend them; the records may go later.
		{"ResourceNotFoundException", KindNotFound, halt},
		{"AccessDeniedException", KindAccessDenied, halt},
		{"AccessDenied", KindAccessDenied, halt},
		{"NotAuthorized", KindAccessDenied, halt},
		{"OptInRequired", KindAccessDenied, halt},
		{"KMSAccessDeniedException", KindKMS, halt},
		{"KMSDisabledException", KindKMS, halt},
		{"KMSInvalidStateException", KindKMS, halt},
		{"KMSNotFoundException", KindKMS, halt},
		{"KMSOptInRequired", KindKMS, halt},
		{"UnknownOperationException", KindService, halt}, // the endpoint is not Kinesis
		// What the request carries: one bad record poisons its neighbours.
		{"ValidationException", KindInvalid, split},
		{"InvalidArgumentException", KindInvalid, split},
		{"InvalidParameterValueException", KindInvalid, split},
		{"SerializationException", KindInvalid, split},
	} {
		if r.code == code {
			return r, true
		}
	}
	return rule{}, false
}

func ruleOfStatus(status int, code string) rule {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return rule{code, KindInvalid, split}
	case status == http.StatusTooManyRequests:
		return rule{code, KindThrottled, throttle}
	case status == http.StatusRequestTimeout, status >= 500:
		return rule{code, KindService, again}
	case code != "" && (status == http.StatusUnauthorized || status == http.StatusForbidden): // what has no code is not AWS's
		return rule{code, KindAccessDenied, halt}
	default:
		return rule{code, KindService, halt} // a redirect, or an error that has no second answer
	}
}

// Pauses between requests. They are drawn from zero to the bound, which doubles while nothing gets through. The cap is
// far below the SDK's 20 s: what waits for a PutRecords is an invocation or a shutdown.
const (
	basePause     = 50 * time.Millisecond
	throttlePause = 200 * time.Millisecond
	maxPause      = 2 * time.Second
)

// pauseBound is the bound of the pause after so many fruitless requests in a row (0: something got through).
func pauseBound(do verdict, fruitless int) time.Duration {
	base := basePause
	if do == throttle {
		base = throttlePause
	}
	return min(base<<min(max(fruitless-1, 0), 10), maxPause)
}

// PauseBound is pauseBound after a request that was throttled or else refused, for the simulator of the flush policy.
func PauseBound(throttled bool, fruitless int) time.Duration {
	if throttled {
		return pauseBound(throttle, fruitless)
	}
	return pauseBound(again, fruitless)
}

// draw gives a duration from 0 to bound, evenly. The kernel's randomness it is because environments that resume from one
// SnapStart snapshot share the state of math/rand, and would all come back at the same instant.
// https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
func draw(bound time.Duration) time.Duration {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return time.Duration(binary.NativeEndian.Uint64(b[:]) % uint64(bound+1))
}
