//go:build unix

package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// plan is the behaviour of a fake extension.
type plan struct {
	Collector         string // address of the collector
	Name              string // to register with, default the file name
	Events            []string
	Subscribe         string   // body of the subscription, "" for none; PORT stands for the listener's port
	MoreSubscriptions []string // bodies of further subscriptions, each with its own listener; FIRST stands for the first listener's port
	Logs              bool     // subscribe to the Logs API
	TCP               bool
	MarkerFile        string   // file to create after subscribing
	Answers           []int    // statuses of the first POSTs; 0 delays a 200 until the test releases the extension
	InitError         string   // error type to report instead of calling next
	Exit              int      // exit status after register, if not 0
	ExitIfRefused     int      // exit status if register is refused; 0: block forever
	PrintLines        int      // lines to print after register
	Listen            string   // host to listen on, "" for all addresses
	NoListener        bool     // close the listener before subscribing
	Shutdown          string   // at SHUTDOWN: "" to exit, hang or fail
	ExitAfter         []string // at SHUTDOWN: exit when POSTs have contained these texts
	Print             string   // line to print at each INVOKE
}

// message is a message from a fake extension to the collector.
type message struct {
	Kind   string // env, register, subscribe, post, event, status
	Name   string
	PID    int
	To     int // which of the extension's listeners got the POST
	Method string
	Status int
	Header http.Header
	Body   []byte
	At     time.Time
}

// extension is a fake extension.
type extension struct {
	plan plan
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	api  string
	id   string

	servers []*http.Server
	first   string // port of the first listener
	posts   int
	unseen  []string      // those of plan.ExitAfter that no POST has contained; guarded by mu
	seenAll chan struct{} // closed when unseen is empty
	once    sync.Once
}

func runExtension(planJSON string) error {
	signal.Ignore(syscall.SIGTERM)
	x := &extension{api: "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API"), seenAll: make(chan struct{})}
	if err := json.Unmarshal([]byte(planJSON), &x.plan); err != nil {
		return err
	}
	x.unseen = x.plan.ExitAfter
	var err error
	if x.conn, err = net.Dial("tcp", x.plan.Collector); err != nil {
		return err
	}
	x.in = bufio.NewReader(x.conn)
	env, _ := json.Marshal(os.Environ())
	x.report(message{Kind: "env", Body: env})
	if x.plan.Name == "" {
		x.plan.Name = os.Args[3]
	}
	for x.id == "" {
		events, _ := json.Marshal(map[string]any{"events": x.plan.Events})
		resp := x.call("register", "POST", "/2020-01-01/extension/register", events,
			"Lambda-Extension-Name", x.plan.Name, "Lambda-Extension-Accept-Feature", "accountId")
		x.id = resp.Header.Get("Lambda-Extension-Identifier")
		if resp.Status == http.StatusForbidden {
			if x.plan.ExitIfRefused != 0 {
				fmt.Println("registration refused")
				os.Exit(x.plan.ExitIfRefused)
			}
			select {} // like a naive extension
		}
	}
	for i := range x.plan.PrintLines {
		fmt.Println("line", i)
	}
	if x.plan.Exit != 0 {
		os.Exit(x.plan.Exit)
	}
	if x.plan.InitError != "" {
		x.call("init error", "POST", "/2020-01-01/extension/init/error", []byte(`{"errorMessage":"no stream"}`),
			"Lambda-Extension-Function-Error-Type", x.plan.InitError)
		return errors.New("init error")
	}
	if x.plan.Subscribe != "" {
		for i, body := range append([]string{x.plan.Subscribe}, x.plan.MoreSubscriptions...) {
			if err := x.subscribe(i, body); err != nil {
				return err
			}
		}
	}
	if x.plan.MarkerFile != "" {
		if err := os.WriteFile(x.plan.MarkerFile, nil, 0o600); err != nil {
			return err
		}
	}
	return x.loop()
}

// subscribe starts listener number i and subscribes with it.
func (x *extension) subscribe(i int, body string) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(x.plan.Listen, "0"))
	if err != nil {
		return err
	}
	if x.plan.TCP {
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					in := bufio.NewReader(conn)
					for {
						line, err := in.ReadBytes('\n')
						if err != nil {
							return
						}
						x.report(message{Kind: "post", To: i, Body: append(append([]byte{'['}, line...), ']')})
					}
				}()
			}
		}()
	} else {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.servePost(i, w, r) })}
		x.servers = append(x.servers, server)
		go func() { _ = server.Serve(listener) }()
	}
	if x.plan.NoListener {
		_ = listener.Close()
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if i == 0 {
		x.first = port
	}
	body = strings.NewReplacer("PORT", port, "FIRST", x.first).Replace(body)
	path := "/2022-07-01/telemetry"
	if x.plan.Logs {
		path = "/2020-08-15/logs"
	}
	x.call("subscribe", "PUT", path, []byte(body))
	return nil
}

func (x *extension) servePost(to int, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	x.mu.Lock()
	status, hold := 200, false
	if x.posts < len(x.plan.Answers) {
		status = x.plan.Answers[x.posts]
		hold = status == 0
	}
	x.posts++
	x.mu.Unlock()
	x.report(message{Kind: "post", Method: r.Method, To: to, Status: status, Body: body})
	if hold {
		_, _ = x.in.ReadString('\n')
		status = 200
	}
	w.WriteHeader(status)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unseen = slices.DeleteFunc(x.unseen, func(text string) bool { return bytes.Contains(body, []byte(text)) })
	if len(x.unseen) == 0 {
		x.once.Do(func() { close(x.seenAll) })
	}
}

func (x *extension) loop() error {
	for {
		m := x.call("event", "GET", "/2020-01-01/extension/event/next", nil)
		if m.Status >= 500 {
			continue
		}
		var event struct{ EventType, RequestID string }
		if err := json.Unmarshal(m.Body, &event); err != nil {
			return err
		}
		if event.EventType == eventShutdown {
			switch x.plan.Shutdown {
			case "hang":
				select {}
			case "fail":
				os.Exit(4)
			}
			if len(x.plan.ExitAfter) > 0 {
				<-x.seenAll
			}
			for _, server := range x.servers {
				_ = server.Shutdown(context.Background()) // answers the POSTs that have arrived
			}
			return nil
		}
		if x.plan.Print != "" {
			fmt.Println(x.plan.Print)
		}
		switch {
		case strings.HasPrefix(event.RequestID, "x-exit"):
			os.Exit(0)
		case strings.HasPrefix(event.RequestID, "x-hang"):
			select {}
		case strings.HasPrefix(event.RequestID, "x-error"):
			x.call("exit error", "POST", "/2020-01-01/extension/exit/error", nil, "Lambda-Extension-Function-Error-Type", "Extension.Broken")
			x.call("event", "GET", "/2020-01-01/extension/event/next", nil)
			return errors.New("exit error")
		case strings.HasPrefix(event.RequestID, "x-wait"):
			_, _ = x.in.ReadString('\n')
		}
	}
}

func (x *extension) call(kind, method, path string, body []byte, header ...string) message {
	req, err := http.NewRequest(method, x.api+path, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Lambda-Extension-Identifier", x.id)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	data, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	m := message{Kind: kind, Status: resp.StatusCode, Header: resp.Header, Body: data}
	x.report(m)
	return m
}

func (x *extension) report(m message) {
	m.Name, m.PID, m.At = os.Args[3], os.Getpid(), time.Now()
	data, _ := json.Marshal(m)
	x.mu.Lock()
	defer x.mu.Unlock()
	_, _ = x.conn.Write(append(data, '\n'))
}
