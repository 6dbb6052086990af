package kinesis

import (
	"context"
	"net/http"
	"slices"
	"time"

	smithytime "github.com/aws/smithy-go/time"
)

// Outcome is how a record ended.
type Outcome uint8

// The outcomes.
const (
	Unsent   Outcome = iota // not stored as far as is known; may be given to Put again
	Sent                    // stored
	Rejected                // not stored, and never will be
)

// Result is how a Put ended. Its Outcomes are used again by the Client's next Put.
type Result struct {
	Outcomes      []Outcome // one for each record
	Requests      int       // sent, repetitions included
	Retried       int       // how often a record was in a request again
	AttemptFailed bool      // the stream did not take everything at once, though it may have in the end
	// Err is nil if all were stored, else an *Error: the last cause that left records unsent, or where there are none the
	// last that had one rejected.
	Err error
}

// finalAfter is for how long a record is refused with a code that nobody knows before it is rejected.
const rejectUnknownAfter = 5 * time.Minute

// put is a Put under way.
type put struct {
	*Client
	records     []Record
	pending     []int // a window of order: what is still to be sent
	bisectRange int   // that many of pending's first hold one that makes Kinesis refuse the request

	probe       bool   // see Probe
	failures    int    // requests in a row that got nothing through
	renewed     bool   // credentials or clock were corrected since a request was last accepted
	unsentErr   *Error // last cause, as long as there was time
	rejectedErr *Error // last cause
}

// Put sends records, in requests of the allowed size, one after the other and in order, and sends again what may get
// through the next time, until every record has an outcome, another try would be useless, or ctx is done. Records that
// are sent again are in front of those that were not sent yet. A record that Kinesis would not take is rejected by
// itself; its neighbours go. What was in flight when ctx ended, or when an answer was lost, is Unsent and may have been
// stored all the same.
func (c *Client) Put(ctx context.Context, records []Record) Result {
	return c.run(ctx, put{Client: c, records: records})
}

// Probe is Put that ends with the first request that gets nothing through: to see whether a stream that failed works again.
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

// begin sets every record aside that can never go.
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

// step sends one request and settles its records. It tells how long to pause, and whether to go on.
func (p *put) step(ctx context.Context) (pause time.Duration, more bool) {
	n, bytes := p.take()
	batch := p.pending[:n]
	a := p.exchange(ctx, p.records, batch, func() { p.count(batch) })
	if a.entries != nil {
		return p.settle(n, a.entries)
	}
	if p.unsentErr == nil || ctx.Err() == nil { // that time was over says less than what went wrong before
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

// take tells how many of pending go into the next request, and their size.
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

// settle gives the first n of pending their outcomes from an accepted request. Those to be sent again stay in front.
func (p *put) settle(n int, entries []entry) (pause time.Duration, more bool) {
	stored := slices.ContainsFunc(entries, entry.stored)
	doubtful := slices.IndexFunc(entries, entry.hasUnknownCode)
	final := p.unknownForLong(stored, doubtful >= 0)
	p.everStored = p.everStored || stored
	do, kept := bisect, n // pending[kept:n] stay
	var cause *Error
	for i := n - 1; i >= 0; i-- {
		record, e := p.pending[i], &entries[i]
		if e.stored() {
			p.result.Outcomes[record] = Sent
			continue
		}
		var r rule
		r, cause = p.judge(e, cause)
		if r.action == bisect && p.everStored || i == doubtful && final {
			p.reject(record, cause)
			continue
		}
		do, p.unsentErr = max(do, r.action), cause
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
	more = do < renew && (do > retryUnknown || p.failures < 2) // what is refused for what it is has another Put to go with others
	return p.jitter(BackoffBound(do == retryThrottled, p.failures)), more
}

// refusedForLong tells whether the first record that is refused with a code that nobody knows is to be rejected: such were
// refused for finalAfter, and others taken beside them. Records are made anew for each Put, but what is not taken comes first.
func (c *Client) unknownForLong(stored, doubtful bool) bool {
	now := c.clock().wall
	switch {
	case !doubtful:
		c.unknownSince = time.Time{}
	case !stored: // says nothing
	case c.unknownSince.IsZero():
		c.unknownSince = now
	case now.Sub(c.unknownSince) >= rejectUnknownAfter:
		c.unknownSince = time.Time{}
		return true
	}
	return false
}

// judge says what follows for a record that was not stored. An error that is the same as the last is not made anew: they
// come by the hundred.
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

// suspect deals with a request that was refused for what it carries: it is halved until the culprit stands alone. While
// nothing was taken yet it may be the stream that refuses everything: then two records are tried by themselves, the
// smallest, and stay unsent if they are refused, too. One that is taken shows that others are to blame.
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

// smallestFirst moves the smallest of pending to the front, of several the last: what is refused again and again is in front.
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

// end makes up the result and lets go of what is too large to keep.
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
	if cap(p.body) > 2*p.config.MaxRequestBytes {
		p.body = nil
	}
	if cap(p.reply) > keepReply {
		p.reply = nil
	}
	clear(p.entries) // they point into the reply
	return *r
}

// wait pauses and tells whether there is any use in going on: a pause that lasts longer than ctx is not even begun, so
// that the caller, who may hold up an invocation, has the rest of its time back.
func wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	return pause <= 0 || smithytime.SleepWithContext(ctx, pause) == nil
}
