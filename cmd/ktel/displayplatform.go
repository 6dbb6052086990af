package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Types and statuses of events.
const (
	kindExtension = "extension" // also a name in the family platform
	kindStats     = "kinesis-telemetry.stats"
	succeeded     = "success"
)

// platformRecord has the members of platform events that one line shows. Which type has which members:
// https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
type platformRecord struct {
	InitializationType string   `json:"initializationType"`
	FunctionName       string   `json:"functionName"`
	FunctionVersion    string   `json:"functionVersion"`
	Version            string   `json:"version"`
	Status             string   `json:"status"`
	ErrorType          string   `json:"errorType"`
	Name               string   `json:"name"`
	State              string   `json:"state"`
	Events             []string `json:"events"`
	Types              []string `json:"types"`
	Reason             string   `json:"reason"`
	DroppedRecords     *int64   `json:"droppedRecords"`
	DroppedBytes       *int64   `json:"droppedBytes"`
	Metrics            struct {
		DurationMs        *float64 `json:"durationMs"`
		BilledDurationMs  *float64 `json:"billedDurationMs"`
		InitDurationMs    *float64 `json:"initDurationMs"`
		MaxMemoryUsedMB   *float64 `json:"maxMemoryUsedMB"`
		MemorySizeMB      *float64 `json:"memorySizeMB"`
		RestoreDurationMs *float64 `json:"restoreDurationMs"`
	} `json:"metrics"`
}

// platformMessage puts a platform event into one line. It returns false for an unknown type.
func platformMessage(kind string, raw json.RawMessage) (message, bool) {
	var r platformRecord
	if json.Unmarshal(raw, &r) != nil {
		return message{}, false
	}
	failed := r.Status != "" && r.Status != succeeded
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch kind {
	case "initStart", "restoreStart":
		add("%s %s %s", r.InitializationType, r.FunctionName, r.FunctionVersion)
	case "start":
		add("version %s", r.Version)
	case kindExtension, "telemetrySubscription":
		add("%s %s %s", r.State, r.Name, strings.Join(append(r.Events, r.Types...), ","))
	case "logsDropped":
		failed = true
		if r.DroppedRecords != nil && r.DroppedBytes != nil {
			add("%d records, %d bytes:", *r.DroppedRecords, *r.DroppedBytes)
		}
		add("%s", r.Reason)
	case "initRuntimeDone", "initReport", "runtimeDone", "report", "restoreRuntimeDone", "restoreReport":
		add("%s", r.Status)
		if r.ErrorType != "" {
			add("%s", r.ErrorType)
		}
		metric := func(label string, value *float64, unit string) {
			if value != nil {
				add("%s%s %s", label, decimal(*value), unit)
			}
		}
		metric("", r.Metrics.DurationMs, "ms")
		metric("billed ", r.Metrics.BilledDurationMs, "ms")
		metric("init ", r.Metrics.InitDurationMs, "ms")
		metric("memory ", r.Metrics.MaxMemoryUsedMB, "MB")
	default:
		return message{}, false
	}
	return message{text: strings.Join(strings.Fields(strings.Join(parts, " ")), " "), alarming: failed}, true
}

// statsMessage puts a kinesis-telemetry.stats event into one line. It returns false if the members are unknown.
func statsMessage(raw json.RawMessage) (message, bool) {
	var r struct {
		Received, Sent                           *int64
		Dropped, Held, Recovered, RetriedRecords int64
		HeldBackMs                               float64
	}
	if json.Unmarshal(raw, &r) != nil || r.Received == nil || r.Sent == nil {
		return message{}, false
	}
	text := fmt.Sprintf("%d received %d sent", *r.Received, *r.Sent)
	for _, figure := range []struct {
		count int64
		what  string
	}{{r.Dropped, "dropped"}, {r.Held, "held"}, {r.Recovered, "recovered"}, {r.RetriedRecords, "records retried"}} {
		if figure.count != 0 {
			text += fmt.Sprintf(" %d %s", figure.count, figure.what)
		}
	}
	if r.HeldBackMs > 0 {
		text += fmt.Sprintf(" held back %s ms", decimal(r.HeldBackMs))
	}
	return message{text: text, alarming: r.Dropped > 0}, true
}

// decimal writes a number with at most two decimals.
func decimal(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) }
