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

// Completeness judges by the numbers of events alone what a stream misses: nobody has to know what was emitted. It keeps ranges, never
// events, so that its memory grows with the instances and their gaps. The zero value is ready. It is for one goroutine.
//
// Where an instance begins: with its number 0, if that was seen. Otherwise the lowest number that was seen counts as the first one that the
// window has, unless FromStart is set.
//
// Where it ends: with the highest number that was seen, or that a kinesis-telemetry.dropped event names. What an instance lost behind that
// shows only where its last event is a kinesis-telemetry.stats, which has the highest number of an instance that was shut down in order,
// but for kinesis-telemetry.dropped of its last flush.
type Completeness struct {
	// FromStart says that the window has every instance from its beginning: what is missing before the lowest number is missing. So is what
	// an instance lost of which no event arrived, up to the highest number that a kinesis-telemetry.dropped names.
	FromStart bool

	instances  map[string]*instance // by key
	delays     delays
	events     uint64
	unnumbered uint64
	own        map[string]uint64
}

// instance is what is known of one instance. There may be 100,000: what few have is behind a pointer.
type instance struct {
	name     string
	function string
	seen     Numbers
	stats    uint64 // highest number of a kinesis-telemetry.stats + 1
	trouble  *trouble
}

type trouble struct {
	copies uint64
	twice  Numbers
	drops  []Drop  // declared of this instance
	tells  Numbers // numbers of its own events that declare drops
}

// Drop is what a kinesis-telemetry.dropped event declares.
type Drop struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
	First  uint64 `json:"firstSeq"`
	Last   uint64 `json:"lastSeq"`
}

// keyDigits is how much of an instance the format cloudwatch has: 80 bits.
const keyDigits = 20

// Add notes an event. arrived is when the stream got it; zero where that is not known.
func (c *Completeness) Add(line *record.Line, arrived time.Time) {
	if line.Source.Instance == "" { // CloudWatch's own
		c.unnumbered++
		return
	}
	c.events++
	of := c.of(line.Source.Instance)
	if of.function == "" {
		of.function = unique.Make(line.Source.Function).Value() // many instances, few functions
	}
	if !of.seen.Add(line.Seq) {
		t := of.troubled()
		t.copies++
		t.twice.Add(line.Seq)
		return
	}
	if at, err := time.Parse(time.RFC3339, line.Time); err == nil && !arrived.IsZero() {
		c.delays.add(arrived.Sub(at))
	}
	if own, ok := strings.CutPrefix(line.Type, ownPrefix); ok {
		c.ownEvent(own, of, line)
	}
}

func (c *Completeness) ownEvent(own string, of *instance, line *record.Line) {
	if c.own == nil {
		c.own = make(map[string]uint64)
	}
	c.own[unique.Make(line.Type).Value()]++
	switch own {
	case "stats":
		of.stats = max(of.stats, line.Seq+1)
	case "dropped":
		of.troubled().tells.Add(line.Seq)
		var declared struct {
			Drop
			Instance string `json:"instance"`
		}
		if json.Unmarshal(line.Record, &declared) != nil || declared.First > declared.Last || declared.Count == 0 {
			return // not as FORMAT.md has it: it declares nothing
		}
		if declared.Instance != "" { // an earlier life's
			of = c.of(declared.Instance)
		}
		t := of.troubled()
		t.drops = append(t.drops, declared.Drop)
	}
}

// of returns the entry of an instance, which records of the format cloudwatch name by its first digits.
func (c *Completeness) of(name string) *instance {
	key := name[:min(len(name), keyDigits)]
	of := c.instances[key]
	if of == nil {
		if c.instances == nil {
			c.instances = make(map[string]*instance)
		}
		name = strings.Clone(name)
		of = &instance{name: name}
		c.instances[name[:len(key)]] = of
	}
	if len(name) > len(of.name) {
		of.name = strings.Clone(name)
	}
	return of
}

func (i *instance) troubled() *trouble {
	if i.trouble == nil {
		i.trouble = &trouble{}
	}
	return i.trouble
}

// CompletenessReport is how complete a window of a stream is.
type CompletenessReport struct {
	// Complete: no number is missing that no kinesis-telemetry.dropped event declares.
	Complete bool `json:"complete"`
	// Events counts what has a number, copies included. Unnumbered is what CloudWatch Logs has written into the stream.
	Events     uint64 `json:"events"`
	Unnumbered uint64 `json:"unnumbered"`
	// Missing and Dropped are numbers that did not arrive: Dropped are declared. Duplicated counts the copies beyond the first of an event.
	Missing    uint64 `json:"missing"`
	Dropped    uint64 `json:"dropped"`
	Duplicated uint64 `json:"duplicated"`
	// Instances counts all, FromStart those whose number 0 was seen, ToEnd those that end with a kinesis-telemetry.stats, as one that was shut
	// down in order does.
	Instances int `json:"instances"`
	FromStart int `json:"fromStart"`
	ToEnd     int `json:"toEnd"`
	// Own counts the extension's own events by type.
	Own map[string]uint64 `json:"own,omitempty"`
	// Delay is absent where the arrival of no event is known.
	Delay *Delay `json:"delay,omitempty"`
	// Findings are the instances of which something is missing, dropped or duplicated: those that miss most first.
	Findings []Finding `json:"findings"`
}

// Finding is what is wrong with one instance.
type Finding struct {
	// Instance has 20 of the 32 digits where all records are of the format cloudwatch.
	Instance string `json:"instance"`
	Function string `json:"function,omitempty"`
	// First and Last are the lowest and the highest number that were seen; nil where none was.
	First *uint64 `json:"firstSeq,omitempty"`
	Last  *uint64 `json:"lastSeq,omitempty"`
	ToEnd bool    `json:"toEnd"`
	// Missing are the numbers that did not arrive and that nothing declares. Which of those between the firstSeq and the lastSeq of a
	// kinesis-telemetry.dropped event it means, that event does not say: the first ones in the window count as declared, though all may lie
	// before it.
	Missing      Ranges `json:"missing,omitempty"`
	MissingCount uint64 `json:"missingCount"`
	// Declared are all drops that the stream declares; DroppedCount is how many of the numbers that did not arrive they explain.
	Declared     []Drop `json:"declared,omitempty"`
	DroppedCount uint64 `json:"droppedCount"`
	// Duplicated are the numbers that arrived more than once; DuplicatedCount counts the copies beyond the first.
	Duplicated      Ranges `json:"duplicated,omitempty"`
	DuplicatedCount uint64 `json:"duplicatedCount"`
}

// Report says how complete what was added is.
func (c *Completeness) Report() *CompletenessReport {
	a := &CompletenessReport{
		Complete: true, Events: c.events, Unnumbered: c.unnumbered, Instances: len(c.instances), Own: c.own, Delay: c.delays.delay(),
		Findings: []Finding{},
	}
	for _, of := range c.instances {
		f := of.judge(c.FromStart)
		if f.First != nil && *f.First == 0 {
			a.FromStart++
		}
		if f.ToEnd {
			a.ToEnd++
		}
		if f.Missing == nil && f.DroppedCount == 0 && f.DuplicatedCount == 0 {
			continue
		}
		a.Complete = a.Complete && f.Missing == nil
		a.Missing += f.MissingCount
		a.Dropped += f.DroppedCount
		a.Duplicated += f.DuplicatedCount
		a.Findings = append(a.Findings, f)
	}
	slices.SortFunc(a.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(y.MissingCount, x.MissingCount), cmp.Compare(y.DroppedCount, x.DroppedCount),
			cmp.Compare(y.DuplicatedCount, x.DuplicatedCount), cmp.Compare(x.Instance, y.Instance))
	})
	return a
}

func (i *instance) judge(fromStart bool) Finding {
	f := Finding{Instance: i.name, Function: i.function}
	if i.trouble != nil {
		f.Declared, f.Duplicated, f.DuplicatedCount = i.trouble.drops, i.trouble.twice.Ranges(), i.trouble.copies
	}
	left := slices.Clone(f.Declared)
	begin, end := uint64(1<<64-1), uint64(0) // of the window: nothing, where no event was seen
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
		f.Missing, f.DroppedCount = undeclared(seen.Gaps(begin, end), left)
		f.MissingCount = f.Missing.Count()
	}
	if begin > 0 { // drops of what the window need not have
		_, before := undeclared(Ranges{{0, begin - 1}}, left)
		f.DroppedCount += before
	}
	return f
}

// endsWithStats tells whether there is nothing behind the last kinesis-telemetry.stats but declarations of drops.
func (i *instance) endsWithStats(last uint64) bool {
	if i.stats == 0 || i.trouble == nil {
		return i.stats > 0 && i.stats == last+1
	}
	return i.trouble.tells.Ranges().Gaps(i.stats, last) == nil
}
