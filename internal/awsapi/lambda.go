package awsapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var lambda = service{id: "Lambda"}

// An error code and values of Lambda.
const (
	ResourceNotFound = "ResourceNotFoundException"

	ArchitectureARM64 = "arm64"
	ArchitectureX8664 = "x86_64"

	PackageImage               = "Image"
	StatePending               = "Pending"
	StateFailed                = "Failed"
	SnapStartPublishedVersions = "PublishedVersions"
	LogFormatJSON              = "JSON"
)

// Function is the configuration of a function, as far as ktel needs it. Lambda omits members that do not apply.
type Function struct {
	FunctionName, FunctionArn, Version string
	Role, KMSKeyArn                    string
	Runtime, PackageType               string
	Architectures                      []string
	MemorySize                         int32 // in MB
	Timeout                            int32 // in seconds
	State, StateReason                 string
	Layers                             []struct{ Arn string }
	Environment                        struct {
		Variables map[string]string
		Error     *struct{ Message string } // if Lambda cannot decrypt the variables
	}
	VpcConfig struct {
		VpcId     string
		SubnetIds []string
	}
	SnapStart              struct{ ApplyOn string }
	CapacityProviderConfig *struct{} // of a function on Managed Instances
	LoggingConfig          struct{ LogFormat, ApplicationLogLevel, SystemLogLevel string }
}

// GetFunction gets the configuration of a function, by its name or ARN. qualifier is a version or alias, or empty.
func GetFunction(ctx context.Context, cfg aws.Config, name, qualifier string) (*Function, error) {
	query := url.Values{}
	if qualifier != "" {
		query.Set("Qualifier", qualifier)
	}
	out := &Function{}
	r := request{method: http.MethodGet, path: []string{"2015-03-31", "functions", name, "configuration"}, query: query}
	if err := lambda.callREST(ctx, cfg, r, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// LayerVersion is one version of a layer.
type LayerVersion struct {
	LayerVersionArn         string
	Description             string
	CompatibleArchitectures []string
	Content                 struct{ CodeSha256 string } // in base64
}

// GetLayerVersion gets a version of a layer, by the layer's name or ARN.
func GetLayerVersion(ctx context.Context, cfg aws.Config, layer string, version int64) (*LayerVersion, error) {
	out := &LayerVersion{}
	r := request{method: http.MethodGet, path: append(layerVersions(layer), strconv.FormatInt(version, 10))}
	if err := lambda.callREST(ctx, cfg, r, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// NewestLayerVersion returns the highest version number of a layer, or 0 if it has no versions.
func NewestLayerVersion(ctx context.Context, cfg aws.Config, layer string) (int64, error) {
	var newest int64
	query := url.Values{}
	for {
		var page struct {
			LayerVersions []struct{ Version int64 }
			NextMarker    string
		}
		err := lambda.callREST(ctx, cfg, request{method: http.MethodGet, path: layerVersions(layer), query: query}, nil, &page)
		if ErrorCode(err) == ResourceNotFound {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		for _, v := range page.LayerVersions {
			newest = max(newest, v.Version)
		}
		if page.NextMarker == "" || page.NextMarker == query.Get("Marker") {
			return newest, nil
		}
		query.Set("Marker", page.NextMarker)
	}
}

// NewLayerVersion is the request to publish a version of a layer.
type NewLayerVersion struct {
	Content                 LayerContent
	CompatibleArchitectures []string
	Description             string
	LicenseInfo             string
}

// LayerContent is the zip of a layer.
type LayerContent struct{ ZipFile []byte }

// PublishLayerVersion publishes a version of a layer and returns its ARN.
func PublishLayerVersion(ctx context.Context, cfg aws.Config, layer string, v *NewLayerVersion) (arn string, err error) {
	var out struct{ LayerVersionArn string }
	err = lambda.callREST(ctx, cfg, request{method: http.MethodPost, path: layerVersions(layer)}, v, &out)
	return out.LayerVersionArn, err
}

// layerVersions returns the path of a layer's versions.
func layerVersions(layer string) []string { return []string{"2018-10-31", "layers", layer, "versions"} }
