package kinesis

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Stream is a parsed stream name or ARN. Partition, Region and AccountID are empty where only a name was given.
type Stream struct {
	Name, Partition, Region, AccountID string
}

const (
	streamExpected   = "expected the name of a stream (1 to 128 of A-Z a-z 0-9 _ . -) or its ARN (arn:aws:kinesis:eu-west-1:123456789012:stream/name)"
	endpointExpected = "expected a URL such as https://vpce-0123.kinesis.eu-west-1.vpce.amazonaws.com"
)

// ParseStream reads a stream's name or ARN. The error says what is expected; it does not repeat the value.
func ParseStream(value string) (Stream, error) {
	if !strings.HasPrefix(value, "arn:") {
		if !isStreamName(value) {
			return Stream{}, errors.New(streamExpected)
		}
		return Stream{Name: value}, nil
	}
	a, err := arn.Parse(value)
	if err != nil {
		return Stream{}, errors.New("the ARN is cut short: " + streamExpected)
	}
	kind, name, _ := strings.Cut(a.Resource, "/")
	s := Stream{name, a.Partition, a.Region, a.AccountID}
	switch {
	case a.Service != "kinesis":
		return Stream{}, errors.New("the ARN is of another service, not of kinesis: " + streamExpected)
	case kind == "stream" && strings.Contains(name, "/consumer/"):
		return Stream{}, errors.New("the ARN is a consumer's, not a stream's: " + streamExpected)
	case kind != "stream" || !isStreamName(name):
		return Stream{}, errors.New("the ARN does not end in stream/ and a name: " + streamExpected)
	case !isAccount(s.AccountID):
		return Stream{}, errors.New("the ARN's account is not of 12 digits: " + streamExpected)
	case !isHostLabel(s.Region):
		return Stream{}, errors.New("the ARN's region is not one: " + streamExpected)
	case !isHostLabel(s.Partition):
		return Stream{}, errors.New("the ARN's partition is not one: " + streamExpected)
	case s.Partition != partitionOf(s.Region).id && slices.ContainsFunc(partitions[:], func(p partition) bool { return p.id == s.Partition }):
		return Stream{}, fmt.Errorf("the ARN's partition is not that of its region, %s", partitionOf(s.Region).id)
	}
	return s, nil
}

// ARN gives the stream's ARN, or where only the name is known the name.
func (s Stream) ARN() string {
	if s.AccountID == "" {
		return s.Name
	}
	return "arn:" + s.Partition + ":kinesis:" + s.Region + ":" + s.AccountID + ":stream/" + s.Name
}

// Warning says what may be wrong about the stream; it is empty where nothing is.
func (s Stream) Warning() string {
	if s.Partition == "" || s.Partition == partitionOf(s.Region).id {
		return ""
	}
	return fmt.Sprintf("the stream's ARN is of partition %q, which this version does not know: "+
		"if its endpoints do not end in amazonaws.com, set KINESIS_TELEMETRY_ENDPOINT_URL", s.Partition)
}

// ParseEndpointURL reads the URL of an endpoint that is used instead of AWS's own. The error does not repeat the value.
func ParseEndpointURL(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		!isPrintable(value) {
		return nil, errors.New(endpointExpected)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// target is where requests go and how they name the stream.
type target struct {
	url    *url.URL
	prefix string // of every request's body, up to and with the [ of Records
	stream Stream // with everything that is known of it, the region always

	foreign     bool // it is another account's stream, as far as is known
	customRoots bool // the certificates are not the system's
}

// resolve picks the endpoint. A name, and an ARN of the function's own account, goes to the plain regional host, which
// private hosted zones of VPC endpoints know; the host with an account in it, which the SDK takes for every ARN, is used
// only where it must be: another account's stream can be named by ARN alone.
// https://docs.aws.amazon.com/streams/latest/dev/controlling-access.html
func resolve(cfg *Config) (target, error) {
	s, err := ParseStream(cfg.Stream)
	if err != nil {
		return target{}, fmt.Errorf("stream %q: %w", cfg.Stream, err)
	}
	if s.Region == "" {
		s.Partition, s.Region, s.AccountID = partitionOf(cfg.Region).id, cfg.Region, cfg.AccountID
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
	t.url = &url.URL{Scheme: "https", Path: "/", Host: hostOf("kinesis", s.Region, account, cfg.UseFIPS, cfg.UseDualStack)}
	return t, nil
}

// Host gives the host of another service's API, with the label of the service or of its FIPS variant.
func Host(label, region string, dualStack bool) string {
	return hostOf(label, region, "", false, dualStack)
}

// hostOf gives the host of a service's API. With an account it is the account's own host of the data plane, where the
// partition has such.
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
	prefix          string // of the names of its regions
	id              string
	suffix          string
	dualStackSuffix string
	accountHosts    bool
}

// partitions are looked through in order. A region that nobody knows is taken for one of the aws partition, as the SDK does,
// so that a new region needs no new release.
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

const (
	digits       = "0123456789"
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + digits
)

func isStreamName(s string) bool { return consistsOf(s, alphanumeric+"_.-", 1, 128) }

func isHostLabel(s string) bool { return consistsOf(s, alphanumeric+"-", 1, 63) && s[0] != '-' }

func isAccount(s string) bool { return consistsOf(s, digits, 12, 12) }

// isOf tells whether text has a length from least to most and is made of those characters.
func consistsOf(text, characters string, least, most int) bool {
	return least <= len(text) && len(text) <= most && strings.Trim(text, characters) == ""
}

// isPlain tells whether text is of printable ASCII characters, without spaces: it may stand in a log line.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
