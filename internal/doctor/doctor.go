// Package doctor looks for what keeps the extension from delivering: it asks AWS about the stream, and about a deployed
// function, and says of each thing what it saw and what to do about it. It changes nothing.
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

// Status says how a check ended.
type Status string

// How a check ends.
const (
	OK         Status = "ok"
	Warning    Status = "warning"     // it works, but perhaps not as intended
	Problem    Status = "problem"     // events will not arrive
	NotChecked Status = "not checked" // it could not be seen from here
)

// Names of the checks, in the order in which they are made.
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

// Finding is how one check ended: what was seen and, unless all is well, what to do.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Seen   string `json:"seen"`
	Fix    string `json:"do,omitempty"`
}

// Report is all that was found.
type Report struct {
	Function string    `json:"function,omitempty"` // ARN, where one was asked about
	Region   string    `json:"region,omitempty"`   // of the stream
	Stream   string    `json:"stream,omitempty"`
	Findings []Finding `json:"findings"`

	// Err is why what was asked for could not be judged at all; nil where it could.
	Err error `json:"-"`
}

// Count tells how many findings have the status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, f := range r.Findings {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Options say what to look at.
type Options struct {
	Region    string // empty: as AWS's tools find it
	Function  string // name or ARN; empty: the shell's own settings and credentials
	Qualifier string // version or alias of the function
	Layer     string // part of the name of the layer that holds the extension
}

// callTimeout bounds one request to AWS, and one step of reaching the endpoint.
const callTimeout = 5 * time.Second

// examiner makes the checks.
type examiner struct {
	options   Options
	aws       aws.Config
	environ   []string                // the extension's: the shell's or the function's
	account   string                  // of the credentials; empty where it could not be learnt
	assumed   aws.CredentialsProvider // of ROLE_ARN, in a shell; nil without
	function  *function
	settings  config.Config
	stream    streamTarget
	key       string // that encrypts the stream, as far as its description tells
	skipWrite string // why a dry run would tell nothing new; empty where it would
	report    Report
}

// Examine makes all checks. It fails only when AWS's configuration of this machine cannot be read.
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
		awsconfig.WithLogger(logging.Nop{}), // what its warnings are about a finding says
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
		// The check of the credentials has judged those.
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

func (e *examiner) add(check string, status Status, seen, do string) {
	e.report.Findings = append(e.report.Findings, Finding{check, status, seen, do})
}

func (e *examiner) ok(check, format string, args ...any) {
	e.add(check, OK, fmt.Sprintf(format, args...), "")
}

// skip says that checks could not be made, and why.
func (e *examiner) skip(why string, checks ...string) {
	for _, check := range checks {
		e.add(check, NotChecked, "cannot be seen "+why, "mend what is above, then run this again")
	}
}
