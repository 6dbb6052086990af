package audit

import (
	"cmp"
	"container/heap"
	"slices"
)

// undeclared takes from what is missing what drops declare. Each covers Count numbers between its First and its Last, and is reduced
// by what it was taken for. A number that several cover is taken for the one that ends first, so that the others have most left. It sorts
// drops.
func undeclared(missing Ranges, drops []Drop) (open Ranges, declared uint64) {
	slices.SortStableFunc(drops, func(x, y Drop) int { return cmp.Compare(x.First, y.First) })
	var active byEnd // begin at n or before
	begun := 0       // so many drops were active
	for _, gap := range missing {
		for n := gap.First; ; {
			for ; begun < len(drops) && drops[begun].First <= n; begun++ {
				heap.Push(&active, &drops[begun])
			}
			for len(active) > 0 && (active[0].Count == 0 || active[0].Last < n) {
				heap.Pop(&active)
			}
			through := gap.Last // how far the same drops cover
			if begun < len(drops) {
				through = min(through, drops[begun].First-1)
			}
			if len(active) == 0 {
				open = append(open, Range{n, through})
			} else {
				by := active[0]
				through = min(through, by.Last, n+min(by.Count-1, gap.Last-n))
				by.Count -= through - n + 1
				declared += through - n + 1
			}
			if through >= gap.Last {
				break
			}
			n = through + 1
		}
	}
	return joined(open), declared
}

// joined makes one of ranges that follow each other.
func joined(ranges Ranges) Ranges {
	var all Ranges
	for _, r := range ranges {
		if last := len(all) - 1; last >= 0 && all[last].Last+1 == r.First {
			all[last].Last = r.Last
			continue
		}
		all = append(all, r)
	}
	return all
}

// byEnd is a heap of drops: the first one ends first. Of those that end together it is the one that begins last: the others may be
// taken for what is before it, too.
type byEnd []*Drop

func (b byEnd) Len() int { return len(b) }

func (b byEnd) Less(i, j int) bool {
	return b[i].Last < b[j].Last || b[i].Last == b[j].Last && b[i].First > b[j].First
}

func (b byEnd) Swap(i, j int) { b[i], b[j] = b[j], b[i] }

// Push and Pop are for container/heap.
func (b *byEnd) Push(drop any) { *b = append(*b, drop.(*Drop)) }

// Pop removes the last one.
func (b *byEnd) Pop() any {
	last := len(*b) - 1
	drop := (*b)[last]
	*b = (*b)[:last]
	return drop
}
