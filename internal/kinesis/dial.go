package kinesis

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	dialTimeout = 3 * time.Second // of the lookup and all attempts to connect

	// The delays of RFC 8305, section 8: for the other address family, and between two attempts.
	resolutionDelay = 50 * time.Millisecond
	attemptDelay    = 250 * time.Millisecond

	maxRemembered = 16 // addresses that failed
)

// dialer connects as RFC 8305 (Happy Eyeballs) has it. net.Dialer waits for the answers about both address families, ten
// seconds where a name server ignores questions for AAAA, and tries one address of a family after the other.
type dialer struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error) // as net.Resolver.LookupNetIP
	dial   func(ctx context.Context, network, address string) (net.Conn, error)  // address is an IP address and a port

	mu     sync.Mutex
	failed []netip.Addr // are tried last; guarded by mu
}

func newDialer() *dialer {
	plain := &net.Dialer{KeepAlive: -1} // no connection rests for longer than maxIdle
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := plain.DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			// A connection is closed by a reset. Else the kernel would go on to send a request that was given up and is sent again.
			_ = tcp.SetLinger(0)
		}
		return conn, err
	}
	return &dialer{
		lookup: func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, network, host)
		},
		dial: dial,
	}
}

// DialContext connects to the first address of a host that answers.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addresses, err := d.resolve(ctx, host)
	if len(addresses) == 0 {
		return nil, err
	}
	return d.race(ctx, network, addresses, port)
}

// resolve finds the addresses of both families, or of one where the other is not known soon after it. The families
// alternate, IPv6 first.
func (d *dialer) resolve(ctx context.Context, host string) (addresses []netip.Addr, err error) {
	if literal, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{literal}, nil
	}
	type answer struct {
		family    int
		addresses []netip.Addr
		err       error
	}
	families := [...]string{"ip6", "ip4"}
	answers := make(chan answer, len(families))
	for family, network := range families {
		go func() {
			found, err := d.lookup(ctx, network, host)
			answers <- answer{family, found, err}
		}()
	}
	var found [len(families)][]netip.Addr
	var late <-chan time.Time
	for range families {
		select {
		case a := <-answers:
			found[a.family], err = a.addresses, cmp.Or(a.err, err)
			if len(a.addresses) > 0 {
				late = time.After(resolutionDelay)
			}
		case <-late:
		}
	}
	for i := range max(len(found[0]), len(found[1])) {
		for _, family := range found {
			if i < len(family) {
				addresses = append(addresses, family[i].Unmap())
			}
		}
	}
	return addresses, err
}

// race connects to the addresses, to the next when the last has failed or has not answered soon. The first connection wins;
// nothing else is open or under way when race returns.
func (d *dialer) race(ctx context.Context, network string, addresses []netip.Addr, port string) (won net.Conn, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type attempt struct {
		address netip.Addr
		conn    net.Conn
		err     error
	}
	attempts := make(chan attempt)
	addresses = d.failedLast(addresses)
	for running := 0; running > 0 || len(addresses) > 0; {
		var next <-chan time.Time
		if len(addresses) > 0 {
			address := addresses[0]
			addresses, next = addresses[1:], time.After(attemptDelay)
			running++
			go func() {
				conn, err := d.dial(ctx, network, net.JoinHostPort(address.String(), port))
				attempts <- attempt{address, conn, err}
			}()
		}
		select {
		case <-next:
		case a := <-attempts:
			running--
			d.remember(a.address, a.err != nil)
			switch {
			case a.err != nil:
				err = a.err
			case won == nil:
				won, addresses = a.conn, nil
				cancel()
			default:
				_ = a.conn.Close()
			}
		}
	}
	if won != nil {
		err = nil
	}
	return won, err
}

// failedLast sorts addresses: those that failed go last, the one that failed most recently the very last.
func (d *dialer) failedLast(addresses []netip.Addr) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	var sorted []netip.Addr
	for _, address := range addresses {
		if !slices.Contains(d.failed, address) {
			sorted = append(sorted, address)
		}
	}
	for _, address := range d.failed {
		if slices.Contains(addresses, address) {
			sorted = append(sorted, address)
		}
	}
	return sorted
}

// remember notes how an attempt ended. One that lost the race counts as failed: it had a head start.
func (d *dialer) remember(address netip.Addr, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = slices.DeleteFunc(d.failed, func(a netip.Addr) bool { return a == address })
	if failed {
		d.failed = append(d.failed, address)
		d.failed = d.failed[max(0, len(d.failed)-maxRemembered):]
	}
}
