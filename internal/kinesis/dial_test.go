package kinesis

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// network simulates a name server and hosts on fake time. It never answers for unknown names and hosts.
type network struct {
	dialer
	answers map[string]lookupAnswer // by "ip4" and "ip6"
	hosts   map[string]hostAnswer   // by IP address

	mu     sync.Mutex
	dialed []string // guarded by mu
	open   int      // connections; guarded by mu
}

type lookupAnswer struct {
	after time.Duration
	addrs string
	err   error
}

type hostAnswer struct {
	after time.Duration
	err   error
}

func newNetwork(answers map[string]lookupAnswer, hosts map[string]hostAnswer) *network {
	n := &network{answers: answers, hosts: hosts}
	n.dialer = dialer{lookup: n.look, dial: n.connect}
	return n
}

func (n *network) look(ctx context.Context, family, host string) ([]netip.Addr, error) {
	a, known := n.answers[family]
	if err := after(ctx, known, a.after); err != nil {
		return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
	}
	var addresses []netip.Addr
	for text := range strings.FieldsSeq(a.addrs) {
		addresses = append(addresses, netip.MustParseAddr(text))
	}
	if len(addresses) == 0 && a.err == nil {
		a.err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addresses, a.err
}

func (n *network) connect(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, address)
	n.mu.Unlock()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	h, known := n.hosts[host]
	if err := after(ctx, known, h.after); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ETIMEDOUT}
	}
	if h.err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: h.err}
	}
	n.count(1)
	return &countedConn{network: n, host: host}, nil
}

func (n *network) count(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open += by
}

type countedConn struct {
	net.Conn
	network *network
	host    string
}

func (c *countedConn) Close() error {
	c.network.count(-1)
	return nil
}

// after waits for the given time, or forever if ever is false. If the context ends first, after returns its error.
func after(ctx context.Context, ever bool, wait time.Duration) error {
	var passed <-chan time.Time
	if ever {
		passed = time.After(wait)
	}
	select {
	case <-passed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	host4, host4b, host4c = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	host6, host6b         = "2001:db8::1", "2001:db8::2"
)

// Each case has the answers of the name server and of the hosts, the host that the connection must reach, the time that
// it takes, and the addresses that must be tried, in order.
func TestDial(t *testing.T) {
	const ms = time.Millisecond
	at := func(after time.Duration, addrs string) lookupAnswer { return lookupAnswer{after: after, addrs: addrs} }
	for _, c := range []struct {
		name    string
		address string
		answers map[string]lookupAnswer
		hosts   map[string]hostAnswer
		reaches string
		within  time.Duration
		tries   []string
		says    string
	}{
		{
			name:    "IPv4 alone",
			answers: map[string]lookupAnswer{"ip4": at(3*ms, host4), "ip6": at(5*ms, "")},
			hosts:   map[string]hostAnswer{host4: {after: 10 * ms}},
			reaches: host4,
			within:  15 * ms,
			tries:   []string{host4},
		},
		{
			name:    "IPv6 alone",
			answers: map[string]lookupAnswer{"ip4": at(3*ms, ""), "ip6": at(5*ms, host6)},
			hosts:   map[string]hostAnswer{host6: {after: 10 * ms}},
			reaches: host6,
			within:  15 * ms,
			tries:   []string{host6},
		},
		{
			name:    "both: IPv6 first",
			answers: map[string]lookupAnswer{"ip4": at(3*ms, host4), "ip6": at(5*ms, host6)},
			hosts:   map[string]hostAnswer{host6: {after: 10 * ms}, host4: {}},
			reaches: host6,
			within:  15 * ms,
			tries:   []string{host6},
		},
		{
			name:    "no answer to AAAA",
			answers: map[string]lookupAnswer{"ip4": at(3*ms, host4)},
			hosts:   map[string]hostAnswer{host4: {}},
			reaches: host4,
			within:  53 * ms,
			tries:   []string{host4},
		},
		{
			name:    "no answer to A",
			answers: map[string]lookupAnswer{"ip6": at(3*ms, host6)},
			hosts:   map[string]hostAnswer{host6: {}},
			reaches: host6,
			within:  53 * ms,
			tries:   []string{host6},
		},
		{
			name:    "AAAA is late",
			answers: map[string]lookupAnswer{"ip4": at(3*ms, host4), "ip6": at(2*time.Second, host6)},
			hosts:   map[string]hostAnswer{host4: {}, host6: {}},
			reaches: host4,
			within:  53 * ms,
			tries:   []string{host4},
		},
		{
			name:    "both are late",
			answers: map[string]lookupAnswer{"ip4": at(900*ms, host4), "ip6": at(time.Second, "")},
			hosts:   map[string]hostAnswer{host4: {}},
			reaches: host4,
			within:  950 * ms,
			tries:   []string{host4},
		},
		{
			name:    "no IPv6 here",
			answers: map[string]lookupAnswer{"ip4": at(0, host4), "ip6": at(0, host6)},
			hosts:   map[string]hostAnswer{host6: {err: syscall.ENETUNREACH}, host4: {after: 10 * ms}},
			reaches: host4,
			within:  10 * ms,
			tries:   []string{host6, host4},
		},
		{
			name:    "IPv6 is a black hole",
			answers: map[string]lookupAnswer{"ip4": at(0, host4), "ip6": at(0, host6+" "+host6b)},
			hosts:   map[string]hostAnswer{host4: {after: 10 * ms}},
			reaches: host4,
			within:  260 * ms,
			tries:   []string{host6, host4},
		},
		{
			name:    "the first is dead",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b), "ip6": at(0, "")},
			hosts:   map[string]hostAnswer{host4b: {after: 10 * ms}},
			reaches: host4b,
			within:  260 * ms,
			tries:   []string{host4, host4b},
		},
		{
			name:    "the first refuses",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b), "ip6": at(0, "")},
			hosts:   map[string]hostAnswer{host4: {after: ms, err: syscall.ECONNREFUSED}, host4b: {after: 10 * ms}},
			reaches: host4b,
			within:  11 * ms,
			tries:   []string{host4, host4b},
		},
		{
			name:    "the first is slow, and still the fastest",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b), "ip6": at(0, "")},
			hosts:   map[string]hostAnswer{host4: {after: 300 * ms}, host4b: {after: 100 * ms}},
			reaches: host4,
			within:  300 * ms,
			tries:   []string{host4, host4b},
		},
		{
			name:    "the third of three",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b+" "+host4c), "ip6": at(0, "")},
			hosts:   map[string]hostAnswer{host4: {after: 400 * ms, err: syscall.ECONNREFUSED}, host4c: {}},
			reaches: host4c,
			within:  400 * ms,
			tries:   []string{host4, host4b, host4c},
		},
		{name: "a literal address", address: host4 + ":443", hosts: map[string]hostAnswer{host4: {}}, reaches: host4, tries: []string{host4}},
		{
			name:    "a literal IPv6 address",
			address: "[" + host6 + "]:443",
			hosts:   map[string]hostAnswer{host6: {}},
			reaches: host6,
			tries:   []string{host6},
		},
		{name: "no port", address: "host", says: "missing port", within: 0},
		{name: "no such host", answers: map[string]lookupAnswer{"ip4": at(0, ""), "ip6": at(0, "")}, says: "no such host"},
		{
			name:    "no such host, and no answer to AAAA",
			answers: map[string]lookupAnswer{"ip4": at(0, "")},
			says:    "i/o timeout",
			within:  dialTimeout,
		},
		{name: "no name server", says: "i/o timeout", within: dialTimeout},
		{
			name:    "all refuse",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b), "ip6": at(0, "")},
			hosts:   map[string]hostAnswer{host4: {err: syscall.ECONNREFUSED}, host4b: {err: syscall.ECONNREFUSED}},
			says:    "refused",
			tries:   []string{host4, host4b},
		},
		{
			name:    "all are dead",
			answers: map[string]lookupAnswer{"ip4": at(0, host4+" "+host4b), "ip6": at(0, "")},
			says:    "timed out",
			within:  dialTimeout,
			tries:   []string{host4, host4b},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(c.answers, c.hosts)
				if c.address == "" {
					c.address = "kinesis.test:443"
				}
				began := time.Now()
				conn, err := n.DialContext(t.Context(), "tcp", c.address)
				if took := time.Since(began); took != c.within {
					t.Errorf("took %v, want %v", took, c.within)
				}
				var want []string
				for _, host := range c.tries {
					want = append(want, net.JoinHostPort(host, "443"))
				}
				if !slices.Equal(n.dialed, want) {
					t.Errorf("tried %v, want %v", n.dialed, want)
				}
				if c.says != "" {
					if err == nil || !strings.Contains(err.Error(), c.says) {
						t.Errorf("%v, want %q", err, c.says)
					}
				} else if err != nil || conn.(*countedConn).host != c.reaches {
					t.Fatalf("reached %v, %v; want %s", conn, err, c.reaches)
				}
				if conn != nil {
					conn.Close()
				}
				synctest.Wait() // a goroutine that is left would deadlock the test
				if n.open != 0 {
					t.Errorf("%d connections are left open", n.open)
				}
			})
		})
	}
}

// An address that failed is tried last, until no other address works.
func TestDialRemembersFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(map[string]lookupAnswer{"ip4": {addrs: host4 + " " + host4b}, "ip6": {}}, map[string]hostAnswer{host4b: {}})
		reach := func(want string, within time.Duration) {
			t.Helper()
			began := time.Now()
			conn, err := n.DialContext(t.Context(), "tcp", "kinesis.test:443")
			if err != nil || conn.(*countedConn).host != want || time.Since(began) != within {
				t.Fatalf("reached %v, %v after %v; want %s after %v", conn, err, time.Since(began), want, within)
			}
			conn.Close()
		}
		reach(host4b, attemptDelay)
		for range 3 {
			reach(host4b, 0)
		}
		n.hosts = map[string]hostAnswer{host4: {}, host4b: {err: syscall.ECONNREFUSED}}
		reach(host4, 0) // at once, because the other one refuses
		n.hosts = map[string]hostAnswer{host4: {}}
		reach(host4, 0)
		for i := range 100 { // with changing addresses, the list of failed ones stays bounded
			n.answers = map[string]lookupAnswer{"ip4": {addrs: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()}, "ip6": {}}
			if _, err := n.DialContext(t.Context(), "tcp", "kinesis.test:443"); err == nil {
				t.Fatal("connected to nothing")
			}
		}
		if len(n.failed) > maxRemembered {
			t.Errorf("remembers %d addresses", len(n.failed))
		}
	})
}

// If two connections succeed at the same moment, one is closed.
func TestDialTieClosesOneConnection(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(map[string]lookupAnswer{"ip4": {addrs: host4 + " " + host4b}, "ip6": {}},
				map[string]hostAnswer{host4: {after: attemptDelay + time.Millisecond}, host4b: {after: time.Millisecond}})
			if conn, err := n.DialContext(t.Context(), "tcp", "kinesis.test:443"); err != nil {
				t.Error(err)
			} else if conn.Close(); n.open != 0 {
				t.Errorf("%d connections are left open", n.open)
			}
		})
	}
}

// When the context ends, no connection and no goroutine is left.
func TestCanceledDialLeavesNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(map[string]lookupAnswer{"ip4": {addrs: host4 + " " + host4b}}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := n.DialContext(ctx, "tcp", "kinesis.test:443"); err == nil || time.Since(began) != 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// nameServer answers queries for A records with this machine's address, and no other queries.
func nameServer(conn net.Conn) {
	defer conn.Close()
	const header, question = 12, 12 + len("\x07kinesis\x04test\x00") + 4
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, message); err != nil {
			return
		}
		if binary.BigEndian.Uint16(message[question-4:]) != 1 {
			continue
		}
		message = append(message[:question:question], "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"...)
		copy(message[2:header], "\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00") // an answer, without additional records
		_, _ = conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(message))))
		_, _ = conn.Write(message)
	}
}

// If Go's own resolver gets no answer about AAAA, the dialer does not wait for it. This test runs in real time.
func TestNameServerWithoutAAAA(t *testing.T) {
	c := rawServer(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for takeRequest(r) {
			answerOneStored(conn)
		}
	})
	defaultResolver := net.DefaultResolver
	defer func() { net.DefaultResolver = defaultResolver }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go nameServer(theirs)
		return ours, nil
	}}
	_, port, err := net.SplitHostPort(c.target.url.Host)
	if err != nil {
		t.Fatal(err)
	}
	c.target.url.Host = net.JoinHostPort("kinesis.test.", port)
	ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond) // the resolver gives up after 5 s
	defer cancel()
	began := time.Now()
	result := c.Put(ctx, recordsOf("a"))
	if outcomesOf(result) != "s" {
		t.Errorf("outcome %s after %v: %v", outcomesOf(result), time.Since(began), result.Err)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Error("it took all the time of the context")
	}
}
