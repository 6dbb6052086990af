//go:build unix

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"
)

// Statuses of telemetry and Result.
const (
	statusSuccess = "success"
	statusError   = "error"
	statusFailure = "failure"
	statusTimeout = "timeout"
)

// Result is the outcome of one invocation.
type Result struct {
	RequestID     string
	Payload       []byte // the function's response, or the JSON error that Lambda returns to a caller
	FunctionError string // "" or "Unhandled", as in the header X-Amz-Function-Error
	Status        string // of the phase: success, error, failure (the caller's ctx ended) or timeout
	ErrorType     string // as in telemetry, "" on success
	Error         string // why the phase failed, for people; "" on success

	// Response is the caller's latency: from the start of the phase to the response's last byte; 0 without response.
	Response time.Duration
	Duration time.Duration // of the phase, as in platform.report; it includes a suppressed init
	Billed   time.Duration // whole milliseconds; includes init at an on-demand cold start
	Init     time.Duration // of the init phase; 0 except in the first invocation

	// Hold is how long extensions kept the invocation open: from the runtime's next (or its exit) to the next of the last
	// extension that gets INVOKE. The metric PostRuntimeExtensionsDuration.
	Hold time.Duration
}

// InvokeOption changes one invocation.
type InvokeOption func(*invocation)

// WithRequestID sets the request id. The default is a new UUID.
func WithRequestID(id string) InvokeOption { return func(inv *invocation) { inv.id = id } }

// WithTenant sets the tenant id of a function with tenant isolation.
func WithTenant(id string) InvokeOption { return func(inv *invocation) { inv.tenant = id } }

// invokePhase is one running invoke phase.
type invokePhase struct {
	*invocation
	env             *Environment
	number          int // of the invocation, counted from 0 through all generations
	generation      *generation
	restoreDuration time.Duration   // SnapStart's restore phase, in the first invocation after init
	initDuration    time.Duration   // of the init phase, in the first invocation after init
	registrations   []*registration // of the extensions that get INVOKE
	runtimeEnd      time.Time       // when the runtime called next or exited
	result          Result
}

func (e *Environment) newInvokePhase(payload []byte, opts []InvokeOption) *invokePhase {
	now := time.Now()
	inv := &invocation{id: newUUID(), arn: e.functionARN(), trace: newTrace(now), payload: payload, start: now}
	for _, o := range opts {
		o(inv)
	}
	inv.deadline = now.Add(e.cfg.Function.Timeout)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.invocationCount++
	return &invokePhase{invocation: inv, env: e, number: e.invocationCount - 1, result: Result{RequestID: inv.id, Status: statusSuccess}}
}

// run runs the whole phase. It returns the caller's ctx error if that ended the phase.
// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
func (p *invokePhase) run(ctx context.Context) error {
	ctx, cancel := context.WithDeadlineCause(ctx, p.deadline.Add(p.env.cfg.Function.Grace), errDeadline)
	defer cancel()
	err := p.begin(ctx)
	if err == nil {
		err = p.awaitRuntime(ctx)
	}
	p.endRuntime(err)
	if err == nil {
		err = p.awaitExtensions(ctx)
	}
	p.end(context.WithoutCancel(ctx), err)
	var fail *failure
	var initErr *InitError
	if err == nil || errors.As(err, &fail) || errors.As(err, &initErr) || errors.Is(err, errDeadline) {
		return nil
	}
	return err
}

// begin thaws the environment, or starts it after a reset. Then it sends the event to the extensions and the runtime at
// the same time.
func (p *invokePhase) begin(ctx context.Context) error {
	e := p.env
	p.generation = e.currentGeneration()
	if p.generation == nil {
		p.generation = e.newGeneration("invoke")
		if _, err := p.generation.init(ctx); err != nil {
			p.emitStart() // after a suppressed init, as the emulator does
			return err
		}
	} else {
		p.generation.hub.beginInvocation(p.number)
		p.initDuration, p.restoreDuration = e.takeInitDuration()
		e.Thaw()
		if p.restoreDuration > 0 {
			p.generation.emitRestore(p.restoreDuration)
		}
	}
	p.emitStart()
	g := p.generation
	g.mu.Lock()
	event := p.invokeEvent()
	for _, reg := range g.registrations {
		if reg.wants(eventInvoke) {
			p.registrations = append(p.registrations, reg)
			reg.send(event)
		}
	}
	if e.cfg.InitType != ManagedInstances {
		g.current = p.invocation
	}
	g.invocations[p.id] = p.invocation
	fail := g.failure
	g.mu.Unlock()
	if fail != nil {
		return fail
	}
	return g.dispatch(ctx, p.invocation)
}

// dispatch passes the invocation to a waiting next call of the runtime.
func (g *generation) dispatch(ctx context.Context, inv *invocation) error {
	for {
		g.mu.Lock()
		fail, changed := g.failure, g.changed
		g.mu.Unlock()
		if fail != nil {
			return fail
		}
		select {
		case g.invokes <- inv:
			return nil
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitRuntime waits until the runtime is done: it called next or, on Managed Instances, it responded.
func (p *invokePhase) awaitRuntime(ctx context.Context) error {
	return p.generation.await(ctx, func() bool {
		if p.env.cfg.InitType == ManagedInstances {
			return !p.responseEnd.IsZero()
		}
		return !p.done.IsZero()
	})
}

func (p *invokePhase) awaitExtensions(ctx context.Context) error {
	return p.generation.await(ctx, func() bool {
		for _, reg := range p.registrations {
			if !reg.waiting {
				return false
			}
		}
		return true
	})
}

// endRuntime emits the lines printed so far and platform.runtimeDone.
func (p *invokePhase) endRuntime(err error) {
	g, cfg := p.generation, &p.env.cfg
	g.drain()
	g.mu.Lock()
	p.runtimeEnd = p.done
	if p.runtimeEnd.IsZero() {
		p.runtimeEnd = time.Now()
	}
	if p.runtimeEnd.After(p.deadline) {
		p.runtimeEnd = p.deadline
	}
	delete(g.invocations, p.id)
	p.setOutcomeLocked(err)
	rec := runtimeDoneRecord{
		RequestID: p.id, Status: p.result.Status, ErrorType: p.result.ErrorType, TenantID: p.tenant, Tracing: tracing(p.trace),
		Metrics: runtimeDoneMetrics{DurationMs: milliseconds(p.runtimeEnd.Sub(p.start)), ProducedBytes: int64(len(p.response))},
		Spans:   p.spansLocked(),
	}
	g.mu.Unlock()
	if cfg.InitType == ManagedInstances {
		return
	}
	g.emitAfter(cfg.Telemetry.RuntimeDoneDelay, p.number, "platform.runtimeDone", rec)
	if cfg.Telemetry.DuplicateRuntimeDone {
		g.emitAfter(cfg.Telemetry.RuntimeDoneDelay, p.number, "platform.runtimeDone", rec)
	}
}

// setOutcomeLocked sets the result's status and payload from the response and err. An error does not replace a response,
// because Lambda returns a response to the caller at once. The caller has locked the generation's mu.
func (p *invokePhase) setOutcomeLocked(err error) {
	r := &p.result
	if !p.responseEnd.IsZero() {
		r.Payload, r.FunctionError = p.response, p.functionErr
		r.Response = p.responseEnd.Sub(p.start)
		if p.errType != "" {
			r.Status, r.ErrorType, r.Error = statusError, p.errType, "the function returned an error"
		}
	}
	if err == nil {
		return
	}
	var fail *failure
	var initErr *InitError
	msg := err.Error()
	switch {
	case errors.As(err, &fail):
		r.Status, r.ErrorType, r.Error = statusError, fail.typ, fail.msg
		msg = fail.msg
		if p.errType != "" { // aws-lambda-go reports a panic and then exits: report the panic, not the exit
			r.ErrorType = p.errType
		}
	case errors.As(err, &initErr):
		r.Status, r.ErrorType, r.Error = statusError, initErr.Type, initErr.Message
		if initErr.Type == errTimedOut {
			r.Status = statusTimeout
		}
		msg = initErr.Message
	case errors.Is(err, errDeadline):
		r.Status, r.ErrorType = statusTimeout, errTimedOut
		msg = p.timeoutMessage()
		r.Error = msg + p.timeoutCauseLocked()
	default:
		r.Status, r.ErrorType, r.Error = statusFailure, errSandboxFailure, msg
	}
	if p.responseEnd.IsZero() {
		r.Payload = errorJSON(r.ErrorType, fmt.Sprintf("RequestId: %s Error: %s", p.id, msg))
		r.FunctionError = "Unhandled"
	}
}

func (p *invokePhase) timeoutMessage() string {
	return fmt.Sprintf("Task timed out after %.2f seconds", p.env.cfg.Function.Timeout.Seconds())
}

// timeoutCauseLocked names the process for which the phase waited when it timed out.
func (p *invokePhase) timeoutCauseLocked() string {
	if p.responseEnd.IsZero() {
		return ": the function did not respond"
	}
	for _, reg := range p.registrations {
		if !reg.waiting {
			return fmt.Sprintf(": extension %s did not ask for the next event", reg.name)
		}
	}
	return ": the runtime did not ask for the next invocation"
}

// spansLocked returns the spans of platform.runtimeDone, on Managed Instances those of platform.report.
func (p *invokePhase) spansLocked() []spanRecord {
	if p.responseEnd.IsZero() {
		return nil
	}
	spans := []spanRecord{
		span("responseLatency", p.start, p.firstByte),
		span("responseDuration", p.firstByte, p.responseEnd),
	}
	if end := p.done; !end.IsZero() {
		spans = append(spans, span("runtimeOverhead", p.responseEnd, end))
	}
	return spans
}

// end emits platform.report and freezes or resets the environment. ctx must not be the one that ended the phase.
func (p *invokePhase) end(ctx context.Context, err error) {
	g, e, r := p.generation, p.env, &p.result
	g.drain()
	now := time.Now()
	if now.After(p.deadline) {
		now = p.deadline
	}
	g.mu.Lock()
	last := p.runtimeEnd
	for _, reg := range p.registrations {
		switch {
		case !reg.waiting:
			last = now
		case reg.waitingSince.After(last):
			last = reg.waitingSince
		}
	}
	p.setOutcomeLocked(err)
	runtimeSpans := p.spansLocked()
	g.mu.Unlock()
	r.Hold = last.Sub(p.runtimeEnd)
	r.Duration, r.Init = last.Sub(p.start), p.initDuration
	managed := e.cfg.InitType == ManagedInstances
	rec := reportRecord{RequestID: p.id, Status: r.Status, ErrorType: r.ErrorType, TenantID: p.tenant, Tracing: tracing(p.trace)}
	r.Billed = billed(r.Duration + p.restoreDuration)
	if e.cfg.InitType == OnDemand { // since 2025-08-01 AWS bills on-demand init with the first invocation
		r.Billed = billed(r.Duration + p.initDuration)
	}
	if managed { // guide, page telemetry-schema-reference: only durationMs
		rec.Metrics, rec.Spans = durationMetrics{milliseconds(r.Duration)}, runtimeSpans
	} else {
		rec.Metrics = reportMetrics{
			DurationMs: milliseconds(r.Duration), BilledDurationMs: milliseconds(r.Billed), MemorySizeMB: e.cfg.Function.MemoryMB,
			MaxMemoryUsedMB: g.memoryMB(), InitDurationMs: milliseconds(p.initDuration), RestoreDurationMs: milliseconds(p.restoreDuration),
		}
		if len(p.registrations) > 0 {
			rec.Spans = []spanRecord{span("extensionOverhead", p.runtimeEnd, last)}
		}
	}
	p.emitFault(err)
	g.hub.logsAPIOnly(p.number, "platform.end", logsEndRecord{RequestID: p.id})
	g.emitAfter(e.cfg.ReportDelay, p.number, "platform.report", rec)
	switch {
	case err == nil:
		if !e.cfg.NoFreeze {
			e.Freeze()
		}
	case !managed:
		e.reset(ctx, resetReason(err))
	}
}

// billed rounds d up to whole milliseconds.
func billed(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(milliseconds(d))) * time.Millisecond
}

func resetReason(err error) string {
	if errors.Is(err, errDeadline) {
		return "timeout"
	}
	var initErr *InitError
	if errors.As(err, &initErr) && initErr.Type == errTimedOut {
		return "timeout"
	}
	return "failure"
}

// memoryMB returns the sum of the processes' peak memory.
func (g *generation) memoryMB() int64 {
	var sum int64
	for _, p := range g.processes() {
		sum += p.sampleRSS()
	}
	return (sum + 1<<20 - 1) >> 20
}

func (p *invokePhase) emitStart() {
	rec := startRecord{
		RequestID: p.id, Version: p.env.cfg.Function.Version, FunctionArn: p.arn, TenantID: p.tenant, Tracing: tracing(p.trace),
	}
	p.generation.hub.platformFor(p.number, "platform.start", rec)
}

// emitRestore emits the events of SnapStart's restore phase. Extensions have no hook in it.
func (g *generation) emitRestore(took time.Duration) {
	f := &g.env.cfg.Function
	g.hub.platform("platform.restoreStart", restoreStartRecord{
		FunctionName: f.Name, FunctionVersion: f.Version, InstanceID: g.env.instanceID, InstanceMaxMemory: fmt.Sprint(f.memoryBytes()),
	})
	g.hub.platform("platform.restoreRuntimeDone", restoreDoneRecord{Status: statusSuccess})
	g.hub.platform("platform.restoreReport", restoreDoneRecord{Status: statusSuccess, Metrics: &durationMetrics{milliseconds(took)}})
}

type tracingEvent struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// invokeEvent returns the INVOKE event of the Extensions API.
func (p *invokePhase) invokeEvent() []byte {
	event := struct {
		EventType          string       `json:"eventType"`
		DeadlineMs         int64        `json:"deadlineMs"`
		RequestID          string       `json:"requestId"`
		InvokedFunctionArn string       `json:"invokedFunctionArn"`
		Tracing            tracingEvent `json:"tracing"`
	}{eventInvoke, p.deadline.UnixMilli(), p.id, p.arn, tracingEvent{"X-Amzn-Trace-Id", p.trace}}
	data, err := json.Marshal(event)
	if err != nil {
		panic("sandbox: encoding INVOKE: " + err.Error()) // strings and numbers always encode
	}
	return data
}

var parentPattern = regexp.MustCompile(`(?:^|;)Parent=([0-9a-fA-F]+)`)

func tracing(header string) *tracingRecord {
	rec := &tracingRecord{Type: "X-Amzn-Trace-Id", Value: header}
	if m := parentPattern.FindStringSubmatch(header); m != nil {
		rec.SpanID = m[1]
	}
	return rec
}
