// Package doctor finds out why the extension does not deliver. It asks AWS about the stream and about a deployed function.
// Each check reports what it found and how to fix it. No check changes anything.
package doctor

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"kinesis-telemetry-extension/internal/config"
)

// Status is the result of a check.
type Status string

// Results of a check.
const (
	OK         Status = "ok"
	Warning    Status = "warning"     // it works, but perhaps not as intended
	Problem    Status = "problem"     // events will not arrive
	NotChecked Status = "not checked" // it cannot be checked from here
)

// Names of the checks, in the order in which they run.
const (
	regionCheck      = "region"
	credentialsCheck = "credentials"
	functionCheck    = "function"
	layerCheck       = "layer"
	memoryCheck      = "memory"
	timeoutCheck     = "timeout"
	snapStartCheck   = "snapstart"
	instancesCheck   = "instances"
	loggingCheck     = "logging"
	settingsCheck    = "settings"
	networkCheck     = "network"
	endpointCheck    = "endpoint"
	streamCheck      = "stream"
	capacityCheck    = "capacity"
	recordSizeCheck  = "record size"
	formatCheck      = "format"
	encryptionCheck  = "encryption"
	writeCheck       = "write"
	roleCheck        = "role"
)

// Finding is the result of one check: the observation and, unless the status is OK, the fix.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Seen   string `json:"seen"`
	Fix    string `json:"do,omitempty"`
}

// Report has the findings of all checks.
type Report struct {
	Function string    `json:"function,omitempty"` // ARN; empty without Options.Function
	Region   string    `json:"region,omitempty"`   // of the stream
	Stream   string    `json:"stream,omitempty"`
	Findings []Finding `json:"findings"`

	// Err is why the checks could not decide: the function or the stream gave no answer. It is nil if they could.
	Err error `json:"-"`
}

// Count returns how many findings have the status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, f := range r.Findings {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Options select the function and the stream to check.
type Options struct {
	Region    string // empty: the one that AWS's tools would use
	Function  string // name or ARN; empty: the shell's own settings and credentials
	Qualifier string // version or alias of the function
	Layer     string // part of the name of the layer that contains the extension
}

// callTimeout limits one request to AWS, and one step of a connection to the endpoint.
const callTimeout = 5 * time.Second

// fixFirst is the fix of a check that another problem prevents.
const fixFirst = "fix the problem above, then run doctor again"

// examiner runs the checks.
type examiner struct {
	options   Options
	aws       aws.Config
	environ   []string                // of the extension, that is of the shell or of the function
	account   string                  // of the credentials; empty if STS did not report it
	assumed   aws.CredentialsProvider // of ROLE_ARN, in a shell; nil without ROLE_ARN
	function  *function
	settings  config.Config
	stream    streamTarget
	key       string // KeyId of the stream's description; empty without one
	skipWrite string // why the dry run is skipped; empty: it runs
	report    Report
}

// Examine runs all checks. It fails only if AWS's configuration of this machine cannot be read, or if ctx ends.
func Examine(ctx context.Context, o Options) (*Report, error) {
	if part := strings.Split(o.Function, ":"); len(part) > 3 && part[0] == "arn" && o.Region == "" {
		o.Region = part[3]
	}
	cfg, err := loadAWS(ctx, o.Region)
	if err != nil {
		return nil, err
	}
	e := &examiner{options: o, aws: cfg}
	e.examine(ctx)
	return &e.report, ctx.Err()
}

func loadAWS(ctx context.Context, region string) (aws.Config, error) {
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(callTimeout)),
		awsconfig.WithRetryMaxAttempts(2),
		awsconfig.WithLogger(logging.Nop{}), // the findings cover its warnings
	}
	if region != "" {
		options = append(options, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return cfg, nil
}

func (e *examiner) examine(ctx context.Context) {
	if !e.checkRegion() {
		e.skip("without a region", credentialsCheck)
		return
	}
	if !e.checkCredentials(ctx) {
		return
	}
	if e.options.Function == "" {
		// config.Load wants keys; checkCredentials has checked the real ones.
		e.environ = append(os.Environ(), "AWS_REGION="+e.aws.Region, "AWS_ACCESS_KEY_ID=checked")
	} else if !e.checkFunction(ctx) {
		return
	}
	known := e.checkSettings()
	if e.function != nil {
		e.checkNetwork()
	}
	if !known {
		e.skip("without the stream's name", endpointCheck, streamCheck, writeCheck)
		return
	}
	if !e.assume(ctx) {
		e.skip("without the role", endpointCheck, streamCheck, writeCheck)
		return
	}
	described := e.describe(ctx, e.checkEndpoint(ctx))
	if described != nil {
		e.checkCapacity(described)
		e.checkRecordSize(described)
		e.checkFormat(described)
		e.checkEncryption(ctx, described)
	}
	e.checkWrite(ctx)
	if e.function != nil {
		e.checkRole(ctx, described)
	}
}

func (e *examiner) add(check string, status Status, seen, fix string) {
	e.report.Findings = append(e.report.Findings, Finding{check, status, seen, fix})
}

func (e *examiner) ok(check, format string, args ...any) {
	e.add(check, OK, fmt.Sprintf(format, args...), "")
}

// skip reports checks as not checked, and why.
func (e *examiner) skip(why string, checks ...string) {
	for _, check := range checks {
		e.add(check, NotChecked, "cannot be checked "+why, fixFirst)
	}
}
