package dispatcher

import (
	"encoding/binary"
	"math/bits"
)

const (
	maxPage = 16 << 10 // or more where the tags take that much
	// slabPages is how many pages one piece of memory has, and by how many the journal grows: the bits of a word of a bitmap.
	slabPages = 64
	firstPage = 1 // no page has the number 0
	// maxSpare is how many slabs are kept that have no page: what a small function has buffered once it will buffer again.
	maxSpare = 4
)

// pages are what batches are laid out in. A page is the same bytes in memory and in the journal: it begins with a header, and goes on
// with lines of one batch. The page with the lowest number is taken first, so that few are touched, and memory behind them can be
// returned.
type pages struct {
	size  int      // of a page, bytes
	slabs [][]byte // nil where no page is used, or where all are in the journal alone
	spare [][]byte // were slabs
	used  bitmap
	dirty bitmap // pages whose last content the journal does not have
	count int    // of used
	low   int    // no word of used before it has a free page
}

// bitmap has a bit for each page.
type bitmap []uint64

func (b bitmap) has(page int) bool { return b[page/slabPages]>>(page%slabPages)&1 != 0 }

func (b bitmap) set(page int) { b[page/slabPages] |= 1 << (page % slabPages) }

func (b bitmap) clear(page int) { b[page/slabPages] &^= 1 << (page % slabPages) }

// newPages returns pages of such a size that a full batch, with its descriptor, fills them: lines and source are the sizes of its lines
// and of its source's JSON. Their size is the same in all lives of an environment. Headers do not stand across the borders of the pages
// of the machine's memory, at which a write may be cut short.
func newPages(lines, source int) pages {
	descriptor := (source/512 + 1) * 512
	batch, limit := lines+descriptor, max(maxPage, 3*descriptor)
	count := (batch + limit - 1) / limit
	size := headerBytes + 2 + (batch+count-1)/count
	return pages{size: (size + headerBytes - 1) / headerBytes * headerBytes}
}

// take returns the number of a page that is free now, and from now on used.
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

// grow makes room for words of the bitmaps.
func (p *pages) grow(words int) {
	for len(p.used) < words {
		p.slabs = append(p.slabs, nil)
		p.used = append(p.used, 0)
		p.dirty = append(p.dirty, 0)
	}
	p.used[0] |= 1<<firstPage - 1
}

// reserve makes take leave the pages before the given one alone.
func (p *pages) reserve(before int) {
	p.grow((before + slabPages - 1) / slabPages)
	for page := firstPage; page < before; page++ {
		p.used.set(page)
	}
}

// unreserve ends reserve.
func (p *pages) unreserve(before int) {
	for page := firstPage; page < before; page++ {
		p.used.clear(page)
	}
	p.low = 0
}

func (p *pages) use(page int) {
	if page < firstPage {
		return
	}
	p.grow(page/slabPages + 1)
	p.used.set(page)
	p.count++
}

// retire ends the use of a page. It is not taken again before free.
func (p *pages) retire(page int) {
	if page < firstPage {
		return // it was missing in the journal
	}
	p.dirty.clear(page)
	p.count--
}

// free makes take return a page again. A slab without a page is left to the garbage collector, if there are enough of them.
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

// memory is a page's bytes.
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

// header is the beginning of a page. What is in it but for the slots is written when the page is taken, and never changed but for
// the state. The slots are written by turns, so that a write that is cut short leaves what was there before.
//
//	 0  magic
//	 4  state of the batch, in its first page
//	 8  number of the batch
//	16  which of the batch's pages it is
//	20  length of the descriptor behind the header, in the batch's first page
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
	stateFree     = 0 // it has ended
	stateLive     = 1
	stateLogsOnly = 2 // live, but for the lines that are not logs: those were copied to another batch
)

// slot says what a page holds, and what its batch holds up to this page.
//
//	 0  used: where in the page its lines end
//	 4  checksum of the lines in the page
//	 8  lines, and at 12 how many of them are logs
//	16  first seq, and at 24 the last
//	32  emission of the oldest, Unix milliseconds
//	40  1 where one of them declares a loss
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

// used is where the lines end, as the newest slot says.
func (h header) used() int { return int(max(order.Uint32(h.slot(0)), order.Uint32(h.slot(1)))) }

// put writes a slot: over the older of the two, or where the journal does not have the newer one, over that.
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

// clearSlot removes a slot.
func (h header) clearSlot(s slot) {
	for i := range 2 {
		if b := h.slot(i); int(order.Uint32(b)) == s.used {
			clear(b)
		}
	}
}

// get reads the slots, the newest first. Where a checksum is wrong there is none.
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
