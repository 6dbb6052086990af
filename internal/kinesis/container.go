package kinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"
)

// container gets the function's credentials from the endpoint that containers have, and functions with SnapStart. It
// does not retry a failed request: Put does. The SDK's endpointcreds would add 280 KB to the binary (DESIGN.md).
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
type container struct {
	config    CredentialsConfig
	transport http.RoundTripper
}

// containerTransport returns a transport without a proxy: the endpoint is local, and the function's proxy is for other
// hosts.
func containerTransport() *http.Transport { return &http.Transport{DisableKeepAlives: true} }

// Retrieve implements CredentialsProvider.
func (c *container) Retrieve(ctx context.Context) (Credentials, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.containerURI(), http.NoBody)
	if err != nil {
		return Credentials{}, err
	}
	token, err := c.token()
	if err != nil {
		return Credentials{}, err
	}
	if token != "" {
		request.Header.Set("Authorization", token)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	response, body, err := requestCredentials(c.transport, request) //nolint:bodyclose // it reads and closes it
	if err != nil {
		return Credentials{}, fmt.Errorf("the container's endpoint %s: %w", request.URL.Host, err)
	}
	if response.StatusCode != http.StatusOK {
		code, message := parseError(response.Header, body)
		return Credentials{}, fmt.Errorf("the container's endpoint answered %d %s: %s", response.StatusCode, code, message)
	}
	return readContainer(body)
}

// token returns the value of the Authorization header. It reads the file each time, because the token changes.
func (c *container) token() (string, error) {
	if c.config.ContainerTokenFile == "" {
		return c.config.ContainerToken, nil
	}
	token, err := os.ReadFile(c.config.ContainerTokenFile)
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", pathError.Err)
	}
	return strings.TrimSpace(string(token)), err
}

// readContainer parses the endpoint's answer. Credentials without an Expiration never expire.
func readContainer(body []byte) (Credentials, error) {
	var answer struct {
		AccessKeyId, SecretAccessKey, Token string
		Expiration                          *time.Time
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessKeyId == "" || answer.SecretAccessKey == "" {
		return Credentials{}, errors.New("the container's endpoint gave no credentials: its answer was cut short or garbled")
	}
	keys := Credentials{AccessKeyID: answer.AccessKeyId, SecretAccessKey: answer.SecretAccessKey, SessionToken: answer.Token}
	if answer.Expiration != nil {
		keys.Expires = *answer.Expiration
	}
	return keys, nil
}
