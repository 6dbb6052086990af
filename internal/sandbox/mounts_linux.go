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

// On Lambda the names sandbox and sandbox.localdomain resolve to the environment itself, and some extensions listen on them
// (OpenTelemetry's collector, AWS's samples). Here the processes see a hosts file that has them, in a mount namespace.
const hostsFile = "/etc/hosts"

// names says how the processes of an environment get the names.
type mounts struct {
	file     string // the hosts file; "": there is none
	hosts    string // the file to put in the place of hostsFile in a user and mount namespace of each process; "": they need none
	overlay  string // lowerDirs of the layers
	script   string // for sh, that does it
	hostsErr error  // why there are no names; nil if there are

	layersErr error // why the layers are not at /opt; nil if they are
}

// giveNames does what mountNames does, at least without the layers.
func newMounts(address string, layers []string) mounts {
	m := tryMounts(address, layers)
	if m.hostsErr == nil || len(layers) == 0 {
		return m
	}
	failed := m.hostsErr
	m.close()
	m = tryMounts(address, nil)
	m.layersErr = failed
	return m
}

// layersTarget is where Lambda has the layers. What this machine has there stays to be seen, below them: a runtime, say.
const layersTarget = "/opt"

// lowerDirs are the folders of an overlay, the uppermost first: a later layer replaces the files of an earlier one.
func overlayOptions(layers []string) string {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	folders := layersTarget
	for _, layer := range layers {
		folders = escape.Replace(layer) + ":" + folders
	}
	return "lowerdir=" + folders
}

// mountNames makes the names resolve to address, and the layers seen at /opt, in the processes that the calling thread starts.
// With the rights of root the thread itself gets the mount namespace, which costs its children nothing; else each child gets
// one, if the kernel lets users have namespaces.
func tryMounts(address string, layers []string) mounts {
	content, err := os.ReadFile(hostsFile)
	if err != nil {
		return mounts{hostsErr: err}
	}
	if hasHostNames(content) && len(layers) == 0 {
		return mounts{}
	}
	file, err := writeHosts(fmt.Appendf(content, "\n%s sandbox.localdomain sandbox\n", address))
	if err != nil {
		return mounts{hostsErr: err}
	}
	err = mountForThread(file, layers)
	if errors.Is(err, syscall.EPERM) {
		m, failed := mountsInUserNamespace(file, layers)
		m.file = file
		if failed == nil {
			return m
		}
		err = failed
	}
	// The file stays: over one that is gone no process could mount a hosts file of its own.
	return mounts{hostsErr: err, file: file}
}

// hasNames says whether a hosts file has the names already.
func hasHostNames(hosts []byte) bool {
	for line := range bytes.Lines(hosts) {
		entry, _, _ := bytes.Cut(line, []byte("#"))
		if fields := strings.Fields(string(entry)); len(fields) > 1 && slices.Contains(fields[1:], "sandbox.localdomain") {
			return true
		}
	}
	return false
}

// writeHosts makes a file that every user can read.
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

// mountHosts gives the calling thread a mount namespace with file as hosts file and the layers at /opt. What is mounted
// outside later is seen inside.
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

// userNames makes wrap ready and tries whether it works here. It needs sh, mount and unshare (util-linux 2.36), whatever PATH
// the processes have.
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
	m := mounts{hosts: file, overlay: overlayOptions(layers), script: fmt.Sprintf(`%s --bind "$0" %s && %sshift && exec %s --user --map-user=%d --map-group=%d -- "$@"`,
		mount, hostsFile, overlay, unshare, os.Getuid(), os.Getgid())}
	cmd := exec.Command("true")
	m.wrap(cmd)
	if printed, err := cmd.CombinedOutput(); err != nil {
		return mounts{}, fmt.Errorf("a user and mount namespace: %w: %s", err, strings.Join(strings.Fields(string(printed)), " "))
	}
	return m, nil
}

// wrap makes cmd start in a user namespace, where it may mount, and then in another, where it has its own user id again. sh may
// add variables such as PWD to its environment.
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

// check finds what would keep the kernel from executing path: behind wrap a shell would try, and tell it as its own failure.
func (m mounts) check(path string) error {
	if m.hosts == "" {
		return nil
	}
	const mayExecute = 1 // X_OK of access(2)
	if err := syscall.Access(path, mayExecute); err != nil {
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
		_ = os.Remove(m.file) // in the folder for temporary files
	}
}
