package kinesislocal

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Options of a Server. The zero value is a server as a new AWS account would see it in us-east-1.
type Options struct {
	Region    string // us-east-1
	AccountID string // 123456789012
	// AnyRegion accepts requests that are signed for another region; ARNs still have Region.
	AnyRegion bool

	// Credentials are the access key ids that may call, each with its secret access key. If nil, every access key id
	// is accepted and the signature must be well formed, in scope and in time, but is not recomputed.
	Credentials map[string]string
	// SessionTokens names the token that must come with one of the Credentials. A key that is not in it needs none, and
	// may bring any.
	SessionTokens map[string]SessionToken

	// Write limits of a shard: 0 is AWS's 1 MiB and 1,000 records a second, negative is no limit.
	ShardBytesPerSecond   int
	ShardRecordsPerSecond int
	// MaxRequestBytes bounds the data and partition keys of one request; 0 is 5 MiB. AWS names 5 MiB in one place and
	// 10 MiB in another.
	MaxRequestBytes int

	// OnRecord is called once for each stored record, one call at a time, in the order of storing, before the reply.
	// It may call Records and Stats; it must not block, nor call the endpoint or Close.
	OnRecord func(stream string, r Record)
	// OnCall is called once for each request, when its outcome is known and before the reply; several calls may run at a time.
	OnCall func(Call)
	Faults *Faults          // may be replaced by SetFaults
	Now    func() time.Time // clock of limits, signatures, iterators and arrival times; time.Now
}

// Call is what became of one request.
type Call struct {
	Operation string // as the request named it, "" where that is not known
	Stream    string // "" where the request named none that exists
	Outcome   string // as in OperationStats
	Records   int    // stored by PutRecord and PutRecords, or returned by GetRecords
	Failed    int    // records of PutRecord and PutRecords that were refused
}

// SessionToken is a token of temporary credentials. A zero Expires never comes.
type SessionToken struct {
	Token   string
	Expires time.Time
}

// Server is a Kinesis endpoint. It is safe for concurrent use.
type Server struct {
	options  Options
	listener net.Listener // nil unless made by Start
	http     *http.Server
	done     chan struct{}  // closed by Close
	running  sync.WaitGroup // requests, connections and the accept loop of Start

	storing sync.Mutex // taken before mu

	mu      sync.Mutex // guards what follows
	closed  bool
	streams map[string]*stream
	plan    *plan
	stats   map[string]*OperationStats
}

// Stats counts by operation. What names no operation of this server, or is refused before that is known, is under "".
type Stats struct {
	Operations map[string]OperationStats `json:"operations"`
}

// OperationStats counts what one operation was asked for and how it ended.
type OperationStats struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"` // of request bodies
	// Outcomes counts requests by error type, "OK", or by what ate the reply: "Hang", "Reset", "StoreThenHang",
	// "StoreThenReset", "TruncateReply", "Gone" (the client or the server gave up before anything was done). A fault without an
	// error type is under its status, such as "503".
	Outcomes map[string]int64 `json:"outcomes"`
	// Records counts the records of PutRecord and PutRecords by "OK" (stored) or ErrorCode.
	Records map[string]RecordStats `json:"records,omitempty"`
}

// RecordStats counts records and the bytes of their data and partition keys.
type RecordStats struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// New returns a Server that is an [http.Handler] and does not listen by itself. Close it to free requests that hang.
func New(o Options) *Server {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.AccountID == "" {
		o.AccountID = "123456789012"
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = maxRequestBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		options: o, done: make(chan struct{}), streams: map[string]*stream{}, plan: newPlan(o.Faults), stats: map[string]*OperationStats{},
	}
}

// Start returns a Server that listens on a free port of 127.0.0.1. It fails when no port can be had or the faults are
// not valid.
func Start(o Options) (*Server, error) {
	if err := o.Faults.Validate(); err != nil {
		return nil, fmt.Errorf("start local Kinesis: %w", err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start local Kinesis: %w", err)
	}
	s := New(o)
	s.listener = listener
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), ConnState: s.connState}
	s.running.Go(func() { _ = s.http.Serve(listener) }) // ends with Close, whose error says more
	return s, nil
}

// connState lets Close wait for connections too, whose goroutines may outlive their handlers by half a second.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.running.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.running.Done()
	default:
	}
}

// URL is the endpoint's address, such as http://127.0.0.1:41234, or "" for a Server that does not listen.
func (s *Server) URL() string {
	if s.listener == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String()
}

// Close stops listening, ends every request, those that hang included, and waits for their handlers. What was stored
// can still be read. Further calls do nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	close(s.done)
	var err error
	if s.http != nil {
		if err = s.http.Close(); err != nil {
			err = fmt.Errorf("close local Kinesis: %w", err)
		}
	}
	s.running.Wait()
	return err
}

// CreateStream makes an active stream with this many shards (at most 20,000 in all streams). It fails when the name is
// taken or not valid, as the API does.
func (s *Server) CreateStream(name string, shards int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(name, modeProvisioned, shards, minRecordKiB, s.options.Now())
}

// Records is a copy of what the stream stored, in the order of storing; nil when there is no such stream.
func (s *Server) Records(stream string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[stream]; st != nil {
		return slices.Clone(st.records)
	}
	return nil
}

// SetFaults replaces the rules and starts their counts anew; nil ends all faults. Requests under way keep theirs. What
// rules do that [Faults.Validate] objects to is not defined.
func (s *Server) SetFaults(f *Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = newPlan(f)
}

// Stats is a copy of the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := Stats{Operations: map[string]OperationStats{}}
	for name, o := range s.stats {
		c := *o
		c.Outcomes, c.Records = maps.Clone(o.Outcomes), maps.Clone(o.Records)
		copied.Operations[name] = c
	}
	return copied
}

// operationStats is made when first asked for. s.mu is held.
func (s *Server) operationStats(name string) *OperationStats {
	if s.stats[name] == nil {
		s.stats[name] = &OperationStats{Outcomes: map[string]int64{}, Records: map[string]RecordStats{}}
	}
	return s.stats[name]
}

// countRecord counts one record of PutRecord or PutRecords. s.mu is held.
func (s *Server) countRecord(operation, code string, size int) {
	if code == "" {
		code = "OK"
	}
	records := s.operationStats(operation).Records
	r := records[code]
	records[code] = RecordStats{r.Count + 1, r.Bytes + int64(size)}
}

func (s *Server) count(c *call, outcome string) {
	s.mu.Lock()
	o := s.operationStats(c.operation)
	o.Requests++
	o.Bytes += int64(c.size)
	o.Outcomes[outcome]++
	s.mu.Unlock()
	if s.options.OnCall != nil {
		s.options.OnCall(Call{c.operation, c.stream, outcome, c.records, c.failed})
	}
}
