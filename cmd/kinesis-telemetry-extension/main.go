// The kinesis-telemetry-extension is an AWS Lambda extension that ships a function's telemetry to an Amazon Kinesis
// data stream. Lambda starts it from /opt/extensions. README.md lists its settings.
package main

import (
	"context"
	"os"
	"path/filepath"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/extension"
)

func main() {
	os.Exit(run(os.Args[0], os.Environ()))
}

func run(executable string, environ []string) (exitCode int) {
	cfg, mistakes := config.Load(environ)
	for name, value := range cfg.AWS.Proxies { // net/http reads the process's own variables, which may end with a newline
		_ = os.Setenv(name, value) // fails only for a NUL byte, which no environment can contain
	}
	log := extension.NewLog(os.Stderr, cfg.LogLevel)
	defer log.Flush()
	if err := extension.Run(context.Background(), filepath.Base(executable), cfg, mistakes, log); err != nil {
		log.Error(err.Error())
		return 1
	}
	return 0
}
