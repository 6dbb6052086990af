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
//	 4096  and 10240, by turns: length, checksum, serial (4, 4 and 8 bytes), and the JSON of a ledger
//	16384  page 1, and the other pages behind it
//
// A POST is in it before it is answered: what Lambda was told is received survives the extension's process. There is no fsync, since
// the machine does not outlive the environment, and no mapping, since a file that is cut short by others would end the process.
const (
	journalMagic = "kinesis-telemetry-extension journal 1 "
	journalName  = "journal-%d"
	maxJournals  = 8 // copies of the extension in one environment
	ledgerAt     = 4096
	ledgerBytes  = 6144
	pagesAt      = ledgerAt + 2*ledgerBytes
	// journalPause is how long nothing new is written after a write has failed.
	journalPause = time.Minute
)

// journal is what the Dispatcher knows of its journal. The zero value has no file.
type journal struct {
	file          journalFile
	size          int64          // that the file has
	grown         int            // the first page for which the disk was not asked whether it has room
	pending       []pendingState // states to be written
	stale         bool           // there were states that could not be written
	retired       []int          // pages that are free then
	serial        uint64         // of the ledger
	ledgerWritten bool           // the ledger is as it should be
	pausedUntil   time.Time      // no page is written before
	// unopened: it is opened with the first thing to be written. adopting: the pages before this one may have batches of earlier lives.
	unopened bool
	adopting int
}

// journalFile is what the journal needs of a file.
type journalFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Free() (bytes int64, err error) // that the disk has left
}

// write writes to the file, and notes how long that is.
func (j *journal) write(data []byte, at int64) error {
	n, err := j.file.WriteAt(data, at)
	j.size = max(j.size, at+int64(n))
	return err
}

// diskFile is a journalFile.
type diskFile struct{ *os.File }

// pendingState is a state of a batch that the journal does not have yet.
type pendingState struct {
	page  int // the batch's first
	state uint32
	sent  bool // it holds whatever of the buffer could be written
}

// ledger is what is to be declared.
type ledger struct {
	Losses []loss `json:"losses,omitempty"`
	// Cut tells that an event came in part: its other pieces had not come.
	Cut bool `json:"cut,omitempty"`
}

// pageAt is where a page begins in the file.
func pageAt(page, size int) int64 { return pagesAt + int64(page-firstPage)*int64(size) }

func checksum(data []byte) uint32 { return extendChecksum(0, data) }

// extendChecksum is the CRC-32C. Its tables are made when the first page is sealed: a package variable would make them before the
// extension registers.
func extendChecksum(sum uint32, data []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), data)
}

// checksum is of what does not change in a page: of its header, and the descriptor behind it.
func (h header) checksum(descriptor []byte) uint32 {
	return extendChecksum(checksum(h[8:24]), descriptor)
}

// appendDescriptor appends what the lines of a batch have in common.
func appendDescriptor(dst []byte, key, logStream string, source *record.Source) []byte {
	for _, text := range []string{key, logStream} {
		dst = order.AppendUint16(dst, uint16(len(text)))
		dst = append(dst, text...)
	}
	return append(dst, source.JSON()...)
}

var errDescriptor = errors.New("not a descriptor")

// parseDescriptor reads what appendDescriptor has written.
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

// journalLocked brings the journal up to date. The order matters, as the process may be killed between two writes: a loss is written
// before the batch that had the events is freed, and forgotten after the line that declares it was written. No page is used again
// before what its lines were copied to is written. Where that cannot be written, the batch is not marked: its lines may come again.
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
		_ = d.writeLedgerLocked() // else the loss is declared again
	}
	if written && j.stale {
		d.writeStatesLocked()
	}
}

// freeLocked frees the pages of batches that have ended.
func (d *Dispatcher) freeLocked() {
	for _, page := range d.journal.retired {
		d.pages.free(page)
	}
	d.journal.retired = d.journal.retired[:0]
}

// writeBufferLocked writes the ledger and the pages that have changed. It tells whether the journal has all that is held.
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

// writeStatesLocked writes the states that could not be written when they changed.
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
	book := ledger{Cut: d.cut}
	for _, losses := range []losses{d.declaring, d.account.undeclared} {
		for _, l := range losses {
			book.Losses = append(book.Losses, *l)
		}
	}
	const head = 16
	encoded, err := json.Marshal(book)
	for err == nil && len(encoded) > ledgerBytes-head { // of very many instances
		book.Losses = book.Losses[:len(book.Losses)/2]
		encoded, err = json.Marshal(book)
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

// readLedger reads the younger of the two.
func readLedger(file io.ReaderAt) (book ledger, serial uint64) {
	for i := range int64(2) {
		entry := make([]byte, ledgerBytes)
		n, _ := file.ReadAt(entry, ledgerAt+i*ledgerBytes) // what is missing has no checksum
		if n < 16 {
			continue
		}
		end := 16 + int(min(order.Uint32(entry), ledgerBytes))
		if end > n || order.Uint32(entry[4:]) != checksum(entry[8:end]) || order.Uint64(entry[8:]) < serial {
			continue
		}
		var read ledger
		if json.Unmarshal(entry[16:end], &read) == nil {
			book, serial = read, order.Uint64(entry[8:])
		}
	}
	return book, serial
}

// sealBatchesLocked makes the header of each page say what is in it.
func (d *Dispatcher) sealBatchesLocked() {
	for _, b := range d.unsealed {
		if b.unsealed && len(b.pages) > 0 {
			d.sealLocked(b)
		}
		b.unsealed = false
	}
	d.unsealed = d.unsealed[:0]
}

// writePagesLocked writes each page whose last content the journal does not have, pages that lie side by side at once.
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

var errFull = errors.New("more than a quarter of what is free there would be taken")

// growLocked makes sure that a page may be written: a journal that grows takes at most a quarter of what the disk has free.
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

// pauseJournalLocked stops writing pages for a while.
func (d *Dispatcher) pauseJournalLocked(err error) {
	d.journal.pausedUntil = time.Now().Add(journalPause).Round(0)
	d.warnNoJournalLocked(err)
}

// warnNoJournalLocked logs why there is no journal, once, and when the lock is released.
func (d *Dispatcher) warnNoJournalLocked(err error) {
	const unkept = "what is undelivered cannot be kept for the environment's next life: KINESIS_TELEMETRY_SPILL_DIR: "
	if !d.logged[unkept] {
		d.logged[unkept] = true
		d.pendingWarning = unkept + err.Error()
	}
}

// unlock releases the lock, and logs what was to be logged meanwhile.
func (d *Dispatcher) unlock() {
	say := d.pendingWarning
	d.pendingWarning = ""
	d.mu.Unlock()
	if say != "" {
		d.options.Log.Warn(say)
	}
}

// checkJournalLocked makes the journal anew from memory where somebody has removed or truncated it.
func (d *Dispatcher) checkJournalLocked() {
	j := &d.journal
	if j.file == nil || j.adopting > 0 {
		return
	}
	there, err := os.Lstat(j.file.Name())
	mine, _ := j.file.Stat()
	if err == nil && os.SameFile(there, mine) && there.Size() >= j.size {
		return
	}
	for b := range d.list.all() {
		d.readLocked(b)
	}
	d.freeLocked()     // what could not be read
	_ = j.file.Close() // a new one follows
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
