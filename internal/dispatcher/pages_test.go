package dispatcher

import (
	"testing"
	"time"
)

// The free page with the lowest number is taken first, and at most maxSpare unused slabs are kept.
func TestLowestPageFirst(t *testing.T) {
	p := newPages(2000, 100)
	const slabs = maxSpare + 2
	for want := firstPage; want < slabs*slabPages; want++ {
		if got := p.take(); got != want {
			t.Fatalf("took %d, want %d", got, want)
		}
		p.memory(want)[p.size-1] = 1
	}
	if p.count != slabs*slabPages-firstPage {
		t.Errorf("%d pages", p.count)
	}
	for _, page := range []int{200, 70} {
		p.retire(page)
		p.free(page)
	}
	for _, want := range []int{70, 200, slabs * slabPages} {
		if got := p.take(); got != want {
			t.Errorf("took %d, want %d", got, want)
		}
	}
	for page := firstPage; page <= slabs*slabPages; page++ {
		p.retire(page)
		p.free(page)
	}
	if p.count != 0 || len(p.spare) != maxSpare {
		t.Errorf("%d pages, %d unused slabs", p.count, len(p.spare))
	}
	p.reserve(100)
	if got := p.take(); got != 100 || p.count != 1 || len(p.spare) != maxSpare-1 {
		t.Errorf("took %d of %d after the reserved pages, %d unused slabs are left", got, p.count, len(p.spare))
	}
	for want := maxSpare - 2; want >= 0; want-- { // down to none
		p.grow(len(p.used) + 1)
		p.memory((len(p.used) - 1) * slabPages)
		if len(p.spare) != want {
			t.Errorf("%d unused slabs are left, want %d", len(p.spare), want)
		}
	}
	p.unreserve(100)
	if got := p.take(); got != firstPage {
		t.Errorf("took %d, want the first", got)
	}
	p.retire(0) // page 0 marks a missing page
	p.free(0)
	if p.count != 2 || p.used[0] != 1<<firstPage|1 {
		t.Errorf("%d pages, bits of the first word %b", p.count, p.used[0])
	}
}

// The journal grows to at most a quarter of the disk's free space, its own size included.
func TestJournalTakesAQuarterOfTheFreeSpace(t *testing.T) {
	d := startProcess(t, options(), t.TempDir(), &fakeStream{})
	defer d.Close(false)
	disk := &fullDisk{journalFile: d.journal.file, from: 1 << 40}
	d.journal.file = disk
	slab := int64(slabPages * d.pages.size)
	for _, test := range []struct {
		grown, page int
		free        int64
		fits        bool
	}{
		{0, 1, 4 * slab, true},
		{0, 1, 4*slab - 1, false},
		{slabPages, slabPages - 1, 0, true},
		{slabPages, slabPages, 7 * slab, true},
		{slabPages, slabPages, 7*slab - 1, false},
	} {
		d.journal.grown, disk.free = test.grown, test.free
		if err := d.growLocked(test.page); (err == nil) != test.fits {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// Adjacent pages are one write.
func TestAdjacentPagesAreOneWrite(t *testing.T) {
	d := startProcess(t, options(), t.TempDir(), &fakeStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 1500)}, time.Time{}, false)
	file := &dyingFile{journalFile: d.journal.file, writes: 10}
	d.journal.file = file
	d.Receive([]Event{logEvent(1, 1500), logEvent(2, 1500), logEvent(3, 1500), logEvent(4, 1500)}, time.Time{}, false)
	if writes := 10 - file.writes; writes != 1 || len(d.seqs()) != 5 {
		t.Errorf("%d writes of %d", writes, d.seqs())
	}
}

// A full batch fills its pages, and the first one has room for the descriptor.
func TestBatchFillsItsPages(t *testing.T) {
	for _, lines := range []int{1024, 2000, 16_000, 100_000, 1 << 20, 10 << 20} {
		for _, source := range []int{100, 4300, 24_000} {
			size := newPages(lines, source).size
			room := size - headerBytes - 2
			count := (lines + source + room - 1) / room
			largest := headerBytes + 2 + max(maxPage, 3*(source+512)) + headerBytes
			if size%headerBytes != 0 || size > largest || size < source+1024 || count*room > lines+source+512+count*(headerBytes+1) {
				t.Errorf("%d bytes of lines, %d of the source: %d pages of %d", lines, source, count, size)
			}
		}
	}
}

// A page is at most 16 KiB, unless the source needs more. A full batch with its descriptor is divided into equal pages.
// Each has a header and two spare bytes, and its size is rounded up to a multiple of the header.
func TestPageSizes(t *testing.T) {
	for _, c := range []struct{ lines, source, want int }{
		{1024, 100, 1792}, {100_000, 170, 14_592}, {100_000, 4300, 15_104}, {100_000, 24_000, 62_208}, {500_000, 170, 16_384},
	} {
		if got := newPages(c.lines, c.source).size; got != c.want {
			t.Errorf("%d bytes of lines, %d of the source: pages of %d, want %d", c.lines, c.source, got, c.want)
		}
	}
	for _, c := range []struct{ before, words int }{{1, 1}, {slabPages, 1}, {slabPages + 1, 2}} {
		p := newPages(1024, 100)
		p.reserve(c.before)
		if len(p.used) != c.words {
			t.Errorf("%d pages reserved: %d words", c.before, len(p.used))
		}
		p.use(3 * slabPages)
		if len(p.used) != 4 || len(p.dirty) != 4 || len(p.slabs) != 4 {
			t.Errorf("%d words of used, %d of dirty, %d slabs for page %d", len(p.used), len(p.dirty), len(p.slabs), 3*slabPages)
		}
	}
}

// A journal that no other process has touched keeps its file.
func TestUntouchedJournalKeepsItsFile(t *testing.T) {
	d := startProcess(t, options(), t.TempDir(), &fakeStream{})
	defer d.Close(false)
	d.Receive([]Event{logEvent(1, 1500)}, time.Time{}, false)
	file := d.journal.file
	d.Note(invoked(1))
	if d.journal.file != file {
		t.Error("a new file replaces it")
	}
}
