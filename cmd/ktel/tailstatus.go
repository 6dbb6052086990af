package main

import (
	"fmt"
	"time"

	"kinesis-telemetry-extension/internal/session"
	"kinesis-telemetry-extension/record"
)

// rateTime is the window of the rates.
const rateTime = 5 * time.Second

// tailStatus is the status line, the last one of the terminal.
type tailStatus struct {
	drawn   bool
	trouble string
	start   time.Time
	recent  []tally // records of the last rateTime
	delay   time.Duration
	delayed bool
	behind  map[string]time.Duration
}

// tally counts the events and bytes of one record.
type tally struct {
	at            time.Time
	events, bytes int
}

func newTailStatus(now time.Time) *tailStatus {
	return &tailStatus{start: now, behind: make(map[string]time.Duration)}
}

func (s *tailStatus) record(r *session.Record, now time.Time) {
	s.recent = append(s.recent, tally{at: now, bytes: len(r.Data)})
}

// event counts an event of the latest record.
func (s *tailStatus) event(line *record.Line, arrived time.Time) {
	s.recent[len(s.recent)-1].events++
	if emitted, err := time.Parse(time.RFC3339Nano, line.Time); err == nil {
		s.delay, s.delayed = max(0, arrived.Sub(emitted)), true
	}
}

func (s *tailStatus) polled(p session.Poll) {
	s.behind[p.Shard] = p.Behind
	if p.Ended {
		delete(s.behind, p.Shard)
	}
}

func (s *tailStatus) text(now time.Time) string {
	if s.trouble != "" {
		return s.trouble
	}
	for len(s.recent) > 0 && now.Sub(s.recent[0].at) > rateTime {
		s.recent = s.recent[1:]
	}
	events, bytes := 0, 0
	for _, t := range s.recent {
		events, bytes = events+t.events, bytes+t.bytes
	}
	over := max(time.Second, min(rateTime, now.Sub(s.start))).Seconds()
	lag := time.Duration(0)
	for _, behind := range s.behind {
		lag = max(lag, behind)
	}
	text := fmt.Sprintf("%s events/s   %s KB/s", decimal(rounded(float64(events)/over)), decimal(rounded(float64(bytes)/over/1000)))
	if s.delayed {
		text += fmt.Sprintf("   delay %v", s.delay.Round(10*time.Millisecond))
	}
	return text + fmt.Sprintf("   lag %v   %s", lag.Round(100*time.Millisecond), plural(len(s.behind), "shard"))
}

// rounded rounds to one decimal.
func rounded(v float64) float64 { return float64(int64(v*10+0.5)) / 10 }
