//go:build unix

package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kinesis-telemetry-extension/internal/sandbox"
)

const (
	extensionsFolder  = "extensions"     // folder of a layer; Lambda starts every file in it
	extensionVariable = "KTEL_EXTENSION" // names the telemetry extension, or its layer
	// maxLayer is Lambda's limit for a function and its layers, unzipped:
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxLayer = 250 << 20
)

// findExtensions returns the files of the telemetry extension and of the others. telemetry is "" if ktel has to provide
// it, or if the flags leave it out. Zips of layers are unpacked below dir.
func (f *runFlags) findExtensions(dir string) (telemetry string, others []string, err error) {
	for _, path := range f.extensions {
		found, err := findExtension(path, dir)
		if err != nil {
			return "", nil, err
		}
		others = append(others, found...)
	}
	if f.noLayerExtension {
		return "", others, nil
	}
	isTelemetry := func(path string) bool { return filepath.Base(path) == extensionName }
	path := f.layerExtension
	if at := slices.IndexFunc(others, isTelemetry); at >= 0 && path == "" { // for example in a layer of --extension
		telemetry = others[at]
		return telemetry, slices.Delete(others, at, at+1), nil
	}
	if path == "" {
		path = os.Getenv(extensionVariable)
	}
	if path == "" {
		return "", others, nil
	}
	found, err := findExtension(path, dir)
	if err != nil {
		return "", nil, err
	}
	if len(found) == 1 {
		return found[0], others, nil
	}
	at := slices.IndexFunc(found, isTelemetry)
	if at < 0 {
		return "", nil, usageError(fmt.Sprintf("none of the extensions in %s is %s", path, extensionName))
	}
	telemetry = found[at]
	return telemetry, append(others, slices.Delete(found, at, at+1)...), nil
}

// findExtension returns the files of the extensions at path: a file, or a layer (a folder or a zip) with extensions/.
func findExtension(path, dir string) ([]string, error) {
	absolute, err := filepath.Abs(path) // a file, which is never searched in PATH
	if err != nil {
		return nil, cannot(err)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return listExtensions(absolute, path)
	case err == nil && filepath.Ext(path) == ".zip":
		unpacked, err := os.MkdirTemp(dir, "layer-")
		if err != nil {
			return nil, cannot(err)
		}
		if err := unzip(path, unpacked); err != nil {
			return nil, usageError(fmt.Sprintf("cannot unpack the layer %s: %v", path, err))
		}
		return listExtensions(unpacked, path)
	default:
		return []string{absolute}, checkProgram(path)
	}
}

// listExtensions returns the files in the folder extensions/ of a layer. The folder may be extensions/ itself.
func listExtensions(folder, layer string) ([]string, error) {
	if filepath.Base(folder) != extensionsFolder {
		folder = filepath.Join(folder, extensionsFolder)
	}
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, cannot(err)
	}
	var paths []string
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			continue // as Lambda does
		}
		if err := checkProgram(path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		return nil, usageError(fmt.Sprintf("%s has no file in extensions/, where Lambda looks for extensions", layer))
	}
	return paths, nil
}

func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usageError(fmt.Sprintf("there is no extension %s", path))
	case err != nil:
		return usageError(fmt.Sprintf("cannot run the extension: %v", err))
	case !info.Mode().IsRegular():
		return usageError(fmt.Sprintf("the extension %s is not a file", path))
	case info.Mode().Perm()&0o111 == 0:
		return usageError(fmt.Sprintf("the extension %s is not executable", path), fmt.Sprintf("chmod +x %s", path))
	}
	return nil
}

// unzip unpacks an archive into a folder. It writes no file outside of the folder.
func unzip(archive, folder string) error {
	reader, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // opened for reading only
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	left := int64(maxLayer)
	for _, entry := range reader.File {
		n, err := unpack(root, entry, left)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
		left -= n
	}
	return nil
}

// unpack unpacks one entry of at most limit bytes.
func unpack(root *os.Root, entry *zip.File, limit int64) (int64, error) {
	if strings.HasSuffix(entry.Name, "/") {
		return 0, root.MkdirAll(filepath.Clean(entry.Name), 0o700)
	}
	if err := root.MkdirAll(filepath.Dir(entry.Name), 0o700); err != nil {
		return 0, err
	}
	source, err := entry.Open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = source.Close() }()
	if entry.Mode()&fs.ModeSymlink != 0 {
		target, err := io.ReadAll(io.LimitReader(source, 4096))
		if err != nil {
			return 0, err
		}
		return int64(len(target)), root.Symlink(string(target), entry.Name)
	}
	file, err := root.OpenFile(entry.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, entry.Mode().Perm()|0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(file, io.LimitReader(source, limit+1))
	if n > limit {
		err = fmt.Errorf("the layer has more than Lambda's limit of %d MB unzipped", maxLayer>>20)
	}
	return n, errors.Join(err, file.Close())
}

// extend sets the extensions of a trial: the telemetry extension, unless it is "", and the others. The folder around a
// layer's extensions/ is the layer.
func (s *trial) extend(telemetry string, others []string) {
	all := others
	if telemetry != "" {
		s.audited = filepath.Base(telemetry)
		all = append([]string{telemetry}, others...)
	}
	for _, path := range all {
		s.extensions = append(s.extensions, sandbox.Extension{Path: path})
		folder, layer := filepath.Base(filepath.Dir(path)), filepath.Dir(filepath.Dir(path))
		if folder == extensionsFolder && !slices.Contains(s.layers, layer) {
			s.layers = append(s.layers, layer)
		}
	}
}
