// Package awsapi makes the few calls of IAM, SSM, KMS and Lambda that ktel needs. The SDK's packages for these services
// take 25 seconds of CPU to compile, and the first run of 'ktel demo' would wait for them. The package uses the SDK's
// configuration, credentials, signer and retryer.
package awsapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/httpbinding"
	smithytime "github.com/aws/smithy-go/time"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kinesis-telemetry-extension/internal/kinesis"
)

// maxAnswer is far above the size of every answer.
const maxAnswer = 16 << 20

// service describes one of AWS's services.
type service struct {
	id        string // as in the configuration; host names and signatures have it in lower case
	global    bool   // the service has one endpoint for each partition
	plainFIPS bool   // the plain hosts in GovCloud are the FIPS hosts
}

// request is a request to a service's endpoint.
type request struct {
	method string
	path   []string // segments after the endpoint's path, not escaped
	query  url.Values
	header map[string]string
	body   []byte
}

// url returns the URL of the request. It escapes the segments as the SDK does, because the ARN of a function has
// colons.
func (r *request) url(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	for _, segment := range r.path {
		u = u.JoinPath(httpbinding.EscapePath(segment, true))
	}
	if len(r.query) > 0 {
		u.RawQuery = r.query.Encode()
	}
	return u, nil
}

// call sends a request and retries it as the configuration's retryer decides. It corrects the time of the signature for the
// next attempt if AWS rejects it because of this machine's clock.
func (s service) call(ctx context.Context, cfg aws.Config, r *request) ([]byte, error) {
	endpoint, region, err := s.endpoint(ctx, cfg)
	if err != nil {
		return nil, err
	}
	retryer := aws.Retryer(retry.NewStandard())
	if cfg.Retryer != nil {
		retryer = cfg.Retryer()
	}
	var skew time.Duration
	for attempt := 1; ; attempt++ {
		answer, err := s.attempt(ctx, cfg, endpoint, region, r, time.Now().Add(skew))
		if err == nil || attempt == retryer.MaxAttempts() {
			return answer, err
		}
		if seen, ok := clockSkew(err); ok && (seen-skew).Abs() > maxSkew {
			skew = seen
		} else if !retryer.IsErrorRetryable(err) {
			return nil, err
		}
		delay, delayErr := retryer.RetryDelay(attempt, err)
		if delayErr != nil {
			return nil, err
		}
		if smithytime.SleepWithContext(ctx, delay) != nil {
			return nil, err
		}
	}
}

func (s service) attempt(
	ctx context.Context, cfg aws.Config, endpoint, region string, r *request, signed time.Time,
) ([]byte, error) {
	if cfg.Credentials == nil {
		return nil, errors.New("no credentials are configured")
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	to, err := r.url(endpoint)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, r.method, to.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	hash := sha256.Sum256(r.body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, request, hex.EncodeToString(hash[:]), s.name(), region, signed); err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	client := cfg.HTTPClient
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, &smithyhttp.RequestSendError{Err: err}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return answer, nil
	}
	return nil, &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: response}, Err: apiError(response, answer)}
}

// maxSkew is the difference of clocks above which the SDK corrects signatures, too. AWS accepts five minutes.
const maxSkew = 4 * time.Minute

// clockSkew returns how far AWS's clock is ahead of this machine's, by the Date of an answer that may have rejected the
// time of a signature. Such an answer has one of several codes, which also have other causes.
func clockSkew(err error) (skew time.Duration, ok bool) {
	switch ErrorCode(err) {
	case "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure", "RequestTimeTooSkewed", "AccessDeniedException":
	default:
		return 0, false
	}
	answer, answered := errors.AsType[*smithyhttp.ResponseError](err)
	if !answered || answer.Response.Header.Get("Age") != "" { // from a cache
		return 0, false
	}
	date, err := http.ParseTime(answer.Response.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	return time.Until(date), true
}

func (s service) name() string { return strings.ToLower(s.id) }

// apiError reads an error of any of the protocols. An answer in none of them comes from a proxy.
func apiError(response *http.Response, answer []byte) error {
	var e struct {
		Type    string `json:"__type" xml:"-"`
		Code    string `json:"code" xml:"-"`
		Message string `json:"message" xml:"-"`
		Error   struct{ Code, Message string }
	}
	header := response.Header.Get("X-Amzn-Errortype") // of REST-JSON
	if json.Unmarshal(answer, &e) != nil && xml.Unmarshal(answer, &e) != nil && header == "" {
		return &smithy.GenericAPIError{Code: response.Status, Message: "not an answer of AWS's"}
	}
	return &smithy.GenericAPIError{
		Code:    cmp.Or(plainCode(header), plainCode(e.Code), plainCode(e.Type), e.Error.Code, response.Status),
		Message: cmp.Or(e.Message, e.Error.Message),
	}
}

// plainCode returns a code without the namespace before it and the URL after it, which some services add.
func plainCode(code string) string {
	code, _, _ = strings.Cut(code, ":")
	if _, bare, prefixed := strings.Cut(code, "#"); prefixed {
		return bare
	}
	return code
}

// ErrorCode returns the code of an error that AWS returned, or "" for any other error.
func ErrorCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// The SDK's configuration sources implement these interfaces.
type (
	serviceEndpoints interface {
		GetServiceBaseEndpoint(ctx context.Context, id string) (string, bool, error)
	}
	ignoredEndpoints interface {
		GetIgnoreConfiguredEndpoints(ctx context.Context) (bool, bool, error)
	}
	fipsEndpoints interface {
		GetUseFIPSEndpoint(ctx context.Context) (aws.FIPSEndpointState, bool, error)
	}
	dualStackEndpoints interface {
		GetUseDualStackEndpoint(ctx context.Context) (aws.DualStackEndpointState, bool, error)
	}
)

// lookUp returns the value of the first source of the configuration that has one.
func lookUp[source, value any](cfg aws.Config, get func(source) (value, bool, error)) (found value, err error) {
	for _, s := range cfg.ConfigSources {
		if s, ok := s.(source); ok {
			if v, has, err := get(s); err != nil || has {
				return v, err
			}
		}
	}
	return found, nil
}

// endpoint returns the URL of the service, and the region that requests are signed for.
func (s service) endpoint(ctx context.Context, cfg aws.Config) (endpoint, region string, err error) {
	endpoint, err = s.configuredEndpoint(ctx, cfg)
	if err != nil {
		return "", "", err
	}
	if endpoint != "" {
		_, region = s.host(cfg.Region, false, false)
		return endpoint, region, nil
	}
	if cfg.Region == "" || strings.Trim(cfg.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", "", fmt.Errorf("region %q: expected one such as eu-west-1", cfg.Region)
	}
	fips, err := lookUp(cfg, func(f fipsEndpoints) (aws.FIPSEndpointState, bool, error) { return f.GetUseFIPSEndpoint(ctx) })
	if err != nil {
		return "", "", err
	}
	dual, err := lookUp(cfg, func(d dualStackEndpoints) (aws.DualStackEndpointState, bool, error) {
		return d.GetUseDualStackEndpoint(ctx)
	})
	if err != nil {
		return "", "", err
	}
	host, region := s.host(cfg.Region, fips == aws.FIPSEndpointStateEnabled, dual == aws.DualStackEndpointStateEnabled)
	return "https://" + host, region, nil
}

// configuredEndpoint returns the service's own endpoint, or else that of all services, or else "". As in the SDK,
// AWS_ENDPOINT_URL of the environment takes precedence over the service's own endpoint in a file.
func (s service) configuredEndpoint(ctx context.Context, cfg aws.Config) (string, error) {
	all := aws.ToString(cfg.BaseEndpoint)
	_, environment := os.LookupEnv("AWS_ENDPOINT_URL")
	if _, own := os.LookupEnv("AWS_ENDPOINT_URL_" + strings.ToUpper(s.id)); environment && !own {
		return all, nil
	}
	ignored, err := lookUp(cfg, func(i ignoredEndpoints) (bool, bool, error) { return i.GetIgnoreConfiguredEndpoints(ctx) })
	if err != nil || ignored {
		return all, err
	}
	own, err := lookUp(cfg, func(e serviceEndpoints) (string, bool, error) { return e.GetServiceBaseEndpoint(ctx, s.id) })
	return cmp.Or(own, all), err
}

// host returns the service's host in a region, and the region that requests are signed for.
func (s service) host(region string, fips, dualStack bool) (host, signed string) {
	if s.global {
		return globalHost(region, fips, dualStack)
	}
	label := s.name()
	plain := s.plainFIPS && kinesis.Partition(region) == "aws-us-gov" && !dualStack
	if fips && !plain {
		label += "-fips"
	}
	return kinesis.Host(label, region, dualStack), region
}

// callJSON makes a call in the protocol AWS JSON 1.1.
func (s service) callJSON(ctx context.Context, cfg aws.Config, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	header := map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
	answer, err := s.call(ctx, cfg, &request{method: http.MethodPost, header: header, body: body})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return nil
}

// callQuery makes a call in AWS's query protocol, with the version of IAM, the only service that uses this protocol.
func (s service) callQuery(ctx context.Context, cfg aws.Config, action string, in url.Values, out any) error {
	in.Set("Action", action)
	in.Set("Version", iamVersion)
	header := map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
	answer, err := s.call(ctx, cfg, &request{method: http.MethodPost, header: header, body: []byte(in.Encode())})
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}

// callREST makes a call in AWS's REST-JSON protocol. If in is nil, there is no body.
func (s service) callREST(ctx context.Context, cfg aws.Config, r request, in, out any) error {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r.body, r.header = body, map[string]string{"Content-Type": "application/json"}
	}
	answer, err := s.call(ctx, cfg, &r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(r.path, "/"), err)
	}
	return nil
}
