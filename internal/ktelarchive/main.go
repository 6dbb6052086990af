// Ktelarchive writes the archive of a released ktel: the program with its run bit, and other files beside it. The same files give the
// same archive, byte for byte, on every machine and at every time.
//
// Usage: ktelarchive ARCHIVE FILE...    ARCHIVE ends in .tar.gz or .zip
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: ktelarchive ARCHIVE FILE...")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "ktelarchive:", err)
		os.Exit(1)
	}
}

// modified is an arbitrary fixed time, because a zip must have one.
var modified = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// file is an entry of the archive.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

func write(target string, paths []string) (err error) {
	files := make([]file, len(paths))
	for i, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 { // the other bits follow the umask of the build
			mode = 0o755
		}
		files[i] = file{filepath.Base(path), mode, content}
	}
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = fmt.Errorf("write the archive: %w", err)
		}
	}()
	if strings.HasSuffix(target, ".zip") {
		return writeZip(out, files)
	}
	return writeTar(out, files)
}

func writeZip(w io.Writer, files []file) error {
	archive := zip.NewWriter(w)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: modified}
		header.SetMode(f.mode)
		entry, err := archive.CreateHeader(header)
		if err == nil {
			_, err = entry.Write(f.content)
		}
		if err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeTar(w io.Writer, files []file) error {
	compressed := gzip.NewWriter(w) // its header has neither a name nor a time
	archive := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.content)), ModTime: modified, Format: tar.FormatUSTAR}
		err := archive.WriteHeader(header)
		if err == nil {
			_, err = archive.Write(f.content)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}
