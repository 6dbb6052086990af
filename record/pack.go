package record

// Packed is one Kinesis record: its data and its partition key. Data is valid until the Packer's next Reset.
type Packed struct {
	Key  string
	Data []byte
	// Events is how many events the data holds.
	Events int
}

// Limits bound what a Packer makes. Sizes count the data before base64, plus the partition key, as Kinesis does.
type Limits struct {
	// RecordBytes is the size that a record is filled up to. An event that is larger stands alone in its record.
	RecordBytes int
	// RequestBytes bounds the sum of all records.
	RequestBytes int
	// Records bounds the number of records.
	Records int
}

// Packer lays events out in as few records as the limits allow, in order. Events of one partition key stay in order
// among themselves; with one key in play that is the order of the events. The buffers are kept from one Reset to the
// next, so that packing allocates nothing once they have grown. A Packer is for one goroutine.
type Packer struct {
	format Format
	limits Limits

	buf     []byte   // the data of all records, one behind the other
	starts  []int    // where each record begins in buf
	records []Packed // keys and counts; Data is cut in Records, since buf moves while it grows
	bytes   int      // data and keys of all records
	index   []int    // the record of each event, in the order of Add
}

// NewPacker returns an empty Packer.
func NewPacker(format Format, limits Limits) *Packer {
	return &Packer{format: format, limits: limits}
}

// Reset forgets all records and keeps the buffers.
func (p *Packer) Reset() {
	p.buf, p.starts, p.records, p.index, p.bytes = p.buf[:0], p.starts[:0], p.records[:0], p.index[:0], 0
}

// Add packs one event. It answers false, and does nothing, when the request has no room for it. The first event after
// a Reset always fits: whether an event is too large for a record at all is for the caller to ask (see [RecordSize]).
func (p *Packer) Add(e *Event) bool {
	need := p.eventSize(e)
	joins := p.joins(e, need)
	size := need
	if !joins {
		size += len(e.Key)
	}
	full := p.bytes+size > p.limits.RequestBytes || !joins && len(p.records) >= p.limits.Records
	if full && len(p.index) > 0 {
		return false
	}
	if !joins {
		p.records = append(p.records, Packed{Key: e.Key})
		p.starts = append(p.starts, len(p.buf))
	}
	p.buf = AppendEvent(p.buf, e)
	if p.format == NDJSON {
		p.buf = append(p.buf, '\n')
	}
	p.bytes += size
	open := len(p.records) - 1
	p.records[open].Events++
	p.index = append(p.index, open)
	return true
}

// joins tells whether the event goes into the record that was begun last.
func (p *Packer) joins(e *Event, need int) bool {
	open := len(p.records) - 1
	if open < 0 || p.format != NDJSON || p.records[open].Key != e.Key {
		return false
	}
	return len(p.buf)-p.starts[open]+len(e.Key)+need <= p.limits.RecordBytes
}

func (p *Packer) eventSize(e *Event) int {
	if p.format == NDJSON {
		return Size(e) + 1
	}
	return Size(e)
}

// RecordSize is the size of a record that holds this event alone, its partition key included: what Kinesis compares
// with the stream's record limit.
func (p *Packer) RecordSize(e *Event) int { return p.eventSize(e) + len(e.Key) }

// Records returns what was packed since the last Reset. It is valid until the next Reset or Add.
func (p *Packer) Records() []Packed {
	for i := range p.records {
		end := len(p.buf)
		if i+1 < len(p.starts) {
			end = p.starts[i+1]
		}
		p.records[i].Data = p.buf[p.starts[i]:end:end]
	}
	return p.records
}

// RecordOf tells which record the i-th added event went into.
func (p *Packer) RecordOf(i int) int { return p.index[i] }
