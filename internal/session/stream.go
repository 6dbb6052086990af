package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go/logging"
	smithytime "github.com/aws/smithy-go/time"
)

const (
	credentialTimeout = 5 * time.Second
	answerTimeout     = 20 * time.Second // of a first call, including the SDK's retries
	activeTimeout     = 2 * time.Minute  // a new stream becomes active in well under a minute
	activeInterval    = 250 * time.Millisecond
	defaultRegion     = "us-east-1" // for endpoints other than AWS's, which accept any region
)

// Target is a stream's name and place.
type Target struct {
	Stream   string                // its name or its ARN
	Region   string                // empty: the ARN's, or that of the AWS configuration
	Endpoint string                // empty: that of the AWS configuration, or AWS's
	HTTP     awskinesis.HTTPClient // nil: the SDK's own
}

// Stream is a Kinesis data stream that can be read.
type Stream struct {
	Region      string
	Endpoint    string          // empty: AWS's
	Credentials aws.Credentials // as of Open

	target  Target
	client  *awskinesis.Client
	created time.Time // creation time of the stream; an emulator may create a new stream of the name
	skew    skew      // of the last description
}

var streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// Validate returns an error if the target has an invalid name, ARN or region.
func (t Target) Validate() error {
	if !strings.HasPrefix(t.Stream, "arn:") {
		if !streamName.MatchString(t.Stream) {
			return fmt.Errorf("%q is not the name of a stream: it has 1 to 128 of A-Z a-z 0-9 _ . -", t.Stream)
		}
		return nil
	}
	a, err := arn.Parse(t.Stream)
	name, ok := strings.CutPrefix(a.Resource, "stream/")
	if err != nil || !ok || a.Service != "kinesis" || a.Region == "" || !streamName.MatchString(name) {
		return fmt.Errorf("%q is not the ARN of a stream, such as arn:aws:kinesis:eu-west-1:123456789012:stream/my-stream", t.Stream)
	}
	if t.Region != "" && t.Region != a.Region {
		return fmt.Errorf("the ARN's region is %s, not %s", a.Region, t.Region)
	}
	return nil
}

// Open loads the AWS configuration and credentials for a stream. It does not call Kinesis; WaitActive does.
func Open(ctx context.Context, t Target) (*Stream, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if a, err := arn.Parse(t.Stream); err == nil {
		t.Region = a.Region
	}
	s := &Stream{target: t}
	cfg, err := s.configure(ctx)
	if err != nil {
		return nil, err
	}
	// A local endpoint needs no instance role, and outside EC2 the lookup takes seconds.
	if isLoopback(s.Endpoint) {
		if cfg, err = s.configure(ctx, config.WithEC2IMDSClientEnableState(imds.ClientDisabled)); err != nil {
			return nil, err
		}
	}
	if err := s.retrieve(ctx, cfg.Credentials); err != nil {
		return nil, err
	}
	return s, nil
}

// configure loads the AWS configuration and creates the client.
func (s *Stream) configure(ctx context.Context, options ...func(*config.LoadOptions) error) (aws.Config, error) {
	options = append(options, config.WithLogger(logging.Nop{})) // the SDK's errors are reported; its warnings do not matter here
	if s.target.Region != "" {
		options = append(options, config.WithRegion(s.target.Region))
	}
	if s.target.HTTP != nil {
		options = append(options, config.WithHTTPClient(s.target.HTTP))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, withHints(fmt.Errorf("load the AWS configuration: %w", err),
			"AWS_PROFILE, AWS_CONFIG_FILE and AWS_CA_BUNDLE name the profile and the files that are read")
	}
	s.client = awskinesis.NewFromConfig(cfg, func(o *awskinesis.Options) {
		if s.target.Endpoint != "" {
			o.BaseEndpoint = &s.target.Endpoint
		}
		if o.Region == "" {
			o.Region = defaultRegion
		}
		o.HTTPClient = bodyReader{o.HTTPClient}
	})
	used := s.client.Options()
	s.Region, s.Endpoint = used.Region, aws.ToString(used.BaseEndpoint)
	if s.Endpoint != "" && !isEndpoint(s.Endpoint) { // the error hides the endpoint: it may contain a password
		return cfg, withHints(errors.New("the endpoint of the AWS configuration is not an http:// or https:// URL, or has "+
			"a user, a password, a query or a fragment"),
			"AWS_ENDPOINT_URL_KINESIS, AWS_ENDPOINT_URL, or endpoint_url in the file of AWS_CONFIG_FILE, sets it")
	}
	if cfg.Region == "" && s.Endpoint == "" {
		return cfg, withHints(errors.New("no region is set"), "set AWS_REGION, or give --region")
	}
	return cfg, nil
}

// bodyReader works around a bug of smithy-go v1.28.9. It closes a request's body as soon as a reply arrives, and
// WriteTo of a closed body then returns an error instead of the end. net/http still checks the body for more bytes, and
// this error makes it close the connection while the reply is being read.
type bodyReader struct{ next awskinesis.HTTPClient }

func (b bodyReader) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return b.next.Do(r)
}

// retrieve gets the credentials. An endpoint on this machine accepts any.
func (s *Stream) retrieve(ctx context.Context, provider aws.CredentialsProvider) error {
	ctx, cancel := context.WithTimeout(ctx, credentialTimeout)
	defer cancel()
	err := errors.New("none are configured")
	if provider != nil {
		if s.Credentials, err = provider.Retrieve(ctx); err == nil {
			return nil
		}
	}
	if isLoopback(s.Endpoint) {
		s.Credentials = aws.Credentials{AccessKeyID: "ktel", SecretAccessKey: "ktel"}
		s.client = awskinesis.New(s.client.Options(), func(o *awskinesis.Options) {
			o.Credentials = credentials.StaticCredentialsProvider{Value: s.Credentials}
		})
		return nil
	}
	return withHints(fmt.Errorf("find AWS credentials for %s: %w", s.endpointOrRegion(), err),
		"set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// isEndpoint and isLoopback are copies of checks of the package kinesis: this package does not import it.
func isEndpoint(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

func isLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// name returns the stream's name, nil if the target is an ARN. Requests have either the name or the ARN.
func (s *Stream) name() *string {
	if strings.HasPrefix(s.target.Stream, "arn:") {
		return nil
	}
	return &s.target.Stream
}

func (s *Stream) arn() *string {
	if s.name() == nil {
		return &s.target.Stream
	}
	return nil
}

// Create creates the stream, unless a stream of this name exists.
func (s *Stream) Create(ctx context.Context, shards int32) error {
	_, err := s.client.CreateStream(ctx, &awskinesis.CreateStreamInput{StreamName: s.name(), ShardCount: &shards})
	if _, exists := errors.AsType[*types.ResourceInUseException](err); err != nil && !exists {
		return s.explain("create", err)
	}
	return nil
}

// WaitActive waits until the stream is active.
func (s *Stream) WaitActive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, activeTimeout)
	defer cancel()
	for {
		callCtx, cancelCall := context.WithTimeout(ctx, answerTimeout)
		summary, err := s.describe(callCtx)
		cancelCall()
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		if err != nil {
			return s.explain("describe", err)
		}
		if isReadable(summary.StreamStatus) {
			s.created = aws.ToTime(summary.StreamCreationTimestamp)
			return nil
		}
		if smithytime.SleepWithContext(ctx, activeInterval) != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return withHints(fmt.Errorf("stream %s is %s, and did not become active within %v",
					s.target.Stream, summary.StreamStatus, activeTimeout))
			}
			return ctx.Err()
		}
	}
}

func (s *Stream) describe(ctx context.Context, options ...func(*awskinesis.Options)) (*types.StreamDescriptionSummary, error) {
	input := &awskinesis.DescribeStreamSummaryInput{StreamName: s.name(), StreamARN: s.arn()}
	asked := time.Now()
	answer, err := s.client.DescribeStreamSummary(ctx, input, options...)
	if err != nil {
		return nil, err
	}
	s.skew = skewOf(answer.ResultMetadata, asked)
	return answer.StreamDescriptionSummary, nil
}

func isReadable(status types.StreamStatus) bool {
	return status == types.StreamStatusActive || status == types.StreamStatusUpdating
}
