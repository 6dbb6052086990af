package audit

import (
	"maps"
	"slices"
)

// Kinesis bills each record's data and partition key, rounded up to these sizes:
// https://aws.amazon.com/kinesis/data-streams/pricing/
const (
	payloadUnitBytes = 25 << 10 // provisioned streams: PUT payload units of 25 KB
	onDemandBytes    = 1 << 10  // on-demand streams: KB
)

// Report is the outcome of an audit.
type Report struct {
	// Emitted counts the events that Lambda posted. Delivered counts the events that a line carries byte for byte.
	Emitted   int `json:"emitted"`
	Delivered int `json:"delivered"`
	// Lost are the events that no line carries.
	Lost []Event `json:"lost,omitempty"`
	// Duplicated are the lines beyond the first of an (instance, seq), and the lines of an event beyond the number of times
	// that it was emitted.
	Duplicated []Event `json:"duplicated,omitempty"`
	// Altered are lines with the time and type of a lost event and another record.
	Altered []Event `json:"altered,omitempty"`
	// Conflicting are lines whose (instance, seq) an earlier line has with other content. Their content counts like that of any
	// other line.
	Conflicting []Event `json:"conflicting,omitempty"`
	// Unknown are lines of events that were never emitted, such as those of another writer.
	Unknown []Event `json:"unknown,omitempty"`
	// Malformed are lines that are not events.
	Malformed []Event `json:"malformed,omitempty"`
	// Own counts the extension's own events by type.
	Own map[string]int `json:"own,omitempty"`
	// Gaps are the numbers that never arrived.
	Gaps []Gap `json:"gaps,omitempty"`
	// OutOfOrder counts lines after one with a higher number of the same instance and partition key.
	OutOfOrder int `json:"outOfOrder"`

	// Records, Lines and Bytes (data and partition keys) are the stream's content.
	Records int   `json:"records"`
	Lines   int   `json:"lines"`
	Bytes   int64 `json:"bytes"`
	// PayloadUnits are the PUT payload units of 25 KiB that a provisioned stream bills for the records. UnitsOnePerEvent are
	// the units that it would bill for one record per line.
	PayloadUnits     int `json:"payloadUnits"`
	UnitsOnePerEvent int `json:"unitsOnePerEvent"`
	// OnDemandKB are the KiB that an on-demand stream bills for the records, OnDemandKBOnePerEvent for one record per line.
	OnDemandKB            int `json:"onDemandKB"`
	OnDemandKBOnePerEvent int `json:"onDemandKBOnePerEvent"`
	// GzipBytes is Bytes with the uncompressed records compressed with gzip.
	GzipBytes int64 `json:"gzipBytes"`
}

// Gap is a range of numbers of one instance that never arrived, both ends included.
type Gap struct {
	Instance string `json:"instance"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// Count returns how many numbers the gap has.
func (g Gap) Count() uint64 { return g.Last - g.First + 1 }

// Complete reports whether every event arrived once and unaltered.
func (r *Report) Complete() bool {
	return r.Delivered == r.Emitted && len(r.Lost) == 0 && len(r.Duplicated) == 0 && len(r.Altered) == 0 &&
		len(r.Conflicting) == 0 && len(r.Malformed) == 0 && len(r.Gaps) == 0
}

func (r *Report) addCost(partitionKey string, data []byte, lines []Line) {
	size := len(data) + len(partitionKey)
	r.Records++
	r.Lines += len(lines)
	r.Bytes += int64(size)
	r.PayloadUnits += units(size, payloadUnitBytes)
	r.OnDemandKB += units(size, onDemandBytes)
	for i := range lines {
		single := len(lines[i].Raw) + len(partitionKey)
		r.UnitsOnePerEvent += units(single, payloadUnitBytes)
		r.OnDemandKBOnePerEvent += units(single, onDemandBytes)
	}
}

func units(size, unit int) int { return (size + unit - 1) / unit }

func (r *Report) clone() Report {
	c := *r
	c.Duplicated = slices.Clone(r.Duplicated)
	c.Conflicting = slices.Clone(r.Conflicting)
	c.Malformed = slices.Clone(r.Malformed)
	c.Own = maps.Clone(r.Own)
	return c
}
