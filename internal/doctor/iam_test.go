package doctor

import (
	"strings"
	"testing"
	"time"
)

// A statement that allows the action counts, unless another one denies it. A condition leaves the decision open.
func TestEvaluatePolicies(t *testing.T) {
	const (
		action = "kinesis:PutRecords"
		stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
	)
	allow := func(action, resource string) string {
		return `{"Statement":{"Effect":"Allow","Action":` + action + `,"Resource":` + resource + `}}`
	}
	for name, test := range map[string]struct {
		want      decision
		documents []string
	}{
		"exactly": {
			want:      allowed,
			documents: []string{allow(`"kinesis:PutRecords"`, `"`+stream+`"`)},
		},
		"lists": {
			want:      allowed,
			documents: []string{allow(`["kinesis:GetRecords","kinesis:PutRecords"]`, `["`+stream+`"]`)},
		},
		"wildcards": {
			want:      allowed,
			documents: []string{allow(`"KINESIS:put*"`, `"arn:aws:kinesis:*:*:stream/o?ders"`)},
		},
		"everything": {
			want:      allowed,
			documents: []string{allow(`"*"`, `"*"`)},
		},
		"in the second document": {
			want:      allowed,
			documents: []string{allow(`"s3:*"`, `"*"`), allow(`"kinesis:Put*"`, `"*"`)},
		},
		"no documents": {
			want: implicitDeny,
		},
		"PutRecord alone": {
			want:      implicitDeny,
			documents: []string{allow(`"kinesis:PutRecord"`, `"*"`)},
		},
		"another stream": {
			want:      implicitDeny,
			documents: []string{allow(`"kinesis:*"`, `"`+stream+`2"`)},
		},
		"case of the resource": {
			want:      implicitDeny,
			documents: []string{allow(`"kinesis:*"`, `"arn:aws:kinesis:eu-west-1:123456789012:stream/ORDERS"`)},
		},
		"denied": {
			want:      explicitDeny,
			documents: []string{allow(`"*"`, `"*"`), `{"Statement":[{"Effect":"Deny","Action":"kinesis:*","Resource":"*"}]}`},
		},
		"other denied": {
			want:      allowed,
			documents: []string{allow(`"*"`, `"*"`), `{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}`},
		},
		"condition": {
			want: conditional,
			documents: []string{
				`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`,
			},
		},
		"condition beside": {
			want: allowed,
			documents: []string{
				`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`,
				allow(`"*"`, `"*"`),
			},
		},
		"denied on a condition": {
			want: conditional,
			documents: []string{
				allow(`"*"`, `"*"`),
				`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`,
			},
		},
		"NotAction": {
			want:      conditional,
			documents: []string{`{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`},
		},
		"not JSON": {
			want:      conditional,
			documents: []string{`%7B`},
		},
	} {
		if got := evaluatePolicies(test.documents, action, stream); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// The statements of a key's policy about the role count. Its statements about the account leave the decision to IAM.
func TestEvaluateKeyPolicy(t *testing.T) {
	const (
		role   = "arn:aws:iam::123456789012:role/service-role/checkout"
		action = "kms:GenerateDataKey"
		key    = "arn:aws:kms:eu-west-1:123456789012:key/1"
	)
	statement := func(effect, principal, more string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"kms:*","Resource":"*"` + more + `}`
	}
	const root = `{"AWS":"arn:aws:iam::123456789012:root"}`
	const condition = `,"Condition":{"StringEquals":{"kms:ViaService":"kinesis.eu-west-1.amazonaws.com"}}`
	for name, test := range map[string]struct {
		want       decision
		statements string
	}{
		"the account": {
			want:       implicitDeny,
			statements: statement("Allow", root, ""),
		},
		"the role": {
			want:       allowed,
			statements: statement("Allow", root, "") + "," + statement("Allow", `{"AWS":["arn:aws:iam::123456789012:user/me","`+role+`"]}`, ""),
		},
		"another role": {
			want:       implicitDeny,
			statements: statement("Allow", `{"AWS":"`+role+`2"}`, ""),
		},
		"everyone": {
			want:       allowed,
			statements: statement("Allow", `"*"`, ""),
		},
		"everyone, in AWS": {
			want:       allowed,
			statements: statement("Allow", `{"AWS":"*"}`, ""),
		},
		"on a condition": {
			want:       conditional,
			statements: statement("Allow", `{"AWS":"*"}`, condition),
		},
		"a service": {
			want:       implicitDeny,
			statements: statement("Allow", `{"Service":"kinesis.amazonaws.com"}`, ""),
		},
		"denied": {
			want:       explicitDeny,
			statements: statement("Allow", `"*"`, "") + "," + statement("Deny", `{"AWS":"`+role+`"}`, ""),
		},
		"denied to another": {
			want:       allowed,
			statements: statement("Allow", `"*"`, "") + "," + statement("Deny", `{"AWS":"`+role+`2"}`, ""),
		},
		"all but some": {
			want:       conditional,
			statements: statement("Allow", `"*"`, "") + `,{"Effect":"Deny","NotPrincipal":{"AWS":"` + role + `"},"Action":"*","Resource":"*"}`,
		},
	} {
		if got := evaluateKeyPolicy(`{"Statement":[`+test.statements+`]}`, role, action, key); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// A pattern with * and ? matches the whole text.
func TestMatches(t *testing.T) {
	for pattern, texts := range map[string]struct{ fit, other []string }{
		"":       {[]string{""}, []string{"a"}},
		"a":      {[]string{"a"}, []string{"", "b", "ab"}},
		"*":      {[]string{"", "abc", "*"}, nil},
		"**":     {[]string{"", "abc"}, nil},
		"a*":     {[]string{"a", "ab"}, []string{"", "ba"}},
		"*a":     {[]string{"a", "ba", "aba"}, []string{"", "ab"}},
		"?":      {[]string{"a"}, []string{"", "ab"}},
		"a?c":    {[]string{"abc"}, []string{"ac", "abb"}},
		"*?":     {[]string{"a", "ab"}, []string{""}},
		"a*?":    {[]string{"ab", "abc"}, []string{"a"}},
		"a*bc":   {[]string{"abc", "abbc"}, []string{"ab", "abcd"}},
		"*ab*ab": {[]string{"abab", "aabbab"}, []string{"ab", "aab", "abba"}},
		"*aab":   {[]string{"aab", "aaab"}, []string{"aba"}},

		"*:stream/*": {
			[]string{"arn:aws:kinesis:eu-west-1:123456789012:stream/orders"},
			[]string{"arn:aws:kinesis:eu-west-1:123456789012:orders"},
		},
	} {
		for _, text := range texts.fit {
			if !matches(pattern, text) {
				t.Errorf("%q does not match %q", pattern, text)
			}
		}
		for _, text := range texts.other {
			if matches(pattern, text) {
				t.Errorf("%q matches %q", pattern, text)
			}
		}
	}
}

// The time to match does not multiply with each star. It once did, and eight stars took 39 s. The deadline is a
// thousand times the time for thirty stars now.
func TestMatchesManyStars(t *testing.T) {
	pattern := strings.Repeat("*a", 30) + "*b"
	done := make(chan bool)
	go func() { done <- matches(pattern, strings.Repeat("a", 2000)) }()
	select {
	case got := <-done:
		if got {
			t.Error("the pattern matches")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no result after 10 s")
	}
}
