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
	dialTimeout = 3 * time.Second // for the lookup and all attempts to connect

	// The delays of RFC 8305, section 8: the wait for the other address family, and the time between two attempts.
	resolutionDelay = 50 * time.Millisecond
	attemptDelay    = 250 * time.Millisecond

	maxRemembered = 16 // failed addresses
)

// dialer connects as RFC 8305 (Happy Eyeballs) describes. net.Dialer waits for the answers about both address families:
// ten seconds if a name server ignores AAAA queries. It also tries the addresses of a family one after the other.
type dialer struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error) // like net.Resolver.LookupNetIP
	dial   func(ctx context.Context, network, address string) (net.Conn, error)  // address is an IP address and a port

	mu     sync.Mutex
	failed []netip.Addr // addresses to try last; guarded by mu
}

func newDialer() *dialer {
	plain := &net.Dialer{KeepAlive: -1} // no keep-alive probes: no connection is idle for longer than maxIdle
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := plain.DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			// Close resets the connection. Otherwise the kernel would go on sending a request that was given up and is retried.
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

// DialContext connects to a host, at the first of its addresses that answers.
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

// resolve looks up the addresses of both families. If the second answer does not follow the first within
// resolutionDelay, it returns the addresses of one family. The families alternate, IPv6 first.
func (d *dialer) resolve(ctx context.Context, host string) (addresses []netip.Addr, err error) {
	if literal, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{literal}, nil
	}
	type lookupResult struct {
		family    int
		addresses []netip.Addr
		err       error
	}
	families := [...]string{"ip6", "ip4"}
	results := make(chan lookupResult, len(families))
	for family, network := range families {
		go func() {
			found, err := d.lookup(ctx, network, host)
			results <- lookupResult{family, found, err}
		}()
	}
	var found [len(families)][]netip.Addr
	var late <-chan time.Time
	for range families {
		select {
		case r := <-results:
			found[r.family], err = r.addresses, cmp.Or(r.err, err)
			if len(r.addresses) > 0 {
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

// race connects to the addresses in order. It starts the next attempt when the last one has failed or has taken
// attemptDelay. The first connection wins. When race returns, every other connection is closed and no attempt is
// running.
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

// failedLast sorts the addresses that failed to the end, the most recent failure last.
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

// remember records how an attempt ended. An attempt that lost the race counts as failed, because it had a head start.
func (d *dialer) remember(address netip.Addr, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = slices.DeleteFunc(d.failed, func(a netip.Addr) bool { return a == address })
	if failed {
		d.failed = append(d.failed, address)
		d.failed = d.failed[max(0, len(d.failed)-maxRemembered):]
	}
}
