// Command docs writes the simulation's document and drawing into a directory.
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
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(directory string) error {
	all := simulate.All()
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, "simulation.md"), []byte(simulate.Markdown(all)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "simulation.svg"), []byte(simulate.SVG(all)), 0o644)
}
