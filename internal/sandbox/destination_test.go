//go:build unix

package sandbox

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// POSTs share one connection, or with NewConnections each has its own.
func TestNewConnections(t *testing.T) {
	const posts = 3
	for separate, want := range map[bool]int{false: 1, true: posts} {
		peers := make(chan string, posts)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { peers <- r.RemoteAddr }))
		address := server.Listener.Addr().(*net.TCPAddr)
		d := newDestination(
			&subscription{host: "sandbox", method: http.MethodPost, port: address.Port},
			&TelemetryFaults{NewConnections: separate},
		)
		connections := map[string]bool{}
		for range posts {
			if err := d.send(t.Context(), []byte("[]")); err != nil {
				t.Fatal(err)
			}
			connections[<-peers] = true
		}
		d.close()
		server.Close()
		if len(connections) != want {
			t.Errorf("separate %t: %d connections", separate, len(connections))
		}
	}
}
