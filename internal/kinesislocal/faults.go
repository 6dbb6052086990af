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

// Faults says which requests go wrong, and how. It is data: it can be written as JSON and read back. Two servers that
// see the same requests in the same order with equal Faults do the same.
type Faults struct {
	Seed  uint64 `json:"seed,omitempty"`
	Rules []Rule `json:"rules"` // the first rule that covers a request decides; no rule, no fault
}

// Rule is one fault. It covers a request when the operation is right, the request lies in the window of From and Count,
// and the draw with Probability succeeds. A rule has one action; only Delay, ReplyDelay, RecordError and ResultDelta
// may be joined with others. Faults strike after the signature was checked: a request with a bad signature is only
// refused, and does not count for the window.
type Rule struct {
	// Operation is the name of an operation, such as GetRecords; empty means PutRecords, "*" every operation.
	Operation string `json:"operation,omitempty"`
	// From is how many requests of the operation pass before the window opens; Count is how many it then holds,
	// 0 for no end. They are counted from the moment the Faults were set, also those that another rule took.
	From  int `json:"from,omitempty"`
	Count int `json:"count,omitempty"`
	// Probability that a request in the window is covered, 0 to 1; 0 stands for 1.
	Probability float64 `json:"probability,omitempty"`

	// Delay passes before the request is carried out; a client that gives up meanwhile has stored nothing.
	// ReplyDelay passes after it, before the reply. In JSON both are strings such as "250ms".
	Delay      time.Duration `json:"-"`
	ReplyDelay time.Duration `json:"-"`

	// RecordError lets single records of PutRecords fail.
	RecordError *RecordError `json:"recordError,omitempty"`

	// Status, from 400 to 599, refuses the request with ErrorType and Message; without an ErrorType the body is empty,
	// as from a proxy on the way. ErrorType alone takes AWS's status for it: 500 for InternalFailureException and
	// InternalFailure, 503 for ServiceUnavailable, else 400.
	Status    int    `json:"status,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Message   string `json:"message,omitempty"`

	Hang            bool `json:"hang,omitempty"`            // nothing is done and no reply comes until the client gives up or Close
	Reset           bool `json:"reset,omitempty"`           // nothing is done; TCP RST instead of the reply
	StoreThenHang   bool `json:"storeThenHang,omitempty"`   // the request is carried out, no reply comes
	StoreThenReset  bool `json:"storeThenReset,omitempty"`  // the request is carried out; TCP RST instead of the reply
	TruncateReply   bool `json:"truncateReply,omitempty"`   // the request is carried out; the connection ends in the middle of the reply's body
	CloseAfterReply bool `json:"closeAfterReply,omitempty"` // the connection ends after the reply without having said so
	// ResultDelta lets PutRecords store all and answer this many results too many or, when negative, too few.
	ResultDelta int `json:"resultDelta,omitempty"`
}

// RecordError makes each record of a covered PutRecords fail with Probability (0 stands for 1). Code is the ErrorCode,
// ProvisionedThroughputExceededException when empty; Message is one of AWS's kind when empty.
type RecordError struct {
	Code        string  `json:"code,omitempty"`
	Message     string  `json:"message,omitempty"`
	Probability float64 `json:"probability,omitempty"`
}

// plainRule is Rule without its methods.
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

// UnmarshalJSON reads what MarshalJSON writes. It fails on members that no rule has: a fault that is misspelled would
// otherwise be a fault that never strikes.
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

// Validate reports the first rule that contradicts itself or lies outside its bounds.
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
	probable := func(p float64) bool { return p >= 0 && p <= 1 }
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
	case !probable(r.Probability) || r.RecordError != nil && !probable(r.RecordError.Probability):
		return errors.New("probability is not between 0 and 1")
	case r.ResultDelta > maxRecords || r.ResultDelta < -maxRecords:
		return fmt.Errorf("resultDelta is not between -%d and %[1]d", maxRecords)
	}
	return nil
}

// plan is a set of faults at work. Server.mu guards it.
type plan struct {
	faults Faults
	seen   []int // requests of the rule's operation
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

// fault is what happens to one request; the zero value is nothing.
type fault struct {
	Rule
	draws *rand.Rand
}

// strike decides about the next request of the operation.
func (p *plan) strike(operation string) fault {
	var struck fault
	for i, r := range p.faults.Rules {
		if r.Operation != "*" && r.Operation != operation && (r.Operation != "" || operation != "PutRecords") {
			continue
		}
		n := p.seen[i]
		p.seen[i]++
		if struck.draws != nil || n < r.From || r.Count > 0 && n >= r.From+r.Count {
			continue
		}
		// A generator for each rule and request: what one request draws does not depend on how many records others had.
		draws := rand.New(rand.NewPCG(p.faults.Seed, uint64(i)<<32|uint64(n))) // repeatable by intent
		if hit(draws, r.Probability) {
			struck = fault{r, draws}
		}
	}
	return struck
}

func hit(draws *rand.Rand, probability float64) bool {
	return probability == 0 || draws.Float64() < probability
}

// eats names the action that keeps the reply from the client, "" for none.
func (f *fault) eats() string {
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

// refusal is the error that the rule answers with, nil for none.
func (f *fault) refusal() error {
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

// recordError is the failure of the next record, empty for none.
func (f *fault) recordError() putResult {
	e := f.RecordError
	if e == nil || !hit(f.draws, e.Probability) {
		return putResult{}
	}
	result := putResult{ErrorCode: e.Code, ErrorMessage: e.Message}
	if result.ErrorCode == "" {
		result.ErrorCode = codeThroughputExceeded
	}
	return result
}

// miscount applies ResultDelta.
func (f *fault) miscount(results []putResult) []putResult {
	if f.ResultDelta <= 0 {
		return results[:max(0, len(results)+f.ResultDelta)]
	}
	return append(results, slices.Repeat(results[len(results)-1:], f.ResultDelta)...)
}
