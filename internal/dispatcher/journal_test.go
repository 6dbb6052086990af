package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"kinesis-telemetry-extension/internal/flush"
	"kinesis-telemetry-extension/internal/kinesis"
	"kinesis-telemetry-extension/record"
)

// startProcess starts a process with a journal in dir, and waits for the adoption.
func startProcess(t *testing.T, o Options, dir string, stream Stream) *Dispatcher {
	t.Helper()
	o.SpillDir, o.SpillOwner = dir, "stream"
	d := New(o, stream)
	d.StartJournal()
	d.awaitAdopted(t.Context())
	return d
}

// kill ends a process as SIGKILL does: it writes no more, and the journal is unlocked.
func (d *Dispatcher) kill() {
	d.stop()
	d.done.Wait()
	if d.journal.file != nil {
		_ = d.journal.file.Close()
	}
}

// killWith runs a process that is killed with n buffered events, and returns its instance.
func killWith(t *testing.T, dir string, n int) (instance string) {
	t.Helper()
	d := startProcess(t, options(), dir, &fakeStream{})
	for i := range n {
		d.Receive([]Event{logEvent(i, 10+i)}, time.Time{}, false)
	}
	instance = d.source.Instance()
	d.kill()
	return instance
}

// deliverAll runs a process that delivers the events of earlier processes, and returns the lines on the stream.
func deliverAll(t *testing.T, dir string) (lines []record.Line) {
	t.Helper()
	stream := &fakeStream{}
	d := startProcess(t, options(), dir, stream)
	d.Ship(t.Context(), flush.AtShutdown)
	if s := check(t, d); s.Buffered != 0 {
		t.Errorf("%+v", s)
	}
	d.Close(true)
	lines, _ = stream.accepted()
	return lines
}

// Events that several processes left arrive once, in the order of the processes, under their numbers.
func TestEventsOfSeveralProcessesArriveOnce(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for n := 1; n <= 3; n++ {
		instance := killWith(t, dir, n)
		for seq := range n {
			want = append(want, fmt.Sprint(instance, seq))
		}
	}
	var got []string
	for _, line := range deliverAll(t, dir) {
		got = append(got, fmt.Sprint(line.Source.Instance, line.Seq))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if repeated := deliverAll(t, dir); len(repeated) > 0 {
		t.Errorf("delivered again: %+v", repeated)
	}
}

// With SnapStart the journal starts at the first INVOKE, maybe during a flight. The flight's records do not change when
// adopted events are dropped and their pages are used again.
func TestJournalStartsDuringAFlight(t *testing.T) {
	const left = 40 // events of an earlier process
	dir := t.TempDir()
	killWith(t, dir, left)
	flying, end := make(chan []kinesis.Record), make(chan struct{})
	o := options()
	o.SpillDir, o.SpillOwner = dir, "stream"
	d := New(o, &fakeStream{put: func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		flying <- records
		<-end
		return answerAll(kinesis.Unsent, errors.New("no answer"))(ctx, records)
	}})
	for i := range 10 {
		d.Receive([]Event{logEvent(i, 100)}, time.Time{}, false)
	}
	var shipping sync.WaitGroup
	shipping.Go(func() { d.Ship(t.Context(), flush.AtShutdown) })
	records := <-flying
	var before [][]byte
	for _, r := range records {
		before = append(before, bytes.Join(r.Data, nil))
	}
	d.StartJournal()
	d.awaitAdopted(t.Context())
	for i := range 500 {
		d.Receive([]Event{logEvent(i, 100)}, time.Time{}, false)
	}
	if s := d.Stats(); s.Recovered != left || s.Dropped < left {
		t.Errorf("%+v", s)
	}
	for i, r := range records {
		if after := bytes.Join(r.Data, nil); !bytes.Equal(after, before[i]) {
			t.Errorf("record %d was\n%s\nand is\n%s", i, before[i], after)
		}
	}
	close(end)
	shipping.Wait()
	check(t, d)
	d.kill()
}

// Two copies of the extension have two journals, and adopt both.
func TestTwoCopiesHaveTwoJournals(t *testing.T) {
	dir := t.TempDir()
	first := startProcess(t, options(), dir, &fakeStream{})
	first.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	second := startProcess(t, options(), dir, &fakeStream{})
	second.Receive([]Event{logEvent(1, 10), logEvent(2, 10)}, time.Time{}, false)
	first.kill()
	second.kill()
	a, b := &fakeStream{}, &fakeStream{}
	first, second = startProcess(t, options(), dir, a), startProcess(t, options(), dir, b)
	for n, d := range []*Dispatcher{first, second} {
		d.Ship(t.Context(), flush.AtShutdown)
		if s := check(t, d); s.Recovered != uint64(n+1) || s.Sent != uint64(n+1) {
			t.Errorf("copy %d: %+v", n, s)
		}
		d.Close(true)
	}
}

// A file that is not a journal of this extension is not changed, and no link is followed.
func TestOtherFilesAreNotTouched(t *testing.T) {
	for name, plant := range map[string]func(path string) error{
		"a file": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("of another program\n", 10_000)), 0o600)
		},
		"a beginning":      func(path string) error { return os.WriteFile(path, []byte("kinesis"), 0o600) },
		"another stream's": func(path string) error { return os.WriteFile(path, []byte(journalMagic+"4096 other\n"), 0o600) },
		"a link":           func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "target"), path) },
		"a link to a file": func(path string) error {
			target := filepath.Join(filepath.Dir(path), "target")
			return errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, path))
		},
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "journal-0")
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			killWith(t, dir, 3)
			if lines := deliverAll(t, dir); len(lines) != 3 {
				t.Errorf("%d of 3 events", len(lines))
			}
			after, err := os.Lstat(path)
			if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() {
				t.Errorf("the file was %v and is %v, %v", before, after, err)
			}
			if target, err := os.ReadFile(filepath.Join(dir, "target")); err == nil && len(target) > 0 {
				t.Error("the link was followed")
			}
			if own, err := os.Stat(filepath.Join(dir, "journal-1")); err != nil || own.Mode() != 0o600 {
				t.Errorf("the journal: %v, %v", own, err)
			}
		})
	}
}

// If no journal can be created, one log line names the setting, and everything is delivered.
func TestEverythingIsDeliveredWithoutAJournal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, "/proc/kinesis-telemetry", "/dev/full/x"} {
		log := &logLines{then: func() {}}
		o := options()
		o.Log = slog.New(log)
		stream := &fakeStream{}
		d := startProcess(t, o, dir, stream)
		for n := range 5 {
			d.Note(invoked(n + 1))
			d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		}
		d.Ship(t.Context(), flush.AtShutdown)
		kept := d.Close(true)
		if kept != 0 || d.Stats().Sent != 5 || len(log.text) != 1 || !strings.Contains(log.text[0], "KINESIS_TELEMETRY_SPILL_DIR") {
			t.Errorf("%s: %d kept, %+v, logged %q", dir, kept, d.Stats(), log.text)
		}
	}
}

// fullDisk is a file on a disk that accepts no byte after an offset.
type fullDisk struct {
	journalFile
	from int64 // offset of the first byte that fails
	free int64 // reported free space
}

func (f *fullDisk) WriteAt(data []byte, at int64) (int, error) {
	if room := f.from - at; room < int64(len(data)) {
		n, _ := f.journalFile.WriteAt(data[:max(room, 0)], at)
		return n, syscall.ENOSPC
	}
	return f.journalFile.WriteAt(data, at)
}

func (f *fullDisk) Free() (int64, error) { return f.free, nil }

// A full disk is logged once. Earlier writes stay. Events that are not written are still delivered, and not counted as
// kept. After a minute the whole buffer is written.
func TestFullDiskIsLoggedOnce(t *testing.T) {
	for name, disk := range map[string]*fullDisk{
		"a write fails":          {from: pagesAt + 5000, free: 1 << 40},
		"a quarter of the space": {from: 1 << 40, free: slabPages * 4096},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir, log := t.TempDir(), &logLines{then: func() {}}
			o := options()
			o.Log = slog.New(log)
			d := startProcess(t, o, dir, &fakeStream{})
			file := d.journal.file
			disk.journalFile = file
			d.journal.file = disk
			for n := range 8 {
				d.Receive([]Event{logEvent(n, 1000)}, time.Time{}, false)
			}
			if len(log.text) != 1 || !strings.Contains(log.text[0], "KINESIS_TELEMETRY_SPILL_DIR") {
				t.Errorf("%s: logged %q", name, log.text)
			}
			disk.from, disk.free = 1<<40, 1<<40
			d.Receive([]Event{logEvent(8, 1000)}, time.Time{}, false)
			if _, dirty := dirtyPages(d); !dirty {
				t.Errorf("%s: the write is retried at once", name)
			}
			time.Sleep(journalPause + time.Second)
			d.Receive([]Event{logEvent(9, 1000)}, time.Time{}, false)
			if pages, dirty := dirtyPages(d); dirty {
				t.Errorf("%s: after a minute pages %v are not written", name, pages)
			}
			check(t, d)
			d.kill()
			if lines := deliverAll(t, dir); len(lines) != 10 {
				t.Errorf("%s: the next process has %d of 10 events", name, len(lines))
			}
		})
	}
}

// While writes fail, written lines stay in the journal, even if they moved. After the next successful write the journal
// has them once.
func TestLinesMoveWhileWritesFail(t *testing.T) {
	for _, wait := range []time.Duration{0, journalPause + time.Second} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			d := startProcess(t, options(), dir, &fakeStream{})
			disk := &fullDisk{journalFile: d.journal.file, from: pagesAt + int64(d.pages.size), free: 1 << 40}
			d.journal.file = disk
			d.Receive([]Event{platformEvent(), logEvent(1, 10)}, time.Time{}, false)
			d.mu.Lock()
			d.dropOldestLocked()
			d.journalLocked()
			d.mu.Unlock()
			disk.from = 1 << 40
			time.Sleep(wait)
			d.mu.Lock()
			d.journalLocked()
			d.mu.Unlock()
			check(t, d)
			d.kill()
			var got []uint64
			for _, line := range deliverAll(t, dir) {
				if line.Type == typeDropped {
					got = append(got, 100)
				} else {
					got = append(got, line.Seq)
				}
			}
			if want := map[bool][]uint64{false: {0, 1, 100}, true: {0, 100}}[wait > 0]; !slices.Equal(got, want) {
				t.Errorf("after %v: %d, want %d", wait, got, want)
			}
		})
	}
}

// A page that could not be written keeps the slot that the file has: the next write may be cut short.
func TestFailedWriteKeepsTheWrittenSlot(t *testing.T) {
	d := startProcess(t, options(), t.TempDir(), &fakeStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(0, 10)}, time.Time{}, false)
	d.journal.file = &fullDisk{journalFile: d.journal.file}
	for n := range 4 {
		d.journal.pausedUntil = time.Time{}
		d.Receive([]Event{logEvent(n, 10)}, time.Time{}, false)
	}
	slots := header(d.pages.memory(d.list.next.pages[0])).get()
	if len(slots) != 2 || slots[0].lines != 5 || slots[1].lines != 1 {
		t.Errorf("%+v", slots)
	}
}

// dirtyPages returns the pages that the journal does not have.
func dirtyPages(d *Dispatcher) (pages []int, some bool) {
	for page := range slabPages * len(d.pages.dirty) {
		if d.pages.dirty.has(page) {
			pages = append(pages, page)
		}
	}
	return pages, len(pages) > 0
}

// If the function removes, replaces or truncates the journal, the next INVOKE writes a new one. Events that only the
// old one had are declared.
func TestLostJournalIsWrittenAgain(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, pagesAt+100) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"replaced": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("something else"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			previous := killWith(t, dir, 3)
			d := startProcess(t, options(), dir, &fakeStream{})
			d.Receive([]Event{logEvent(1, 10), logEvent(2, 10)}, time.Time{}, false)
			if err := harm(filepath.Join(dir, "journal-0")); err != nil {
				t.Fatal(err)
			}
			d.Note(invoked(1))
			d.Receive([]Event{logEvent(3, 10)}, time.Time{}, false)
			check(t, d)
			d.kill()
			delivered := map[string]int{}
			var declared uint64
			for _, line := range deliverAll(t, dir) {
				if line.Type == typeDropped {
					var l loss
					mustUnmarshal(t, line.Record, &l)
					declared += l.Count
					continue
				}
				delivered[line.Source.Instance]++
			}
			if delivered[d.source.Instance()] != 3 || delivered[previous]+int(declared) != 3 {
				t.Errorf("%d of 3 events; of 3 of the process before: %d, and %d declared",
					delivered[d.source.Instance()], delivered[previous], declared)
			}
		})
	}
}

// Events that a process received before it opens the journal (SnapStart) do not overwrite those that an earlier process
// left.
func TestEarlyEventsDoNotOverwriteTheJournal(t *testing.T) {
	dir := t.TempDir()
	killWith(t, dir, 20)
	o := options()
	o.SpillDir, o.SpillOwner = dir, "stream"
	d := New(o, &fakeStream{})
	for n := range 9 {
		d.Receive([]Event{logEvent(n, 1000)}, time.Time{}, false)
	}
	d.NewInstance()
	d.StartJournal()
	d.awaitAdopted(t.Context())
	d.Receive([]Event{logEvent(9, 1000)}, time.Time{}, false)
	check(t, d)
	d.kill()
	if lines := deliverAll(t, dir); len(lines) != 30 {
		t.Errorf("%d of 30 events", len(lines))
	}
}

// A POST with only the beginning of an event is answered, too. If its end never arrives, the next process declares the
// event.
func TestKilledBetweenThePiecesOfAnEvent(t *testing.T) {
	dir := t.TempDir()
	d := startProcess(t, options(), dir, &fakeStream{})
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, true)
	d.kill()
	lines := deliverAll(t, dir)
	var l loss
	if len(lines) == 2 {
		mustUnmarshal(t, lines[1].Record, &l)
	}
	if l.Count != 1 || l.Reason != reasonMalformed {
		t.Errorf("got %+v", lines)
	}
	d = startProcess(t, options(), dir, &fakeStream{})
	d.Receive(nil, time.Time{}, true)
	if !d.cut {
		t.Error("a POST with only a beginning is not noted")
	}
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false) // the end arrived
	d.kill()
	if lines := deliverAll(t, dir); len(lines) != 1 {
		t.Errorf("got %+v", lines)
	}
}

// FuzzJournal overwrites a part of the journal. The next process delivers only events that this extension wrote, and no
// event twice.
func FuzzJournal(f *testing.F) {
	f.Add(uint16(0), []byte{})
	f.Add(uint16(300), []byte("\x00\x00\x00"))
	f.Add(uint16(5000), bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, at uint16, over []byte) {
		dir := t.TempDir()
		d := startProcess(t, options(), dir, &fakeStream{})
		for n := range 20 {
			d.Receive([]Event{logEvent(n, 100*n)}, time.Time{}, false)
		}
		instance := d.source.Instance()
		d.kill()
		file, err := os.OpenFile(filepath.Join(dir, "journal-0"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(over, pagesAt+int64(at)); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		seen := map[uint64]bool{}
		for _, line := range deliverAll(t, dir) {
			if line.Type == typeDropped {
				continue
			}
			var text string
			mustUnmarshal(t, line.Record, &text)
			if line.Source.Instance != instance || seen[line.Seq] || strings.TrimLeft(text, "0") != strings.TrimLeft(fmt.Sprint(line.Seq), "0") {
				t.Fatalf("delivered %+v", line)
			}
			seen[line.Seq] = true
		}
	})
}

// deliverDamaged runs a process that is killed with a batch of three pages, and changes one of them in the journal. It
// returns the seqs that the next process delivers, and the number of events that it declares.
func deliverDamaged(t *testing.T, page int, harm func(memory []byte)) (delivered []uint64, declared int) {
	t.Helper()
	dir := t.TempDir()
	o := options()
	o.Flush.RecordBytes, o.MaxRecordBytes, o.Flush.BufferBytes = 40_000, 40_000, 1<<20
	d := startProcess(t, o, dir, &fakeStream{})
	for n := range 30 {
		d.Receive([]Event{logEvent(n, 1000)}, time.Time{}, false)
	}
	if pages := d.list.next.pages; len(pages) != 3 {
		t.Fatalf("pages %v", pages)
	}
	at, memory := pageAt(d.list.next.pages[page], d.pages.size), make([]byte, d.pages.size)
	d.kill()
	file, err := os.OpenFile(filepath.Join(dir, "journal-0"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.ReadAt(memory, at)
	used := bytes.Repeat(memory, slabPages)
	harm(memory)
	if _, err := file.WriteAt(memory, at); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	stream := &fakeStream{}
	d = startProcess(t, o, dir, stream)
	d.pages.spare = [][]byte{used}
	d.Ship(t.Context(), flush.AtShutdown)
	d.Ship(t.Context(), flush.AtShutdown)
	check(t, d)
	d.Close(true)
	for _, line := range stream.lines {
		if line.Type == typeDropped {
			var l loss
			mustUnmarshal(t, line.Record, &l)
			declared += int(l.Count)
		} else {
			delivered = append(delivered, line.Seq)
		}
	}
	return delivered, declared
}

// A line that was not written as a whole is not delivered.
func TestPartOfALineIsNotDelivered(t *testing.T) {
	delivered, _ := deliverDamaged(t, 2, func(memory []byte) { clear(memory) })
	if len(delivered) < 20 || delivered[len(delivered)-1] != uint64(len(delivered)-1) {
		t.Errorf("without the last page: %d", delivered)
	}
	delivered, declared := deliverDamaged(t, 0, func(memory []byte) { header(memory).clearSlot(header(memory).get()[0]) })
	if len(delivered) != 29 || declared != 1 || slices.Contains(delivered, 11) {
		t.Errorf("with an older first page: %d, and %d declared", delivered, declared)
	}
	delivered, declared = deliverDamaged(t, 1, func(memory []byte) { clear(memory) })
	if len(delivered)+declared != 30 || declared < 10 || declared > 14 {
		t.Errorf("without the second page: %d, and %d declared", delivered, declared)
	}
}

// An event whose end was never written is not adopted: its POST was not answered.
func TestBatchWithoutAWholeLineIsNotAdopted(t *testing.T) {
	dir := t.TempDir()
	o := options()
	o.Flush.RecordBytes, o.MaxRecordBytes, o.Flush.BufferBytes = 40_000, 40_000, 1<<20
	d := startProcess(t, o, dir, &fakeStream{})
	d.Receive([]Event{logEvent(1, 20_000)}, time.Time{}, false)
	at := pageAt(d.list.next.pages[1], d.pages.size)
	d.kill()
	if err := os.Truncate(filepath.Join(dir, "journal-0"), at); err != nil {
		t.Fatal(err)
	}
	d = startProcess(t, o, dir, &fakeStream{})
	defer d.Close(true)
	if s := check(t, d); s.Received != 0 || d.pages.count != 0 {
		t.Errorf("%+v, %d pages", s, d.pages.count)
	}
}

// A batch with long tags is adopted, with small and with large pages.
func TestBatchWithLongTagsIsAdopted(t *testing.T) {
	for _, tag := range []string{"", strings.Repeat("x", 4000), strings.Repeat("<", 4000)} {
		for _, size := range []int{1024, 2000, 40_000, 100_000, 10 << 20} {
			dir := t.TempDir()
			o := options()
			o.Source.Tags = map[string]string{"tag": tag}
			o.Flush.RecordBytes, o.MaxRecordBytes, o.Flush.BufferBytes, o.RequestBytes = size, 10<<20, 1<<20, 10<<20
			d := startProcess(t, o, dir, &fakeStream{})
			for n := range 5 {
				d.Receive([]Event{logEvent(n, 10)}, time.Time{}, false)
			}
			d.kill()
			d = startProcess(t, o, dir, &fakeStream{})
			d.Ship(t.Context(), flush.AtShutdown)
			if s := check(t, d); s.Recovered != 5 || s.Sent != 5 {
				t.Errorf("tags of %d bytes, records of %d: %+v", len(tag), size, s)
			}
			d.Close(true)
		}
	}
}

// A batch is adopted if its descriptor leaves room for lines in the first page. If the name of its log stream is too
// long for that, the batch is not adopted, and nothing else fails.
func TestBatchWithALongLogStream(t *testing.T) {
	for excess := range 2 {
		dir := t.TempDir()
		d := startProcess(t, options(), dir, &fakeStream{})
		empty := appendDescriptor(nil, d.source.Instance(), "", d.source)
		d.SetLogStream(strings.Repeat("x", d.pages.size-512-headerBytes-len(empty)+excess))
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.kill()
		if lines := deliverAll(t, dir); len(lines) != 1-excess {
			t.Errorf("%d lines of a batch with %d bytes too many", len(lines), excess)
		}
	}
}

// The pages of events that were only in a lost journal become free.
func TestLostJournalFreesItsPages(t *testing.T) {
	dir := t.TempDir()
	killWith(t, dir, 3)
	d := startProcess(t, options(), dir, &fakeStream{})
	defer d.Close(true)
	path := filepath.Join(dir, "journal-0")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	d.Note(invoked(1))
	if s := check(t, d); s.Dropped != 3 || d.pages.used[0] != 1 {
		t.Errorf("%+v, pages %b are not free", s, d.pages.used[0])
	}
}

// A journal that this process created is written again after a loss, like one that it found.
func TestCreatedJournalIsWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	killWith(t, dir, 0)
	d := startProcess(t, options(), dir, &fakeStream{})
	d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
	if err := os.Remove(filepath.Join(dir, "journal-0")); err != nil {
		t.Fatal(err)
	}
	d.Note(invoked(1))
	d.kill()
	if lines := deliverAll(t, dir); len(lines) != 1 {
		t.Errorf("%d of 1 events", len(lines))
	}
}

// Events that were received before the journal is opened may be in flight during the adoption.
func TestFlightDuringTheAdoption(t *testing.T) {
	dir := t.TempDir()
	killWith(t, dir, 20)
	deliverAll(t, dir)
	o := options()
	o.SpillDir, o.SpillOwner = dir, "stream"
	stream := &fakeStream{}
	d := New(o, stream)
	defer d.Close(false)
	d.Receive([]Event{logEvent(0, 1000)}, time.Time{}, false)
	stream.script(func(ctx context.Context, records []kinesis.Record) kinesis.Result {
		stream.script(nil)
		d.awaitAdopted(t.Context())
		d.Receive([]Event{logEvent(1, 1000), logEvent(2, 1000)}, time.Time{}, false)
		return answerAll(kinesis.Sent, nil)(ctx, records)
	})
	d.NewInstance()
	d.StartJournal()
	d.sendFlight(t.Context(), flush.AtShutdown)
	d.Ship(t.Context(), flush.AtShutdown)
	if s := check(t, d); s.Sent != 3 {
		t.Errorf("%+v", s)
	}
	seen := map[string]bool{}
	for _, line := range stream.lines {
		seen[string(line.Record)] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 events", len(seen))
	}
}

// A journal is also written again if it is truncated a second time, when it has only a loss.
func TestJournalTruncatedTwiceIsWrittenAgain(t *testing.T) {
	for _, size := range []int64{0, ledgerAt} {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal-0")
		d := startProcess(t, options(), dir, &fakeStream{})
		d.Receive([]Event{{}}, time.Time{}, false)
		for range 2 {
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			d.Note(invoked(1))
		}
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		d.kill()
		if lines := deliverAll(t, dir); len(lines) != 2 {
			t.Errorf("truncated to %d bytes, want an event and a loss: %+v", size, lines)
		}
	}
}

// Lines that moved before the logs are in the journal once, even if the journal is written again or a state is written
// later.
func TestLinesMovedBeforeLogsAreInTheJournalOnce(t *testing.T) {
	for name, meanwhile := range map[string]func(d *Dispatcher, path string){
		"written": func(*Dispatcher, string) {},
		"removed": func(d *Dispatcher, path string) {
			_ = os.Remove(path)
			d.Note(invoked(1))
		},
		"paused": func(d *Dispatcher, _ string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.journal.pausedUntil = time.Time{}
			d.journalLocked()
		},
	} {
		dir := t.TempDir()
		d := startProcess(t, options(), dir, &fakeStream{})
		d.Receive([]Event{logEvent(0, 10), platformEvent(), logEvent(2, 10)}, time.Time{}, false)
		d.mu.Lock()
		if name == "paused" {
			d.journal.pausedUntil = time.Now().Add(time.Hour)
		}
		d.moveLogsLastLocked()
		d.journalLocked()
		d.mu.Unlock()
		meanwhile(d, filepath.Join(dir, "journal-0"))
		check(t, d)
		d.kill()
		var got []uint64
		for _, line := range deliverAll(t, dir) {
			got = append(got, line.Seq)
		}
		slices.Sort(got)
		if !slices.Equal(got, []uint64{0, 1, 2}) {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// A copy of the extension above maxJournals has no journal, and logs that.
func TestCopyWithoutAJournalLogsThat(t *testing.T) {
	dir := t.TempDir()
	for range maxJournals {
		d := startProcess(t, options(), dir, &fakeStream{})
		defer d.Close(false)
		d.Receive([]Event{logEvent(1, 10)}, time.Time{}, false)
		if len(slices.Collect(d.list.all())) != 1 || d.journal.file == nil {
			t.Fatal("a copy has no journal")
		}
	}
	log := &logLines{then: func() {}}
	o := options()
	o.Log = slog.New(log)
	d := startProcess(t, o, dir, &fakeStream{})
	defer d.Close(false)
	if d.journal.file != nil || len(log.text) != 1 || !strings.Contains(log.text[0], errInUse.Error()) {
		t.Errorf("logged %q", log.text)
	}
}

// The ledger keeps as many losses as fit, and the newer of the two ledgers counts.
func TestNewerLedgerCounts(t *testing.T) {
	d := startProcess(t, options(), t.TempDir(), &fakeStream{})
	defer d.Close(false)
	for n := range 100 {
		d.mu.Lock()
		d.account.undeclared.add(loss{Reason: reasonOverflow, Count: 1, Instance: fmt.Sprintf("%032d", n)})
		d.journal.ledgerWritten = false
		d.journalLocked()
		d.mu.Unlock()
		newest, serial := readLedger(d.journal.file)
		got := len(newest.Losses)
		if serial != uint64(n)+1 || got > n+1 || got < n+1 && got < 25 {
			t.Fatalf("ledger %d has %d losses of %d", serial, got, n+1)
		}
	}
	info, err := d.journal.file.Stat()
	if err != nil || info.Size() > pagesAt {
		t.Errorf("%v, %v", info.Size(), err)
	}
	for i := range int64(2) { // written in turn: a write that is cut short leaves the other
		size := make([]byte, 4)
		if _, err := d.journal.file.ReadAt(size, ledgerAt+i*ledgerBytes); err != nil || order.Uint32(size) == 0 {
			t.Errorf("ledger %d was never written: %v", i, err)
		}
	}
}

// A batch of several pages is adopted whole, not copied line by line into another batch.
func TestWholeBatchesAreAdopted(t *testing.T) {
	for events := range 60 { // the last page is partly full, or full
		dir := t.TempDir()
		o := options()
		o.Flush.RecordBytes, o.MaxRecordBytes, o.Flush.BufferBytes, o.RequestBytes = 40_000, 50_000, 1<<20, 100_000
		d := startProcess(t, o, dir, &fakeStream{})
		for n := range events + 40 {
			d.Receive([]Event{logEvent(n, 500)}, time.Time{}, false)
		}
		d.kill()
		d = startProcess(t, o, dir, &fakeStream{})
		d.mu.Lock()
		var before, after []uint64
		pages := 0
		for b := range d.list.all() {
			before = append(before, b.number)
			pages = max(pages, len(b.pages))
			d.readLocked(b)
		}
		for b := range d.list.all() {
			after = append(after, b.number)
		}
		d.mu.Unlock()
		if len(before) == 0 || pages < 2 || !slices.Equal(before, after) {
			t.Errorf("batches %d of up to %d pages became %d", before, pages, after)
		}
		d.Close(false)
	}
}

// A truncated descriptor is an error; one with empty texts is not.
func TestTruncatedDescriptorIsAnError(t *testing.T) {
	for text, good := range map[string]bool{
		"": false, "\x00": false, "\x01\x00": false, "\x05\x00ab": false, "\x00\x00": false, "\x00\x00\x01\x00": false,
		"\x00\x00\x00\x00": true, "\x01\x00k\x00\x00{}": true, "\x00\x00\x02\x00ab": true, "\x00\x00\x02\x00a": false,
	} {
		key, logStream, source, err := parseDescriptor([]byte(text))
		if (err == nil) != good {
			t.Errorf("%q: %q, %q, %q, %v", text, key, logStream, source, err)
		}
	}
}
