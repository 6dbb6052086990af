package dispatcher

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strconv"

	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// Class decides which events are dropped first when the buffer is full.
type Class uint8

// The classes, from the first to be dropped to the last.
const (
	Log        Class = iota // function and extension logs
	Platform                // the platform's reports
	diagnostic              // the extension's own events
)

// batch is the unit of a flight. It has lines of one partition key and one instance, in order of receipt. Each line is
// laid out in pages when its event is received, in the form that the stream receives. In the format ndjson a batch is a
// record.
type batch struct {
	prev, next *batch

	number uint64 // identifies and orders batches, over all processes of an environment
	key    string
	source *record.Source
	// logStream is the function's log stream at the time of the batch.
	logStream string
	pages     []int
	start     int // offset of the first line in the first page
	tail      int // end of the last line in the last page
	size      int // of the lines, bytes

	lines, logs int
	first, last uint64 // seq
	at          int64  // about the emission of the oldest event, Unix milliseconds: wall time also counts a freeze
	declares    bool   // one of its lines declares a loss

	inFlight bool
	from, to int  // its pieces among the parts of the flight
	reopen   bool // it was open before the flight, and its partition key has no newer batch
	logsOnly bool // only its logs count: the other lines were copied to another batch
	unread   bool // an earlier process left it, and it is only in the journal
	damaged  bool // an earlier process left it, and a part is missing
	unsealed bool // the header of the last page does not describe its lines yet
	summed   int  // end of the lines that the last page's checksum covers
	sum      uint32
}

// linesStart is the offset of the first line in a page of the batch.
func (b *batch) linesStart(i int) int {
	if i == 0 {
		return b.start
	}
	return headerBytes
}

// linesEnd is the offset at which a page of the batch is full. A request to Kinesis has base64: pieces can be encoded
// one by one only if their lengths are multiples of three.
func (d *Dispatcher) linesEnd(b *batch, i int) int {
	begin := b.linesStart(i)
	return begin + (d.pages.size-begin)/3*3
}

// maxOpen is how many partition keys have an open batch: the requests of a Managed Instance that run at once.
const maxOpen = 64

// openLocked returns the open batch for an event of need bytes.
func (d *Dispatcher) openLocked(key string, need int) *batch {
	i := slices.IndexFunc(d.open, func(b *batch) bool {
		return b.key == key && b.source == d.source && b.logStream == d.logStream
	})
	if i >= 0 {
		b := d.open[i]
		copy(d.open[1:i+1], d.open[:i])
		d.open[0] = b
		if d.fitsLocked(b, need) {
			return b
		}
		d.open = d.open[:copy(d.open, d.open[1:])]
	}
	for _, b := range d.flight {
		b.reopen = b.reopen && b.key != key
	}
	b := d.addLocked(key, d.source, d.logStream, nil)
	d.reopenLocked(b)
	return b
}

// fitsLocked reports whether a batch has room for another line of need bytes. A batch of the format json becomes one
// record a line, and these must fit into one request. A record of the format kpl has at most 500 events too: Firehose
// accepts no more.
func (d *Dispatcher) fitsLocked(b *batch, need int) bool {
	return d.recordBytes(b.key, b.lines+1, b.size+need) <= d.options.Flush.RecordBytes &&
		(d.options.Format == record.NDJSON || d.options.Format == record.CloudWatch || b.lines < kinesis.MaxRequestRecords)
}

// reopenLocked opens a batch for more lines.
func (d *Dispatcher) reopenLocked(b *batch) {
	d.open = slices.Insert(d.open[:min(len(d.open), maxOpen-1)], 0, b)
}

// closeLocked closes a batch: no more lines are appended to it.
func (d *Dispatcher) closeLocked(b *batch) {
	d.open = slices.DeleteFunc(d.open, func(o *batch) bool { return o == b })
}

// addLocked adds an empty batch after another one (nil: after all).
func (d *Dispatcher) addLocked(key string, source *record.Source, logStream string, behind *batch) *batch {
	d.number++
	b := &batch{
		number: d.number, key: key, source: source, logStream: logStream,
		pages: make([]int, 0, min(d.options.Flush.RecordBytes/d.pages.size+1, 8)),
	}
	if behind == nil {
		behind = d.list.prev
	}
	d.list.insert(b, behind)
	return b
}

// list is a ring of batches in the order of their events. The embedded batch marks the end of the ring.
type list struct{ batch }

func (l *list) init() { l.prev, l.next = &l.batch, &l.batch }

func (l *list) insert(b, behind *batch) {
	b.prev, b.next = behind, behind.next
	b.prev.next, b.next.prev = b, b
}

func (l *list) remove(b *batch) {
	b.prev.next, b.next.prev = b.next, b.prev
	b.prev, b.next = nil, nil
}

// all yields the batches. The caller may remove the current batch.
func (l *list) all() iter.Seq[*batch] {
	return func(yield func(*batch) bool) {
		for b := l.next; b != &l.batch; {
			next := b.next
			if !yield(b) {
				return
			}
			b = next
		}
	}
}

// layOutLocked appends an event to a batch, as a line of the given size.
func (d *Dispatcher) layOutLocked(b *batch, e *record.Event, size int) {
	if len(b.pages) > 0 && b.tail+size <= d.linesEnd(b, len(b.pages)-1) {
		page := d.pages.memory(b.pages[len(b.pages)-1])
		line := append(record.AppendEvent(page[b.tail:b.tail], e), '\n')
		b.tail += len(line)
		b.size += len(line)
		d.bytes += len(line)
		return
	}
	d.writeLocked(b, e.Raw[:len(e.Raw)-1])
	d.line = append(record.AppendMembers(d.line[:0], e), '\n')
	d.writeLocked(b, d.line)
}

// writeLocked appends bytes to a batch.
func (d *Dispatcher) writeLocked(b *batch, text []byte) {
	b.size += len(text)
	d.bytes += len(text)
	for len(text) > 0 {
		last := len(b.pages) - 1
		if last < 0 || b.tail == d.linesEnd(b, last) {
			d.extendLocked(b)
			last++
		}
		n := copy(d.pages.memory(b.pages[last])[b.tail:d.linesEnd(b, last)], text)
		b.tail += n
		text = text[n:]
	}
}

// countLocked counts a line after it was appended.
func (d *Dispatcher) countLocked(b *batch, seq uint64, class Class, at int64, declares bool) {
	if b.lines == 0 {
		b.first, b.last, b.at = seq, seq, at
	}
	b.lines++
	if class == Log {
		b.logs++
		switch {
		case b.logs > 1:
		case d.logsFrom == &d.list.batch:
			d.logsFrom = b
		case b.next != &d.list.batch: // b may be before logsFrom
			d.logsFrom = nil
		}
	}
	b.first, b.last, b.at = min(b.first, seq), max(b.last, seq), min(b.at, at)
	b.declares = b.declares || declares
	d.events++
	if !b.unsealed {
		b.unsealed = true
		d.unsealed = append(d.unsealed, b)
	}
}

// extendLocked adds a page to a batch.
func (d *Dispatcher) extendLocked(b *batch) {
	if len(b.pages) > 0 {
		d.sealLocked(b)
	}
	page := d.pages.take()
	b.pages = append(b.pages, page)
	memory := d.pages.memory(page)
	h := header(memory)
	order.PutUint32(h[0:], pageMagic)
	order.PutUint64(h[8:], b.number)
	order.PutUint32(h[16:], uint32(len(b.pages)-1))
	b.tail = headerBytes
	if len(b.pages) == 1 {
		descriptor := appendDescriptor(memory[headerBytes:headerBytes], b.key, b.logStream, b.source)
		if headerBytes+len(descriptor) <= d.pages.size-512 { // else the key is longer than Kinesis allows
			b.tail += len(descriptor)
			order.PutUint32(h[4:], stateLive)
			order.PutUint32(h[20:], uint32(len(descriptor)))
		}
		b.start = b.tail
	}
	order.PutUint32(h[24:], h.checksum(memory[headerBytes:b.tail]))
	b.summed, b.sum = b.tail, 0
}

// sealLocked describes the lines of the batch's last page in its header.
func (d *Dispatcher) sealLocked(b *batch) {
	last := b.pages[len(b.pages)-1]
	if d.options.SpillDir == "" {
		return
	}
	memory := d.pages.memory(last)
	b.sum = extendChecksum(b.sum, memory[b.summed:b.tail])
	b.summed = b.tail
	header(memory).put(slot{
		used: b.tail, sum: b.sum, lines: b.lines, logs: b.logs, first: b.first, last: b.last, at: b.at, declares: b.declares,
	}, d.pages.dirty.has(last))
	d.pages.dirty.set(last)
}

// removeLocked ends a batch whose events were counted. sent means that the stream has all of them. Otherwise, they are
// in another batch, or lost.
func (d *Dispatcher) removeLocked(b *batch, sent bool) {
	d.closeLocked(b)
	d.list.remove(b)
	if d.logsFrom == b {
		d.logsFrom = nil
	}
	d.events -= b.lines
	d.bytes -= b.size
	if len(b.pages) > 0 {
		// If the page is dirty, the file may still have a page of another batch there, whose state could not be written.
		sent = sent && !b.logsOnly && !d.pages.dirty.has(b.pages[0])
		d.journal.pending = append(d.journal.pending, pendingState{b.pages[0], stateFree, sent})
	}
	for _, page := range b.pages {
		d.pages.retire(page)
	}
	d.journal.retired = append(d.journal.retired, b.pages...)
	b.pages = nil
}

// pieces yields the part of the batch's lines that each of its pages has, and nil for each missing part.
func (d *Dispatcher) pieces(b *batch) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i, page := range b.pages {
			begin, end := b.linesStart(i), d.linesEnd(b, i)
			if i == len(b.pages)-1 {
				end = b.tail
			}
			memory := d.pages.memory(page)
			if b.damaged {
				slots := header(memory).get()
				if end = begin; page >= firstPage && len(slots) > 0 {
					end = slots[0].used
				}
			}
			if !yield(memory[begin:end:end]) || end < d.linesEnd(b, i) && b.damaged && !yield(nil) {
				return
			}
		}
	}
}

// eachLine yields the lines of a batch: only logs, if it is logsOnly.
func (d *Dispatcher) eachLine(b *batch) iter.Seq[[]byte] {
	return linesOf(slices.Collect(d.pieces(b)), b.logsOnly)
}

// linesOf yields the lines of pieces, or only the logs, each with its line break. A line is valid until the next one.
//
//go:noinline
func linesOf(pieces [][]byte, logsOnly bool) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var begun []byte
		missing := false // the beginning of the line is missing
		for _, piece := range pieces {
			if piece == nil {
				begun, missing = begun[:0], true
			}
			for len(piece) > 0 {
				n := bytes.IndexByte(piece, '\n') + 1
				if n == 0 {
					begun = append(begun, piece...)
					break
				}
				line := piece[:n:n]
				if len(begun) > 0 {
					begun = append(begun, line...)
					line = begun
				}
				piece = piece[n:]
				if !missing && (!logsOnly || classOf(line) == Log) && !yield(line) {
					return
				}
				begun, missing = begun[:0], false
			}
		}
	}
}

// copyLinesLocked copies those lines of a batch for which keep returns true. to returns the batch that a line is
// appended to.
func (d *Dispatcher) copyLinesLocked(b *batch, to func(need int) *batch, keep func(n int, line []byte) bool) {
	n := 0
	for line := range d.eachLine(b) {
		if keep(n, line) {
			target := to(len(line))
			d.writeLocked(target, line)
			d.countLocked(target, seqOf(line, b.source), classOf(line), b.at, isLoss(line))
		}
		n++
	}
}

// seqOf returns the seq of a line's event.
func seqOf(line []byte, source *record.Source) uint64 {
	end := max(len(line)-len("}\n")-len(source.JSON())-len(`,"source":`), 0)
	begin := bytes.LastIndexByte(line[:end], ':') + 1
	seq, _ := strconv.ParseUint(string(line[begin:end]), 10, 64) // cannot fail: the Dispatcher wrote the line
	return seq
}

// isLoss reports whether a line declares a loss.
func isLoss(line []byte) bool {
	kind, _ := typeOf(line)
	return string(kind) == typeDropped
}

const typeMember = `"type":"`

// classOf returns the class of a line's event.
func classOf(line []byte) Class {
	kind, ok := typeOf(line)
	if !ok {
		var e struct{ Type string }
		_ = json.Unmarshal(line, &e) // cannot fail: the Dispatcher wrote the line
		kind = []byte(e.Type)
	}
	switch {
	case bytes.HasPrefix(kind, []byte("platform.")):
		return Platform
	case bytes.HasPrefix(kind, []byte(diagnosticPrefix)):
		return diagnostic
	}
	return Log
}

// typeOf returns a line's type if it follows the time, where Lambda writes it.
func typeOf(line []byte) (kind []byte, ok bool) {
	const timeMember, between = `{"time":"`, `",` + typeMember
	rest, ok := bytes.CutPrefix(line, []byte(timeMember))
	if !ok {
		return nil, false
	}
	rest = rest[max(bytes.IndexByte(rest, '"'), 0):]
	if rest, ok = bytes.CutPrefix(rest, []byte(between)); !ok {
		return nil, false
	}
	kind, _, ok = bytes.Cut(rest, []byte{'"'})
	return kind, ok && bytes.IndexByte(kind, '\\') < 0
}
