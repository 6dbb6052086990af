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

// A key's policy: what it says of the role itself, not of the account, which leaves it to IAM.
func TestJudgeKeyPolicy(t *testing.T) {
	const (
		role   = "arn:aws:iam::123456789012:role/service-role/checkout"
		action = "kms:GenerateDataKey"
		key    = "arn:aws:kms:eu-west-1:123456789012:key/1"
	)
	statement := func(effect, principal, more string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"kms:*","Resource":"*"` + more + `}`
	}
	const root, condition = `{"AWS":"arn:aws:iam::123456789012:root"}`, `,"Condition":{"StringEquals":{"kms:ViaService":"kinesis.eu-west-1.amazonaws.com"}}`
	for name, test := range map[string]struct {
		want       verdict
		statements string
	}{
		"the account":       {missing, statement("Allow", root, "")},
		"the role":          {allowed, statement("Allow", root, "") + "," + statement("Allow", `{"AWS":["arn:aws:iam::123456789012:user/me","`+role+`"]}`, "")},
		"another role":      {missing, statement("Allow", `{"AWS":"`+role+`2"}`, "")},
		"everyone":          {allowed, statement("Allow", `"*"`, "")},
		"everyone, in AWS":  {allowed, statement("Allow", `{"AWS":"*"}`, "")},
		"on a condition":    {conditional, statement("Allow", `{"AWS":"*"}`, condition)},
		"a service":         {missing, statement("Allow", `{"Service":"kinesis.amazonaws.com"}`, "")},
		"denied":            {forbidden, statement("Allow", `"*"`, "") + "," + statement("Deny", `{"AWS":"`+role+`"}`, "")},
		"denied to another": {allowed, statement("Allow", `"*"`, "") + "," + statement("Deny", `{"AWS":"`+role+`2"}`, "")},
		"all but some":      {conditional, statement("Allow", `"*"`, "") + `,{"Effect":"Deny","NotPrincipal":{"AWS":"` + role + `"},"Action":"*","Resource":"*"}`},
	} {
		if got := judgeKeyPolicy(`{"Statement":[`+test.statements+`]}`, role, action, key); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
