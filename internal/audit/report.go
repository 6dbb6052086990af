package audit

import (
	"maps"
	"slices"
)

// Sizes of what Kinesis bills, of each record's data and partition key:
// https://aws.amazon.com/kinesis/data-streams/pricing/
const (
	payloadUnitBytes = 25 << 10 // provisioned streams: PUT payload units of 25 KB
	onDemandBytes    = 1 << 10  // on-demand streams: each record rounded up to the next KB
)

// Report is the outcome of an audit.
type Report struct {
	// Emitted counts the events that Lambda posted; Delivered those that some line carries byte for byte.
	Emitted   int `json:"emitted"`
	Delivered int `json:"delivered"`
	// Lost are the events that no line carries.
	Lost []Event `json:"lost,omitempty"`
	// Duplicated are the lines beyond the first for an (instance, seq), and those for which no event was emitted any more.
	Duplicated []Event `json:"duplicated,omitempty"`
	// Altered are lines with the time and type of a lost event and another record.
	Altered []Event `json:"altered,omitempty"`
	// Conflicting are lines whose (instance, seq) an earlier line carried with other content. By their content they
	// are counted as any line.
	Conflicting []Event `json:"conflicting,omitempty"`
	// Unknown are lines that were never emitted, as from another writer.
	Unknown []Event `json:"unknown,omitempty"`
	// Malformed are lines that are no events.
	Malformed []Event `json:"malformed,omitempty"`
	// Own counts the extension's own events by type.
	Own map[string]int `json:"own,omitempty"`
	// Gaps are the numbers that never arrived.
	Gaps []Gap `json:"gaps,omitempty"`
	// OutOfOrder counts lines that came after one of a higher number from the same instance and partition key.
	OutOfOrder int `json:"outOfOrder"`

	// Records and Bytes (data and partition keys) are what the stream holds; Lines counts the lines of all records.
	Records int   `json:"records"`
	Lines   int   `json:"lines"`
	Bytes   int64 `json:"bytes"`
	// PayloadUnits is what a provisioned stream bills for the records: PUT payload units of 25 KiB.
	// UnitsOnePerEvent is what it would for one record a line.
	PayloadUnits     int `json:"payloadUnits"`
	UnitsOnePerEvent int `json:"unitsOnePerEvent"`
	// OnDemandKB is what an on-demand stream bills for the records, in KiB; OnDemandKBOnePerEvent for one record a line.
	OnDemandKB            int `json:"onDemandKB"`
	OnDemandKBOnePerEvent int `json:"onDemandKBOnePerEvent"`
	// GzipBytes is what Bytes would be with gzip in place of no compression.
	GzipBytes int64 `json:"gzipBytes"`
}

// Gap is a range of numbers of one instance that never arrived, both ends included.
type Gap struct {
	Instance string `json:"instance"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
}

// Count is how many numbers the gap covers.
func (g Gap) Count() uint64 { return g.Last - g.First + 1 }

// Complete tells whether every event arrived once, as it was.
func (r *Report) Complete() bool {
	return r.Delivered == r.Emitted && len(r.Lost) == 0 && len(r.Duplicated) == 0 && len(r.Altered) == 0 &&
		len(r.Conflicting) == 0 && len(r.Malformed) == 0 && len(r.Gaps) == 0
}

func (r *Report) price(partitionKey string, data []byte, lines []Line) {
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
