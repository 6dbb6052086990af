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

// excerptBytes bounds the beginning of an event that a report shows. The audit keeps a digest of each event, never the event.
const excerptBytes = 200

// Audit compares the events that Lambda emitted with the records of the stream. The zero value is ready. It is safe for
// concurrent use. An event may be added before or after its line.
type Audit struct {
	mu          sync.Mutex
	contents    map[digest]*content
	order       []*content // in the order they were added, so that a report reads in order of time
	instances   map[string]*sequence
	highest     map[orderKey]uint64
	compressor  *record.Compressor
	messageOnly map[string]int // by time: the number of events of which the stream has only the message
	report      Report         // the members that need no comparison; Report fills in the rest
}

type digest [sha256.Size]byte

// sequence has the numbers of one instance. The digest of a number's event distinguishes a copy from another event under the same
// number.
type sequence struct {
	arrived Numbers
	digests map[uint64]digest
}

// content is one (time, type, record), how often it was emitted, and the lines that carry it.
type content struct {
	event   Event
	emitted int
	lines   []lineID // copies are left out
}

// lineID identifies one line, so that a report can show a line that matches no event.
type lineID struct {
	instance string
	seq      uint64
	numbered bool
}

// orderKey names a sequence of lines whose order Kinesis keeps: one instance's lines under one partition key.
type orderKey struct{ instance, partitionKey string }

// Event describes one event or line in a report.
type Event struct {
	// Time and Type are the event's own, without quotes.
	Time string `json:"time,omitempty"`
	Type string `json:"type,omitempty"`
	// Instance and Seq are the line's, if it has them.
	Instance string  `json:"instance,omitempty"`
	Seq      *uint64 `json:"seq,omitempty"`
	// Excerpt is the beginning of the record, or of the whole line if that is not an event.
	Excerpt string `json:"excerpt"`
	// Bytes is the size of the whole record or line.
	Bytes int `json:"bytes"`
	// Reason is why a line is malformed.
	Reason string `json:"reason,omitempty"`
}

// AddEmitted adds one event as the Telemetry API posted it: a JSON object. It keeps no reference to raw.
func (a *Audit) AddEmitted(raw []byte) {
	line := Line{Raw: raw}
	if members, err := membersOf(raw); err == nil {
		line.Time, line.Type, line.Record = members["time"], members["type"], members["record"]
	} else {
		line.Record = raw // not an object, so that no line can carry it: the report shows it as lost
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Emitted++
	c, _ := a.content(&line)
	c.emitted++
}

// AddRecord adds one Kinesis record. Records of a shard must be added in order. It keeps no reference to data.
func (a *Audit) AddRecord(partitionKey string, data []byte) {
	lines := Lines(data)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.addCost(partitionKey, data, lines)
	if a.compressor == nil {
		a.compressor = record.NewCompressor(record.Gzip)
	}
	compressed := int64(len(partitionKey) + len(data))
	if _, compression, err := record.Decompress(data); err == nil && compression == record.Uncompressed {
		compressed = int64(len(partitionKey) + len(a.compressor.Append(nil, [][]byte{data})))
	}
	a.report.GzipBytes += compressed
	for i := range lines {
		a.addLine(partitionKey, &lines[i])
	}
}

func (a *Audit) addLine(partitionKey string, line *Line) {
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
		if a.messageOnly == nil {
			a.messageOnly = make(map[string]int)
		}
		a.messageOnly[line.TimeText()]++
		return
	}
	c.lines = append(c.lines, lineID{instance: line.Instance, seq: line.Seq, numbered: line.Numbered})
}

// isCopy adds the line's number and reports whether the same line was added before.
func (a *Audit) isCopy(partitionKey string, line *Line, c *content, sum digest) bool {
	if a.instances == nil {
		a.instances = make(map[string]*sequence)
		a.highest = make(map[orderKey]uint64)
	}
	numbers := a.instances[line.Instance]
	if numbers == nil {
		numbers = &sequence{digests: make(map[uint64]digest)}
		a.instances[line.Instance] = numbers
	}
	if !numbers.arrived.Add(line.Seq) {
		event := c.event.withID(lineID{instance: line.Instance, seq: line.Seq, numbered: true})
		if numbers.digests[line.Seq] == sum {
			a.report.Duplicated = append(a.report.Duplicated, event)
			return true
		}
		a.report.Conflicting = append(a.report.Conflicting, event)
		return false
	}
	numbers.digests[line.Seq] = sum
	key := orderKey{line.Instance, partitionKey}
	if highest, known := a.highest[key]; known && line.Seq < highest {
		a.report.OutOfOrder++
	} else {
		a.highest[key] = line.Seq
	}
	return false
}

// content returns the entry of the line's time, type and record, and their digest.
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

// digestOf returns the digest of values. An absent value (nil) and an empty one have different digests.
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

// withID returns the event with a line's instance and number, if the line has them.
func (e Event) withID(s lineID) Event {
	if s.numbered {
		e.Instance, e.Seq = s.instance, &s.seq
	}
	return e
}

// excerpt returns the beginning of raw, cut between two characters.
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

// Report compares the emitted events with the records that were added so far. Events that are still in flight count as lost.
func (a *Audit) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	report := a.report.clone()
	missing := make(map[[2]string]bool) // time and type of the lost events: a line that shares them is an altered event
	messageOnly := maps.Clone(a.messageOnly)
	for _, c := range a.order {
		report.Delivered += min(c.emitted, len(c.lines))
		for range c.emitted - len(c.lines) {
			if messageOnly[c.event.Time] > 0 {
				messageOnly[c.event.Time]--
				report.Delivered++
				continue
			}
			report.Lost = append(report.Lost, c.event)
			missing[[2]string{c.event.Time, c.event.Type}] = true
		}
	}
	for _, c := range a.order {
		for _, extra := range c.lines[min(c.emitted, len(c.lines)):] {
			event := c.event.withID(extra)
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

// gapsOf returns the numbers that did not arrive, below the highest number of each instance.
func gapsOf(instances map[string]*sequence) []Gap {
	var gaps []Gap
	for _, instance := range slices.Sorted(maps.Keys(instances)) {
		arrived := instances[instance].arrived.Ranges()
		for _, gap := range arrived.Gaps(0, arrived.last().Last) {
			gaps = append(gaps, Gap{Instance: instance, First: gap.First, Last: gap.Last})
		}
	}
	return gaps
}
