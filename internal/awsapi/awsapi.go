// Package awsapi makes the few calls of IAM, SSM and KMS that ktel needs. The SDK's packages for these services take twenty seconds of
// CPU to compile, which the first run of 'ktel demo' would wait for. Configuration, credentials, signature and retries
// are the SDK's.
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
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kinesis-telemetry-extension/internal/kinesis"
)

// maxAnswer is far more than any of the answers has.
const maxAnswer = 16 << 20

// service is how one of AWS's services is spoken to.
type service struct {
	id     string // in configuration, and in lower case in names of hosts and in signatures
	global bool   // it has one endpoint in a partition
}

// call sends a request until it is answered, as often as the configuration's retryer allows.
func (s service) call(ctx context.Context, cfg aws.Config, header map[string]string, body []byte) ([]byte, error) {
	endpoint, region, err := s.endpoint(ctx, cfg)
	if err != nil {
		return nil, err
	}
	retryer := aws.Retryer(retry.NewStandard())
	if cfg.Retryer != nil {
		retryer = cfg.Retryer()
	}
	for attempt := 1; ; attempt++ {
		answer, err := s.attempt(ctx, cfg, endpoint, region, header, body)
		if err == nil || attempt == retryer.MaxAttempts() || !retryer.IsErrorRetryable(err) {
			return answer, err
		}
		delay, delayErr := retryer.RetryDelay(attempt, err)
		if delayErr != nil {
			return nil, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s service) attempt(ctx context.Context, cfg aws.Config, endpoint, region string, header map[string]string, body []byte) ([]byte, error) {
	if cfg.Credentials == nil {
		return nil, errors.New("no credentials are configured")
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, request, hex.EncodeToString(hash[:]), s.name(), region, time.Now()); err != nil {
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
	if response.StatusCode == http.StatusOK {
		return answer, nil
	}
	return nil, &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: response}, Err: apiError(response, answer)}
}

func (s service) name() string { return strings.ToLower(s.id) }

// apiError reads the error of either protocol. What is neither comes from something on the way.
func apiError(response *http.Response, answer []byte) error {
	var e struct {
		Type    string `json:"__type" xml:"-"`
		Message string `json:"message" xml:"-"`
		Error   struct{ Code, Message string }
	}
	if json.Unmarshal(answer, &e) != nil && xml.Unmarshal(answer, &e) != nil {
		return &smithy.GenericAPIError{Code: response.Status, Message: "not an answer of AWS's"}
	}
	_, code, prefixed := strings.Cut(e.Type, "#")
	if !prefixed {
		code = e.Type
	}
	return &smithy.GenericAPIError{Code: cmp.Or(code, e.Error.Code, response.Status), Message: cmp.Or(e.Message, e.Error.Message)}
}

// The SDK's configuration sources have these.
type (
	serviceEndpoints interface {
		GetServiceBaseEndpoint(ctx context.Context, id string) (string, bool, error)
	}
	fipsEndpoints interface {
		GetUseFIPSEndpoint(ctx context.Context) (aws.FIPSEndpointState, bool, error)
	}
)

// endpoint is where the service is, and the region that requests are signed for.
func (s service) endpoint(ctx context.Context, cfg aws.Config) (endpoint, region string, err error) {
	fips := false
	for i := len(cfg.ConfigSources) - 1; i >= 0; i-- { // the first one counts
		source := cfg.ConfigSources[i]
		if f, ok := source.(fipsEndpoints); ok {
			state, found, err := f.GetUseFIPSEndpoint(ctx)
			if err != nil {
				return "", "", err
			}
			if found {
				fips = state == aws.FIPSEndpointStateEnabled
			}
		}
		if e, ok := source.(serviceEndpoints); ok {
			value, found, err := e.GetServiceBaseEndpoint(ctx, s.id)
			if err != nil {
				return "", "", err
			}
			if found {
				endpoint = value
			}
		}
	}
	host, region := kinesis.Host(s.name(), cfg.Region, fips), cfg.Region
	if s.global {
		host, region = globalHost(s.name(), region, fips)
	}
	if endpoint == "" {
		endpoint = aws.ToString(cfg.BaseEndpoint)
	}
	return cmp.Or(endpoint, "https://"+host), region, nil
}

// globalHosts are those of services with one endpoint in a partition, by what the names of its regions begin with.
// https://docs.aws.amazon.com/general/latest/gr/iam-service.html
var globalHosts = []struct{ prefix, host, region string }{
	{"cn-", "cn-north-1.amazonaws.com.cn", "cn-north-1"},
	{"us-gov-", "us-gov.amazonaws.com", "us-gov-west-1"},
	{"us-iso-", "us-iso-east-1.c2s.ic.gov", "us-iso-east-1"},
	{"us-isob-", "us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"},
	{"eu-isoe-", "eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"},
	{"us-isof-", "us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"},
	{"eusc-de-", "eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"},
}

func globalHost(name, region string, fips bool) (host, signed string) {
	for _, p := range globalHosts {
		if strings.HasPrefix(region, p.prefix) {
			return name + "." + p.host, p.region
		}
	}
	if fips {
		name += "-fips"
	}
	return name + ".amazonaws.com", "us-east-1"
}

// callJSON speaks AWS JSON 1.1.
func (s service) callJSON(ctx context.Context, cfg aws.Config, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := s.call(ctx, cfg, map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return nil
}

// callQuery speaks AWS's query protocol, in the version of IAM, which alone is asked by it.
func (s service) callQuery(ctx context.Context, cfg aws.Config, action string, in url.Values, out any) error {
	in.Set("Action", action)
	in.Set("Version", iamVersion)
	answer, err := s.call(ctx, cfg, map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, []byte(in.Encode()))
	if err != nil {
		return err
	}
	if err := xml.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}
