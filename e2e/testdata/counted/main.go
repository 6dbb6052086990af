// Counted is the extension as it is, and beside it a goroutine that writes down how many goroutines there are: the one
// figure that cannot be read from outside of a process. The file is named by COUNTED_FILE.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"kinesis-telemetry-extension/internal/config"
	"kinesis-telemetry-extension/internal/extension"
)

func main() {
	f, err := os.Create(os.Getenv("COUNTED_FILE"))
	if err != nil {
		panic(err)
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			fmt.Fprintln(f, runtime.NumGoroutine())
		}
	}()
	cfg, mistakes := config.Load(os.Environ())
	log, wait := extension.NewLog(os.Stderr, cfg.LogLevel)
	defer wait()
	if err := extension.Run(context.Background(), "kinesis-telemetry-extension", cfg, mistakes, log); err != nil {
		panic(err)
	}
}
