//go:build unix

package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// collector collects the messages of a test's fake extensions.
type collector struct {
	t        *testing.T
	listener net.Listener
	wg       sync.WaitGroup // all goroutines
	readers  sync.WaitGroup // goroutines that read from a running extension

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each message
	messages []message
	conns    []net.Conn
	emitted  map[string][]Event
}

func newCollector(t *testing.T) *collector {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, listener: listener, changed: make(chan struct{}), emitted: map[string][]Event{}}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		c.mu.Lock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *collector) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
		c.readers.Add(1)
		c.wg.Go(func() {
			defer c.readers.Done()
			in := bufio.NewReader(conn)
			for {
				line, err := in.ReadBytes('\n')
				if err != nil {
					return
				}
				var m message
				if err := json.Unmarshal(line, &m); err != nil {
					c.t.Errorf("message of an extension: %v", err)
					return
				}
				c.mu.Lock()
				c.messages = append(c.messages, m)
				close(c.changed)
				c.changed = make(chan struct{})
				c.mu.Unlock()
			}
		})
	}
}

// releaseExtensions continues the extensions that wait for the test.
func (c *collector) releaseExtensions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_, _ = conn.Write([]byte("\n"))
	}
}

// await waits for a message for which is returns true, and returns it.
func (c *collector) await(what string, is func(message) bool) message {
	c.t.Helper()
	limit := time.After(time.Minute)
	for checked := 0; ; {
		c.mu.Lock()
		messages, changed := c.messages[checked:], c.changed
		c.mu.Unlock()
		if i := slices.IndexFunc(messages, is); i >= 0 {
			return messages[i]
		}
		checked += len(messages)
		select {
		case <-changed:
		case <-limit:
			c.t.Fatalf("no %s within a minute", what)
		}
	}
}

// isEnv reports whether m has an extension's environment variables.
func isEnv(m message) bool { return m.Kind == "env" }

// ofKind returns the messages of a kind.
func (c *collector) ofKind(kind string) []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []message
	for _, m := range c.messages {
		if m.Kind == kind {
			found = append(found, m)
		}
	}
	return found
}

// onEvent implements Config.OnEvent.
func (c *collector) onEvent(name string, e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.emitted[name] = append(c.emitted[name], e)
}

// delivered returns the events of all POSTs that were answered with 200, in order, for an extension with one subscription.
func (c *collector) delivered(name string) []wireEvent { return c.deliveredTo(name, 0) }

// deliveredTo returns the events that one of the extension's listeners accepted.
func (c *collector) deliveredTo(name string, listener int) []wireEvent {
	c.t.Helper()
	var all []wireEvent
	for _, m := range c.ofKind("post") {
		if m.Name != name || m.To != listener || (m.Status != 200 && m.Status != 0) {
			continue
		}
		var events []json.RawMessage
		if err := json.Unmarshal(m.Body, &events); err != nil {
			c.t.Fatalf("a POST does not parse: %v: %.200s", err, m.Body)
		}
		for _, raw := range events {
			e := wireEvent{Raw: raw}
			if err := json.Unmarshal(raw, &e); err != nil {
				c.t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	return all
}

// checkDelivered checks, after Shutdown, that exactly the events of OnEvent arrived, byte for byte and in order. It
// returns them.
func (c *collector) checkDelivered(name string) []wireEvent {
	c.t.Helper()
	c.readers.Wait()
	got := c.delivered(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	want := c.emitted[name]
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			c.t.Fatalf("%s: event %d of %d never arrived: %.300s", name, i, len(want), want[i].Raw)
		case i >= len(want):
			c.t.Fatalf("%s: event %d arrived without a call of OnEvent: %.300s", name, i, got[i].Raw)
		case !bytes.Equal(got[i].Raw, want[i].Raw):
			c.t.Fatalf("%s: event %d: arrived %.300s, want %.300s", name, i, got[i].Raw, want[i].Raw)
		case !bytes.Equal(got[i].Record, want[i].Record):
			c.t.Fatalf("%s: event %d: record %.300s, want %.300s", name, i, got[i].Record, want[i].Record)
		}
	}
	return got
}

// wireEvent is an event as it arrived.
type wireEvent struct {
	Time   string
	Type   string
	Record json.RawMessage
	Raw    json.RawMessage `json:"-"`
}

// field returns a member of the record, nil if it does not exist.
func (e wireEvent) field(t *testing.T, path ...string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(e.Record, &v); err != nil {
		t.Fatal(err)
	}
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func ofType(events []wireEvent, typ string) []wireEvent {
	return slices.DeleteFunc(slices.Clone(events), func(e wireEvent) bool { return e.Type != typ })
}

func typesOf(events []wireEvent) []string {
	var types []string
	for _, e := range events {
		types = append(types, e.Type)
	}
	return types
}

func parseEvent(raw []byte) (e struct {
	EventType, RequestID, ShutdownReason string
	DeadlineMs                           int64
	InvokedFunctionArn                   string
	Tracing                              *struct{ Type, Value string }
},
) {
	_ = json.Unmarshal(raw, &e)
	return e
}
