package config

import (
	"strings"
	"testing"
	"unicode"
)

// No message contains a value that may be a secret, whatever the variable, or a control character.
func TestMessagesHideValues(t *testing.T) {
	const long, short = "hunter2-hunter2-hunter2", "hunter2"
	cfg, _ := with([]string{Prefix + "X=x"})
	_, list, _ := strings.Cut(cfg.Warnings[0].Expected, "one of ")
	names := []string{
		"AWS_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL_STS", "HTTPS_PROXY",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
		Prefix + "UNKNOWN",
	}
	for setting := range strings.SplitSeq(list, ", ") {
		names = append(names, Prefix+setting)
	}
	if len(names) < 30 {
		t.Fatalf("%d names: %q", len(names), names)
	}
	for _, name := range names {
		for _, value := range []string{
			long, "\x1b]0;" + short, short + "\u202e\n" + short, short + "\x7f",
			"https://u:" + long + "@h:p/", "http://u:%" + long + "@h", "#" + long,
			"arn:" + short + ":kinesis:eu-west-1:123456789012:stream/x", "arn:aws:" + short + ":eu-west-1:123456789012:stream/x",
			"arn:aws:kinesis:" + long + ":123456789012:stream/x", "arn:aws:kinesis:eu-west-1:" + short + ":stream/x",
			"arn:aws:kinesis:eu-west-1:123456789012:stream/x/consumer/" + short, "arn:aws:iam::" + short + ":role/x",
		} {
			role := Prefix + "ROLE_ARN=arn:aws:iam::123456789012:role/x" // so that its other settings are read
			container := "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1/"
			cfg, mistakes := with([]string{role, "AWS_ACCESS_KEY_ID=", container, name + "=" + value})
			said := Join(append(mistakes, cfg.Warnings...))
			if strings.Contains(said, short) || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s=%q: %q", name, value, said)
			}
		}
	}
}

// Only short values of printable ASCII characters are shown.
func TestDescribeValue(t *testing.T) {
	for value, want := range map[string]string{
		"": `is ""`, "10": `is "10"`, "a b": `is "a b"`, `!"~`: `is "!\"~"`, "1234567890123456": `is "1234567890123456"`,
		"12345678901234567": "cannot be used", "\x1f": "cannot be used", "\x7f": "cannot be used", "é": "cannot be used",
		"\u202e": "cannot be used",
	} {
		if got := DescribeValue(value); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
