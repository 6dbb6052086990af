package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

// ErrNotFound is in the chain of an error if no stream has the name.
var ErrNotFound = errors.New("there is no stream")

// Error is an error with hints on how to fix it.
type Error struct {
	Err   error
	Hints []string
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func withHints(err error, hints ...string) error { return &Error{err, hints} }

// permissions names the permissions that reading needs.
const permissions = "the credentials need kinesis:DescribeStreamSummary, kinesis:ListShards, " +
	"kinesis:GetShardIterator and kinesis:GetRecords"

// explain turns an error of the SDK into an Error. verb is the attempted action.
func (s *Stream) explain(verb string, err error) error {
	what := verb + " stream " + s.target.Stream
	api, answered := errors.AsType[smithy.APIError](err)
	lookup, unknownHost := errors.AsType[*net.DNSError](err)
	switch {
	case isMissing(err):
		return withHints(fmt.Errorf("%w %s %s", ErrNotFound, s.target.Stream, s.where()), s.missingHints()...)
	case answered && IsAccessDenied(api.ErrorCode()):
		return withHints(fmt.Errorf("%s: %s is denied: %s", what, action(err), api.ErrorMessage()), permissions)
	case answered && strings.HasPrefix(api.ErrorCode(), "KMS"):
		return withHints(fmt.Errorf("%s: %s: %s", what, api.ErrorCode(), api.ErrorMessage()),
			"the stream is encrypted: the credentials need kms:Decrypt on its key")
	case answered && IsCredentialError(api.ErrorCode()):
		return withHints(fmt.Errorf("%s: the credentials are not accepted: %s: %s", what, api.ErrorCode(), api.ErrorMessage()),
			"get new credentials, for example with 'aws sso login', or set AWS_PROFILE")
	case answered:
		return withHints(fmt.Errorf("%s: %s: %s", what, api.ErrorCode(), api.ErrorMessage()))
	case unknownHost:
		return withHints(fmt.Errorf("%s: the host %s cannot be found", what, lookup.Name), "check the "+s.address()+" and the network")
	case strings.Contains(err.Error(), "refused"): // Windows has a different error number
		return withHints(fmt.Errorf("%s: nothing listens at %s", what, s.endpointOrRegion()))
	case errors.Is(err, context.DeadlineExceeded):
		return withHints(fmt.Errorf("%s: no answer from %s", what, s.endpointOrRegion()), "check the "+s.address()+" and the network")
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok {
		err = dial
	}
	return withHints(fmt.Errorf("%s: %w", what, err))
}

func (s *Stream) missingHints() []string {
	if s.Endpoint != "" {
		return nil
	}
	return []string{"--region selects another region, an ARN another account's stream; 'aws kinesis list-streams' lists the streams"}
}

// where names the endpoint or the region of the stream, with a preposition.
func (s *Stream) where() string {
	if s.Endpoint != "" {
		return "at " + s.Endpoint
	}
	return "in " + s.Region
}

func (s *Stream) endpointOrRegion() string {
	if s.Endpoint != "" {
		return s.Endpoint
	}
	return "Kinesis in " + s.Region
}

// address names the option with which the user chose the stream's place.
func (s *Stream) address() string {
	if s.Endpoint != "" {
		return "endpoint"
	}
	return "region"
}

// action returns the permission that the failed call needs.
func action(err error) string {
	if operation, ok := errors.AsType[*smithy.OperationError](err); ok {
		return "kinesis:" + operation.OperationName
	}
	return "the call"
}

func isMissing(err error) bool {
	_, missing := errors.AsType[*types.ResourceNotFoundException](err)
	return missing
}

// IsAccessDenied reports whether AWS accepts the credentials and denies the action.
func IsAccessDenied(code string) bool {
	switch code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationErrorException":
		return true
	}
	return false
}

// IsCredentialError reports whether AWS does not accept the credentials at all.
func IsCredentialError(code string) bool {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException",
		"SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "InvalidAccessKeyId", "RequestExpired":
		return true
	}
	return false
}
