package awsapi

import (
	"context"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kinesis-telemetry-extension/internal/kinesis"
)

var iam = service{id: "IAM", global: true}

const iamVersion = "2010-05-08"

type globalEndpoint struct {
	signed string // the region that requests are signed for
	hosts  [4]string
}

// globalEndpoints are IAM's endpoints by partition: the plain host, the FIPS host, the dual-stack host, and the host
// that is both.
// https://docs.aws.amazon.com/general/latest/gr/iam-service.html
var globalEndpoints = map[string]globalEndpoint{
	"aws-cn": {"cn-north-1", [4]string{
		"iam.cn-north-1.amazonaws.com.cn", "iam-fips.amazonaws.com.cn",
		"iam.global.api.amazonwebservices.com.cn", "iam-fips.api.amazonwebservices.com.cn",
	}},
	"aws-us-gov": {"us-gov-west-1", [4]string{
		"iam.us-gov.amazonaws.com", "iam.us-gov.amazonaws.com", "iam.us-gov.api.aws", "iam.us-gov.api.aws",
	}},
	"aws-iso": {"us-iso-east-1", [4]string{
		"iam.us-iso-east-1.c2s.ic.gov", "iam-fips.us-iso-east-1.c2s.ic.gov", "iam.api.aws.ic.gov", "iam-fips.api.aws.ic.gov",
	}},
	"aws-iso-b": {"us-isob-east-1", [4]string{
		"iam.us-isob-east-1.sc2s.sgov.gov", "iam-fips.us-isob-east-1.sc2s.sgov.gov", "iam.api.aws.scloud", "iam-fips.api.aws.scloud",
	}},
	"aws-iso-e": {"eu-isoe-west-1", [4]string{
		"iam.eu-isoe-west-1.cloud.adc-e.uk", "iam-fips.cloud.adc-e.uk", "iam.api.cloud-aws.adc-e.uk", "iam-fips.api.cloud-aws.adc-e.uk",
	}},
	"aws-iso-f": {"us-isof-south-1", [4]string{
		"iam.us-isof-south-1.csp.hci.ic.gov", "iam-fips.csp.hci.ic.gov", "iam.api.aws.hci.ic.gov", "iam-fips.api.aws.hci.ic.gov",
	}},
	"aws-eusc": {"eusc-de-east-1", [4]string{
		"iam.eusc-de-east-1.amazonaws.eu", "iam-fips.amazonaws.eu",
		"iam.global.api.amazonwebservices.eu", "iam-fips.api.amazonwebservices.eu",
	}},
	"aws": {"us-east-1", [4]string{
		"iam.amazonaws.com", "iam-fips.amazonaws.com", "iam.global.api.aws", "iam-fips.global.api.aws",
	}},
}

// globalHost returns IAM's host for a region, and the region that requests are signed for.
func globalHost(region string, fips, dualStack bool) (host, signed string) {
	variant := 0
	if fips {
		variant++
	}
	if dualStack {
		variant += 2
	}
	e := globalEndpoints[kinesis.Partition(region)]
	return e.hosts[variant], e.signed
}

// Evaluation is the result of IAM's simulation for one action.
type Evaluation struct {
	EvalDecision         string   // allowed, explicitDeny or implicitDeny
	MissingContextValues []string `xml:"MissingContextValues>member"`
}

// Simulate asks IAM whether the principal may perform the action on the resource.
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

// next sets the parameter for the next page, and reports whether there is one.
func (p page) next(in url.Values) bool {
	in.Set("Marker", p.Marker)
	return p.IsTruncated && p.Marker != ""
}

// RolePolicies returns the documents of all policies of a role, inline policies first. As in IAM's answer, they are
// percent-encoded.
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

// managedPolicy returns the document of a policy's default version.
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
