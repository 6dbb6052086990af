package extension

import (
	"net/http"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/kinesis"
)

// newClient makes the Kinesis Client from the settings. account is the function's own account. newClient accepts every
// configuration that config.Load accepts: ON_ERROR=fail acts on the mistakes that Load finds, and an error here would be too late.
func newClient(cfg *config.Config, account string) (*kinesis.Client, error) {
	settings := &cfg.AWS
	credentials, err := kinesis.NewCredentials(settings.Credentials)
	if err == nil && settings.RoleARN != "" {
		account = kinesis.RoleAccount(settings.RoleARN) // the role finds its own account's streams by name
		credentials, err = kinesis.NewRole(credentials, kinesis.RoleConfig{
			ARN:          settings.RoleARN,
			ExternalID:   settings.RoleExternalID,
			SessionName:  settings.RoleSessionName,
			Region:       settings.Region,
			EndpointURL:  settings.STSEndpointURL,
			UseFIPS:      settings.FIPS,
			UseDualStack: settings.DualStack,
			Proxy:        http.ProxyFromEnvironment,
			CABundle:     settings.CABundle,
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
		CABundle:        settings.CABundle,
	})
}
