// Command docs writes the cost document and its chart to a directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"kinesis-telemetry-extension/internal/cost"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(directory string) error {
	prices, measured, err := cost.Load()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, "cost.svg"), []byte(cost.SVG(prices, measured)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "cost.md"), []byte(cost.Markdown(prices, measured)), 0o644)
}
