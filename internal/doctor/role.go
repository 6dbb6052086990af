package doctor

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskinesis "github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"kinesis-telemetry-extension/internal/awsapi"
	"kinesis-telemetry-extension/internal/kinesis"
)

// checkRole asks IAM whether the function's role has the permissions that the extension needs.
func (e *examiner) checkRole(ctx context.Context, d *types.StreamDescriptionSummary) {
	stream := e.stream.arn()
	if d != nil {
		stream = aws.ToString(d.StreamARN)
	}
	role := e.function.Role
	if other := e.settings.AWS.RoleARN; other != "" {
		e.checkAllowed(ctx, role, "sts:AssumeRole", other)
		e.add(roleCheck, NotChecked, "the trust policy of "+other+" must name "+role+e.trustCondition(),
			fmt.Sprintf("aws iam get-role --role-name %s --query Role.AssumeRolePolicyDocument", roleName(other)))
		role = other
	}
	e.checkAllowed(ctx, role, "kinesis:PutRecords", stream)
	if e.stream.foreign {
		e.add(roleCheck, NotChecked, "the stream is in account "+e.stream.AccountID+", whose resource policy must allow it, too",
			fmt.Sprintf("in that account: aws kinesis get-resource-policy --region %s --resource-arn %s (it must allow kinesis:PutRecords to %s)",
				e.stream.Region, stream, role))
	}
}

// keyAction is the permission on the stream's key that a writer needs.
const keyAction = "kms:GenerateDataKey"

// checkKey checks whether the function's role may use the key that encrypts the stream.
// The role's own policies can allow it or, within one account, the key's policy.
func (e *examiner) checkKey(ctx context.Context, key string) {
	role := e.function.Role
	v, how, err := e.evaluateRole(ctx, role, keyAction, key)
	seen := "KMS with the customer's key " + key
	switch {
	case err != nil:
		e.add(encryptionCheck, NotChecked, seen+"; the role's policies cannot be read: "+Reason(err),
			"the role needs "+statement(keyAction, key))
		return
	case v == implicitDeny && e.stream.foreign:
		e.add(encryptionCheck, Problem, seen+", of another account; no policy of the role allows its use ("+how+")",
			grant(role, keyAction, key))
		return
	case v == implicitDeny || v == conditional:
		byKey, err := e.evaluateKey(ctx, role, key)
		if err != nil {
			e.add(encryptionCheck, NotChecked, fmt.Sprintf("%s; no policy of the role certainly allows its use (%s), "+
				"and the key's policy cannot be read: %s", seen, how, Reason(err)), grant(role, keyAction, key))
			return
		}
		if byKey != implicitDeny {
			v, how = byKey, "the key's policy"
		}
	}
	switch v {
	case allowed:
		e.ok(encryptionCheck, "%s, which the role may use (%s)", seen, how)
	case explicitDeny:
		e.add(encryptionCheck, Problem, seen+", which is explicitly denied to the role ("+how+")", "remove the statement that denies "+keyAction)
	case conditional:
		e.add(encryptionCheck, NotChecked, seen+", which the role may use under a condition ("+how+")",
			"check whether the condition holds for the function, or "+grant(role, keyAction, key))
	default:
		e.add(encryptionCheck, Problem, seen+"; neither a policy of the role nor the key's own allows its use ("+how+")",
			grant(role, keyAction, key))
	}
}

// evaluateKey reads the key's policy and evaluates it for the role.
func (e *examiner) evaluateKey(ctx context.Context, role, key string) (decision, error) {
	cfg := e.aws.Copy()
	cfg.Region = e.stream.Region
	policy, err := awsapi.KeyPolicy(ctx, cfg, key)
	if err != nil {
		return implicitDeny, err
	}
	return evaluateKeyPolicy(policy, role, keyAction, key), nil
}

// checkAllowed checks one permission of a role.
func (e *examiner) checkAllowed(ctx context.Context, role, action, resource string) {
	v, how, err := e.evaluateRole(ctx, role, action, resource)
	switch {
	case err != nil:
		e.add(roleCheck, NotChecked, fmt.Sprintf("the policies of %s cannot be read: %s", role, Reason(err)),
			fmt.Sprintf("aws iam simulate-principal-policy --policy-source-arn %s --action-names %s --resource-arns %s", role, action, resource))
	case v == allowed:
		e.ok(roleCheck, "%s may %s (%s)", role, action, how)
	case v == explicitDeny:
		e.add(roleCheck, Problem, fmt.Sprintf("%s is explicitly denied to %s (%s)", action, role, how),
			"remove the statement that denies it, from the role's policies, its boundary or the organization's policies")
	case v == conditional:
		e.add(roleCheck, NotChecked, fmt.Sprintf("%s may %s under a condition (%s)", role, action, how),
			fmt.Sprintf("check whether the condition holds for the function, or %s", grant(role, action, resource)))
	case e.namedByStream(ctx, role, resource):
		e.add(roleCheck, Warning, fmt.Sprintf("no policy of %s allows %s (%s); the stream's resource policy names it", role, action, how),
			grant(role, action, resource))
	default:
		e.add(roleCheck, Problem, fmt.Sprintf("no policy of %s allows %s on %s (%s)", role, action, resource, how),
			grant(role, action, resource))
	}
}

// namedByStream reports whether the stream's resource policy names the role. Within one account that is enough.
func (e *examiner) namedByStream(ctx context.Context, role, resource string) bool {
	if !strings.Contains(resource, ":kinesis:") || strings.Contains(resource, "*") {
		return false
	}
	answer, err := e.client().GetResourcePolicy(ctx, &awskinesis.GetResourcePolicyInput{ResourceARN: &resource})
	return err == nil && strings.Contains(aws.ToString(answer.Policy), role)
}

func roleName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// grant returns the command that gives a role a permission.
func grant(role, action, resource string) string {
	return fmt.Sprintf("aws iam put-role-policy --role-name %s --policy-name kinesis-telemetry-%s "+
		`--policy-document '{"Version":"2012-10-17","Statement":[%s]}'`,
		roleName(role), strings.ToLower(action[strings.IndexByte(action, ':')+1:]), statement(action, resource))
}

// evaluateRole asks IAM to simulate the action. If that fails, it evaluates the role's policies here. The string names
// the basis of the decision.
func (e *examiner) evaluateRole(ctx context.Context, role, action, resource string) (decision, string, error) {
	if account := kinesis.RoleAccount(role); account != e.account {
		return implicitDeny, "", fmt.Errorf("it belongs to account %s, these credentials do not", account)
	}
	results, err := awsapi.Simulate(ctx, e.aws, role, action, resource)
	if err == nil && len(results) > 0 {
		v := implicitDeny
		switch result := results[0]; {
		case result.EvalDecision == "allowed":
			v = allowed
		case result.EvalDecision == "explicitDeny":
			v = explicitDeny
		case len(result.MissingContextValues) > 0:
			v = conditional
		}
		return v, "IAM's simulation", nil
	}
	documents, err := awsapi.RolePolicies(ctx, e.aws, roleName(role))
	if err != nil {
		return implicitDeny, "", err
	}
	for i, text := range documents {
		if plain, err := url.PathUnescape(text); err == nil { // IAM returns documents URL-encoded
			documents[i] = plain
		}
	}
	return evaluatePolicies(documents, action, resource), "its policies, without boundaries and the organization's", nil
}
