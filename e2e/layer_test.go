package e2e_test

import (
	"archive/zip"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"testing"

	"kinesis-telemetry-extension/internal/sandbox"
)

// The layer's zips, unpacked under /opt as Lambda does, have one program that Lambda starts, and it delivers. LAYERS
// is the directory of the zips (make layer). QEMU_AARCH64 is an emulator for arm64 programs.
func TestLayers(t *testing.T) {
	zips := os.Getenv("LAYERS")
	if zips == "" {
		t.Skip("LAYERS is not set: .ci/run builds the layer and sets it")
	}
	for architecture, machine := range map[string]elf.Machine{"x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(architecture, func(t *testing.T) {
			opt := t.TempDir()
			unpack(t, filepath.Join(zips, extensionName+"-"+architecture+".zip"), opt)
			program := filepath.Join(opt, "extensions", extensionName)
			binary, err := elf.Open(program)
			if err != nil {
				t.Fatal(err)
			}
			defer binary.Close()
			if libraries, err := binary.ImportedLibraries(); binary.Machine != machine || len(libraries) > 0 || err != nil {
				t.Errorf("it is for %s, needs %v: %v", binary.Machine, libraries, err)
			}
			extension := sandbox.Extension{Path: program}
			if machine != hostMachine(t) {
				emulator := os.Getenv("QEMU_AARCH64")
				if emulator == "" {
					t.Skip("QEMU_AARCH64 is not set: this machine cannot run it")
				}
				extension = sandbox.Extension{Path: emulator, Args: []string{program}, Name: extensionName}
			}
			r := newTrial(t, setup{sandbox: func(c *sandbox.Config) {
				extension.Env = c.Extensions[0].Env
				c.Extensions[0] = extension
			}})
			for range 5 {
				r.invoke(mixed)
			}
			r.checkComplete(r.end(), 5*13)
		})
	}
}

// hostMachine is the architecture that this test was built for.
func hostMachine(t *testing.T) elf.Machine {
	t.Helper()
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Skip("Lambda's programs run on Linux: ", err)
	}
	defer self.Close()
	return self.Machine
}

// unpack unpacks a zip with its file modes. The zip must contain only the extension.
func unpack(t *testing.T, path, into string) {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if len(archive.File) != 1 || archive.File[0].Name != "extensions/"+extensionName || archive.File[0].Mode().Perm() != 0o755 {
		t.Fatalf("%s holds %d files, the first is %s %s", path, len(archive.File), archive.File[0].Mode(), archive.File[0].Name)
	}
	target := filepath.Join(into, filepath.FromSlash(archive.File[0].Name))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := archive.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, archive.File[0].Mode())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}
