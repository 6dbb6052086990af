package kinesislocal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Faults are the rules by which requests fail. They can be written as JSON and read back. Two servers with equal Faults that
// get the same requests in the same order inject the same faults.
type Faults struct {
	Seed  uint64 `json:"seed,omitempty"`
	Rules []Rule `json:"rules"` // the first rule that covers a request applies; without one the request has no fault
}

// Rule is one fault. It covers a request of its operation that is in the window of From and Count, with its Probability. A
// rule has one action; only Delay, ReplyDelay, RecordError and ResultDelta can be combined with others. The signature is
// checked first: a request with a bad signature is only rejected, and does not count for the window.
type Rule struct {
	// Operation is the name of an operation, such as GetRecords. Empty means PutRecords, "*" every operation.
	Operation string `json:"operation,omitempty"`
	// From is the number of requests of the operation before the window. Count is the number in the window; 0 is no limit.
	// Requests count from the time at which the Faults were set, including those that another rule covers.
	From  int `json:"from,omitempty"`
	Count int `json:"count,omitempty"`
	// Probability, from 0 to 1, is the share of the requests in the window that the rule covers; 0 means 1.
	Probability float64 `json:"probability,omitempty"`

	// Delay passes before the request is executed. If the client disconnects during it, the request is not executed.
	// ReplyDelay passes after the execution, before the reply. In JSON both are strings such as "250ms".
	Delay      time.Duration `json:"-"`
	ReplyDelay time.Duration `json:"-"`

	// RecordError makes single records of PutRecords fail.
	RecordError *RecordError `json:"recordError,omitempty"`

	// Status, from 400 to 599, rejects the request with ErrorType and Message. Without an ErrorType the body is empty, as
	// from a proxy. ErrorType without Status has AWS's status: 500 for InternalFailureException and InternalFailure, 503 for
	// ServiceUnavailable, else 400.
	Status    int    `json:"status,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Message   string `json:"message,omitempty"`

	// Hang does not execute the request and sends no reply until the client disconnects or the server closes. StoreThenHang
	// executes it and sends no reply.
	Hang          bool `json:"hang,omitempty"`
	StoreThenHang bool `json:"storeThenHang,omitempty"`
	// Reset does not execute the request and sends TCP RST instead of the reply. StoreThenReset executes it and sends RST.
	Reset          bool `json:"reset,omitempty"`
	StoreThenReset bool `json:"storeThenReset,omitempty"`
	// TruncateReply executes the request and closes the connection in the middle of the reply's body.
	TruncateReply bool `json:"truncateReply,omitempty"`
	// CloseAfterReply closes the connection after the reply, which has no "Connection: close".
	CloseAfterReply bool `json:"closeAfterReply,omitempty"`
	// ResultDelta makes PutRecords store all records and reply with this many results too many or, if negative, too few.
	ResultDelta int `json:"resultDelta,omitempty"`
}

// RecordError makes each record of a covered PutRecords fail with Probability (0 means 1). Code is the ErrorCode; empty means
// ProvisionedThroughputExceededException. An empty Message means AWS's message for the code.
type RecordError struct {
	Code        string  `json:"code,omitempty"`
	Message     string  `json:"message,omitempty"`
	Probability float64 `json:"probability,omitempty"`
}

// plainRule is Rule without methods.
type plainRule Rule

type ruleJSON struct {
	*plainRule
	Delay      string `json:"delay,omitempty"`
	ReplyDelay string `json:"replyDelay,omitempty"`
}

// MarshalJSON writes the durations as strings.
func (r Rule) MarshalJSON() ([]byte, error) {
	v := ruleJSON{plainRule: (*plainRule)(&r)}
	if r.Delay != 0 {
		v.Delay = r.Delay.String()
	}
	if r.ReplyDelay != 0 {
		v.ReplyDelay = r.ReplyDelay.String()
	}
	return json.Marshal(v)
}

// UnmarshalJSON reads the JSON of MarshalJSON. It fails on unknown members: a misspelled fault would never be injected.
func (r *Rule) UnmarshalJSON(b []byte) error {
	v := ruleJSON{plainRule: (*plainRule)(r)}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("fault rule: %w", err)
	}
	for _, f := range []struct {
		text string
		to   *time.Duration
	}{{v.Delay, &r.Delay}, {v.ReplyDelay, &r.ReplyDelay}} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.to, err = time.ParseDuration(f.text); err != nil {
			return fmt.Errorf("fault rule: %w", err)
		}
	}
	return nil
}

// Validate reports the first rule with contradictory members or members out of range.
func (f *Faults) Validate() error {
	if f == nil {
		return nil
	}
	for i := range f.Rules {
		if err := f.Rules[i].validate(); err != nil {
			return fmt.Errorf("fault rule %d: %w", i, err)
		}
	}
	return nil
}

func (r *Rule) validate() error {
	actions := 0
	for _, set := range []bool{
		r.Status != 0 || r.ErrorType != "", r.Hang, r.Reset, r.StoreThenHang, r.StoreThenReset, r.TruncateReply, r.CloseAfterReply,
	} {
		if set {
			actions++
		}
	}
	isProbability := func(p float64) bool { return p >= 0 && p <= 1 }
	switch {
	case actions > 1:
		return errors.New("more than one action")
	case actions == 0 && r.RecordError == nil && r.ResultDelta == 0 && r.Delay == 0 && r.ReplyDelay == 0:
		return errors.New("no action")
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return fmt.Errorf("status %d is not between 400 and 599", r.Status)
	case r.Message != "" && r.ErrorType == "":
		return errors.New("message without errorType")
	case r.From < 0 || r.Count < 0 || r.Delay < 0 || r.ReplyDelay < 0:
		return errors.New("negative window or delay")
	case !isProbability(r.Probability) || r.RecordError != nil && !isProbability(r.RecordError.Probability):
		return errors.New("probability is not between 0 and 1")
	case r.ResultDelta > maxRecords || r.ResultDelta < -maxRecords:
		return fmt.Errorf("resultDelta is not between -%d and %[1]d", maxRecords)
	}
	return nil
}

// plan is the state of a server's faults. Server.mu guards it.
type plan struct {
	faults Faults
	seen   []int // by rule: the number of requests of its operation
}

// newPlan copies f.
func newPlan(f *Faults) *plan {
	if f == nil {
		return &plan{}
	}
	p := &plan{faults: Faults{Seed: f.Seed, Rules: slices.Clone(f.Rules)}, seen: make([]int, len(f.Rules))}
	for i := range p.faults.Rules {
		if e := p.faults.Rules[i].RecordError; e != nil {
			c := *e
			p.faults.Rules[i].RecordError = &c
		}
	}
	return p
}

// fault is the fault of one request. The zero value is none.
type fault struct {
	Rule
	draws *rand.Rand
}

// next returns the fault of the next request of the operation.
func (p *plan) next(operation string) fault {
	var found fault
	for i, r := range p.faults.Rules {
		if r.Operation != "*" && r.Operation != operation && (r.Operation != "" || operation != "PutRecords") {
			continue
		}
		n := p.seen[i]
		p.seen[i]++
		if found.draws != nil || n < r.From || r.Count > 0 && n >= r.From+r.Count {
			continue
		}
		// Each rule and request has its own generator: the draws of a request do not depend on the number of records in others.
		draws := rand.New(rand.NewPCG(p.faults.Seed, uint64(i)<<32|uint64(n))) // repeatable by intent
		if chance(draws, r.Probability) {
			found = fault{r, draws}
		}
	}
	return found
}

func chance(draws *rand.Rand, probability float64) bool {
	return probability == 0 || draws.Float64() < probability
}

// lostReply returns the action that keeps the reply from the client, or "" for none.
func (f *fault) lostReply() string {
	switch {
	case f.Hang:
		return "Hang"
	case f.Reset:
		return "Reset"
	case f.StoreThenHang:
		return "StoreThenHang"
	case f.StoreThenReset:
		return "StoreThenReset"
	case f.TruncateReply:
		return "TruncateReply"
	}
	return ""
}

// requestError returns the rule's error for the whole request, nil for none.
func (f *fault) requestError() error {
	if f.Status == 0 && f.ErrorType == "" {
		return nil
	}
	e := newError(f.ErrorType, "%s", f.Message)
	if f.Message == "" {
		e.message = defaultMessage(f.ErrorType)
	}
	if f.Status != 0 {
		e.status = f.Status
	}
	return e
}

// recordError returns the result of the next record if it fails, else an empty one.
func (f *fault) recordError() putResult {
	e := f.RecordError
	if e == nil || !chance(f.draws, e.Probability) {
		return putResult{}
	}
	result := putResult{ErrorCode: e.Code, ErrorMessage: e.Message}
	if result.ErrorCode == "" {
		result.ErrorCode = codeThroughputExceeded
	}
	return result
}

// applyResultDelta removes or repeats results.
func (f *fault) applyResultDelta(results []putResult) []putResult {
	if f.ResultDelta <= 0 {
		return results[:max(0, len(results)+f.ResultDelta)]
	}
	return append(results, slices.Repeat(results[len(results)-1:], f.ResultDelta)...)
}
