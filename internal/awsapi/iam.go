package awsapi

import (
	"context"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var iam = service{id: "IAM", global: true}

const iamVersion = "2010-05-08"

// Evaluation is what IAM's simulation says of one action.
type Evaluation struct {
	EvalDecision         string   // allowed, explicitDeny, implicitDeny
	MissingContextValues []string `xml:"MissingContextValues>member"`
}

// Simulate asks IAM whether the principal may carry out the action on the resource.
func Simulate(ctx context.Context, cfg aws.Config, principal, action, resource string) ([]Evaluation, error) {
	var out struct {
		Results []Evaluation `xml:"SimulatePrincipalPolicyResult>EvaluationResults>member"`
	}
	err := iam.callQuery(ctx, cfg, "SimulatePrincipalPolicy", url.Values{
		"PolicySourceArn": {principal}, "ActionNames.member.1": {action}, "ResourceArns.member.1": {resource},
	}, &out)
	return out.Results, err
}

// page is the end of a list.
type page struct {
	IsTruncated bool
	Marker      string
}

// next sets what asks for the page behind it, where there is one.
func (p page) next(in url.Values) bool {
	in.Set("Marker", p.Marker)
	return p.IsTruncated && p.Marker != ""
}

// RolePolicies are the documents of all policies of a role, inline ones first, as IAM writes them: percent-encoded.
func RolePolicies(ctx context.Context, cfg aws.Config, role string) ([]string, error) {
	documents, err := inlinePolicies(ctx, cfg, role)
	if err != nil {
		return nil, err
	}
	in := url.Values{"RoleName": {role}}
	for more := true; more; {
		var list struct {
			Result struct {
				page
				ARNs []string `xml:"AttachedPolicies>member>PolicyArn"`
			} `xml:"ListAttachedRolePoliciesResult"`
		}
		if err := iam.callQuery(ctx, cfg, "ListAttachedRolePolicies", in, &list); err != nil {
			return nil, err
		}
		for _, arn := range list.Result.ARNs {
			document, err := managedPolicy(ctx, cfg, arn)
			if err != nil {
				return nil, err
			}
			documents = append(documents, document)
		}
		more = list.Result.next(in)
	}
	return documents, nil
}

func inlinePolicies(ctx context.Context, cfg aws.Config, role string) ([]string, error) {
	var documents []string
	in := url.Values{"RoleName": {role}}
	for more := true; more; {
		var list struct {
			Result struct {
				page
				Names []string `xml:"PolicyNames>member"`
			} `xml:"ListRolePoliciesResult"`
		}
		if err := iam.callQuery(ctx, cfg, "ListRolePolicies", in, &list); err != nil {
			return nil, err
		}
		for _, name := range list.Result.Names {
			var policy struct {
				Document string `xml:"GetRolePolicyResult>PolicyDocument"`
			}
			of := url.Values{"RoleName": {role}, "PolicyName": {name}}
			if err := iam.callQuery(ctx, cfg, "GetRolePolicy", of, &policy); err != nil {
				return nil, err
			}
			documents = append(documents, policy.Document)
		}
		more = list.Result.next(in)
	}
	return documents, nil
}

// managedPolicy is the document of the version that counts.
func managedPolicy(ctx context.Context, cfg aws.Config, arn string) (string, error) {
	var policy struct {
		Version string `xml:"GetPolicyResult>Policy>DefaultVersionId"`
	}
	if err := iam.callQuery(ctx, cfg, "GetPolicy", url.Values{"PolicyArn": {arn}}, &policy); err != nil {
		return "", err
	}
	var version struct {
		Document string `xml:"GetPolicyVersionResult>PolicyVersion>Document"`
	}
	of := url.Values{"PolicyArn": {arn}, "VersionId": {policy.Version}}
	err := iam.callQuery(ctx, cfg, "GetPolicyVersion", of, &version)
	return version.Document, err
}
