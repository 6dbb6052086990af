package config

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/internal/lambdaapi"
	"kinesis-telemetry-extension/record"
)

// reader reads variables and collects mistakes. A variable that is set to nothing counts as not set, save where an
// empty value has a meaning of its own.
type reader struct {
	variables map[string]string
	known     map[string]bool // the own variables that were asked for
	mistakes  []Mistake
}

func newReader(environ []string) *reader {
	r := &reader{variables: make(map[string]string, len(environ)), known: map[string]bool{}}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		r.variables[name] = value
	}
	return r
}

func (r *reader) get(name string) string { return r.getOr(name, "") }

// getOr returns the default only where the variable is not set at all.
func (r *reader) getOr(name, otherwise string) string {
	r.known[name] = true
	value, set := r.variables[name]
	if !set {
		return otherwise
	}
	return strings.TrimSpace(value)
}

func (r *reader) mistake(name, value, expected string, args ...any) {
	r.mistakes = append(r.mistakes, Mistake{name, value, fmt.Sprintf(expected, args...)})
}

// choice reads one of a few words, the first of which is the default.
func choice[T ~string](r *reader, name string, words ...T) T {
	value := r.get(name)
	if value == "" {
		return words[0]
	}
	for _, word := range words {
		if strings.EqualFold(value, string(word)) {
			return word
		}
	}
	r.mistake(name, value, "expected one of %s", oneOf(words))
	return words[0]
}

func oneOf[T ~string](words []T) string {
	parts := make([]string, len(words))
	for i, word := range words {
		parts[i] = string(word)
	}
	return strings.Join(parts, ", ")
}

func (r *reader) boolean(name string, otherwise bool) bool {
	value := r.get(name)
	if value == "" {
		return otherwise
	}
	b, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		r.mistake(name, value, "expected true or false")
		return otherwise
	}
	return b
}

func (r *reader) integer(name string, otherwise, least, most int) int {
	value := r.get(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		r.mistake(name, value, "expected a whole number of bytes from %d to %d", least, most)
		return otherwise
	}
	return n
}

func (r *reader) duration(name string, otherwise, least, most time.Duration) time.Duration {
	value := r.get(name)
	if value == "" {
		return otherwise
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		r.mistake(name, value, "expected a duration with its unit from %s to %s, such as 500ms or 10s", least, most)
		return otherwise
	}
	return d
}

func (r *reader) level(name string) slog.Level {
	value := r.get(name)
	level := slog.LevelWarn
	if value != "" && level.UnmarshalText([]byte(value)) != nil {
		r.mistake(name, value, "expected one of debug, info, warn, error")
		return slog.LevelWarn
	}
	return level
}

func (r *reader) events(name string) []lambdaapi.TelemetryType {
	value := r.get(name)
	if value == "" {
		return []lambdaapi.TelemetryType{lambdaapi.Platform, lambdaapi.Function}
	}
	all := []lambdaapi.TelemetryType{lambdaapi.Platform, lambdaapi.Function, lambdaapi.Extension}
	var events []lambdaapi.TelemetryType
	for word := range strings.SplitSeq(value, ",") {
		kind := lambdaapi.TelemetryType(strings.ToLower(strings.TrimSpace(word)))
		if !slices.Contains(all, kind) {
			r.mistake(name, value, "expected a comma-separated list of %s", oneOf(all))
			return all[:2]
		}
		if !slices.Contains(events, kind) {
			events = append(events, kind)
		}
	}
	return events
}

const (
	maxTags      = 50
	maxTagLength = 256 // characters of a key or a value, as AWS bounds its own tags
)

func (r *reader) tags(name string) map[string]string {
	value := r.get(name)
	if value == "" {
		return nil
	}
	tags := map[string]string{}
	for pair := range strings.SplitSeq(value, ",") {
		key, content, found := strings.Cut(pair, "=")
		key, content = strings.TrimSpace(key), strings.TrimSpace(content)
		_, twice := tags[key]
		if !found || key == "" || twice || len(key) > maxTagLength || len(content) > maxTagLength || len(tags) == maxTags {
			r.mistake(name, value, "expected key=value,key=value: at most %d different keys, keys and values of at most %d characters",
				maxTags, maxTagLength)
			return nil
		}
		tags[key] = content
	}
	return tags
}

func (r *reader) format() record.Format {
	name := Prefix + "FORMAT"
	switch value := r.get(name); strings.ToLower(value) {
	case "kpl", "cloudwatch":
		r.mistake(name, value, "this version does not write that format yet; expected one of %s, %s", record.NDJSON, record.JSON)
		return record.NDJSON
	default:
		return choice(r, name, record.NDJSON, record.JSON)
	}
}

func (r *reader) compression() {
	name := Prefix + "COMPRESSION"
	switch value := r.get(name); strings.ToLower(value) {
	case "", "none":
	case "gzip", "zstd":
		r.mistake(name, value, "this version does not compress yet; expected none")
	default:
		r.mistake(name, value, "expected none")
	}
}

// aws reads AWS's own variables beside the extension's. The function's settings are the extension's, too: both live in
// one environment.
func (r *reader) aws() AWS {
	a := AWS{
		Stream:    r.get(Prefix + "STREAM"),
		Region:    r.first("AWS_REGION", "AWS_DEFAULT_REGION"),
		RoleARN:   r.get(Prefix + "ROLE_ARN"),
		FIPS:      r.boolean("AWS_USE_FIPS_ENDPOINT", false),
		DualStack: r.boolean("AWS_USE_DUALSTACK_ENDPOINT", false),
		CABundle:  r.get("AWS_CA_BUNDLE"),

		Credentials: kinesis.CredentialsConfig{
			AccessKeyID:          r.get("AWS_ACCESS_KEY_ID"),
			SecretAccessKey:      r.get("AWS_SECRET_ACCESS_KEY"),
			SessionToken:         r.get("AWS_SESSION_TOKEN"),
			ContainerURI:         r.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
			ContainerRelativeURI: r.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
			ContainerToken:       r.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
			ContainerTokenFile:   r.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
		},
	}
	if a.Stream == "" {
		a.Stream = "telemetry-kinesis-stream"
	}
	if _, err := kinesis.ParseStream(a.Stream); err != nil {
		r.mistake(Prefix+"STREAM", a.Stream, "%v", err)
	}
	if a.Region == "" && !strings.HasPrefix(a.Stream, "arn:") {
		r.mistake("AWS_REGION", "", "Lambda sets it; without it the stream must be given as an ARN")
	}
	if a.RoleARN != "" {
		if err := kinesis.ValidateRole(a.RoleARN); err != nil {
			r.mistake(Prefix+"ROLE_ARN", a.RoleARN, "%v", err)
		}
	}
	a.EndpointURL = r.endpoint(Prefix+"ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS")
	a.STSEndpointURL = r.endpoint("", "AWS_ENDPOINT_URL_STS")
	if keys := a.Credentials; keys.AccessKeyID == "" && keys.ContainerURI == "" && keys.ContainerRelativeURI == "" {
		r.mistake("AWS_ACCESS_KEY_ID", "", "Lambda gives the function's credentials by it, or by AWS_CONTAINER_CREDENTIALS_FULL_URI")
	}
	return a
}

// endpoint reads a service's endpoint from the most to the least specific variable; own may be empty.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func (r *reader) endpoint(own, service string) string {
	names := []string{own}
	if ignored, _ := strconv.ParseBool(r.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")); !ignored {
		names = append(names, service, "AWS_ENDPOINT_URL")
	}
	for _, name := range names {
		value := r.get(name)
		if value == "" {
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			r.mistake(name, value, "expected a URL such as https://vpce-0123.kinesis.eu-west-1.vpce.amazonaws.com")
		}
		return value
	}
	return ""
}

func (r *reader) first(names ...string) string {
	for _, name := range names {
		if value := r.get(name); value != "" {
			return value
		}
	}
	return ""
}

// unknown finds own variables that no setting has: a slip in a name shall not be taken for the default in silence.
func (r *reader) unknown() []Mistake {
	var settings []string
	for _, name := range slices.Sorted(maps.Keys(r.known)) {
		if setting, own := strings.CutPrefix(name, Prefix); own {
			settings = append(settings, setting)
		}
	}
	var unknown []Mistake
	for _, name := range slices.Sorted(maps.Keys(r.variables)) {
		if strings.HasPrefix(name, Prefix) && !r.known[name] {
			unknown = append(unknown, Mistake{
				name, r.variables[name],
				"there is no such setting; behind " + Prefix + " stands one of " + strings.Join(settings, ", "),
			})
		}
	}
	return unknown
}
