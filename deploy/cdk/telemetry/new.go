package telemetry

import (
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskinesis"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// The retention times that Kinesis allows.
const (
	minRetention = 24 * time.Hour
	maxRetention = 365 * 24 * time.Hour
)

// Props are the settings of New. The zero value creates an encrypted on-demand stream with a retention of 24 hours.
type Props struct {
	// LayerDir is the folder of the zips that `make layer` writes; "" is ../../build, the right one from deploy/cdk.
	LayerDir string
	// StreamARN is an existing stream to use instead of a new one.
	StreamARN string
	// StreamName is the new stream's name; "" lets CloudFormation derive one from the stack's.
	StreamName string
	// Retention is how long the new stream keeps its records, in whole hours up to 365 days; 0 is 24 hours.
	Retention time.Duration
	// KeyARN is the KMS key that encrypts the stream; "" is the AWS managed key, alias/aws/kinesis.
	KeyARN string
	// RetainStream keeps the new stream and its records when the stack is deleted. AWS then still bills it.
	RetainStream bool
	// Role is a role that the extension assumes to write to the stream; with the zero value it writes with the function's own role.
	Role Role
	// DenyCloudWatchLogs stops functions with the policy from writing to CloudWatch Logs, which saves its price. deploy/README.md lists
	// the features that stop working.
	DenyCloudWatchLogs bool
}

// Role is a role that the extension assumes to write to the stream, for example in the stream's account.
type Role struct {
	ARN string
	// ExternalID and SessionName are the values that the role's trust policy requires; "" if it requires none.
	ExternalID, SessionName string
}

var (
	streamARN  = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]{1,128}$`)
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	keyARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+$`)
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/[!-~]+$`)

	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`) // up to 1224: more than a regexp may count
)

// New creates a stream (or uses an existing one), a version of the layer for each architecture, and the policy.
func New(scope constructs.Construct, id string, props Props) *Telemetry {
	props.check()
	scope = constructs.NewConstruct(scope, jsii.String(id))
	name, arn := props.stream(scope)
	layers := map[string]awslambda.ILayerVersion{
		arm64: newLayer(scope, "LayerArm64", props.LayerDir, awslambda.Architecture_ARM_64()),
		amd64: newLayer(scope, "LayerX8664", props.LayerDir, awslambda.Architecture_X86_64()),
	}
	return &Telemetry{
		Policy:       newPolicy(scope, arn, props),
		Stream:       name,
		Role:         props.Role,
		layer:        func(architecture string) awslambda.ILayerVersion { return layers[architecture] },
		owner:        awscdk.Stack_Of(scope),
		instrumented: map[string]bool{},
	}
}

// check refuses settings that contradict each other, or that CloudFormation would refuse only after minutes.
func (p Props) check() {
	if p.StreamARN != "" && (p.StreamName != "" || p.Retention != 0 || p.RetainStream) {
		fail("the stream %s exists: its name, its retention and whether to retain it cannot be set here; leave them out, "+
			"or leave out the stream's ARN to have a new stream", p.StreamARN)
	}
	if !matches(streamARN, p.StreamARN) {
		fail("%q is not the ARN of a stream: it looks like arn:aws:kinesis:eu-west-1:123456789012:stream/my-stream", p.StreamARN)
	}
	if !matches(streamName, p.StreamName) {
		fail("%q is not a stream's name: it has 1 to 128 letters, digits, underscores, dots and hyphens", p.StreamName)
	}
	if !matches(keyARN, p.KeyARN) {
		fail("%q is not the ARN of a KMS key: it looks like arn:aws:kms:eu-west-1:123456789012:key/1234abcd-…; "+
			"an alias does not work, because IAM policies do not follow it", p.KeyARN)
	}
	p.Role.check()
	if p.Retention != 0 && (p.Retention < minRetention || p.Retention > maxRetention || p.Retention%time.Hour != 0) {
		fail("a retention of %g hours is not possible: it must be whole hours, from 24 to 8760 (365 days)", p.Retention.Hours())
	}
}

func (r Role) check() {
	if r.ARN == "" && r != (Role{}) {
		fail("an external id and a session name need a role: set its ARN, too")
	}
	if !matches(roleARN, r.ARN) {
		fail("%q is not the ARN of a role: it looks like arn:aws:iam::123456789012:role/writer", r.ARN)
	}
	if !matches(externalID, r.ExternalID) || len(r.ExternalID) > 1224 {
		fail("the role's external id is invalid: it must have 2 to 1224 letters, digits and _+=,.@:/-")
	}
	if !matches(sessionName, r.SessionName) {
		fail("%q is not the name of a role's session: it has 2 to 64 letters, digits and _+=,.@-", r.SessionName)
	}
}

// matches reports whether a setting is empty or has the right form. It accepts values that are known only at deployment.
func matches(pattern *regexp.Regexp, value string) bool {
	return value == "" || *awscdk.Token_IsUnresolved(value) || pattern.MatchString(value)
}

// stream returns the value of KINESIS_TELEMETRY_STREAM, and the ARN. For an existing stream both are its ARN, which works in
// every region and account.
func (p Props) stream(scope constructs.Construct) (name, arn *string) {
	if p.StreamARN != "" {
		return &p.StreamARN, &p.StreamARN
	}
	props := &awskinesis.StreamProps{
		StreamMode:      awskinesis.StreamMode_ON_DEMAND,
		RetentionPeriod: awscdk.Duration_Hours(jsii.Number(max(p.Retention, minRetention).Hours())),
		Encryption:      awskinesis.StreamEncryption_MANAGED,
		RemovalPolicy:   awscdk.RemovalPolicy_DESTROY,
	}
	if p.StreamName != "" {
		props.StreamName = &p.StreamName
	}
	if p.RetainStream {
		props.RemovalPolicy = awscdk.RemovalPolicy_RETAIN
	}
	if p.KeyARN != "" {
		props.Encryption = awskinesis.StreamEncryption_KMS
		props.EncryptionKey = awskms.Key_FromKeyArn(scope, jsii.String("Key"), &p.KeyARN)
	}
	stream := awskinesis.NewStream(scope, jsii.String("Stream"), props)
	if p.KeyARN != "" {
		suppress(stream, "AwsSolutions-KDS3", "A key of the customer's costs more than the key of AWS. It was asked for.")
	}
	return stream.StreamName(), stream.StreamArn()
}

// newLayer creates a version of the layer. An update keeps older versions, so that functions with them can
// still be updated and rolled back. The last version is deleted with the stack.
func newLayer(scope constructs.Construct, id, dir string, architecture awslambda.Architecture) awslambda.ILayerVersion {
	if dir == "" {
		dir = filepath.Join("..", "..", "build")
	}
	path := filepath.Join(dir, "kinesis-telemetry-extension-"+*architecture.Name()+".zip")
	if _, err := os.Stat(path); err != nil {
		fail("the layer is missing: %v. Run `make layer` at the root of kinesis-telemetry-extension; "+
			"if the zips are elsewhere, set layerDir (Props.LayerDir) to their directory", err)
	}
	layer := awslambda.NewLayerVersion(scope, jsii.String(id), &awslambda.LayerVersionProps{
		Code:                    awslambda.Code_FromAsset(&path, nil),
		CompatibleArchitectures: &[]awslambda.Architecture{architecture},
		Description:             jsii.String("Ships a function's telemetry to a Kinesis data stream (" + *architecture.Name() + ")"),
		License:                 jsii.String("MIT"),
	})
	resource := layer.Node().DefaultChild().(awslambda.CfnLayerVersion)
	// People and tools recognise the extension by the prefix of its layers' names. The rest is unique in an account. Lambda
	// allows 140 characters, but counts the whole ARN if a layer is named by it. So the name has at most 80.
	prefix := "kinesis-telemetry-extension-" + *architecture.Name() + "-"
	resource.SetLayerName(jsii.String(prefix + *awscdk.Names_UniqueResourceName(scope, &awscdk.UniqueResourceNameOptions{
		MaxLength: jsii.Number(80 - len(prefix)), Separator: jsii.String("-"),
	})))
	resource.CfnOptions().SetUpdateReplacePolicy(awscdk.CfnDeletionPolicy_RETAIN)
	resource.CfnOptions().SetDeletionPolicy(awscdk.CfnDeletionPolicy_DELETE)
	return layer
}

// newPolicy allows PutRecords on one stream, and data keys of a customer managed KMS key: the AWS managed key needs no grant. If
// the extension assumes a role, it allows only that: the other permissions belong to the assumed role.
func newPolicy(scope constructs.Construct, stream *string, props Props) awsiam.ManagedPolicy {
	statements := []awsiam.PolicyStatement{allow("kinesis:PutRecords", stream)}
	if props.Role.ARN != "" {
		statements = []awsiam.PolicyStatement{allow("sts:AssumeRole", &props.Role.ARN)}
	} else if props.KeyARN != "" {
		statements = append(statements, allow("kms:GenerateDataKey", &props.KeyARN))
	}
	if props.DenyCloudWatchLogs {
		statements = append(statements, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Effect:    awsiam.Effect_DENY,
			Actions:   jsii.Strings("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
			Resources: jsii.Strings("*"), // a function's log group may have any name
		}))
	}
	return awsiam.NewManagedPolicy(scope, jsii.String("Policy"), &awsiam.ManagedPolicyProps{
		Description: jsii.String("Lets a function's telemetry extension ship to its Kinesis data stream"),
		Statements:  &statements,
	})
}

func allow(action string, resource *string) awsiam.PolicyStatement {
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   jsii.Strings(action),
		Resources: &[]*string{resource},
	})
}

// suppress gives cdk-nag the reason why one of its rules does not apply to a resource.
func suppress(construct constructs.IConstruct, rule, reason string) {
	construct.Node().DefaultChild().(awscdk.CfnResource).AddMetadata(jsii.String("cdk_nag"), map[string]any{
		"rules_to_suppress": []any{map[string]any{"id": rule, "reason": reason}},
	})
}
