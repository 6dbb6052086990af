package dispatcher

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"kinesis-telemetry-extension/record"
)

// adoptAfter is when a process starts to adopt batches of earlier processes. The delay leaves the CPU to its first call
// of next. The runtime's init takes longer than the delay.
const adoptAfter = 50 * time.Millisecond

// StartJournal starts the journal. In the background it adopts the batches that earlier processes of the environment
// left: they go before all batches of this process. It does not block. The first write or the adoption opens the file.
// The adoption reads only the beginning of each page. The lines of a page are read when they are shipped.
func (d *Dispatcher) StartJournal() {
	if d.options.SpillDir == "" {
		return
	}
	d.mu.Lock()
	d.journal.openPending, d.adoptTimer, d.adopted = true, time.NewTimer(adoptAfter), make(chan struct{})
	d.mu.Unlock()
	d.done.Go(func() {
		defer d.options.Guard()
		defer close(d.adopted)
		<-d.adoptTimer.C
		d.mu.Lock()
		d.ensureJournalLocked()
		file, count := d.journal.file, d.journal.adopting
		d.unlock()
		if count > 0 {
			d.adopt(file, count)
		}
	})
}

// awaitAdopted starts the adoption at once and waits for it.
func (d *Dispatcher) awaitAdopted(ctx context.Context) {
	d.mu.Lock()
	adopts, adopted := d.adoptTimer, d.adopted
	d.mu.Unlock()
	if adopts == nil {
		return
	}
	adopts.Reset(0)
	select {
	case <-adopted:
	case <-ctx.Done():
	}
}

// ensureJournalLocked opens the journal if that was not tried yet.
func (d *Dispatcher) ensureJournalLocked() {
	if !d.journal.openPending {
		return
	}
	d.journal.openPending = false
	d.freeLocked()
	if !d.openJournalLocked() {
		return
	}
	j := &d.journal
	j.grown = firstPage + max(int(j.size-pagesAt)+d.pages.size-1, 0)/d.pages.size
	if j.grown > firstPage {
		j.adopting = j.grown
	}
	if j.size > ledgerAt {
		d.readLedgerLocked()
	}
	d.relocateLocked(j.grown)
}

// readLedgerLocked adopts the undeclared losses of earlier processes.
func (d *Dispatcher) readLedgerLocked() {
	newest, serial := readLedger(d.journal.file)
	d.journal.serial = serial
	d.journal.ledgerWritten = len(d.account.undeclared) == 0 && !d.cut
	for i := range newest.Losses {
		d.account.undeclared.add(newest.Losses[i])
	}
	if newest.Cut { // the event has no number yet
		d.acceptLocked(&Event{Class: Log}, time.Now())
	}
}

// openJournalLocked opens a journal, and reports whether it succeeded.
func (d *Dispatcher) openJournalLocked() bool {
	var size int64
	file, err := d.openJournalFile()
	if err == nil {
		size, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		d.journal = journal{}
		d.warnNoJournalLocked(err)
		return false
	}
	d.journal = journal{file: diskFile{file}, size: size}
	return true
}

// openJournalFile opens the first journal of this owner that no other process has locked, or creates one.
func (d *Dispatcher) openJournalFile() (file *os.File, err error) {
	if err = os.MkdirAll(d.options.SpillDir, 0o700); err != nil {
		return nil, err
	}
	first := fmt.Sprintf("%s%d %s\n", journalMagic, d.pages.size, d.options.SpillOwner)
	for i := range maxJournals {
		path := filepath.Join(d.options.SpillDir, fmt.Sprintf(journalName, i))
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
		if err != nil {
			continue
		}
		if err = claimFile(file, []byte(first)); err == nil {
			return file, nil
		}
		_ = file.Close() // nothing was written
		err = fmt.Errorf("%s %w", path, err)
	}
	return nil, err
}

var (
	errForeign = errors.New("is not a journal of this extension and is left alone")
	errInUse   = errors.New("is in use by another process")
)

// claimFile locks a file, and writes its first bytes if it is empty. It fails if another process has locked the file,
// or if the first bytes differ.
func claimFile(file *os.File, first []byte) error {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return cmp.Or(err, errForeign)
	}
	if lock(file) != nil {
		return errInUse
	}
	found := make([]byte, len(first))
	n, err := file.ReadAt(found, 0)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		_, err = file.WriteAt(first, 0)
		return err
	case !bytes.Equal(found, first):
		return errForeign
	}
	return nil
}

// relocateLocked reserves the pages before the given one for the batches that earlier processes left in them. Batches
// of this process move out of these pages. (A snapshot may contain such batches.)
func (d *Dispatcher) relocateLocked(before int) {
	d.sealBatchesLocked()
	p := &d.pages
	p.reserve(before)
	for b := range d.list.all() {
		for i, page := range b.pages {
			if page < before {
				b.pages[i] = p.take()
				copy(p.memory(b.pages[i]), p.memory(page))
				p.count--
				p.dirty.clear(page)
				p.dirty.set(b.pages[i])
			}
		}
	}
	// A flight reads its batches where they were. (With SnapStart it may have started before the journal.) So no page of
	// that memory is used again.
	whole := before / slabPages
	clear(p.slabs[:whole])
	if len(d.flight) > 0 && before > firstPage && before%slabPages > 0 {
		p.slabs[whole] = slices.Clone(p.slabs[whole])
	}
}

// adopt adopts the batches in the pages from firstPage up to count.
func (d *Dispatcher) adopt(file io.ReaderAt, count int) {
	batches := readBatches(file, count, d.pages.size)
	d.mu.Lock()
	defer d.unlock()
	d.journal.adopting = 0
	d.pages.unreserve(count)
	at := &d.list.batch
	for _, b := range batches {
		d.list.insert(b, at)
		at = b
		for _, page := range b.pages {
			d.pages.use(page)
		}
		d.events += b.lines
		d.bytes += b.size
		d.account.Received += uint64(b.lines)
		d.account.Recovered += uint64(b.lines)
	}
	d.logsFrom = nil
	d.trimLocked()
	d.journalLocked()
	d.wakeShipper()
}

// foundPage is a page of a batch that may not have ended.
type foundPage struct {
	number int
	batch  uint64
	index  int
	state  uint32
	slot   slot
	key    string
	source *record.Source
	start  int
	// logStream is the log stream of the batch.
	logStream string
}

// readBatches finds the live batches of a journal, the oldest first. In their lists of pages, page 0 marks a page that
// cannot be read.
func readBatches(file io.ReaderAt, count, pageBytes int) (batches []*batch) {
	found := map[string]*batch{} // by number, big-endian, so that strings sort as numbers
	sources := map[string]*record.Source{}
	buffer := make([]byte, pageBytes)
	var page foundPage
	for number := firstPage; number < count; number++ {
		if !page.read(file, number, buffer, sources) || page.index >= count {
			continue
		}
		number := string(binary.BigEndian.AppendUint64(nil, page.batch))
		b := found[number]
		if b == nil {
			b = &batch{number: page.batch, unread: true}
			found[number] = b
		}
		for len(b.pages) <= page.index {
			b.pages = append(b.pages, 0)
		}
		b.pages[page.index] = page.number
		if page.index == 0 && page.state != stateFree {
			b.key, b.source, b.start, b.logsOnly = page.key, page.source, page.start, page.state == stateLogsOnly
			b.logStream = page.logStream
		}
		s := &page.slot
		if page.index == len(b.pages)-1 { // its counts include all pages before it
			b.lines, b.logs, b.first, b.last, b.at, b.declares, b.tail = s.lines, s.logs, s.first, s.last, s.at, s.declares, s.used
		}
		b.size += s.used - page.start
	}
	for _, number := range slices.Sorted(maps.Keys(found)) {
		b := found[number]
		if b.logsOnly {
			b.lines = b.logs
		}
		if b.source != nil { // else the batch has ended
			batches = append(batches, b)
		}
	}
	return slices.DeleteFunc(batches, func(b *batch) bool { return b.lines == 0 }) // the end of its first line was not written
}

// read reads the beginning of a page, and reports whether it is valid.
func (page *foundPage) read(file io.ReaderAt, number int, buffer []byte, sources map[string]*record.Source) bool {
	usual := min(1024, len(buffer)) // few descriptors are longer
	n, _ := file.ReadAt(buffer[:usual], pageAt(number, len(buffer)))
	if n < headerBytes {
		return false
	}
	h := header(buffer[:headerBytes])
	length := int(min(order.Uint32(h[20:]), uint32(len(buffer)-headerBytes)))
	if headerBytes+length > n {
		n, _ = file.ReadAt(buffer[:headerBytes+length], pageAt(number, len(buffer)))
	}
	slots := h.get()
	if headerBytes+length > n || order.Uint32(h) != pageMagic || len(slots) == 0 {
		return false
	}
	descriptor := buffer[headerBytes : headerBytes+length]
	if order.Uint32(h[24:]) != h.checksum(descriptor) || slots[0].used > len(buffer) || slots[0].used < headerBytes+length {
		return false
	}
	*page = foundPage{
		number: number, batch: order.Uint64(h[8:]), index: int(order.Uint32(h[16:])), state: order.Uint32(h[4:]), slot: slots[0],
		start: headerBytes + length,
	}
	if page.index > 0 || page.state == stateFree {
		return true
	}
	key, logStream, encoded, err := parseDescriptor(descriptor)
	if err != nil {
		return false
	}
	page.key, page.logStream, page.source = key, logStream, sources[string(encoded)]
	if page.source == nil {
		if page.source, err = record.ParseSource(bytes.Clone(encoded)); err != nil {
			return false
		}
		sources[string(encoded)] = page.source
	}
	return true
}

// readLocked reads the lines of a batch that an earlier process left. It drops lines that cannot be read.
func (d *Dispatcher) readLocked(b *batch) {
	if !b.unread {
		return
	}
	b.unread = false
	whole := true
	for i := range b.pages {
		whole = d.readPageLocked(b, i) && whole
	}
	switch {
	case !whole:
		d.salvageLocked(b)
	case b.logsOnly:
		d.bytes -= b.size
		b.size = 0
		for line := range d.eachLine(b) {
			b.size += len(line)
		}
		d.bytes += b.size
	}
}

// readPageLocked reads a page, and reports whether it is whole.
func (d *Dispatcher) readPageLocked(b *batch, i int) bool {
	if b.pages[i] < firstPage {
		return false
	}
	memory := d.pages.memory(b.pages[i])
	n, _ := d.journal.file.ReadAt(memory, pageAt(b.pages[i], d.pages.size))
	clear(memory[n:])
	h := header(memory)
	if order.Uint64(h[8:]) != b.number || int(order.Uint32(h[16:])) != i {
		clear(h[:headerBytes])
		return false
	}
	begin, isLast := b.linesStart(i), i == len(b.pages)-1
	for n, s := range h.get() {
		if s.used >= begin && s.used <= d.linesEnd(b, i) && extendChecksum(0, memory[begin:s.used]) == s.sum {
			if isLast {
				b.tail, b.summed, b.sum = s.used, s.used, s.sum // more lines may be appended
				return n == 0 && memory[s.used-1] == '\n'       // else the page after it was not written
			}
			return n == 0 && s.used == d.linesEnd(b, i)
		}
		h.clearSlot(s) // the write of this slot was cut short
	}
	return false
}

// salvageLocked replaces a damaged batch with a batch of the lines that can be read.
func (d *Dispatcher) salvageLocked(b *batch) {
	lost := loss{Reason: reasonMalformed, Count: uint64(b.lines), FirstSeq: b.first, LastSeq: b.last, Instance: b.source.Instance()}
	kept := d.addLocked(b.key, b.source, b.logStream, b)
	b.damaged = true
	d.copyLinesLocked(b, func(int) *batch { return kept }, func(int, []byte) bool { return true })
	d.account.Received += uint64(max(kept.lines-b.lines, 0)) // lines whose POST was not answered yet
	lost.Count -= uint64(min(kept.lines, b.lines))
	d.removeLocked(b, false)
	d.countLossLocked(lost)
	if kept.lines == 0 {
		d.list.remove(kept)
	}
}
