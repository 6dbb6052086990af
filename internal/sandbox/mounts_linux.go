package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// On Lambda the host names sandbox and sandbox.localdomain resolve to the environment itself. Some extensions listen on
// them (OpenTelemetry's collector, AWS's samples). Here the processes see a hosts file with these names, in a mount
// namespace.
const hostsFile = "/etc/hosts"

// mounts gives an environment's processes the host names and the layers.
type mounts struct {
	file      string // the temporary hosts file, "" for none
	hosts     string // the file that each process mounts at hostsFile, in its own user and mount namespace; "" for no mount
	overlay   string // overlayOptions of the layers
	script    string // for sh: mounts both and starts the process
	hostsErr  error  // why the host names do not resolve, nil if they do
	layersErr error  // why the layers are not at /opt, nil if they are
}

// newMounts calls tryMounts. If that fails, it calls tryMounts again without the layers.
func newMounts(layers []string) mounts {
	m := tryMounts(layers)
	if m.hostsErr == nil || len(layers) == 0 {
		return m
	}
	err := m.hostsErr
	m.close()
	m = tryMounts(nil)
	m.layersErr = err
	return m
}

// layersTarget is where Lambda has the layers. This machine's own files there, such as a runtime, stay visible below the
// layers.
const layersTarget = "/opt"

// overlayOptions returns the mount options of an overlay. It lists the uppermost folder first: a later layer replaces
// files of an earlier one.
func overlayOptions(layers []string) string {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	folders := layersTarget
	for _, layer := range layers {
		folders = escape.Replace(layer) + ":" + folders
	}
	return "lowerdir=" + folders
}

// tryMounts makes the host names resolve, and mounts the layers at /opt, for the processes that the calling thread
// starts. As root, the thread itself gets the mount namespace, which costs its children nothing. Otherwise each child
// gets its own, if the kernel allows user namespaces.
func tryMounts(layers []string) mounts {
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		return mounts{hostsErr: err}
	}
	if hasHostNames(content) && len(layers) == 0 {
		return mounts{}
	}
	file, err := writeHosts(fmt.Appendf(content, "\n%s sandbox.localdomain sandbox\n", subscriberHost))
	if err != nil {
		return mounts{hostsErr: err}
	}
	err = mountForThread(file, layers)
	if errors.Is(err, syscall.EPERM) {
		m, mountErr := mountsInUserNamespace(file, layers)
		m.file = file
		if mountErr == nil {
			return m
		}
		err = mountErr
	}
	// close deletes the file: while it is mounted it must exist, or no process could mount its own hosts file over it.
	return mounts{hostsErr: err, file: file}
}

// hasHostNames reports whether a hosts file already has the names.
func hasHostNames(hosts []byte) bool {
	for line := range bytes.Lines(hosts) {
		entry, _, _ := bytes.Cut(line, []byte("#"))
		if fields := strings.Fields(string(entry)); len(fields) > 1 && slices.Contains(fields[1:], "sandbox.localdomain") {
			return true
		}
	}
	return false
}

// writeHosts creates a temporary file that every user can read.
func writeHosts(content []byte) (string, error) {
	f, err := os.CreateTemp("", "sandbox-hosts-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// mountForThread gives the calling thread a mount namespace with file as hosts file and the layers at /opt. Later mounts
// outside the namespace are visible inside.
func mountForThread(file string, layers []string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := syscall.Mount(file, hostsFile, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting a hosts file: %w", err)
	}
	if len(layers) == 0 {
		return nil
	}
	if err := syscall.Mount("overlay", layersTarget, "overlay", syscall.MS_RDONLY, overlayOptions(layers)); err != nil {
		return fmt.Errorf("mounting layers at %s: %w", layersTarget, err)
	}
	return nil
}

// mountsInUserNamespace prepares wrap and tests it on this machine. It needs sh, mount and unshare (util-linux 2.36).
// It looks them up in the sandbox's PATH, whatever PATH the processes have.
func mountsInUserNamespace(file string, layers []string) (mounts, error) {
	mount, err := exec.LookPath("mount")
	if err != nil {
		return mounts{}, err
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return mounts{}, err
	}
	overlay := ""
	if len(layers) > 0 {
		overlay = fmt.Sprintf(`%s -t overlay -o "ro,$1" overlay %s && `, mount, layersTarget)
	}
	script := fmt.Sprintf(`%s --bind "$0" %s && %sshift && exec %s --user --map-user=%d --map-group=%d -- "$@"`,
		mount, hostsFile, overlay, unshare, os.Getuid(), os.Getgid())
	m := mounts{hosts: file, overlay: overlayOptions(layers), script: script}
	cmd := exec.Command("true")
	m.wrap(cmd)
	if printed, err := cmd.CombinedOutput(); err != nil {
		return mounts{}, fmt.Errorf("a user and mount namespace: %w: %s", err, strings.Join(strings.Fields(string(printed)), " "))
	}
	return m, nil
}

// wrap makes cmd start in a user namespace, where it can mount, and then in a second one, where it has its own user id
// again. sh may add variables such as PWD to cmd's environment.
func (m mounts) wrap(cmd *exec.Cmd) {
	if m.hosts == "" {
		return
	}
	cmd.Args = append([]string{"sh", "-c", m.script, m.hosts, m.overlay, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// check returns the error that the kernel would give for executing path. Under wrap, a shell would execute it and
// report the failure as its own.
func (m mounts) check(path string) error {
	if m.hosts == "" {
		return nil
	}
	const executable = 1 // X_OK of access(2)
	if err := syscall.Access(path, executable); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil // executable and not readable: let the kernel decide
	}
	defer func() { _ = f.Close() }()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil || (!bytes.HasPrefix(magic, []byte("#!")) && string(magic) != "\x7fELF") {
		return syscall.ENOEXEC
	}
	return nil
}

func (m mounts) close() {
	if m.file != "" {
		_ = os.Remove(m.file) // at worst, a temporary file remains
	}
}
