package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"kinesis-telemetry-extension/record"
)

// excerptBytes bounds what is kept of an event to show it: the audit holds a digest of every event, never the event.
const excerptBytes = 200

// Audit collects what was emitted and what the stream holds. The zero value is ready. It is safe for concurrent use;
// events may be emitted before or after their line is seen.
type Audit struct {
	mu         sync.Mutex
	contents   map[digest]*content
	order      []*content // in order of first sight, so that a report reads in order of time
	instances  map[string]*numbers
	highest    map[streamOf]uint64
	compressor *record.Compressor
	told       map[string]int // by time: events of which the stream has the message alone
	report     Report         // what needs no comparison; Report fills in the rest
}

type digest [sha256.Size]byte

// numbers are those of one instance. Which have arrived the set knows; what each of them said only its digest, and that is what
// tells a copy from another event under the same number.
type numbers struct {
	arrived Numbers
	said    map[uint64]digest
}

// content is one (time, type, record) and how often it was emitted and seen.
type content struct {
	event   Event
	emitted int
	lines   []seen // one a line that is no copy
}

// seen is what identifies one line, to show it where it matches nothing.
type seen struct {
	instance string
	seq      uint64
	numbered bool
}

// streamOf is within what Kinesis keeps order: records of one partition key.
type streamOf struct{ instance, partitionKey string }

// Event describes one event or line in a report.
type Event struct {
	// Time and Type as they stand in the event, without quotes.
	Time string `json:"time,omitempty"`
	Type string `json:"type,omitempty"`
	// Instance and Seq where a line carried them.
	Instance string  `json:"instance,omitempty"`
	Seq      *uint64 `json:"seq,omitempty"`
	// Excerpt is the beginning of the record, or of the whole line where it is not an event.
	Excerpt string `json:"excerpt"`
	// Bytes is the size of what Excerpt is the beginning of.
	Bytes int `json:"bytes"`
	// Reason says what is wrong with a malformed line.
	Reason string `json:"reason,omitempty"`
}

// AddEmitted notes one event as the Telemetry API posted it: a JSON object. It keeps nothing of raw.
func (a *Audit) AddEmitted(raw []byte) {
	line := Line{Raw: raw}
	if members, err := membersOf(raw); err == nil {
		line.Time, line.Type, line.Record = members["time"], members["type"], members["record"]
	} else {
		line.Record = raw // no object: it can only arrive as something else, and is told as it is
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Emitted++
	c, _ := a.content(&line)
	c.emitted++
}

// AddRecord notes one Kinesis record, in the order of its shard. It keeps nothing of data.
func (a *Audit) AddRecord(partitionKey string, data []byte) {
	lines := Lines(data)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.price(partitionKey, data, lines)
	if a.compressor == nil {
		a.compressor = record.NewCompressor(record.Gzip)
	}
	compressed := int64(len(partitionKey) + len(data))
	if _, compression, err := record.Decompress(data); err == nil && compression == record.Uncompressed {
		compressed = int64(len(partitionKey) + len(a.compressor.Append(nil, [][]byte{data})))
	}
	a.report.GzipBytes += compressed
	for i := range lines {
		a.line(partitionKey, &lines[i])
	}
}

func (a *Audit) line(partitionKey string, line *Line) {
	if line.Err != nil {
		event := Event{Excerpt: excerpt(line.Raw), Bytes: len(line.Raw), Reason: line.Err.Error()}
		a.report.Malformed = append(a.report.Malformed, event)
		return
	}
	c, sum := a.content(line)
	if line.Numbered && a.isCopy(partitionKey, line, c, sum) {
		return
	}
	if line.fromExtension() {
		if a.report.Own == nil {
			a.report.Own = make(map[string]int)
		}
		a.report.Own[line.TypeName()]++
		return
	}
	if line.MessageOnly {
		if a.told == nil {
			a.told = make(map[string]int)
		}
		a.told[line.TimeText()]++
		return
	}
	c.lines = append(c.lines, seen{instance: line.Instance, seq: line.Seq, numbered: line.Numbered})
}

// isCopy notes the line's number and tells whether the same line was there before.
func (a *Audit) isCopy(partitionKey string, line *Line, c *content, sum digest) bool {
	if a.instances == nil {
		a.instances = make(map[string]*numbers)
		a.highest = make(map[streamOf]uint64)
	}
	of := a.instances[line.Instance]
	if of == nil {
		of = &numbers{said: make(map[uint64]digest)}
		a.instances[line.Instance] = of
	}
	if !of.arrived.Add(line.Seq) {
		event := c.event.of(seen{instance: line.Instance, seq: line.Seq, numbered: true})
		if of.said[line.Seq] == sum {
			a.report.Duplicated = append(a.report.Duplicated, event)
			return true
		}
		a.report.Conflicting = append(a.report.Conflicting, event)
		return false
	}
	of.said[line.Seq] = sum
	within := streamOf{line.Instance, partitionKey}
	if highest, known := a.highest[within]; known && line.Seq < highest {
		a.report.OutOfOrder++
	} else {
		a.highest[within] = line.Seq
	}
	return false
}

// content returns the entry of what Lambda said in this line.
func (a *Audit) content(line *Line) (*content, digest) {
	sum := digestOf(line.Time, line.Type, line.Record)
	if c := a.contents[sum]; c != nil {
		return c, sum
	}
	if a.contents == nil {
		a.contents = make(map[digest]*content)
	}
	c := &content{event: Event{
		Time: line.TimeText(), Type: line.TypeName(), Excerpt: excerpt(line.Record), Bytes: len(line.Record),
	}}
	a.contents[sum] = c
	a.order = append(a.order, c)
	return c, sum
}

// digestOf tells three values apart from any other three, absent (nil) from empty too.
func digestOf(values ...json.RawMessage) digest {
	hash := sha256.New()
	var size [8]byte
	for _, value := range values {
		n := uint64(len(value))
		if value == nil {
			n = 1<<64 - 1
		}
		binary.BigEndian.PutUint64(size[:], n)
		hash.Write(size[:])
		hash.Write(value)
	}
	return digest(hash.Sum(nil))
}

// of is the event as one line carried it.
func (e Event) of(s seen) Event {
	if s.numbered {
		e.Instance, e.Seq = s.instance, &s.seq
	}
	return e
}

// excerpt is the beginning of raw, cut between two characters.
func excerpt(raw []byte) string {
	if len(raw) > excerptBytes {
		raw = raw[:excerptBytes]
		for len(raw) > excerptBytes-utf8.UTFMax {
			if r, _ := utf8.DecodeLastRune(raw); r != utf8.RuneError {
				break
			}
			raw = raw[:len(raw)-1]
		}
	}
	return string(raw)
}

// Report says how what was emitted and what the stream holds compare now. Events that are still on their way count
// as lost.
func (a *Audit) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	report := a.report.clone()
	missing := make(map[[2]string]bool) // time and type of what was lost, to know what was altered
	told := maps.Clone(a.told)
	for _, c := range a.order {
		report.Delivered += min(c.emitted, len(c.lines))
		for range c.emitted - len(c.lines) {
			if told[c.event.Time] > 0 {
				told[c.event.Time]--
				report.Delivered++
				continue
			}
			report.Lost = append(report.Lost, c.event)
			missing[[2]string{c.event.Time, c.event.Type}] = true
		}
	}
	for _, c := range a.order {
		for _, extra := range c.lines[min(c.emitted, len(c.lines)):] {
			event := c.event.of(extra)
			switch {
			case c.emitted > 0:
				report.Duplicated = append(report.Duplicated, event)
			case missing[[2]string{event.Time, event.Type}]:
				report.Altered = append(report.Altered, event)
			default:
				report.Unknown = append(report.Unknown, event)
			}
		}
	}
	report.Gaps = gapsOf(a.instances)
	return report
}

// gapsOf finds the numbers that never arrived below the highest one of each instance.
func gapsOf(instances map[string]*numbers) []Gap {
	var gaps []Gap
	for _, instance := range slices.Sorted(maps.Keys(instances)) {
		arrived := instances[instance].arrived.Ranges()
		for _, gap := range arrived.Gaps(0, arrived.last().Last) {
			gaps = append(gaps, Gap{Instance: instance, First: gap.First, Last: gap.Last})
		}
	}
	return gaps
}
