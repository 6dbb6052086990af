package dispatcher

import (
	"cmp"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"time"

	"kinesis-telemetry-extension/record"
)

// The journal is a file:
//
//	    0  journalMagic, size of a page, SP, owner, LF
//	 4096  and 10240, in turn: length, checksum, serial (4, 4 and 8 bytes), and the JSON of a ledger
//	16384  page 1, and the other pages after it
//
// The events of a POST are written before the POST is answered. So once Lambda has the answer, they survive the
// extension's process. There is no fsync, since the machine does not outlive the environment. The file is not mapped
// into memory: if another process truncated it, SIGBUS would end this process.
const (
	journalMagic = "kinesis-telemetry-extension journal 1 "
	journalName  = "journal-%d"
	maxJournals  = 8 // one for each copy of the extension in the environment
	ledgerAt     = 4096
	ledgerBytes  = 6144
	pagesAt      = ledgerAt + 2*ledgerBytes
	// journalPause is how long no page is written after a write has failed.
	journalPause = time.Minute
)

// journal is the state of the journal. The zero value has no file.
type journal struct {
	file          journalFile
	size          int64          // of the file
	grown         int            // the disk has room for the pages before this one
	pending       []pendingState // states to write
	stale         bool           // a state could not be written
	retired       []int          // pages that are free once these states are written
	serial        uint64         // of the ledger
	ledgerWritten bool           // the file has the current ledger
	pausedUntil   time.Time      // no page is written before
	openPending   bool           // the first write opens the file
	adopting      int            // the pages before this one may have batches of earlier processes; 0: after the adoption
}

// journalFile has the methods of a file that the journal uses.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Free() (bytes int64, err error) // free space of the disk
}

// write writes to the file, and keeps its size.
func (j *journal) write(data []byte, at int64) error {
	n, err := j.file.WriteAt(data, at)
	j.size = max(j.size, at+int64(n))
	return err
}

// diskFile is a journalFile.
type diskFile struct{ *os.File }

// pendingState is the state of a batch, which the journal does not have yet.
type pendingState struct {
	page  int // the batch's first
	state uint32
	sent  bool // the state is valid even if pages could not be written
}

// ledger is the JSON of the losses that are not declared yet.
type ledger struct {
	Losses []loss `json:"losses,omitempty"`
	// Cut means that the beginning of an event was received, its end not yet.
	Cut bool `json:"cut,omitempty"`
}

// pageAt returns the offset of a page in the file.
func pageAt(page, size int) int64 { return pagesAt + int64(page-firstPage)*int64(size) }

// checksum returns the CRC-32C of data.
func checksum(data []byte) uint32 { return extendChecksum(0, data) }

// extendChecksum returns the CRC-32C of more data. The first call makes the tables, when the first page is sealed. A
// package variable would make them before the extension registers.
func extendChecksum(sum uint32, data []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), data)
}

// checksum covers the parts of a page that do not change: a part of its header, and the descriptor after the header.
func (h header) checksum(descriptor []byte) uint32 {
	return extendChecksum(checksum(h[8:24]), descriptor)
}

// appendDescriptor appends the common facts of a batch's lines: partition key, log stream and source.
func appendDescriptor(dst []byte, key, logStream string, source *record.Source) []byte {
	for _, text := range []string{key, logStream} {
		dst = order.AppendUint16(dst, uint16(len(text)))
		dst = append(dst, text...)
	}
	return append(dst, source.JSON()...)
}

var errDescriptor = errors.New("not a descriptor")

// parseDescriptor reads a descriptor.
func parseDescriptor(descriptor []byte) (key, logStream string, source []byte, err error) {
	for _, text := range []*string{&key, &logStream} {
		if len(descriptor) < 2 || int(order.Uint16(descriptor)) > len(descriptor)-2 {
			return "", "", nil, errDescriptor
		}
		n := 2 + int(order.Uint16(descriptor))
		*text, descriptor = string(descriptor[2:n]), descriptor[n:]
	}
	return key, logStream, descriptor, nil
}

// journalLocked brings the journal up to date. The order matters, since the process may be killed between two writes. A
// loss is written before the batch that had its events is freed. The loss is removed after the line that declares it
// was written. If lines were copied from a page, the copies are written before the page is used again. If a write
// fails, the state of the batch is not written: the next process may deliver its lines again.
func (d *Dispatcher) journalLocked() {
	d.ensureJournalLocked()
	d.sealBatchesLocked()
	j := &d.journal
	written := d.writeBufferLocked()
	for _, m := range j.pending {
		if written || m.sent {
			d.writeStateLocked(m.page, m.state)
		} else {
			j.stale = true
		}
	}
	j.pending = j.pending[:0]
	d.freeLocked()
	if written && len(d.declaring) > 0 {
		clear(d.declaring)
		_ = d.writeLedgerLocked() // if it fails, the next process declares the loss again
	}
	if written && j.stale {
		d.writeStatesLocked()
	}
}

// freeLocked frees the pages of batches that ended.
func (d *Dispatcher) freeLocked() {
	for _, page := range d.journal.retired {
		d.pages.free(page)
	}
	d.journal.retired = d.journal.retired[:0]
}

// writeBufferLocked writes the ledger and the pages that have changed. It reports whether the journal has the whole
// buffer.
func (d *Dispatcher) writeBufferLocked() bool {
	if d.journal.file == nil || time.Now().Before(d.journal.pausedUntil) {
		return false
	}
	var err error
	if !d.journal.ledgerWritten {
		err = d.writeLedgerLocked()
	}
	if err == nil {
		err = d.writePagesLocked()
	}
	if err != nil {
		d.pauseJournalLocked(err)
	}
	return err == nil
}

// writeStateLocked writes a batch's state into its first page.
func (d *Dispatcher) writeStateLocked(page int, state uint32) {
	var encoded [4]byte
	order.PutUint32(encoded[:], state)
	at := pageAt(page, d.pages.size) + 4
	if at >= d.journal.size {
		return // the page is not in the file
	}
	if err := d.journal.write(encoded[:], at); err != nil {
		d.pauseJournalLocked(err)
		d.journal.stale = true
	}
	if state == stateLogsOnly {
		copy(d.pages.memory(page)[4:], encoded[:])
	}
}

// writeStatesLocked writes the states of all batches, after some could not be written.
func (d *Dispatcher) writeStatesLocked() {
	d.journal.stale = false
	for page := firstPage; page < len(d.pages.used)*slabPages; page++ {
		if !d.pages.used.has(page) {
			d.writeStateLocked(page, stateFree)
		}
	}
	for b := range d.list.all() {
		if b.logsOnly && !b.unread {
			d.writeStateLocked(b.pages[0], stateLogsOnly)
		}
	}
}

// writeLedgerLocked writes the ledger.
func (d *Dispatcher) writeLedgerLocked() error {
	j := &d.journal
	content := ledger{Cut: d.cut}
	for _, losses := range []losses{d.declaring, d.account.undeclared} {
		for _, l := range losses {
			content.Losses = append(content.Losses, *l)
		}
	}
	const head = 16
	encoded, err := json.Marshal(content)
	for err == nil && len(encoded) > ledgerBytes-head { // losses of very many instances
		content.Losses = content.Losses[:len(content.Losses)/2]
		encoded, err = json.Marshal(content)
	}
	j.serial++
	entry := make([]byte, head, head+len(encoded))
	entry = append(entry, encoded...)
	order.PutUint32(entry, uint32(len(encoded)))
	order.PutUint64(entry[8:], j.serial)
	order.PutUint32(entry[4:], checksum(entry[8:]))
	err = j.write(entry, ledgerAt+int64(j.serial%2)*ledgerBytes)
	j.ledgerWritten = err == nil
	return err
}

// readLedger reads the newer of the two ledgers.
func readLedger(file io.ReaderAt) (newest ledger, serial uint64) {
	for i := range int64(2) {
		entry := make([]byte, ledgerBytes)
		n, _ := file.ReadAt(entry, ledgerAt+i*ledgerBytes) // a part that cannot be read fails the checksum
		if n < 16 {
			continue
		}
		end := 16 + int(min(order.Uint32(entry), ledgerBytes))
		if end > n || order.Uint32(entry[4:]) != checksum(entry[8:end]) || order.Uint64(entry[8:]) < serial {
			continue
		}
		var read ledger
		if json.Unmarshal(entry[16:end], &read) == nil {
			newest, serial = read, order.Uint64(entry[8:])
		}
	}
	return newest, serial
}

// sealBatchesLocked updates the header of each batch's last page.
func (d *Dispatcher) sealBatchesLocked() {
	for _, b := range d.unsealed {
		if b.unsealed && len(b.pages) > 0 {
			d.sealLocked(b)
		}
		b.unsealed = false
	}
	d.unsealed = d.unsealed[:0]
}

// writePagesLocked writes each dirty page. Adjacent pages are one write.
func (d *Dispatcher) writePagesLocked() error {
	size := d.pages.size
	for word, dirty := range d.pages.dirty {
		for dirty != 0 {
			from := bits.TrailingZeros64(dirty)
			to := from + bits.TrailingZeros64(^(dirty >> from))
			first, last := word*64+from, word*64+to-1
			if err := d.growLocked(last); err != nil {
				return err
			}
			slab := d.pages.slabs[word]
			used := header(d.pages.memory(last)).used()
			if err := d.journal.write(slab[from*size:(to-1)*size+used], pageAt(first, size)); err != nil {
				return err
			}
			dirty &^= (1<<(to-from) - 1) << from
			d.pages.dirty[word] = dirty
		}
	}
	return nil
}

var errFull = errors.New("the journal would take more than a quarter of the free disk space")

// growLocked returns an error if the journal must not grow up to a page: it takes at most a quarter of the disk's free
// space.
func (d *Dispatcher) growLocked(page int) error {
	j := &d.journal
	if page < j.grown {
		return nil
	}
	to := page/slabPages*slabPages + slabPages
	has, wants := int64(j.grown)*int64(d.pages.size), int64(to)*int64(d.pages.size)
	if free, err := j.file.Free(); err != nil || wants > (free+has)/4 {
		return cmp.Or(err, errFull)
	}
	j.grown = to
	return nil
}

// pauseJournalLocked stops writing pages for a while after an error.
func (d *Dispatcher) pauseJournalLocked(err error) {
	d.journal.pausedUntil = time.Now().Add(journalPause).Round(0)
	d.warnNoJournalLocked(err)
}

// warnNoJournalLocked logs why there is no journal: once, and when the lock is released.
func (d *Dispatcher) warnNoJournalLocked(err error) {
	const noJournal = "cannot keep a journal, undelivered telemetry would not survive the extension's process: " +
		"KINESIS_TELEMETRY_SPILL_DIR: "
	if !d.logged[noJournal] {
		d.logged[noJournal] = true
		d.pendingWarning = noJournal + err.Error()
	}
}

// unlock releases the lock, then logs the pending warning.
func (d *Dispatcher) unlock() {
	warning := d.pendingWarning
	d.pendingWarning = ""
	d.mu.Unlock()
	if warning != "" {
		d.options.Log.Warn(warning)
	}
}

// checkJournalLocked writes a new journal from memory if the function has removed or truncated the file.
func (d *Dispatcher) checkJournalLocked() {
	j := &d.journal
	if j.file == nil || j.adopting > 0 {
		return
	}
	found, err := os.Lstat(j.file.Name())
	open, _ := j.file.Stat()
	if err == nil && os.SameFile(found, open) && found.Size() >= j.size {
		return
	}
	for b := range d.list.all() {
		d.readLocked(b)
	}
	d.freeLocked()     // pages that could not be read
	_ = j.file.Close() // a new file replaces it
	serial := j.serial
	if !d.openJournalLocked() {
		return
	}
	j.serial = serial
	for b := range d.list.all() {
		for _, page := range b.pages {
			d.pages.dirty.set(page)
		}
	}
	d.journalLocked()
}
