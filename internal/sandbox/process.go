//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running runtime or extension, in its own process group.
type process struct {
	name    string
	cmd     *exec.Cmd
	started time.Time
	exited  context.Context //nolint:containedctx // done when the process is gone and all its output is emitted
	readers []*lineReader   // none if its output is blocked
	unread  []*os.File      // the read ends of its pipes, if its output is blocked

	hostsErr  error // why sandbox.localdomain does not resolve in the process
	layersErr error // why the process does not see the layers at /opt

	mu      sync.Mutex // guards the fields below
	stat    ProcessStats
	head    []string // the first lines of its output
	tail    []string // the last lines of its output after head
	omitted int      // number of lines between head and tail
}

const (
	headLines = 4
	tailLines = 8
	lineWidth = 400
)

// processSpec describes a process to start.
type processSpec struct {
	name       string
	kind       ProcessKind
	generation int
	path       string
	args       []string
	dir        string
	env        []string

	blockOutput bool
}

// launchError is the reason why a process could not start.
type launchError struct {
	path string
	hint string
	err  error
}

func (e *launchError) Error() string { return fmt.Sprintf("%s: %v%s", e.path, e.err, e.hint) }
func (e *launchError) Unwrap() error { return e.err }

// startProcess starts the process that s describes. lines gets its output. onExit is called once when the process is gone,
// before exited is done.
func startProcess(spawner *spawner, s processSpec, lines func([][]byte), onExit func(*process)) (*process, error) {
	p := &process{name: s.name, hostsErr: spawner.mounts.hostsErr, layersErr: spawner.mounts.layersErr}
	path, err := lookCommand(s.path, s.dir)
	if err != nil {
		return nil, err
	}
	if err := spawner.mounts.check(path); err != nil {
		return nil, explainLaunch(path, err)
	}
	p.cmd = &exec.Cmd{Path: path, Args: append([]string{s.path}, s.args...), Dir: s.dir, Env: s.env, SysProcAttr: processAttributes()}
	spawner.mounts.wrap(p.cmd)
	var writers []*os.File
	closeAll := func() {
		for _, f := range slices.Concat(writers, p.unread) {
			_ = f.Close()
		}
		for _, r := range p.readers {
			_ = r.pipe.Close()
			r.idleTimer.Stop()
		}
	}
	for range 2 {
		read, write, err := os.Pipe()
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("pipe for the output of %s: %w", s.name, err)
		}
		writers = append(writers, write)
		if s.blockOutput {
			fill(write)
			p.unread = append(p.unread, read)
			continue
		}
		p.readers = append(p.readers, newLineReader(read, func(l [][]byte) {
			p.keepLines(l)
			lines(l)
		}))
	}
	p.cmd.Stdout, p.cmd.Stderr = writers[0], writers[1]
	p.started = time.Now()
	if err := spawner.do(p.cmd.Start); err != nil {
		closeAll()
		return nil, explainLaunch(path, err)
	}
	for _, w := range writers {
		_ = w.Close() // the child has its own copy
	}
	p.stat = ProcessStats{Name: s.name, Kind: s.kind, Generation: s.generation, PID: p.cmd.Process.Pid, ExitCode: -1}
	exited, gone := context.WithCancel(context.Background())
	p.exited = exited
	for _, r := range p.readers {
		go r.run()
	}
	go func() {
		defer gone()
		p.wait()
		onExit(p)
	}()
	return p, nil
}

// fill writes to a pipe until the pipe is full. The pipe is still non-blocking here: exec makes it blocking when it passes
// it to the child.
func fill(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	// An error would mean that the pipe is closed; it is open.
	_ = raw.Write(func(fd uintptr) bool {
		for {
			if n, err := syscall.Write(int(fd), make([]byte, readSize)); n <= 0 && err != syscall.EINTR {
				return true
			}
		}
	})
}

// lookCommand finds the program. A name with a slash is relative to dir; any other name is looked up in PATH.
func lookCommand(name, dir string) (string, error) {
	if !strings.Contains(name, "/") {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", &launchError{path: name, err: err}
		}
		return path, nil
	}
	if !filepath.IsAbs(name) && dir != "" {
		name = filepath.Join(dir, name)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", &launchError{path: name, err: err}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", explainLaunch(path, err)
	case info.IsDir():
		return "", &launchError{path: path, err: errors.New("is a directory")}
	}
	return path, nil
}

func explainLaunch(path string, err error) *launchError {
	e := &launchError{path: path, err: err}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		e.err = inner.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.hint = " (is the file executable? chmod +x)"
	case errors.Is(err, syscall.ENOEXEC):
		e.hint = " (a script needs #! in its first line, a program must be built for this machine)"
	case errors.Is(err, fs.ErrNotExist):
		e.hint = " (the file, or the interpreter in its first line, does not exist)"
	}
	return e
}

// wait waits until the process has exited and its output has ended.
func (p *process) wait() {
	// ProcessState has the exit status; Wait's error only repeats it.
	_ = p.cmd.Wait()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // its remaining children
	for _, r := range p.readers {
		_ = r.close()
		<-r.done
	}
	for _, f := range p.unread {
		_ = f.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.cmd.ProcessState
	p.stat.Exited, p.stat.ExitCode = true, state.ExitCode()
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		p.stat.Signal = ws.Signal().String()
	}
	p.stat.Killed = p.stat.Killed && p.stat.Signal == syscall.SIGKILL.String()
	p.stat.MaxRSS = max(p.stat.MaxRSS, exitRSS(state))
	p.stat.CPU = state.UserTime() + state.SystemTime()
}

// signal sends sig to the process group, unless the process is known to have exited: another process may have its number
// by then.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stat.Exited {
		return
	}
	p.stat.Killed = p.stat.Killed || sig == syscall.SIGKILL
	// An error means that the group is empty.
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
}

// alive reports whether the process is still running.
func (p *process) alive() bool { return p.exited.Err() == nil }

// markFirst records the time of the first call of register or next in a field of the statistics, and samples the memory. p
// may be nil.
func (p *process) markFirst(field func(*ProcessStats) *time.Duration) {
	if p == nil {
		return
	}
	since := time.Since(p.started)
	p.mu.Lock()
	f := field(&p.stat)
	first := *f == 0
	if first {
		*f = since
	}
	p.mu.Unlock()
	if first {
		p.sampleRSS()
	}
}

// sampleRSS updates and returns the process's peak resident set in bytes.
func (p *process) sampleRSS() int64 {
	rss := peakRSS(p.cmd.Process.Pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stat.MaxRSS = max(p.stat.MaxRSS, rss)
	return p.stat.MaxRSS
}

func (p *process) stats() ProcessStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stat
}

func (p *process) drain() {
	for _, r := range p.readers {
		r.drain()
	}
}

// keepLines keeps the first and the last lines of the output.
func (p *process) keepLines(lines [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(lines), headLines-len(p.head))
	p.head = appendLines(p.head, lines[:n])
	lines = lines[n:]
	skip := max(len(lines)-tailLines, 0)
	p.tail = appendLines(p.tail, lines[skip:])
	over := max(len(p.tail)-tailLines, 0)
	p.tail = slices.Delete(p.tail, 0, over)
	p.omitted += skip + over
}

func appendLines(kept []string, lines [][]byte) []string {
	for _, l := range lines {
		l = l[:min(len(l), lineWidth)]
		kept = append(kept, strings.ToValidUTF8(strings.TrimRight(string(l), "\r\n"), "\uFFFD"))
	}
	return kept
}

// printedText describes the process's output for an error text, with its first and last lines.
func (p *process) printedText() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	printed := slices.Clone(p.head)
	if p.omitted > 0 {
		printed = append(printed, fmt.Sprintf("… %d more lines", p.omitted))
	}
	printed = append(printed, p.tail...)
	switch {
	case len(printed) == 0:
		return "it printed nothing"
	case p.omitted > 0:
		return "its first and last lines:\n\t" + strings.Join(printed, "\n\t") + p.missingMountsHint(printed)
	default:
		return "it printed:\n\t" + strings.Join(printed, "\n\t") + p.missingMountsHint(printed)
	}
}

// missingMountsHint returns advice about the host names or the layers, if the process has none and its output mentions
// them.
func (p *process) missingMountsHint(printed []string) string {
	mentions := func(text string) bool {
		return slices.ContainsFunc(printed, func(line string) bool { return strings.Contains(line, text) })
	}
	hint := ""
	if p.hostsErr != nil && mentions("sandbox") {
		hint = fmt.Sprintf("\nThe host names sandbox and sandbox.localdomain of Lambda do not resolve here (%v). "+
			"If the extension needs them, add \"127.0.0.1 sandbox.localdomain sandbox\" to /etc/hosts.", p.hostsErr)
	}
	if p.layersErr != nil && mentions("/opt/") {
		hint += fmt.Sprintf("\nThe layers are not at /opt, where Lambda has them (%v). "+
			"If the extension needs its files there, copy them.", p.layersErr)
	}
	return hint
}

// exitText describes how the process exited, in Lambda's words.
func (p *process) exitText() string {
	s := p.stats()
	if s.Signal != "" {
		return "signal: " + s.Signal
	}
	return fmt.Sprintf("exit status %d", s.ExitCode)
}
