package audit

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unique"

	"kinesis-telemetry-extension/record"
)

// Completeness finds the missing events of a stream by the numbers of its events alone: it does not know which events were
// emitted. It keeps ranges, never events, so that its memory grows with the instances and their gaps. The zero value is
// ready. It is for one goroutine.
//
// An instance begins with the lowest number that was seen, or with 0 if FromStart is set.
//
// An instance ends with the highest number that was seen, or that a kinesis-telemetry.dropped event names. Losses after that
// number are not visible. An instance that ends with a kinesis-telemetry.stats has no such losses: after an orderly shutdown that
// event has the highest number, except for the kinesis-telemetry.dropped events of the last flush.
type Completeness struct {
	// FromStart declares that the window has every instance from its number 0: numbers below the first that was seen are
	// missing. Of an instance without any event, all numbers up to the highest that a kinesis-telemetry.dropped names are missing.
	FromStart bool

	instances  map[string]*instance // by key
	delays     delays
	events     uint64
	unnumbered uint64
	own        map[string]uint64
}

// instance is the state of one instance. There may be 100,000, so that the members that few of them need are behind a pointer.
type instance struct {
	name     string
	function string
	seen     Numbers
	stats    uint64 // highest number of a kinesis-telemetry.stats + 1
	defects  *defects
}

type defects struct {
	copies       uint64
	duplicated   Numbers
	drops        []Drop  // that any instance declares for this one
	declarations Numbers // of this instance's kinesis-telemetry.dropped events
}

// Drop is the loss that a kinesis-telemetry.dropped event declares.
type Drop struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
	First  uint64 `json:"firstSeq"`
	Last   uint64 `json:"lastSeq"`
}

// keyDigits is the length of an instance's name in the format cloudwatch: 80 bits.
const keyDigits = 20

// Add adds an event. arrived is when it arrived in the stream; zero if that is not known.
func (c *Completeness) Add(line *record.Line, arrived time.Time) {
	if line.Source.Instance == "" { // an event that CloudWatch Logs itself wrote
		c.unnumbered++
		return
	}
	c.events++
	i := c.instance(line.Source.Instance)
	if i.function == "" {
		i.function = unique.Make(line.Source.Function).Value() // many instances, few functions
	}
	if !i.seen.Add(line.Seq) {
		d := i.ensureDefects()
		d.copies++
		d.duplicated.Add(line.Seq)
		return
	}
	if at, err := time.Parse(time.RFC3339, line.Time); err == nil && !arrived.IsZero() {
		c.delays.add(arrived.Sub(at))
	}
	if own, ok := strings.CutPrefix(line.Type, ownPrefix); ok {
		c.addOwn(own, i, line)
	}
}

func (c *Completeness) addOwn(own string, i *instance, line *record.Line) {
	if c.own == nil {
		c.own = make(map[string]uint64)
	}
	c.own[unique.Make(line.Type).Value()]++
	switch own {
	case "stats":
		i.stats = max(i.stats, line.Seq+1)
	case "dropped":
		i.ensureDefects().declarations.Add(line.Seq)
		var declared struct {
			Drop
			Instance string `json:"instance"`
		}
		if json.Unmarshal(line.Record, &declared) != nil || declared.First > declared.Last || declared.Count == 0 {
			return // not as FORMAT.md specifies it: it declares nothing
		}
		if declared.Instance != "" { // an earlier instance of the same environment
			i = c.instance(declared.Instance)
		}
		d := i.ensureDefects()
		d.drops = append(d.drops, declared.Drop)
	}
}

// instance returns the entry of an instance. Records of the format cloudwatch have only the first digits of its name.
func (c *Completeness) instance(name string) *instance {
	key := name[:min(len(name), keyDigits)]
	i := c.instances[key]
	if i == nil {
		if c.instances == nil {
			c.instances = make(map[string]*instance)
		}
		name = strings.Clone(name)
		i = &instance{name: name}
		c.instances[name[:len(key)]] = i
	}
	if len(name) > len(i.name) {
		i.name = strings.Clone(name)
	}
	return i
}

func (i *instance) ensureDefects() *defects {
	if i.defects == nil {
		i.defects = &defects{}
	}
	return i.defects
}

// CompletenessReport reports how complete a window of a stream is.
type CompletenessReport struct {
	// Complete is true if a kinesis-telemetry.dropped event declares every missing number.
	Complete bool `json:"complete"`
	// Events counts the numbered events, copies included. Unnumbered counts the events that CloudWatch Logs itself wrote.
	Events     uint64 `json:"events"`
	Unnumbered uint64 `json:"unnumbered"`
	// Missing and Dropped count the numbers that did not arrive: Dropped those that are declared, Missing the others.
	// Duplicated counts the copies of events beyond the first.
	Missing    uint64 `json:"missing"`
	Dropped    uint64 `json:"dropped"`
	Duplicated uint64 `json:"duplicated"`
	// Instances counts all instances, FromStart those whose number 0 was seen, ToEnd those that end with a
	// kinesis-telemetry.stats, as after an orderly shutdown.
	Instances int `json:"instances"`
	FromStart int `json:"fromStart"`
	ToEnd     int `json:"toEnd"`
	// Own counts the extension's own events by type.
	Own map[string]uint64 `json:"own,omitempty"`
	// Delay is absent if no event's arrival is known.
	Delay *Delay `json:"delay,omitempty"`
	// Findings are the instances with missing, dropped or duplicated events, those with most missing events first.
	Findings []Finding `json:"findings"`
}

// Finding reports the missing, dropped and duplicated events of one instance.
type Finding struct {
	// Instance has 20 of the 32 digits if all records are of the format cloudwatch.
	Instance string `json:"instance"`
	Function string `json:"function,omitempty"`
	// First and Last are the lowest and the highest number that were seen; nil if none was.
	First *uint64 `json:"firstSeq,omitempty"`
	Last  *uint64 `json:"lastSeq,omitempty"`
	ToEnd bool    `json:"toEnd"`
	// Missing are the numbers that did not arrive and that no drop declares. A kinesis-telemetry.dropped event does not name
	// which numbers from its firstSeq to its lastSeq it declares: the first missing numbers of the window count as
	// declared, although the declared numbers may all be before the window.
	Missing      Ranges `json:"missing,omitempty"`
	MissingCount uint64 `json:"missingCount"`
	// Declared are all drops that the stream declares. DroppedCount counts the missing numbers that they explain.
	Declared     []Drop `json:"declared,omitempty"`
	DroppedCount uint64 `json:"droppedCount"`
	// Duplicated are the numbers that arrived more than once. DuplicatedCount counts the copies beyond the first.
	Duplicated      Ranges `json:"duplicated,omitempty"`
	DuplicatedCount uint64 `json:"duplicatedCount"`
}

// Report reports how complete the added events are.
func (c *Completeness) Report() *CompletenessReport {
	report := &CompletenessReport{
		Complete: true, Events: c.events, Unnumbered: c.unnumbered, Instances: len(c.instances), Own: c.own, Delay: c.delays.summary(),
		Findings: []Finding{},
	}
	for _, i := range c.instances {
		f := i.finding(c.FromStart)
		if f.First != nil && *f.First == 0 {
			report.FromStart++
		}
		if f.ToEnd {
			report.ToEnd++
		}
		if f.Missing == nil && f.DroppedCount == 0 && f.DuplicatedCount == 0 {
			continue
		}
		report.Complete = report.Complete && f.Missing == nil
		report.Missing += f.MissingCount
		report.Dropped += f.DroppedCount
		report.Duplicated += f.DuplicatedCount
		report.Findings = append(report.Findings, f)
	}
	slices.SortFunc(report.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(y.MissingCount, x.MissingCount), cmp.Compare(y.DroppedCount, x.DroppedCount),
			cmp.Compare(y.DuplicatedCount, x.DuplicatedCount), cmp.Compare(x.Instance, y.Instance))
	})
	return report
}

func (i *instance) finding(fromStart bool) Finding {
	f := Finding{Instance: i.name, Function: i.function}
	if i.defects != nil {
		f.Declared, f.Duplicated, f.DuplicatedCount = i.defects.drops, i.defects.duplicated.Ranges(), i.defects.copies
	}
	left := slices.Clone(f.Declared)
	begin, end := uint64(1<<64-1), uint64(0) // of the window, which is empty if no event was seen
	seen := i.seen.Ranges()
	if len(seen) > 0 {
		first, last := seen[0].First, seen.last().Last
		f.First, f.Last, f.ToEnd = &first, &last, i.endsWithStats(last)
		begin, end = first, last
	}
	if fromStart {
		begin = 0
	}
	if f.First != nil || fromStart {
		for _, d := range left {
			end = max(end, d.Last)
		}
		f.Missing, f.DroppedCount = matchDrops(seen.Gaps(begin, end), left)
		f.MissingCount = f.Missing.Count()
	}
	if begin > 0 { // drops before the window
		_, before := matchDrops(Ranges{{0, begin - 1}}, left)
		f.DroppedCount += before
	}
	return f
}

// endsWithStats reports whether only kinesis-telemetry.dropped events follow the last kinesis-telemetry.stats.
func (i *instance) endsWithStats(last uint64) bool {
	if i.stats == 0 || i.defects == nil {
		return i.stats > 0 && i.stats == last+1
	}
	return i.defects.declarations.Ranges().Gaps(i.stats, last) == nil
}
