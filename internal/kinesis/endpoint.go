package kinesis

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Stream is a parsed stream name or ARN. For a name, Partition, Region and AccountID are empty.
type Stream struct {
	Name, Partition, Region, AccountID string
}

const (
	streamExpected = "expected the name of a stream (1 to 128 of A-Z a-z 0-9 _ . -) " +
		"or its ARN (arn:aws:kinesis:eu-west-1:123456789012:stream/name)"
	endpointExpected = "expected a URL such as https://vpce-0123.kinesis.eu-west-1.vpce.amazonaws.com"
)

const schemeHTTP, schemeHTTPS = "http", "https"

// ParseStream parses a stream's name or ARN. The error describes the expected form and does not contain the value.
func ParseStream(value string) (Stream, error) {
	if !strings.HasPrefix(value, "arn:") {
		if !isStreamName(value) {
			return Stream{}, errors.New(streamExpected)
		}
		return Stream{Name: value}, nil
	}
	a, ok := parseARN(value)
	if !ok {
		return Stream{}, errors.New("the ARN is cut short: " + streamExpected)
	}
	kind, name, _ := strings.Cut(a.resource, "/")
	s := Stream{name, a.partition, a.region, a.account}
	switch {
	case a.service != "kinesis":
		return Stream{}, errors.New("the ARN is of another service, not of kinesis: " + streamExpected)
	case kind == "stream" && strings.Contains(name, "/consumer/"):
		return Stream{}, errors.New("the ARN is a consumer's, not a stream's: " + streamExpected)
	case kind != "stream" || !isStreamName(name):
		return Stream{}, errors.New("the ARN does not end in stream/ and a name: " + streamExpected)
	case !isAccount(s.AccountID):
		return Stream{}, errors.New("the ARN's account does not have 12 digits: " + streamExpected)
	case !isHostLabel(s.Region):
		return Stream{}, errors.New("the ARN's region is invalid: " + streamExpected)
	case !isHostLabel(s.Partition):
		return Stream{}, errors.New("the ARN's partition is invalid: " + streamExpected)
	case s.Partition != Partition(s.Region) && isKnownPartition(s.Partition):
		return Stream{}, fmt.Errorf("the ARN's partition is not that of its region, %s", Partition(s.Region))
	}
	return s, nil
}

// arn is a parsed Amazon Resource Name.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
type arn struct {
	partition, service, region, account, resource string
}

// parseARN splits an ARN. It checks none of the parts.
func parseARN(text string) (arn, bool) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return arn{}, false
	}
	return arn{parts[1], parts[2], parts[3], parts[4], parts[5]}, true
}

// ARN returns the stream's ARN, or its name if only the name is known.
func (s Stream) ARN() string {
	if s.AccountID == "" {
		return s.Name
	}
	return "arn:" + s.Partition + ":kinesis:" + s.Region + ":" + s.AccountID + ":stream/" + s.Name
}

// Warning returns what may be wrong with the stream, or "".
func (s Stream) Warning() string {
	if s.Partition == "" || s.Partition == Partition(s.Region) {
		return ""
	}
	return fmt.Sprintf("the stream's ARN is of partition %q, which this version does not know: "+
		"if its endpoints do not end in amazonaws.com, set KINESIS_TELEMETRY_ENDPOINT_URL", s.Partition)
}

// ParseEndpointURL parses the URL of an endpoint that replaces AWS's own. The error does not contain the value.
func ParseEndpointURL(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != schemeHTTP && u.Scheme != schemeHTTPS || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || !isPrintable(value) {
		return nil, errors.New(endpointExpected)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// target is the destination of requests: the endpoint, and the stream as requests name it.
type target struct {
	url    *url.URL
	prefix string // beginning of every request's body, up to and including the [ of Records
	stream Stream // completed from the Config; Region is always set

	foreign     bool // the stream is another account's, as far as is known
	customRoots bool // Config.CABundle replaces the system's certificates
}

// resolve chooses the endpoint. For a name, and for an ARN of the function's own account, that is the plain regional
// host, which the private hosted zones of VPC endpoints contain. The SDK uses the host with an account in it for every
// ARN; resolve uses that host only for another account's stream, which only an ARN can identify.
// https://docs.aws.amazon.com/streams/latest/dev/controlling-access.html
func resolve(cfg *Config) (target, error) {
	s, err := ParseStream(cfg.Stream)
	if err != nil {
		return target{}, fmt.Errorf("stream %q: %w", cfg.Stream, err)
	}
	if s.Region == "" {
		s.Partition, s.Region, s.AccountID = Partition(cfg.Region), cfg.Region, cfg.AccountID
	}
	if !isHostLabel(s.Region) {
		return target{}, fmt.Errorf("region %q: expected one such as eu-west-1 (AWS_REGION), or a stream given as ARN", s.Region)
	}
	t := target{stream: s, foreign: s.AccountID != cfg.AccountID, customRoots: len(cfg.CABundle) > 0}
	account := ""
	t.prefix = `{"StreamName":"` + s.Name + `","Records":[`
	if t.foreign {
		account = s.AccountID
		t.prefix = `{"StreamARN":"` + s.ARN() + `","Records":[`
	}
	if cfg.EndpointURL != "" {
		if t.url, err = ParseEndpointURL(cfg.EndpointURL); err != nil {
			return target{}, fmt.Errorf("endpoint URL: %w", err)
		}
		return t, nil
	}
	t.url = &url.URL{Scheme: schemeHTTPS, Path: "/", Host: hostOf("kinesis", s.Region, account, cfg.UseFIPS, cfg.UseDualStack)}
	return t, nil
}

// Host returns the host of another service's API, with the label of the service or of its FIPS variant.
func Host(label, region string, dualStack bool) string {
	return hostOf(label, region, "", false, dualStack)
}

// hostOf returns the host of a service's API. With an account, it is the account's own host of the data plane if the
// partition has such hosts.
func hostOf(service, region, account string, fips, dualStack bool) string {
	p := partitionOf(region)
	plainFIPS := p.id == "aws-us-gov" && !dualStack // GovCloud's plain hosts are the FIPS ones
	label := service
	if account != "" && p.accountHosts {
		label, plainFIPS = account+".data-"+service, false
	}
	if fips && !plainFIPS {
		label += "-fips"
	}
	suffix := p.suffix
	if dualStack {
		suffix = p.dualStackSuffix
	}
	return label + "." + region + "." + suffix
}

type partition struct {
	prefix          string // beginning of the names of its regions
	id              string
	suffix          string
	dualStackSuffix string
	accountHosts    bool
}

// partitions are searched in order. An unknown region counts as a region of the partition aws, as in the SDK, so that a
// new region needs no new release.
var partitions = [...]partition{
	{"cn-", "aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", true},
	{"us-gov-", "aws-us-gov", "amazonaws.com", "api.aws", true},
	{"us-iso-", "aws-iso", "c2s.ic.gov", "api.aws.ic.gov", false},
	{"us-isob-", "aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud", false},
	{"eu-isoe-", "aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", true},
	{"us-isof-", "aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov", true},
	{"eusc-de-", "aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", true},
	{"", "aws", "amazonaws.com", "api.aws", true},
}

// Partition returns the id of a region's partition, the second part of every ARN in that region.
func Partition(region string) string { return partitionOf(region).id }

func partitionOf(region string) partition {
	return partitions[slices.IndexFunc(partitions[:], func(p partition) bool { return strings.HasPrefix(region, p.prefix) })]
}

func isKnownPartition(id string) bool {
	return slices.ContainsFunc(partitions[:], func(p partition) bool { return p.id == id })
}

const (
	digits       = "0123456789"
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + digits
)

func isStreamName(s string) bool { return consistsOf(s, alphanumeric+"_.-", 1, 128) }

func isHostLabel(s string) bool { return consistsOf(s, alphanumeric+"-", 1, 63) && s[0] != '-' }

func isAccount(s string) bool { return consistsOf(s, digits, 12, 12) }

// consistsOf reports whether text has a length from lo to hi and only the given characters.
func consistsOf(text, characters string, lo, hi int) bool {
	return lo <= len(text) && len(text) <= hi && strings.Trim(text, characters) == ""
}

// isPrintable reports whether text has only printable ASCII characters and no spaces, so that a log line can contain
// it.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
