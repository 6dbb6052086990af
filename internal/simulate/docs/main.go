// Command docs writes the simulation's document into a directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"kinesis-telemetry-extension/internal/simulate"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs DIRECTORY")
		os.Exit(2)
	}
	directory := os.Args[1]
	err := os.MkdirAll(directory, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, "simulation.md"), []byte(simulate.Markdown(simulate.All(simulate.Scenarios()))), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
