package extension

import (
	"fmt"
	"net/http"
	"os"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
)

// newStream makes the Kinesis Client from the settings. account is the function's own.
func newStream(cfg *config.Config, account string) (*kinesis.Client, error) {
	settings := &cfg.AWS
	var bundle []byte
	if settings.CABundle != "" {
		var err error
		if bundle, err = os.ReadFile(settings.CABundle); err != nil {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
	}
	credentials, err := kinesis.NewCredentials(settings.Credentials)
	if err == nil && settings.RoleARN != "" {
		account = kinesis.RoleAccount(settings.RoleARN) // the role's own streams are found by name then
		credentials, err = kinesis.NewRole(credentials, kinesis.RoleConfig{
			ARN:          settings.RoleARN,
			SessionName:  "kinesis-telemetry-extension",
			Region:       settings.Region,
			EndpointURL:  settings.STSEndpointURL,
			UseFIPS:      settings.FIPS,
			UseDualStack: settings.DualStack,
			Proxy:        http.ProxyFromEnvironment,
			CABundle:     bundle,
		})
	}
	if err != nil {
		return nil, err
	}
	return kinesis.New(kinesis.Config{
		Stream:          settings.Stream,
		Region:          settings.Region,
		AccountID:       account,
		EndpointURL:     settings.EndpointURL,
		UseFIPS:         settings.FIPS,
		UseDualStack:    settings.DualStack,
		MaxRecordBytes:  cfg.MaxRecordBytes,
		MaxRequestBytes: cfg.RequestBytes(),
		Credentials:     credentials,
		Proxy:           http.ProxyFromEnvironment,
		CABundle:        bundle,
	})
}
