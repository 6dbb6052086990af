package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/dispatcher"
	"kinesis-telemetry-extension/record"
)

// client returns a client of the stream as the extension in this shell would use it. For a function it uses the shell's
// credentials and endpoint: the function's role cannot be assumed, and its endpoint may only resolve in its VPC.
func (e *examiner) client() *awskinesis.Client {
	cfg := e.aws.Copy()
	cfg.Region = e.stream.Region
	if e.function != nil {
		return awskinesis.NewFromConfig(cfg)
	}
	if e.assumed != nil {
		cfg.Credentials = e.assumed
	}
	return awskinesis.NewFromConfig(cfg, func(o *awskinesis.Options) {
		if u := e.settings.AWS.EndpointURL; u != "" {
			o.BaseEndpoint = &u
		}
	})
}

// assume assumes the role of the settings, as the extension in this shell would. It returns false if that fails.
func (e *examiner) assume(ctx context.Context) bool {
	role := e.settings.AWS.RoleARN
	if role == "" || e.function != nil {
		return true
	}
	settings := &e.settings.AWS
	e.assumed = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(e.aws), role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = settings.RoleSessionName
		if settings.RoleExternalID != "" {
			o.ExternalID = &settings.RoleExternalID
		}
	}))
	if _, err := e.assumed.Retrieve(ctx); err != nil {
		e.add(roleCheck, Problem, role+" cannot be assumed: "+Reason(err),
			"let the role's trust policy name these credentials"+e.trustCondition()+", and give them "+statement("sts:AssumeRole", role))
		return false
	}
	e.ok(roleCheck, "%s is assumed", role)
	return true
}

// trustCondition describes the external id that a role's trust policy may require. It does not show the id, which may
// be secret.
func (e *examiner) trustCondition() string {
	if e.settings.AWS.RoleExternalID == "" {
		return " without an sts:ExternalId (or set " + config.Prefix + "ROLE_EXTERNAL_ID to the one that it requires)"
	}
	return " under the sts:ExternalId of " + config.Prefix + "ROLE_EXTERNAL_ID, if it requires one"
}

// streamName names the stream in a request: by its ARN if the credentials belong to another account.
func (e *examiner) streamName() (name, arn *string) {
	account := e.account
	if e.function == nil {
		account = e.writer()
	}
	if e.stream.AccountID != "" && e.stream.AccountID != account {
		return nil, aws.String(e.stream.ARN())
	}
	return &e.stream.Name, nil
}

// describe checks whether the stream exists, and its state. It returns nil if it got no description.
func (e *examiner) describe(ctx context.Context, reached bool) *types.StreamDescriptionSummary {
	if !reached && e.function == nil {
		e.skipWrite = "without a route to the endpoint"
		e.skip(e.skipWrite, streamCheck)
		return nil
	}
	name, arn := e.streamName()
	answer, err := e.client().DescribeStreamSummary(ctx, &awskinesis.DescribeStreamSummaryInput{StreamName: name, StreamARN: arn})
	switch {
	case err == nil && answer.StreamDescriptionSummary != nil:
		e.checkStatus(answer.StreamDescriptionSummary)
		return answer.StreamDescriptionSummary
	case awsapi.ErrorCode(err) == "ResourceNotFoundException":
		e.add(streamCheck, Problem, e.noSuchStream(), e.create())
		e.skipWrite = "without the stream"
	case denied(err):
		e.add(streamCheck, NotChecked, "these credentials may not describe the stream; the extension does not need to",
			statement("kinesis:DescribeStreamSummary", e.stream.arn()))
	case badCredentials(err):
		e.add(streamCheck, Problem, "the credentials are not accepted: "+Reason(err), "renew them, or correct the clock of this machine")
		e.skipWrite = "with these credentials"
	case err != nil:
		e.add(streamCheck, NotChecked, "the stream cannot be described: "+Reason(err), "run doctor again where the endpoint can be reached")
	}
	return nil
}

func (e *examiner) noSuchStream() string {
	return fmt.Sprintf("there is no stream %s in %s", e.stream.Name, e.stream.Region)
}

func (e *examiner) create() string {
	return fmt.Sprintf("aws kinesis create-stream --region %s --stream-name %s --stream-mode-details StreamMode=ON_DEMAND; "+
		"or correct %sSTREAM", e.stream.Region, e.stream.Name, config.Prefix)
}

func (e *examiner) checkStatus(d *types.StreamDescriptionSummary) {
	seen := fmt.Sprintf("%s is %s", aws.ToString(d.StreamARN), d.StreamStatus)
	switch d.StreamStatus {
	case types.StreamStatusActive, types.StreamStatusUpdating: // both accept records
		e.ok(streamCheck, "%s", seen)
	case types.StreamStatusCreating:
		e.add(streamCheck, Warning, seen,
			fmt.Sprintf("aws kinesis wait stream-exists --region %s --stream-name %s", e.stream.Region, e.stream.Name))
	default:
		e.add(streamCheck, Problem, seen, e.create())
	}
}

func (e *examiner) checkCapacity(d *types.StreamDescriptionSummary) {
	shards := int(aws.ToInt32(d.OpenShardCount))
	mode := fmt.Sprintf("provisioned: %d shards take %d MiB or %d records a second", shards, shards, 1000*shards)
	if shards == 1 {
		mode = "provisioned: 1 shard takes 1 MiB or 1000 records a second"
	}
	if d.StreamModeDetails != nil && d.StreamModeDetails.StreamMode == types.StreamModeOnDemand {
		mode = "on-demand"
	}
	if shards > 1 && e.settings.PartitionKey == dispatcher.ByFunction {
		e.add(capacityCheck, Warning, mode+"; but all of a function's events go to one shard",
			"remove "+config.Prefix+"PARTITION_KEY=function")
		return
	}
	e.ok(capacityCheck, "%s", mode)
}

func (e *examiner) checkRecordSize(d *types.StreamDescriptionSummary) {
	largest := e.settings.MaxRecordBytes
	name := config.Prefix + "MAX_RECORD_BYTES"
	if d.MaxRecordSizeInKiB == nil {
		e.add(recordSizeCheck, NotChecked, "the endpoint does not report the stream's record limit",
			fmt.Sprintf("make sure that it is at least %d KiB (%s)", kib(largest), name))
		return
	}
	limit := int(*d.MaxRecordSizeInKiB)
	if largest > limit<<10 {
		e.add(recordSizeCheck, Problem, fmt.Sprintf("the stream takes records of %d KiB, %s is %d", limit, name, largest),
			fmt.Sprintf("set %s to %d, or aws kinesis update-max-record-size --region %s --stream-arn %s --max-record-size-in-ki-b %d",
				name, limit<<10, e.stream.Region, aws.ToString(d.StreamARN), kib(largest)))
		return
	}
	e.ok(recordSizeCheck, "records of up to %d bytes, the stream takes %d KiB", largest, limit)
}

// checkFormat finds a stream on which the KCL drops aggregated records.
func (e *examiner) checkFormat(d *types.StreamDescriptionSummary) {
	if e.settings.Format != record.KPL || d.RecordDistributionStrategy != types.RecordDistributionStrategyAuto {
		return
	}
	e.add(formatCheck, Problem,
		"the stream distributes records itself (AUTO), and the KCL drops records of the format kpl there, without an error",
		fmt.Sprintf("remove %sFORMAT=kpl, or aws kinesis update-stream-record-distribution-strategy "+
			"--region %s --stream-arn %s --record-distribution-strategy %s",
			config.Prefix, e.stream.Region, aws.ToString(d.StreamARN), types.RecordDistributionStrategyUserPartitionKey))
}

func kib(bytes int) int { return (bytes + 1<<10 - 1) >> 10 }

// awsKey is the key of Kinesis that AWS manages in each account. It needs no permission, and no other account can use it.
const awsKey = "alias/aws/kinesis"

func (e *examiner) checkEncryption(ctx context.Context, d *types.StreamDescriptionSummary) {
	key := aws.ToString(d.KeyId)
	e.key = key
	switch {
	case d.EncryptionType != types.EncryptionTypeKms:
		e.ok(encryptionCheck, "none")
	case strings.HasSuffix(key, awsKey) && e.stream.foreign:
		e.add(encryptionCheck, Problem, "KMS with the managed key of account "+e.stream.AccountID+", which no other account can use",
			fmt.Sprintf("aws kinesis start-stream-encryption --region %s --stream-arn %s --encryption-type KMS "+
				"--key-id KEY-THAT-ALLOWS-THE-ACCOUNT", e.stream.Region, aws.ToString(d.StreamARN)))
	case strings.HasSuffix(key, awsKey):
		e.ok(encryptionCheck, "KMS with AWS's managed key, which needs no permission")
	case e.function != nil && e.settings.AWS.RoleARN == "" && e.keyARN(key) != "":
		e.checkKey(ctx, e.keyARN(key))
	default:
		e.add(encryptionCheck, NotChecked, "KMS with the customer's key "+key+", which a dry run does not check",
			"the writer needs "+statement("kms:GenerateDataKey", orElse(e.keyARN(key), "ARN-OF-THE-KEY")))
	}
}

// keyARN returns the ARN of a KeyId, or "" if it is empty or an alias, which does not name the key.
func (e *examiner) keyARN(key string) string {
	switch {
	case key == "" || strings.Contains(key, "alias/"):
		return ""
	case strings.HasPrefix(key, "arn:"):
		return key
	}
	s := e.stream
	return "arn:" + s.Partition + ":kms:" + s.Region + ":" + s.AccountID + ":key/" + key
}

func orElse(text, placeholder string) string {
	if text == "" {
		return placeholder
	}
	return text
}

// statement returns the statement of a policy that allows the action.
func statement(action, resource string) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":"%s","Resource":"%s"}`, action, resource)
}
