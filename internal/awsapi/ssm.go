package awsapi

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var (
	ssm = service{id: "SSM", plainFIPS: true}
	kms = service{id: "KMS"}
)

// An error code and a parameter type of SSM.
const (
	ParameterNotFound = "ParameterNotFound"
	ParameterString   = "String"
)

// Parameter is a parameter of SSM.
type Parameter struct {
	Name        string
	Value       string
	Type        string
	Description string `json:",omitempty"`
	Overwrite   bool   `json:",omitempty"`
}

// GetParameter gets a parameter, without its description.
func GetParameter(ctx context.Context, cfg aws.Config, name string) (*Parameter, error) {
	var out struct{ Parameter *Parameter }
	err := ssm.callJSON(ctx, cfg, "AmazonSSM.GetParameter", map[string]string{"Name": name}, &out)
	return out.Parameter, err
}

// ParameterDescription returns the description of a parameter, or "" if it has none.
func ParameterDescription(ctx context.Context, cfg aws.Config, name string) (string, error) {
	type filter struct {
		Key, Option string
		Values      []string
	}
	var out struct{ Parameters []Parameter }
	in := map[string][]filter{"ParameterFilters": {{"Name", "Equals", []string{name}}}}
	if err := ssm.callJSON(ctx, cfg, "AmazonSSM.DescribeParameters", in, &out); err != nil || len(out.Parameters) == 0 {
		return "", err
	}
	return out.Parameters[0].Description, nil
}

// PutParameter creates a parameter. With Overwrite it replaces an existing one.
func PutParameter(ctx context.Context, cfg aws.Config, p Parameter) error {
	return ssm.callJSON(ctx, cfg, "AmazonSSM.PutParameter", p, &struct{}{})
}

// KeyPolicy returns the policy of a KMS key.
func KeyPolicy(ctx context.Context, cfg aws.Config, key string) (string, error) {
	var out struct{ Policy string }
	err := kms.callJSON(ctx, cfg, "TrentService.GetKeyPolicy", map[string]string{"KeyId": key, "PolicyName": "default"}, &out)
	return out.Policy, err
}
