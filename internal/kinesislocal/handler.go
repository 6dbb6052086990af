package kinesislocal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "Kinesis_20131202."
	// bodySlack is the room for 500 keys and names in the largest request's body, beside the base64 of its data.
	bodySlack = 2 << 20
)

// ServeHTTP answers one call of the Kinesis API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "server is closed", http.StatusServiceUnavailable)
		return
	}
	defer s.running.Done()
	now := s.options.Now()
	body, err := s.readBody(w, r)
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		// net/http closes the connection half a second after the reply, and a client that is still sending then gets a broken
		// pipe instead of the reply. So the handler reads the rest first.
		_, _ = io.Copy(io.Discard, r.Body)
		s.count(&call{}, strconv.Itoa(http.StatusRequestEntityTooLarge))
		writeReply(w, now, reply{status: http.StatusRequestEntityTooLarge})
		return
	}
	if err != nil {
		s.count(&call{size: len(body)}, "Gone")
		panic(http.ErrAbortHandler)
	}
	c := &call{now: now, size: len(body)}
	handle, err := s.admit(c, r, body)
	if err != nil {
		writeReply(w, now, s.finish(c, nil, err))
		return
	}
	s.mu.Lock()
	c.fault = s.plan.next(c.operation)
	s.mu.Unlock()
	s.execute(r.Context(), w, c, handle)
}

// enter adds a request to the running ones. It reports false if the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
	}
	return !s.closed
}

func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(base64.StdEncoding.EncodedLen(s.options.MaxRequestBytes) + bodySlack)
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, limit)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return b.Bytes(), err
}

// admit checks the form, the operation and the signature of a request.
func (s *Server) admit(c *call, r *http.Request, body []byte) (func(*call) (any, error), error) {
	target := r.Header.Get("X-Amz-Target")
	mime, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if r.Method != http.MethodPost || target == "" || strings.TrimSpace(mime) != contentType {
		return nil, &apiError{http.StatusForbidden, codeAccessDenied, "Unable to determine service/operation name to be authorized"}
	}
	name, isKinesis := strings.CutPrefix(target, targetPrefix)
	handle := s.operation(name)
	if !isKinesis || handle == nil {
		return nil, newError(codeUnknownOperation, "")
	}
	c.operation = name
	v, ok := parseJSON(body)
	if !ok || v.kind != kindObject {
		return nil, newError(codeSerialization, "")
	}
	c.in.value = v
	return handle, s.authenticate(r, body, c.now)
}

type reply struct {
	status int
	body   []byte
}

// finish counts the outcome of a request and returns its reply.
func (s *Server) finish(c *call, result any, err error) reply {
	rep, outcome := reply{status: http.StatusOK}, "OK"
	if _, empty := result.(emptyReply); err == nil && !empty {
		if rep.body, err = json.Marshal(result); err != nil {
			err = newError(codeInternalFailureEx, "encode reply: %v", err)
		}
	}
	if e := (*apiError)(nil); errors.As(err, &e) {
		rep, outcome = reply{status: e.status}, e.code
		if e.code == "" {
			outcome = strconv.Itoa(e.status)
		} else {
			rep.body = errorBody(e)
		}
	}
	if lost := c.fault.lostReply(); lost != "" {
		outcome = lost
	}
	s.count(c, outcome)
	return rep
}

func errorBody(e *apiError) []byte {
	body, _ := json.Marshal(struct { // two strings always encode
		Type    string `json:"__type"`
		Message string `json:"message,omitempty"`
	}{e.code, e.message})
	return body
}

// execute executes an admitted request and sends the reply, with the request's fault.
func (s *Server) execute(ctx context.Context, w http.ResponseWriter, c *call, handle func(*call) (any, error)) {
	f := &c.fault
	if !s.pause(ctx, f.Delay) {
		s.count(c, "Gone")
		panic(http.ErrAbortHandler)
	}
	c.now = s.options.Now()
	var rep reply
	switch err := f.requestError(); {
	case f.Hang || f.Reset:
		s.count(c, f.lostReply())
	case err != nil:
		rep = s.finish(c, nil, err)
	default:
		result, err := handle(c)
		rep = s.finish(c, result, err)
	}
	s.pause(ctx, f.ReplyDelay)
	switch {
	case f.Hang || f.StoreThenHang:
		select {
		case <-ctx.Done():
		case <-s.done:
		}
		panic(http.ErrAbortHandler)
	case f.Reset || f.StoreThenReset:
		resetConnection(w)
	case f.TruncateReply:
		w.Header().Set("Content-Length", strconv.Itoa(len(rep.body)+1))
		rep.body = rep.body[:len(rep.body)/2]
		writeReply(w, c.now, rep)
		_ = http.NewResponseController(w).Flush() // an error does not matter: the reply is incomplete anyway
		panic(http.ErrAbortHandler)
	case f.CloseAfterReply:
		closeAfterReply(w, c.now, rep)
	default:
		writeReply(w, c.now, rep)
	}
}

// pause waits. It reports false if the client disconnects or the server closes first.
func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}

func setHeader(h http.Header, now time.Time, rep reply) {
	// Clients correct their clocks by Date, so it must be of the clock that checks signatures.
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("X-Amzn-Requestid", requestID())
	if len(rep.body) > 0 {
		h.Set("Content-Type", contentType)
	}
}

func writeReply(w http.ResponseWriter, now time.Time, rep reply) {
	setHeader(w.Header(), now, rep)
	w.WriteHeader(rep.status)
	_, _ = w.Write(rep.body) // fails only if the client has disconnected
}

// resetConnection closes the connection with RST instead of FIN.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // w does not give out its connection: net/http closes it
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// closeAfterReply writes a reply without "Connection: close" and closes the connection.
func closeAfterReply(w http.ResponseWriter, now time.Time, rep reply) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.Header().Set("Connection", "close")
		writeReply(w, now, rep)
		return
	}
	res := http.Response{
		StatusCode: rep.status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		ContentLength: int64(len(rep.body)), Body: io.NopCloser(bytes.NewReader(rep.body)),
	}
	setHeader(res.Header, now, rep)
	_ = res.Write(conn)
	_ = conn.Close()
}

// requestID returns a random (version 4) UUID. The sandbox has a copy, since neither package imports other packages of this
// module.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
