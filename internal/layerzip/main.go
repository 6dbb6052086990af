// Layerzip writes the zip of the Lambda layer: the extension in extensions/, executable. The same binary gives the same
// bytes on every machine and at any time.
//
// Usage: layerzip BINARY ZIP
package main

import (
	"archive/zip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: layerzip BINARY ZIP")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "layerzip:", err)
		os.Exit(1)
	}
}

func write(binary, target string) (err error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the extension: %w", err)
	}
	file, err := os.Create(target)
	if err != nil {
		return fmt.Errorf("create the zip: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write the zip: %w", closeErr)
		}
	}()
	archive := zip.NewWriter(file)
	header := &zip.FileHeader{
		Name:     "extensions/" + filepath.Base(binary),
		Method:   zip.Deflate,
		Modified: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), // a fixed time: every zip entry has one
	}
	header.SetMode(fs.FileMode(0o755))
	entry, err := archive.CreateHeader(header)
	if err == nil {
		_, err = entry.Write(content)
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		return fmt.Errorf("write the zip: %w", err)
	}
	return nil
}
