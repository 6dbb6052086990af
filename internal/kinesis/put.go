package kinesis

import (
	"context"
	"net/http"
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/awake"
)

// Outcome is the state of a record at the end of a Put.
type Outcome uint8

// The outcomes.
const (
	Unsent   Outcome = iota // not stored, as far as is known; may be passed to Put again
	Sent                    // stored
	Rejected                // not stored, and the stream will never accept it
)

// Result is the result of a Put. The Client's next Put overwrites its Outcomes.
type Result struct {
	Outcomes      []Outcome // one for each record
	Requests      int       // requests sent, retries included
	Retried       int       // records sent again; a record counts each time
	AttemptFailed bool      // an attempt left a record unstored, even if a later attempt stored it
	// Err is nil if all records were stored. Otherwise, it is an *Error: the last cause of unsent records, or the last
	// cause of a rejection if no record is unsent.
	Err error
}

// rejectUnknownAfter is how long records must have been refused with an unknown code before one is rejected.
const rejectUnknownAfter = 5 * time.Minute

// put is one running Put.
type put struct {
	*Client
	records     []Record
	pending     []int // a window of order: the records that are still to be sent
	bisectRange int   // one of this many first pending records is bad and makes Kinesis refuse a request; 0: none

	probe       bool   // see Probe
	failures    int    // requests in a row of which the stream stored nothing
	renewed     bool   // credentials or clock were corrected since the last accepted request
	unsentErr   *Error // last cause of unsent records, the end of ctx only if there is no other
	rejectedErr *Error // last cause of a rejected record
}

// Put sends records in order, in requests of the allowed size, one after the other. It retries until every record has a
// final outcome, a retry would be useless, or ctx is done. A retry sends records that failed before records that were
// not sent yet. A bad record is rejected alone, and its neighbours are stored. Records in flight when ctx ends, or when
// an answer is lost, are Unsent, although the stream may have stored them.
func (c *Client) Put(ctx context.Context, records []Record) Result {
	return c.run(ctx, put{Client: c, records: records})
}

// Probe is a Put that stops after the first request of which the stream stores nothing. It tests whether a failing
// stream works again.
func (c *Client) Probe(ctx context.Context, records []Record) Result {
	return c.run(ctx, put{Client: c, records: records, probe: true})
}

func (c *Client) run(ctx context.Context, p put) Result {
	p.begin()
	for len(p.pending) > 0 && ctx.Err() == nil {
		pause, more := p.step(ctx)
		if !more || p.probe && p.failures > 0 || !wait(ctx, pause) {
			break
		}
	}
	return p.end(ctx)
}

// begin rejects the invalid records and makes the others pending.
func (p *put) begin() {
	n := len(p.records)
	r := &p.result
	*r = Result{Outcomes: resized(r.Outcomes, n)}
	p.attempted = resized(p.attempted, n)
	p.order = p.order[:0]
	for i := range p.records {
		if err := p.records[i].check(p.config.MaxRecordBytes); err != nil {
			p.reject(i, err)
			continue
		}
		p.order = append(p.order, i)
	}
	p.pending = p.order
}

func resized[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

func (p *put) reject(record int, err *Error) {
	p.result.Outcomes[record] = Rejected
	p.rejectedErr = err
}

// step sends one request and settles its records. It returns the pause before the next request, and whether to go on.
func (p *put) step(ctx context.Context) (pause time.Duration, more bool) {
	n, bytes := p.take()
	batch := p.pending[:n]
	a := p.exchange(ctx, p.records, batch, func() { p.count(batch) })
	if a.entries != nil {
		return p.settle(n, a.entries)
	}
	if p.unsentErr == nil || ctx.Err() == nil { // an earlier failure says more than the end of ctx
		p.unsentErr = a.err
	}
	switch a.action {
	case bisect:
		return 0, p.bisect(n, bytes, a.err)
	case renew:
		more, p.renewed = !p.renewed, true
		return 0, more
	case giveUp:
		return 0, false
	case retryUnknown, retry, retryThrottled:
	}
	p.failures++
	return p.jitter(BackoffBound(a.action == retryThrottled, p.failures)), true
}

// take returns how many pending records go into the next request, and their size.
func (p *put) take() (n, bytes int) {
	limit := MaxRequestRecords
	if p.bisectRange > 0 {
		limit = max(1, p.bisectRange/2)
	}
	for ; n < len(p.pending) && n < limit; n++ {
		size := p.records[p.pending[n]].Size()
		if n > 0 && bytes+size > p.requestBytes {
			break
		}
		bytes += size
	}
	return n, bytes
}

func (p *put) count(batch []int) {
	p.result.Requests++
	for _, i := range batch {
		if p.attempted[i] {
			p.result.Retried++
		}
		p.attempted[i] = true
	}
}

// settle reads the outcomes of the first n pending records from an accepted request. Records to retry stay in front.
func (p *put) settle(n int, entries []entry) (pause time.Duration, more bool) {
	stored := slices.ContainsFunc(entries, entry.stored)
	unknown := slices.IndexFunc(entries, entry.hasUnknownCode)
	rejectUnknown := p.unknownForLong(stored, unknown >= 0)
	p.everStored = p.everStored || stored
	next, kept := bisect, n // pending[kept:n] are retried
	var cause *Error
	for i := n - 1; i >= 0; i-- {
		record, e := p.pending[i], &entries[i]
		if e.stored() {
			p.result.Outcomes[record] = Sent
			continue
		}
		var r rule
		r, cause = p.judge(e, cause)
		if r.action == bisect && p.everStored || i == unknown && rejectUnknown {
			p.reject(record, cause)
			continue
		}
		next, p.unsentErr = max(next, r.action), cause
		kept--
		p.pending[kept] = record
	}
	p.bisectRange = max(0, p.bisectRange-kept)
	p.pending = p.pending[kept:]
	p.renewed = false
	if kept > 0 {
		p.failures = 0
	} else {
		p.failures++
	}
	if kept == n {
		return 0, true
	}
	// After two requests in a row that stored nothing, records that are refused for their content wait for another Put
	// with other records.
	more = next < renew && (next > retryUnknown || p.failures < 2)
	return p.jitter(BackoffBound(next == retryThrottled, p.failures)), more
}

// unknownForLong reports whether to reject the first record that is refused with an unknown code: such refusals went on
// for rejectUnknownAfter while the stream stored other records. The Client cannot recognise a record from an earlier
// Put, but the caller passes the records that failed first.
func (c *Client) unknownForLong(stored, unknown bool) bool {
	now := c.clock().wall
	switch {
	case !unknown:
		c.unknownSince = time.Time{}
	case !stored: // the stream may be refusing everything
	case c.unknownSince.IsZero():
		c.unknownSince = now
	case now.Sub(c.unknownSince) >= rejectUnknownAfter:
		c.unknownSince = time.Time{}
		return true
	}
	return false
}

// judge returns the rule and the error for a record that was not stored. It reuses the last error if the code is the
// same, because one answer can have hundreds of them.
func (p *put) judge(e *entry, last *Error) (rule, *Error) {
	if e.Code == "" {
		return rule{kind: KindNetwork, action: retry}, p.target.unreachable(errReply)
	}
	r := ruleOf(0, e.Code)
	if last == nil || last.Code != r.code {
		last = p.target.refusal(r, 0, e.Message)
	}
	return r, last
}

// bisect handles a request that was refused because of its content. It halves the request until the bad record is
// alone, and rejects that record. As long as the stream has stored nothing, the stream may be refusing everything. Then
// bisect sends the two smallest records alone. If both are refused, all records stay unsent. If one is stored, the bad
// record is another one.
func (p *put) bisect(n, bytes int, err *Error) (more bool) {
	switch {
	case n > 1 && err.Status == http.StatusRequestEntityTooLarge:
		p.config.MaxRequestBytes = bytes / 2
		p.requestBytes = min(p.requestBytes, p.config.MaxRequestBytes)
	case n > 1 && p.everStored:
		p.bisectRange = n
	case p.everStored:
		p.reject(p.pending[0], err)
		p.pending, p.bisectRange = p.pending[1:], 0
	default:
		if n == 1 {
			p.pending = p.pending[1:]
		}
		if p.failures++; n == 1 && p.failures > 2 || len(p.pending) == 0 {
			err.Permanent = true
			return false
		}
		p.smallestFirst()
		p.bisectRange = 1
	}
	return true
}

// smallestFirst moves the smallest pending record to the front. If several are the smallest, it moves the last of them,
// because records that were refused before are in front.
func (p *put) smallestFirst() {
	smallest := 0
	for i, record := range p.pending {
		if p.records[record].Size() <= p.records[p.pending[smallest]].Size() {
			smallest = i
		}
	}
	record := p.pending[smallest]
	copy(p.pending[1:], p.pending[:smallest])
	p.pending[0] = record
}

// end completes the result and frees buffers that are too large to keep.
func (p *put) end(ctx context.Context) Result {
	r := &p.result
	r.AttemptFailed = p.unsentErr != nil
	for _, outcome := range r.Outcomes {
		switch {
		case outcome == Unsent && p.unsentErr == nil:
			p.unsentErr = outOfTime(ctx)
			r.Err = p.unsentErr
		case outcome == Unsent:
			r.Err = p.unsentErr
		case outcome == Rejected && r.Err == nil:
			r.Err = p.rejectedErr
		}
	}
	if cap(p.reply) > keepReply {
		p.reply = nil
	}
	clear(p.entries) // the entries point into the reply
	return *r
}

// wait pauses and reports whether to go on. It does not start a pause that would outlast ctx: the caller may be holding
// an invocation, and has a better use for that time.
func wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	return pause <= 0 || awake.Sleep(ctx, pause) == nil
}
