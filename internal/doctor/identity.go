package doctor

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

var (
	regionPattern = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	zonePattern   = regexp.MustCompile(`^([a-z]{2,}(-[a-z]+)+-[0-9]+)[a-z]$`)
)

// checkRegion checks the form of the region only. checkEndpoint finds out whether it exists.
func (e *examiner) checkRegion() bool {
	region := e.aws.Region
	e.report.Region = region
	const set = "set AWS_REGION, or give --region"
	switch {
	case region == "":
		e.add(regionCheck, Problem, "no region is set", set)
	case zonePattern.MatchString(region):
		e.add(regionCheck, Problem, region+" is an availability zone", set+": "+zonePattern.FindStringSubmatch(region)[1])
	case !regionPattern.MatchString(region):
		e.add(regionCheck, Problem, fmt.Sprintf("%q is not a region", region), set+" to one such as eu-west-1")
	default:
		e.ok(regionCheck, "%s", region)
		return true
	}
	return false
}

// Identify runs the check of the credentials alone. The account is empty if STS did not report it.
func Identify(ctx context.Context, cfg aws.Config) (account string, found Finding) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	e := &examiner{aws: cfg}
	e.checkCredentials(ctx)
	return e.account, e.report.Findings[0]
}

// checkCredentials asks STS whose credentials these are. It returns false if they cannot be used.
func (e *examiner) checkCredentials(ctx context.Context) bool {
	const set = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in: aws sso login"
	bound, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := errors.New("none are configured")
	var keys aws.Credentials
	if e.aws.Credentials != nil {
		keys, err = e.aws.Credentials.Retrieve(bound)
	}
	if err != nil {
		why := Reason(err)
		if strings.Contains(why, "no EC2 IMDS role found") { // the SDK names only the last source that it tried
			why = "none are configured, and no role of an EC2 instance is found"
		}
		e.add(credentialsCheck, Problem, "there are no credentials: "+why, set)
		return false
	}
	who, err := sts.NewFromConfig(e.aws).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	switch {
	case err == nil:
		e.account = aws.ToString(who.Account)
		e.ok(credentialsCheck, "%s (%s)", aws.ToString(who.Arn), keys.Source)
		return true
	case badCredentials(err):
		e.add(credentialsCheck, Problem, fmt.Sprintf("AWS does not accept the credentials (%s): %s", keys.Source, Reason(err)), set)
		return false
	}
	e.add(credentialsCheck, NotChecked, fmt.Sprintf("found (%s), but STS did not identify them: %s", keys.Source, Reason(err)),
		"let this machine reach STS, or name its endpoint in AWS_ENDPOINT_URL_STS")
	return true
}
