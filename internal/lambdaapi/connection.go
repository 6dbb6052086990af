package lambdaapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxResponse is how much of a response is read, in bytes. The longest response, an INVOKE event, has about 500.
const maxResponse = 1 << 20

type response struct {
	status int
	header http.Header
	body   []byte
}

// connection is an HTTP/1.1 connection to Lambda's APIs. A call is one write and one read on the loopback interface. The
// extension registers 0.2 ms earlier this way than with http.Client, which starts two goroutines a connection.
type connection struct {
	net.Conn
	reader *bufio.Reader
}

// do sends a request and reads the whole response. It keeps the connection for the next call. Lambda may close a kept
// connection at any time, so do repeats a request that failed on a kept connection once, on a new one.
func (c *Client) do(request *http.Request) (response, error) {
	var message bytes.Buffer
	if err := request.Write(&message); err != nil {
		return response{}, fmt.Errorf("encode the request: %w", err)
	}
	ctx := request.Context()
	if kept := c.kept.Swap(nil); kept != nil {
		reply, err := c.exchange(ctx, kept, message.Bytes())
		if err == nil || ctx.Err() != nil {
			return reply, err
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return response{}, err
	}
	return c.exchange(ctx, &connection{conn, bufio.NewReader(conn)}, message.Bytes())
}

// exchange sends a request on a connection and reads the response, until ctx ends.
func (c *Client) exchange(ctx context.Context, conn *connection, request []byte) (response, error) {
	detach := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // interrupts Write and Read
	reply, reusable, err := conn.roundTrip(request)
	interrupted := !detach()
	if interrupted && err != nil {
		err = ctx.Err()
	}
	if err != nil || interrupted || !reusable {
		_ = conn.Close()
		return reply, err
	}
	if other := c.kept.Swap(conn); other != nil {
		_ = other.Close()
	}
	return reply, nil
}

// roundTrip reports whether the connection can be used again.
func (conn *connection) roundTrip(request []byte) (reply response, reusable bool, err error) {
	if _, err := conn.Write(request); err != nil {
		return response{}, false, err
	}
	received, err := http.ReadResponse(conn.reader, nil)
	if err != nil {
		return response{}, false, fmt.Errorf("read the response: %w", err)
	}
	defer received.Body.Close()
	body, err := io.ReadAll(io.LimitReader(received.Body, maxResponse))
	if err != nil {
		return response{}, false, fmt.Errorf("read the response: %w", err)
	}
	return response{received.StatusCode, received.Header, body}, !received.Close && len(body) < maxResponse, nil
}
