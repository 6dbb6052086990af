package kinesislocal

import (
	"fmt"
	"math/big"
	"unicode/utf8"
)

// Limits of PutRecords. https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
const (
	maxRecords      = 500
	maxKeyLength    = 256
	maxRequestBytes = 5 << 20 // the smaller of the two figures in AWS's documentation
)

type putResult struct {
	SequenceNumber string `json:",omitempty"`
	ShardId        string `json:",omitempty"`
	ErrorCode      string `json:",omitempty"`
	ErrorMessage   string `json:",omitempty"`
}

func (s *Server) putRecords(c *call) (any, error) {
	t, dry := c.in.target(), c.in.dryRun()
	items, ok := c.in.structures("Records")
	if c.in.err != nil {
		return nil, c.in.err
	}
	entries, err := decodeEntries(items, ok)
	if err != nil {
		return nil, err
	}
	results, err := s.put(c, t, entries, dry)
	if err != nil {
		return nil, err
	}
	failed := 0
	for _, r := range results {
		if r.ErrorCode != "" {
			failed++
		}
	}
	return struct {
		FailedRecordCount int
		Records           []putResult
		EncryptionType    string
	}{failed, c.fault.applyResultDelta(results), encryptionType}, nil
}

func (s *Server) putRecord(c *call) (any, error) {
	t, dry := c.in.target(), c.in.dryRun()
	e, err := decodeEntry(&c.in, "")
	if err != nil {
		return nil, err
	}
	results, err := s.put(c, t, []entry{e}, dry)
	if err != nil {
		return nil, err
	}
	if r := results[0]; r.ErrorCode != "" {
		return nil, newError(r.ErrorCode, "%s", r.ErrorMessage)
	}
	return struct {
		putResult
		EncryptionType string
	}{results[0], encryptionType}, nil
}

func decodeEntries(items []fields, present bool) ([]entry, error) {
	switch {
	case !present:
		return nil, constraint("records", "not be null")
	case len(items) < 1:
		return nil, constraint("records", "have length greater than or equal to 1")
	case len(items) > maxRecords:
		return nil, constraint("records", "have length less than or equal to %d", maxRecords)
	}
	entries := make([]entry, len(items))
	var first error
	for i := range items {
		var err error
		entries[i], err = decodeEntry(&items[i], fmt.Sprintf("records.%d.member.", i+1))
		if items[i].err != nil {
			return nil, items[i].err // AWS deserializes before it checks constraints
		}
		if first == nil {
			first = err
		}
	}
	return entries, first
}

func decodeEntry(f *fields, at string) (entry, error) {
	key, explicit, data := f.text("PartitionKey"), f.text("ExplicitHashKey"), f.blob("Data")
	switch {
	case f.err != nil:
		return entry{}, f.err
	case data == nil:
		return entry{}, constraint(at+"data", "not be null")
	case len(data) > maxRecordKiB<<10:
		return entry{}, constraint(at+"data", "have length less than or equal to %d", maxRecordKiB<<10)
	case key == nil:
		return entry{}, constraint(at+"partitionKey", "not be null")
	case *key == "":
		return entry{}, constraint(at+"partitionKey", "have length greater than or equal to 1")
	case utf8.RuneCountInString(*key) > maxKeyLength:
		return entry{}, constraint(at+"partitionKey", "have length less than or equal to %d", maxKeyLength)
	}
	e := entry{at: at, key: *key, data: data}
	if explicit == nil {
		return e, nil
	}
	if !hashPattern.MatchString(*explicit) {
		return entry{}, constraint(at+"explicitHashKey", `satisfy regular expression pattern: 0|([1-9]\d{0,38})`)
	}
	e.explicit = *explicit
	e.hash, _ = new(big.Int).SetString(*explicit, 10)
	return e, nil
}

// put checks and stores entries, and calls OnRecord. With dry it only checks them.
func (s *Server) put(c *call, t target, entries []entry, dry bool) ([]putResult, error) {
	s.storing.Lock() // OnRecord is called in the order of storing, without s.mu
	defer s.storing.Unlock()
	results, stored, err := s.store(c, t, entries, dry)
	if err == nil && s.options.OnRecord != nil {
		for _, r := range stored {
			s.options.OnRecord(r.Stream, r)
		}
	}
	return results, err
}

func (s *Server) store(c *call, t target, entries []entry, dry bool) (results []putResult, stored []Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(t, c)
	if err == nil {
		err = st.check(entries, s.options.MaxRequestBytes)
	}
	if err == nil && dry {
		err = dryRun()
	}
	if err != nil {
		return nil, nil, err
	}
	for i := range entries {
		e := &entries[i]
		sh, result := st.shardOf(e), c.fault.recordError()
		if result.ErrorCode == "" {
			if r, ok := st.put(sh, e, c.now); ok {
				result = putResult{SequenceNumber: r.SequenceNumber, ShardId: r.ShardID}
				stored = append(stored, r)
			} else {
				result.ErrorCode = codeThroughputExceeded
			}
		}
		if result.ErrorCode == codeThroughputExceeded && result.ErrorMessage == "" {
			result.ErrorMessage = fmt.Sprintf("Rate exceeded for shard %s in stream %s under account %s.", sh.id, st.name, s.options.AccountID)
		} else if result.ErrorCode != "" && result.ErrorMessage == "" {
			result.ErrorMessage = defaultMessage(result.ErrorCode) + "."
		}
		s.countRecord(c.operation, result.ErrorCode, e.size())
		if result.ErrorCode == "" {
			c.records++
		} else {
			c.failed++
		}
		results = append(results, result)
	}
	return results, stored, nil
}

func dryRun() error {
	return newError(codeDryRun, "The request would have succeeded, but the DryRun option is set.")
}

// check checks the limits of the stream and of the whole request.
func (st *stream) check(entries []entry, maxRequest int) error {
	total := 0
	for i := range entries {
		e := &entries[i]
		total += e.size()
		if e.size() > st.maxRecord {
			// AWS rejects the whole request: https://github.com/awslabs/amazon-kinesis-producer/issues/680
			return constraint(e.at+"data", "have length less than or equal to %d", st.maxRecord)
		}
	}
	if total > maxRequest {
		return invalidArgument("Records size exceeds %d MB limit", maxRequest>>20)
	}
	for i := range entries {
		if h := entries[i].hash; h != nil && h.Cmp(hashSpace()) >= 0 {
			return invalidArgument("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", h)
		}
	}
	return nil
}
