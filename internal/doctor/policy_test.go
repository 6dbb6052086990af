package doctor

import "testing"

func TestJudgePolicies(t *testing.T) {
	const (
		action = "kinesis:PutRecords"
		stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
	)
	allow := func(action, resource string) string {
		return `{"Statement":{"Effect":"Allow","Action":` + action + `,"Resource":` + resource + `}}`
	}
	for name, test := range map[string]struct {
		want      verdict
		documents []string
	}{
		"exactly":                {allowed, []string{allow(`"kinesis:PutRecords"`, `"`+stream+`"`)}},
		"lists":                  {allowed, []string{allow(`["kinesis:GetRecords","kinesis:PutRecords"]`, `["`+stream+`"]`)}},
		"wildcards":              {allowed, []string{allow(`"KINESIS:put*"`, `"arn:aws:kinesis:*:*:stream/o?ders"`)}},
		"everything":             {allowed, []string{allow(`"*"`, `"*"`)}},
		"in the second document": {allowed, []string{allow(`"s3:*"`, `"*"`), allow(`"kinesis:Put*"`, `"*"`)}},
		"no documents":           {missing, nil},
		"PutRecord alone":        {missing, []string{allow(`"kinesis:PutRecord"`, `"*"`)}},
		"another stream":         {missing, []string{allow(`"kinesis:*"`, `"`+stream+`2"`)}},
		"case of the resource":   {missing, []string{allow(`"kinesis:*"`, `"arn:aws:kinesis:eu-west-1:123456789012:stream/ORDERS"`)}},
		"denied":                 {forbidden, []string{allow(`"*"`, `"*"`), `{"Statement":[{"Effect":"Deny","Action":"kinesis:*","Resource":"*"}]}`}},
		"other denied":           {allowed, []string{allow(`"*"`, `"*"`), `{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}`}},
		"condition":              {conditional, []string{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`}},
		"condition beside":       {allowed, []string{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`, allow(`"*"`, `"*"`)}},
		"denied on a condition":  {conditional, []string{allow(`"*"`, `"*"`), `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`}},
		"NotAction":              {conditional, []string{`{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`}},
		"not JSON":               {conditional, []string{`%7B`}},
	} {
		if got := judgePolicies(test.documents, action, stream); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
