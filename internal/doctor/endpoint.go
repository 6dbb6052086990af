package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// checkEndpoint looks up the host that the extension sends to, and connects to it, as far as this machine can check that.
// It returns false if no request of this machine would arrive.
func (e *examiner) checkEndpoint(ctx context.Context) bool {
	host := e.stream.url.Host
	if proxy := e.proxy(); proxy != "" {
		e.add(endpointCheck, NotChecked, fmt.Sprintf("%s is reached through the proxy %s", host, proxy),
			"make sure that the proxy allows CONNECT "+e.address())
		return true
	}
	bound, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(bound, "ip", e.stream.url.Hostname())
	if err != nil {
		e.reportUnresolved(err)
		return false
	}
	address := addresses[0].Unmap()
	if e.privateOutsideVPC(address) {
		e.add(endpointCheck, Warning, fmt.Sprintf("%s is %s, a private address, but the function is in no VPC", host, address),
			"put the function into the VPC of that endpoint, or remove "+e.settings.AWS.EndpointVariable)
		return true
	}
	start := time.Now()
	if err := e.connect(ctx); err != nil {
		e.reportUnreachable(address, err)
		return false
	}
	of := ""
	if e.stream.foreign && strings.Contains(host, ".data-kinesis") {
		of = ", the host of the stream's account " + e.stream.AccountID + ";"
	}
	e.ok(endpointCheck, "%s%s at %s answers in %d ms", host, of, address, time.Since(start).Milliseconds())
	return true
}

// privateOutsideVPC reports whether the settings name an endpoint in a VPC that the function is not in. Without
// such a setting, a private address comes from this machine's network, and the function gets another address.
func (e *examiner) privateOutsideVPC(address netip.Addr) bool {
	private := address.IsPrivate() || address.IsLoopback()
	return private && e.settings.AWS.EndpointURL != "" && e.function != nil && e.function.vpc == ""
}

// address returns host:port of the endpoint.
func (e *examiner) address() string {
	u := e.stream.url
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// proxy returns host:port of the proxy that the extension would use, or "" if it would use none.
func (e *examiner) proxy() string {
	if e.function == nil {
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: e.stream.url})
		if err != nil || proxy == nil {
			return ""
		}
		return proxy.Host
	}
	proxy, err := url.Parse(e.settings.AWS.Proxies[strings.ToUpper(e.stream.url.Scheme)+"_PROXY"])
	if err != nil {
		return ""
	}
	return proxy.Host // the whole URL may contain a password
}

// connect opens a connection and completes the TLS handshake.
func (e *examiner) connect(ctx context.Context) error {
	bound, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(bound, "tcp", e.address())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if e.stream.url.Scheme != "https" {
		return nil
	}
	settings := &tls.Config{ServerName: e.stream.url.Hostname(), MinVersion: tls.VersionTLS12}
	if bundle := e.settings.AWS.CABundle; bundle != nil {
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM(bundle)
	}
	return tls.Client(conn, settings).HandshakeContext(bound)
}

const fromHere = " from this machine, which says nothing about the function's VPC"

// reportUnresolved reports a host name that does not resolve.
func (e *examiner) reportUnresolved(err error) {
	host := e.stream.url.Hostname()
	seen := host + " does not resolve: " + Reason(err)
	switch {
	case e.function != nil && e.function.vpc != "":
		e.add(endpointCheck, NotChecked, host+" does not resolve"+fromHere, e.route())
	case e.settings.AWS.EndpointURL != "":
		e.add(endpointCheck, Problem, seen, "correct "+e.settings.AWS.EndpointVariable)
	case e.function != nil: // this machine may reach AWS by another way, such as a proxy
		e.add(endpointCheck, Warning, seen,
			fmt.Sprintf("is there a region %s? If so, only this machine's network cannot resolve its name", e.stream.Region))
	default:
		e.add(endpointCheck, Problem, seen, fmt.Sprintf("is there a region %s? If so, let this network resolve AWS's names; in a VPC: %s",
			e.stream.Region, e.route()))
	}
}

// reportUnreachable reports a host that resolves and does not connect.
func (e *examiner) reportUnreachable(address netip.Addr, err error) {
	host := e.stream.url.Host
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.add(endpointCheck, Problem, fmt.Sprintf("the certificate of %s is not trusted: %v", host, certificate.Err),
			"if a proxy intercepts TLS, name its CA in AWS_CA_BUNDLE")
		return
	}
	seen := fmt.Sprintf("%s resolves to %s and does not connect: %s", host, address, Reason(err))
	switch {
	case e.function != nil && e.function.vpc != "":
		e.add(endpointCheck, NotChecked, fmt.Sprintf("%s (%s) does not connect", host, address)+fromHere, e.route())
	case e.function != nil:
		e.add(endpointCheck, Warning, seen, "check this machine's network; the function's own cannot be checked from here")
	case e.settings.AWS.EndpointURL != "" && !address.IsPrivate():
		e.add(endpointCheck, Problem, seen, "start the server there, or correct "+e.settings.AWS.EndpointVariable)
	default:
		e.add(endpointCheck, Problem, seen, "open a route: "+e.route())
	}
}

// route describes the route to the endpoint that a VPC needs.
func (e *examiner) route() string {
	host := e.stream.url.Hostname()
	switch {
	case e.inOtherRegion() && e.settings.AWS.EndpointURL != "":
		return fmt.Sprintf("a route to %s, which %s names", host, e.settings.AWS.EndpointVariable)
	case e.inOtherRegion():
		return fmt.Sprintf("a NAT gateway: the stream is in %s, which no interface endpoint of %s serves", e.stream.Region, e.settings.AWS.Region)
	}
	text := fmt.Sprintf("a NAT gateway or an interface endpoint %s with private DNS, "+
		"and security groups that let TCP 443 out of the function and into the endpoint", e.stream.endpointService())
	if e.stream.foreign {
		text += "; another account's stream is at " + host + ", not at the plain regional host"
	}
	return text
}

// inOtherRegion reports whether the stream is in another region than the function or the shell.
func (e *examiner) inOtherRegion() bool { return e.stream.Region != e.settings.AWS.Region }

// endpointService returns the name of the VPC endpoint service that serves the host of the stream.
func (p *streamTarget) endpointService() string {
	name := "com.amazonaws." + p.Region + ".kinesis-streams"
	if p.Partition == "aws-cn" {
		name = "cn." + name
	}
	if strings.Contains(p.url.Hostname(), "kinesis-fips.") {
		name += "-fips"
	}
	return name
}
