package e2e_test

import (
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/sandbox"
)

// Obstacles between the extension and Kinesis, and around the extension. Each function with an Extension parameter changes that
// extension's configuration so that it meets the obstacle.

const endpointURL = "KINESIS_TELEMETRY_ENDPOINT_URL"

// interceptor is an HTTP server between the extension and Kinesis.
type interceptor struct {
	*httptest.Server
	kinesis  http.Handler
	requests atomic.Int32
}

// newInterceptor starts an interceptor. handle may call pass.
func newInterceptor(r *trial, handle func(b *interceptor, w http.ResponseWriter, req *http.Request)) *interceptor {
	b := &interceptor{kinesis: r.kinesis}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b.requests.Add(1)
		handle(b, w, req)
	}))
	r.Cleanup(b.Close)
	return b
}

// pass forwards the request to Kinesis.
func (b *interceptor) pass(w http.ResponseWriter, r *http.Request) { b.kinesis.ServeHTTP(w, r) }

// zipped compresses the answer.
func zipped(b *interceptor, w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	b.pass(answer, r)
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(answer.Code)
	z := gzip.NewWriter(w)
	_, _ = io.Copy(z, answer.Body)
	_ = z.Close()
}

func zips(r *trial, x *sandbox.Extension) { x.Env[endpointURL] = newInterceptor(r, zipped).URL }

// refusesConnect is a proxy that refuses CONNECT with a status while the trial's fault is active.
func refusesConnect(status int) func(*trial, *sandbox.Extension) {
	return func(r *trial, x *sandbox.Extension) {
		secure := httptest.NewTLSServer(r.kinesis)
		r.Cleanup(secure.Close)
		onward := newPath(r.T, 0, secure.Listener.Addr().String())
		proxy := newInterceptor(r, func(_ *interceptor, w http.ResponseWriter, _ *http.Request) {
			if r.faulty.Load() {
				w.WriteHeader(status)
				return
			}
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil { // first, because the server would read on after an answer
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				onward.connect(conn)
			}
		})
		maps.Copy(x.Env, map[string]string{endpointURL: "https://example.com", "HTTPS_PROXY": proxy.URL, "AWS_CA_BUNDLE": bundleOf(r, secure)})
	}
}

// path forwards connections to a server. It limits the total rate towards the server.
type path struct {
	rate    int // bytes a second; 0: no limit
	to      string
	running sync.WaitGroup

	mu   sync.Mutex // guards all below
	open []net.Conn
	free time.Time // when the path is free again
}

func newPath(t *testing.T, rate int, to string) *path {
	p := &path{rate: rate, to: to}
	t.Cleanup(func() {
		p.mu.Lock()
		for _, conn := range p.open {
			conn.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// slow is a path with a limited rate, bytes a second.
func slow(rate int) func(*trial, *sandbox.Extension) {
	return func(r *trial, x *sandbox.Extension) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.Fatal(err)
		}
		p := newPath(r.T, rate, r.address())
		p.running.Go(func() {
			for {
				from, err := listener.Accept()
				if err != nil {
					return
				}
				p.connect(from)
			}
		})
		r.Cleanup(func() { listener.Close() })
		x.Env[endpointURL] = "http://" + listener.Addr().String()
	}
}

func (p *path) connect(from net.Conn) {
	onward, err := net.Dial("tcp", p.to)
	if err != nil {
		from.Close()
		return
	}
	_ = from.(*net.TCPConn).SetReadBuffer(64 << 10) // the sender waits with the bytes in transit
	p.mu.Lock()
	p.open = append(p.open, from, onward)
	p.mu.Unlock()
	p.running.Go(func() {
		defer onward.Close()
		p.carry(onward, from)
	})
	p.running.Go(func() {
		defer from.Close()
		_, _ = io.Copy(from, onward)
	})
}

func (p *path) carry(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if p.rate > 0 {
			time.Sleep(p.reserve(n))
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// reserve returns the delay of the next n bytes.
func (p *path) reserve(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	return time.Until(p.free)
}

// host is a name that only the files of mountFile and the name server of ignoresAAAA know.
const host = "kinesis.test"

// mountFile replaces a file in /etc, for the extension only. Go's resolver reads no other files.
func mountFile(r *trial, x *sandbox.Extension, name, text string) {
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		err = exec.Command(unshare, "-rm", "true").Run()
	}
	if err != nil {
		r.unavailable("user and mount namespaces (unshare -rm)", err)
	}
	file := filepath.Join(r.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
	x.Name = extensionName
	x.Args = []string{"-rm", "sh", "-c", `mount --bind "$1" "/etc/$2" && exec "$0"`, x.Path, file, name} // one process: a freeze stops it
	x.Path = unshare
	x.Env[endpointURL] = "http://" + net.JoinHostPort(host, r.port())
}

// unavailable skips a test that this machine cannot run. In CI it fails the test.
func (r *trial) unavailable(what string, err error) {
	if os.Getenv("CI") == "true" {
		r.Fatalf("this test needs %s: %v", what, err)
	}
	r.Skipf("not run: %s are needed: %v", what, err)
}

// ignoresAAAA is a name server that answers A queries with this machine's address, and ignores all others.
func ignoresAAAA(r *trial, x *sandbox.Extension) {
	var port uint16
	_, _ = fmt.Sscan(r.port(), &port)
	server := net.IPv4(127, 53, byte(port>>8), byte(port)) // resolv.conf has no ports, so each trial has its own address
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: server, Port: 53})
	if err != nil {
		r.unavailable("ports below 1024", err)
	}
	r.Cleanup(func() { socket.Close() })
	go func() { // ends when the socket is closed
		message := make([]byte, 512)
		for {
			_, from, err := socket.ReadFromUDP(message)
			if err != nil {
				return
			}
			const header, question = 12, 12 + len("\x07kinesis\x04test\x00") + 4
			if binary.BigEndian.Uint16(message[question-4:]) != 1 {
				continue
			}
			copy(message[2:header], "\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00") // an answer, without the other sections of the query
			answer := append(slices.Clone(message[:question]), "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"...)
			_, _ = socket.WriteToUDP(answer, from)
		}
	}()
	mountFile(r, x, "resolv.conf", "nameserver "+server.String()+"\n")
}

// deadAddress puts an address before the host's own. The kernel drops all its packets, because the queue of its listener is full.
func deadAddress(r *trial, x *sandbox.Extension) {
	const dead = "127.0.0.2"
	address := net.JoinHostPort(dead, r.port())
	listener, err := net.Listen("tcp", address)
	if err != nil {
		r.unavailable("further addresses of this machine", err)
	}
	r.Cleanup(func() { listener.Close() })
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(socket uintptr) { _ = syscall.Listen(int(socket), 0) })
	}
	if err != nil {
		r.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			break
		}
		r.Cleanup(func() { conn.Close() })
	}
	mountFile(r, x, "hosts", dead+" "+host+"\n127.0.0.1 "+host+"\n")
}

// stopAndGo is the argument that makes this program run another one on a sixth of a CPU.
const stopAndGo = "stop-and-go"

// sixthOfCPU stops the extension for five sixths of the time, as the quota of a function of 300 MB does.
func sixthOfCPU(r *trial, x *sandbox.Extension) {
	self, err := os.Executable()
	if err != nil {
		r.Fatal(err)
	}
	x.Path, x.Args, x.Name = self, []string{stopAndGo, x.Path}, extensionName
}

// runStopAndGo returns the program's exit code. The sandbox freezes both: they are of one process group.
func runStopAndGo(program string) int {
	const goes, stops = 4 * time.Millisecond, 20 * time.Millisecond
	command := exec.Command(program)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		panic(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait() // ProcessState has the same error
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return command.ProcessState.ExitCode()
		case <-time.After(goes):
		}
		_ = command.Process.Signal(syscall.SIGSTOP) // an error means that it has ended
		time.Sleep(stops)
		_ = command.Process.Signal(syscall.SIGCONT)
	}
}

// address and port are Kinesis's.
func (r *trial) address() string { return strings.TrimPrefix(r.kinesis.URL(), "http://") }

func (r *trial) port() string {
	u, err := url.Parse(r.kinesis.URL())
	if err != nil {
		r.Fatal(err)
	}
	return u.Port()
}
