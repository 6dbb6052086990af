//go:build unix

package main

import (
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/sandbox"
)

// shownProblems limits how many events of each kind of problem a Summary contains.
const shownProblems = 10

// Summary is the result of a trial. --json prints it as JSON.
type Summary struct {
	// Complete: the environment started, and every event arrived, once and unaltered. Audited is false if no extension
	// had to deliver events. Disabled is true if the settings turn the extension off.
	Complete bool `json:"complete"`
	Audited  bool `json:"audited"`
	Disabled bool `json:"disabled,omitempty"`
	// InitError is why the environment did not start; empty if it did.
	InitError string `json:"initError,omitempty"`
	// Idle is the extension's last line if it never subscribed and so got no event; otherwise empty.
	Idle string `json:"idle,omitempty"`

	Invocations InvocationSummary  `json:"invocations"`
	Events      EventSummary       `json:"events"`
	Stream      StreamSummary      `json:"stream"`
	HeldBack    HoldSummary        `json:"heldBack"`
	Extensions  []ExtensionSummary `json:"extensions"`
	Problems    []Problem          `json:"problems,omitempty"`
}

// InvocationSummary counts invocations by outcome.
type InvocationSummary struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
}

// EventSummary counts events. Conflicts are lines with the seq of another event, Own are events of the extension itself,
// Unknown are lines of other writers. Missing are seqs that did not arrive.
type EventSummary struct {
	Emitted    int    `json:"emitted"`
	Delivered  int    `json:"delivered"`
	Lost       int    `json:"lost"`
	Duplicated int    `json:"duplicated"`
	Altered    int    `json:"altered"`
	Conflicts  int    `json:"conflicting"`
	Malformed  int    `json:"malformed"`
	Unknown    int    `json:"unknown"`
	Own        int    `json:"own"`
	OutOfOrder int    `json:"outOfOrder"`
	Missing    uint64 `json:"missingNumbers"`
}

// StreamSummary counts the records and bytes of the stream, how many records its shards throttled (0 if unknown), and what
// Kinesis bills: PUT payload units of 25 KB on a provisioned stream, KB rounded up per record on an on-demand stream.
// The fields that end in OnePerEvent assume one record per event.
type StreamSummary struct {
	Name                    string `json:"name"`
	Endpoint                string `json:"endpoint"`
	Records                 int    `json:"records"`
	Bytes                   int64  `json:"bytes"`
	Throttled               int64  `json:"throttled"`
	PayloadUnits            int    `json:"payloadUnits"`
	PayloadUnitsOnePerEvent int    `json:"payloadUnitsOnePerEvent"`
	OnDemandKB              int    `json:"onDemandKB"`
	OnDemandKBOnePerEvent   int    `json:"onDemandKBOnePerEvent"`
	GzipBytes               int64  `json:"gzipBytes"` // Bytes with COMPRESSION=gzip
}

// HoldSummary is how long extensions held invocations after the function's end, in milliseconds. The caller of the function
// does not wait for it, but it is billed.
type HoldSummary struct {
	P50Ms    float64 `json:"p50Ms"`
	MaxMs    float64 `json:"maxMs"`
	BilledMs int64   `json:"billedMs"`
}

// ExtensionSummary describes the processes of an extension: the start of the first one, and the peak memory of all.
type ExtensionSummary struct {
	Name         string  `json:"name"`
	RegisteredMs float64 `json:"registeredMs"` // from exec
	ReadyMs      float64 `json:"readyMs"`      // from exec to its first request for an event
	PeakMemory   int64   `json:"peakMemoryBytes"`
	Processes    int     `json:"processes"` // more than 1: the environment was reset
	Killed       bool    `json:"killed"`    // one of them had to be killed
}

// Problem is an event that did not arrive once and unaltered.
type Problem struct {
	Kind string `json:"kind"` // lost, duplicated, altered, conflicting, malformed or unknown
	audit.Event
}

// invocation is the result of one invocation.
type invocation struct {
	number int // from 1
	result sandbox.Result
}

func summarize(invocations []invocation, processes []sandbox.ProcessStats, report *audit.Report) Summary {
	s := Summary{
		Complete: report.Complete(),
		Events: EventSummary{
			Emitted: report.Emitted, Delivered: report.Delivered, Lost: len(report.Lost),
			Duplicated: len(report.Duplicated), Altered: len(report.Altered), Conflicts: len(report.Conflicting),
			Malformed: len(report.Malformed), Unknown: len(report.Unknown), OutOfOrder: report.OutOfOrder,
		},
		Stream: StreamSummary{
			Records: report.Records, Bytes: report.Bytes,
			PayloadUnits: report.PayloadUnits, PayloadUnitsOnePerEvent: report.UnitsOnePerEvent,
			OnDemandKB: report.OnDemandKB, OnDemandKBOnePerEvent: report.OnDemandKBOnePerEvent, GzipBytes: report.GzipBytes,
		},
		HeldBack:   summarizeHolds(invocations),
		Extensions: extensions(processes),
	}
	for _, n := range report.Own {
		s.Events.Own += n
	}
	for _, gap := range report.Gaps {
		s.Events.Missing += gap.Count()
	}
	for _, each := range invocations {
		s.Invocations.Total++
		if each.result.Status == succeeded && each.result.FunctionError == "" {
			s.Invocations.Succeeded++
		} else {
			s.Invocations.Failed++
		}
	}
	s.problems("lost", report.Lost)
	s.problems("duplicated", report.Duplicated)
	s.problems("altered", report.Altered)
	s.problems("conflicting", report.Conflicting)
	s.problems("malformed", report.Malformed)
	s.problems("unknown", report.Unknown)
	return s
}

func (s *Summary) problems(kind string, events []audit.Event) {
	for _, event := range events[:min(len(events), shownProblems)] {
		s.Problems = append(s.Problems, Problem{Kind: kind, Event: event})
	}
}

// summarizeHolds uses the nearest rank for the median, which is a measured value.
func summarizeHolds(invocations []invocation) HoldSummary {
	var h HoldSummary
	holds := make([]time.Duration, 0, len(invocations))
	for _, each := range invocations {
		r := each.result
		holds = append(holds, r.Hold)
		// Lambda bills whole milliseconds of the phase. Without extensions it would have been shorter by Hold.
		h.BilledMs += wholeMs(r.Duration) - wholeMs(r.Duration-r.Hold)
	}
	if len(holds) == 0 {
		return h
	}
	slices.Sort(holds)
	h.P50Ms = milliseconds(holds[(len(holds)-1)/2])
	h.MaxMs = milliseconds(holds[len(holds)-1])
	return h
}

func wholeMs(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

func extensions(processes []sandbox.ProcessStats) []ExtensionSummary {
	var all []ExtensionSummary
	for _, p := range processes {
		if p.Kind != sandbox.ExtensionProcess {
			continue
		}
		at := slices.IndexFunc(all, func(e ExtensionSummary) bool { return e.Name == p.Name })
		if at < 0 {
			at = len(all)
			all = append(all, ExtensionSummary{
				Name: p.Name, RegisteredMs: milliseconds(p.Register), ReadyMs: milliseconds(p.FirstNext),
			})
		}
		e := &all[at]
		e.PeakMemory = max(e.PeakMemory, p.MaxRSS)
		e.Processes++
		e.Killed = e.Killed || p.Killed
	}
	return all
}
