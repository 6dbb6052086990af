package doctor

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/awsapi"
)

// dryRunKey is the partition key of the dry run's record, which an endpoint without dry runs stores.
const dryRunKey = "ktel-doctor-dry-run"

// checkWrite asks with a dry run whether the stream would accept a record.
func (e *examiner) checkWrite(ctx context.Context) {
	if e.skipWrite != "" {
		e.skip(e.skipWrite, writeCheck)
		return
	}
	name, arn := e.streamName()
	answer, err := e.client().PutRecords(ctx, &awskinesis.PutRecordsInput{
		StreamName: name, StreamARN: arn, DryRun: aws.Bool(true),
		Records: []types.PutRecordsRequestEntry{{Data: []byte("ktel doctor: dry run\n"), PartitionKey: aws.String(dryRunKey)}},
	})
	if err == nil {
		e.add(writeCheck, Warning, fmt.Sprintf("this endpoint does not support dry runs: it stored %d record with the partition key %s",
			1-aws.ToInt32(answer.FailedRecordCount), dryRunKey), "let consumers skip that record; AWS itself stores none")
		return
	}
	if e.function != nil {
		e.reportFunctionWrite(err)
		return
	}
	e.reportWrite(err)
}

// reportFunctionWrite reports a dry run with the shell's credentials, which checks the stream and its key but not the
// function's role.
func (e *examiner) reportFunctionWrite(err error) {
	switch code := awsapi.ErrorCode(err); {
	case code == "DryRunOperationException":
		e.ok(writeCheck, "the stream accepts records from these credentials; the check of the role covers the function")
	case denied(err) || code == "KMSAccessDeniedException":
		e.add(writeCheck, NotChecked, "these credentials may not write: "+Reason(err), "nothing, if the role below may write")
	default:
		e.reportWrite(err)
	}
}

// reportWrite maps the error of a dry run to a finding.
func (e *examiner) reportWrite(err error) {
	problem := func(seen, fix string) { e.add(writeCheck, Problem, seen+": "+Reason(err), fix) }
	key := orElse(e.keyARN(e.key), "ARN-OF-THE-KEY")
	onKey := func(command string) string {
		return fmt.Sprintf("aws kms %s --region %s --key-id %s", command, e.stream.Region, key)
	}
	another := fmt.Sprintf("aws kinesis start-stream-encryption --region %s --stream-arn %s --encryption-type KMS --key-id ANOTHER-KEY",
		e.stream.Region, e.stream.arn())
	switch code := awsapi.ErrorCode(err); {
	case code == "DryRunOperationException":
		e.ok(writeCheck, "a PutRecords dry run passed")
	case code == "ResourceNotFoundException":
		problem(e.noSuchStream(), e.create())
	case denied(err):
		fix := "give the writer " + statement("kinesis:PutRecords", e.stream.arn())
		if e.stream.foreign {
			fix += "; and let the stream's resource policy allow it the same (aws kinesis put-resource-policy)"
		}
		problem("writing is not allowed", fix)
	case badCredentials(err):
		problem("the credentials are not accepted", "renew them, or correct the clock of this machine")
	case code == "KMSAccessDeniedException":
		problem("the key that encrypts the stream is denied", "give the writer "+statement("kms:GenerateDataKey", key)+
			", and let the key's policy allow it")
	case code == "KMSDisabledException":
		problem("the key that encrypts the stream is disabled", onKey("enable-key"))
	case code == "KMSInvalidStateException":
		problem("the key that encrypts the stream is not usable",
			onKey("describe-key")+"; if it is pending deletion: "+onKey("cancel-key-deletion")+", then enable-key")
	case code == "KMSNotFoundException":
		problem("the key that encrypts the stream does not exist", another)
	case code == "KMSOptInRequired":
		problem("the account has no access to KMS", "subscribe the account to KMS, or "+another)
	case code == "KMSThrottlingException":
		e.add(writeCheck, Warning, "KMS is throttling: "+Reason(err),
			"raise the account's quota of GenerateDataKey requests, or use AWS's managed key")
	case code == "ProvisionedThroughputExceededException" || code == "LimitExceededException":
		e.add(writeCheck, Warning, "the stream is throttling: "+Reason(err), "add shards or use on-demand capacity")
	case code != "":
		problem("PutRecords failed", "is "+e.stream.url.Host+" an endpoint of Kinesis?")
	default:
		e.reportNoAnswer(err)
	}
}

// reportNoAnswer reports a dry run that got no answer from Kinesis.
func (e *examiner) reportNoAnswer(err error) {
	e.add(writeCheck, NotChecked, "PutRecords got no answer: "+Reason(err), "run doctor again where the endpoint can be reached")
	if e.function == nil {
		e.report.Err = fmt.Errorf("cannot check whether the stream accepts records: %s", Reason(err))
	}
}
