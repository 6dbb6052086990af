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

// Options are the options of a Server. The zero value is a server like a new AWS account in us-east-1.
type Options struct {
	Region    string // default us-east-1
	AccountID string // default 123456789012
	// AnyRegion accepts requests that are signed for another region; ARNs still have Region.
	AnyRegion bool

	// Credentials are the accepted access key ids, each with its secret access key. If nil, every access key id is accepted,
	// and the signature must be well formed, in scope and in time, but is not recomputed.
	Credentials map[string]string
	// SessionTokens has the session token that requests of an access key id must have. Requests of an access key id
	// without an entry may have any token or none.
	SessionTokens map[string]SessionToken

	// ShardBytesPerSecond and ShardRecordsPerSecond are the write limits of a shard. 0 is AWS's limit, 1 MiB and 1,000 records
	// per second; negative is no limit.
	ShardBytesPerSecond   int
	ShardRecordsPerSecond int
	// MaxRequestBytes is the limit of a request's data and partition keys; 0 is 5 MiB. AWS's documentation has 5 MiB in one
	// place and 10 MiB in another.
	MaxRequestBytes int

	// OnRecord is called once for each stored record, one call at a time, in the order of storing, before the reply. It may
	// call Records and Stats. It must not block, and must not call the endpoint or Close.
	OnRecord func(stream string, r Record)
	// OnCall is called once for each request, when its outcome is known and before the reply. Calls may be concurrent.
	OnCall func(Call)
	Faults *Faults          // SetFaults can replace them
	Now    func() time.Time // the clock of limits, signatures, iterators and arrival times; default time.Now
}

// Call describes one request and its outcome.
type Call struct {
	Operation string // "" if it is not known
	Stream    string // "" if the request has no existing stream
	Outcome   string // as in OperationStats
	Records   int    // stored by PutRecord and PutRecords, or returned by GetRecords
	Failed    int    // rejected records of PutRecord and PutRecords
}

// SessionToken is a token of temporary credentials. With a zero Expires it does not expire.
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

	storing sync.Mutex // locked before mu

	mu      sync.Mutex // guards the fields below
	closed  bool
	streams map[string]*stream
	plan    *plan
	stats   map[string]*OperationStats
}

// Stats has counts by operation. Requests of unknown operations, and those that are rejected before the operation is known, are
// under "".
type Stats struct {
	Operations map[string]OperationStats `json:"operations"`
}

// OperationStats counts the requests of one operation and their outcomes.
type OperationStats struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"` // of request bodies
	// Outcomes counts requests by "OK", by error type, or by the reason for a lost reply: "Hang", "Reset", "StoreThenHang",
	// "StoreThenReset", "TruncateReply", or "Gone" if the client disconnected or the server closed before the execution. A
	// fault without an error type is under its status, such as "503".
	Outcomes map[string]int64 `json:"outcomes"`
	// Records counts the records of PutRecord and PutRecords by "OK" (stored) or ErrorCode.
	Records map[string]RecordStats `json:"records,omitempty"`
}

// RecordStats counts records and the bytes of their data and partition keys.
type RecordStats struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// New returns a Server that is an [http.Handler] and does not listen. Close ends its hanging requests.
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

// Start returns a Server that listens on a free port of 127.0.0.1. It fails if no port is free or the faults are not valid.
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
	s.running.Go(func() { _ = s.http.Serve(listener) }) // until Close, which reports the error
	return s, nil
}

// connState makes Close wait for connections: their goroutines may run half a second longer than their handlers.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.running.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.running.Done()
	default:
	}
}

// URL returns the endpoint's address, such as http://127.0.0.1:41234, or "" for a Server that does not listen.
func (s *Server) URL() string {
	if s.listener == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String()
}

// Close stops listening, ends all requests, including the hanging ones, and waits for their handlers. Records still returns the
// stored records. Further calls do nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	alreadyClosed := s.closed
	s.closed = true
	s.mu.Unlock()
	if alreadyClosed {
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

// CreateStream creates an active stream with this many shards (at most 20,000 in all streams). It fails like the API if the name
// exists or is not valid.
func (s *Server) CreateStream(name string, shards int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(name, modeProvisioned, shards, minRecordKiB, s.options.Now())
}

// Records returns a copy of the stream's records, in the order of storing, or nil if the stream does not exist.
func (s *Server) Records(stream string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[stream]; st != nil {
		return slices.Clone(st.records)
	}
	return nil
}

// SetFaults replaces the rules and resets their counts; nil removes all faults. Requests in flight keep theirs. The effect of
// rules that [Faults.Validate] rejects is undefined.
func (s *Server) SetFaults(f *Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = newPlan(f)
}

// Stats returns a copy of the counters.
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

// operationStats returns an operation's counters. The caller holds s.mu.
func (s *Server) operationStats(name string) *OperationStats {
	if s.stats[name] == nil {
		s.stats[name] = &OperationStats{Outcomes: map[string]int64{}, Records: map[string]RecordStats{}}
	}
	return s.stats[name]
}

// countRecord counts one record of PutRecord or PutRecords. The caller holds s.mu.
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
