// Command docs writes the simulation's document and the README's picture to a directory.
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
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	all := simulate.All(simulate.Scenarios())
	if err := os.WriteFile(filepath.Join(directory, "simulation.md"), []byte(simulate.Markdown(all)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "overview.svg"), []byte(simulate.Picture(all)), 0o644)
}
