package audit

import (
	"cmp"
	"slices"
)

// Numbers is a set of numbers that can be added in any order. The zero value is empty.
type Numbers struct {
	// chunks hold the set's ranges in order, 1 to maxChunk ranges each. An insert moves the ranges of one chunk only.
	chunks []Ranges
}

const maxChunk = 64

// Add adds n to the set and reports whether it is new.
func (s *Numbers) Add(n uint64) bool {
	chunk, at := s.find(n)
	var before, behind *Range
	if chunk < len(s.chunks) {
		behind = &s.chunks[chunk][at]
	}
	if at > 0 {
		before = &s.chunks[chunk][at-1]
	} else if chunk > 0 {
		before = s.chunks[chunk-1].last()
	}
	if behind != nil && behind.First <= n {
		return false
	}
	follows := before != nil && before.Last == n-1
	precedes := behind != nil && behind.First == n+1
	switch {
	case follows && precedes:
		before.Last = behind.Last
		s.remove(chunk, at)
	case follows:
		before.Last = n
	case precedes:
		behind.First = n
	default:
		s.insert(chunk, at, Range{n, n})
	}
	return true
}

// find returns the position of the first range that ends at n or later. If there is none, chunk is len(s.chunks).
func (s *Numbers) find(n uint64) (chunk, at int) {
	count := len(s.chunks)
	if count == 0 || s.chunks[count-1].last().Last < n { // nearly all numbers are added in order
		return count, 0
	}
	chunk, _ = slices.BinarySearchFunc(s.chunks, n, func(c Ranges, n uint64) int { return cmp.Compare(c.last().Last, n) })
	at, _ = slices.BinarySearchFunc(s.chunks[chunk], n, func(r Range, n uint64) int { return cmp.Compare(r.Last, n) })
	return chunk, at
}

func (s *Numbers) insert(chunk, at int, r Range) {
	if chunk == len(s.chunks) { // after all others
		if last := chunk - 1; last >= 0 && len(s.chunks[last]) < maxChunk {
			s.chunks[last] = append(s.chunks[last], r)
			return
		}
		s.chunks = append(s.chunks, Ranges{r})
		return
	}
	if c := s.chunks[chunk]; len(c) == maxChunk {
		half := slices.Clone(c[maxChunk/2:])
		s.chunks[chunk] = c[:maxChunk/2]
		s.chunks = slices.Insert(s.chunks, chunk+1, half)
		if at > maxChunk/2 {
			chunk, at = chunk+1, at-maxChunk/2
		}
	}
	s.chunks[chunk] = slices.Insert(s.chunks[chunk], at, r)
}

func (s *Numbers) remove(chunk, at int) {
	s.chunks[chunk] = slices.Delete(s.chunks[chunk], at, at+1)
	if len(s.chunks[chunk]) == 0 {
		s.chunks = slices.Delete(s.chunks, chunk, chunk+1)
	}
}

// Ranges returns the set's ranges. They are valid until the next Add.
func (s *Numbers) Ranges() Ranges {
	if len(s.chunks) == 1 {
		return s.chunks[0]
	}
	return slices.Concat(s.chunks...)
}

func (r Ranges) last() *Range { return &r[len(r)-1] }
