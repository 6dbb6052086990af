package dispatcher

import (
	"encoding/binary"
	"math/bits"
)

const (
	maxPage = 16 << 10 // bytes; pages are larger if the tags need more
	// slabPages is the number of pages in one slab of memory, and in one step of the journal's growth: the bits of a
	// bitmap's word.
	slabPages = 64
	firstPage = 1 // no page has the number 0
	// maxSpare is how many unused slabs are kept: a small function that has buffered so much will do so again.
	maxSpare = 4
)

// pages manages the memory of batches. A page has the same bytes in memory and in the journal: a header, then lines of
// one batch. The free page with the lowest number is taken first, so that few pages are touched and the memory after
// them can be returned.
type pages struct {
	size  int      // of a page, bytes
	slabs [][]byte // nil if no page of the slab is used, or if all its pages are only in the journal
	spare [][]byte // unused slabs
	used  bitmap
	dirty bitmap // pages whose current content the journal does not have
	count int    // number of used pages
	low   int    // words of used before this one have no free page
}

// bitmap has a bit for each page.
type bitmap []uint64

func (b bitmap) has(page int) bool { return b[page/slabPages]>>(page%slabPages)&1 != 0 }

func (b bitmap) set(page int) { b[page/slabPages] |= 1 << (page % slabPages) }

func (b bitmap) clear(page int) { b[page/slabPages] &^= 1 << (page % slabPages) }

// newPages chooses the size of pages so that a full batch, with its descriptor, fills them. lines and source are the
// sizes of the batch's lines and of its source's JSON. The size is the same in all processes of an environment. No
// header crosses a page boundary of the machine's memory: a write may be cut short there.
func newPages(lines, source int) pages {
	descriptor := (source/512 + 1) * 512
	batch, limit := lines+descriptor, max(maxPage, 3*descriptor)
	count := (batch + limit - 1) / limit
	size := headerBytes + 2 + (batch+count-1)/count
	return pages{size: (size + headerBytes - 1) / headerBytes * headerBytes}
}

// take returns the number of a free page and marks it used.
func (p *pages) take() int {
	for ; ; p.low++ {
		if p.low == len(p.used) {
			p.grow(p.low + 1)
		}
		if free := ^p.used[p.low]; free != 0 {
			page := p.low*slabPages + bits.TrailingZeros64(free)
			p.use(page)
			clear(p.memory(page)[:headerBytes])
			return page
		}
	}
}

// grow extends the bitmaps to a number of words.
func (p *pages) grow(words int) {
	for len(p.used) < words {
		p.slabs = append(p.slabs, nil)
		p.used = append(p.used, 0)
		p.dirty = append(p.dirty, 0)
	}
	p.used[0] |= 1<<firstPage - 1
}

// reserve marks the pages before the given one used, so that take skips them.
func (p *pages) reserve(before int) {
	p.grow((before + slabPages - 1) / slabPages)
	for page := firstPage; page < before; page++ {
		p.used.set(page)
	}
}

// unreserve undoes reserve.
func (p *pages) unreserve(before int) {
	for page := firstPage; page < before; page++ {
		p.used.clear(page)
	}
	p.low = 0
}

// use marks a page used.
func (p *pages) use(page int) {
	if page < firstPage {
		return
	}
	p.grow(page/slabPages + 1)
	p.used.set(page)
	p.count++
}

// retire ends the use of a page. take does not return it before free.
func (p *pages) retire(page int) {
	if page < firstPage {
		return // page 0 marks a page that is missing in the journal
	}
	p.dirty.clear(page)
	p.count--
}

// free makes take return a page again. A slab without used pages becomes spare, or garbage if there are enough spares.
func (p *pages) free(page int) {
	if page < firstPage {
		return
	}
	word := page / slabPages
	p.used.clear(page)
	p.low = min(p.low, word)
	if slab := p.slabs[word]; p.used[word] == 0 && slab != nil {
		p.slabs[word] = nil
		if len(p.spare) < maxSpare {
			p.spare = append(p.spare, slab)
		}
	}
}

// memory returns a page's bytes.
func (p *pages) memory(page int) []byte {
	slab := &p.slabs[page/slabPages]
	if last := len(p.spare) - 1; *slab == nil && last >= 0 {
		*slab, p.spare = p.spare[last], p.spare[:last]
	} else if *slab == nil {
		*slab = make([]byte, slabPages*p.size)
	}
	at := page % slabPages * p.size
	return (*slab)[at : at+p.size : at+p.size]
}

// header is the beginning of a page. Everything before the slots is written when the page is taken; later only the
// state changes. The slots are written in turn, so that a write that is cut short leaves the previous slot.
//
//	 0  magic
//	 4  state of the batch, in its first page
//	 8  number of the batch
//	16  which of the batch's pages it is
//	20  length of the descriptor after the header, in the batch's first page
//	24  checksum of 8 to 24 and the descriptor
//	32  slot, and another at 80
type header []byte

const (
	headerBytes = 128
	pageMagic   = 0x4b544a31 // "KTJ1"
	slotBytes   = 48
	firstSlot   = 32
)

// States of a batch.
const (
	stateFree     = 0 // the batch has ended
	stateLive     = 1
	stateLogsOnly = 2 // only its logs are live: the other lines were copied to another batch
)

// slot describes the lines of a page, and those of its batch up to this page.
//
//	 0  used: offset in the page at which its lines end
//	 4  checksum of the lines in the page
//	 8  number of lines, and at 12 of logs among them
//	16  first seq, and at 24 the last seq
//	32  emission of the oldest event, Unix milliseconds
//	40  1 if one of the lines declares a loss
//	44  checksum of 0 to 44
type slot struct {
	used        int
	sum         uint32
	lines, logs int
	first, last uint64
	at          int64
	declares    bool
}

var order = binary.LittleEndian

func (h header) slot(i int) []byte { return h[firstSlot+i*slotBytes:][:slotBytes] }

// used returns the offset at which the lines end, by the newest slot.
func (h header) used() int { return int(max(order.Uint32(h.slot(0)), order.Uint32(h.slot(1)))) }

// put writes a slot over the older of the two. If overwrite is set, put replaces the newer one instead: the journal does
// not have it yet.
func (h header) put(s slot, overwrite bool) {
	b := h.slot(0)
	if newest := order.Uint32(b) > order.Uint32(h.slot(1)); newest != overwrite {
		b = h.slot(1)
	}
	order.PutUint32(b[0:], uint32(s.used))
	order.PutUint32(b[4:], s.sum)
	order.PutUint32(b[8:], uint32(s.lines))
	order.PutUint32(b[12:], uint32(s.logs))
	order.PutUint64(b[16:], s.first)
	order.PutUint64(b[24:], s.last)
	order.PutUint64(b[32:], uint64(s.at))
	order.PutUint32(b[40:], 0)
	if s.declares {
		b[40] = 1
	}
	order.PutUint32(b[44:], checksum(b[:44]))
}

// clearSlot clears a slot.
func (h header) clearSlot(s slot) {
	for i := range 2 {
		if b := h.slot(i); int(order.Uint32(b)) == s.used {
			clear(b)
		}
	}
}

// get reads the slots, the newest first. It skips a slot whose checksum is wrong.
func (h header) get() (slots []slot) {
	for i := range 2 {
		b := h.slot(i)
		if order.Uint32(b) == 0 || order.Uint32(b[44:]) != checksum(b[:44]) {
			continue
		}
		slots = append(slots, slot{
			used: int(order.Uint32(b)), sum: order.Uint32(b[4:]),
			lines: int(order.Uint32(b[8:])), logs: int(order.Uint32(b[12:])),
			first: order.Uint64(b[16:]), last: order.Uint64(b[24:]), at: int64(order.Uint64(b[32:])), declares: b[40] == 1,
		})
	}
	if len(slots) == 2 && slots[1].used > slots[0].used {
		slots[0], slots[1] = slots[1], slots[0]
	}
	return slots
}
