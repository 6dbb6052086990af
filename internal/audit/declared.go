package audit

import (
	"cmp"
	"container/heap"
	"slices"
)

// matchDrops matches missing numbers with declared drops. It returns the numbers that no drop declares, and how many are
// declared. A drop declares Count numbers between its First and its Last; matchDrops subtracts the numbers that it matched.
// If several drops cover a number, the one that ends first declares it: the others can still declare later numbers.
// matchDrops sorts drops.
func matchDrops(missing Ranges, drops []Drop) (undeclared Ranges, declared uint64) {
	slices.SortStableFunc(drops, func(x, y Drop) int { return cmp.Compare(x.First, y.First) })
	var active byEnd // the drops that begin at n or before
	activated := 0   // drops[:activated] were added to active
	for _, gap := range missing {
		for n := gap.First; ; {
			for ; activated < len(drops) && drops[activated].First <= n; activated++ {
				heap.Push(&active, &drops[activated])
			}
			for len(active) > 0 && (active[0].Count == 0 || active[0].Last < n) {
				heap.Pop(&active)
			}
			through := gap.Last // the last number that has the same active drops
			if activated < len(drops) {
				through = min(through, drops[activated].First-1)
			}
			if len(active) == 0 {
				undeclared = append(undeclared, Range{n, through})
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
	return merged(undeclared), declared
}

// merged joins adjacent ranges.
func merged(ranges Ranges) Ranges {
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

// byEnd is a heap of drops: the first one ends first. Of the drops that end together the one that begins last is first: the
// others can also declare numbers before it.
type byEnd []*Drop

func (b byEnd) Len() int { return len(b) }

func (b byEnd) Less(i, j int) bool {
	return b[i].Last < b[j].Last || b[i].Last == b[j].Last && b[i].First > b[j].First
}

func (b byEnd) Swap(i, j int) { b[i], b[j] = b[j], b[i] }

// Push implements heap.Interface.
func (b *byEnd) Push(drop any) { *b = append(*b, drop.(*Drop)) }

// Pop implements heap.Interface.
func (b *byEnd) Pop() any {
	last := len(*b) - 1
	drop := (*b)[last]
	*b = (*b)[:last]
	return drop
}
