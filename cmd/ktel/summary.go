//go:build unix

package main

import (
	"slices"
	"time"

	"kinesis-telemetry-extension/internal/audit"
	"kinesis-telemetry-extension/internal/sandbox"
)

// shownProblems bounds how many events of each kind of problem a Summary shows.
const shownProblems = 10

// Summary is the outcome of a session. Its JSON is what --json prints.
type Summary struct {
	// Complete: the environment came up, and every event arrived, once and unaltered. Audited is false where nobody was to deliver any,
	// Disabled is true where the extension was told to deliver none.
	Complete bool `json:"complete"`
	Audited  bool `json:"audited"`
	Disabled bool `json:"disabled,omitempty"`
	// InitError says why the environment did not come up; empty when it did.
	InitError string `json:"initError,omitempty"`
	// Idle says that the extension was emitted no event, because it never subscribed to any, and its own last line.
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

// EventSummary counts events. Conflicts are lines that carry another event's number, Own those in which the extension
// itself speaks, Unknown those of other writers; Missing are numbers that never arrived.
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

// StreamSummary says what the stream holds, how often it refused a record for its shards' limits (where that is known),
// and what Kinesis bills: PUT payload units of 25 KB on a provisioned stream, KB rounded up by record on an on-demand
// stream; the fields that end in OnePerEvent for one record an event.
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
	GzipBytes               int64  `json:"gzipBytes"` // what Bytes would be with COMPRESSION=gzip
}

// HoldSummary is how long extensions kept invocations from ending after the function was done, in milliseconds. The
// caller of a function does not wait for it, but it is billed.
type HoldSummary struct {
	P50Ms    float64 `json:"p50Ms"`
	MaxMs    float64 `json:"maxMs"`
	BilledMs int64   `json:"billedMs"`
}

// ExtensionSummary describes the processes of an extension: the start of the first one, the greatest memory of all.
type ExtensionSummary struct {
	Name         string  `json:"name"`
	RegisteredMs float64 `json:"registeredMs"` // from exec
	ReadyMs      float64 `json:"readyMs"`      // from exec to its first request for an event
	PeakMemory   int64   `json:"peakMemoryBytes"`
	Processes    int     `json:"processes"` // more than 1: the environment was reset
	Killed       bool    `json:"killed"`    // one of them had to be killed
}

// Problem is an event that did not arrive as it should.
type Problem struct {
	Kind string `json:"kind"` // lost, duplicated, altered, conflicting, malformed or unknown
	audit.Event
}

// invocation is the outcome of one invocation.
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

// summarizeHolds takes the median as the nearest rank: a value that was measured.
func summarizeHolds(invocations []invocation) HoldSummary {
	var h HoldSummary
	held := make([]time.Duration, 0, len(invocations))
	for _, each := range invocations {
		r := each.result
		held = append(held, r.Hold)
		// Lambda bills whole milliseconds of the phase; without extensions it would have ended Held earlier.
		h.BilledMs += wholeMs(r.Duration) - wholeMs(r.Duration-r.Hold)
	}
	if len(held) == 0 {
		return h
	}
	slices.Sort(held)
	h.P50Ms = milliseconds(held[(len(held)-1)/2])
	h.MaxMs = milliseconds(held[len(held)-1])
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
