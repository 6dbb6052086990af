// Counted is the extension with an additional goroutine, which writes the number of goroutines to the file COUNTED_FILE: the
// only figure that cannot be read from outside a process.
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
	log := extension.NewLog(os.Stderr, cfg.LogLevel)
	defer log.Flush()
	if err := extension.Run(context.Background(), "kinesis-telemetry-extension", cfg, mistakes, log); err != nil {
		panic(err)
	}
}
