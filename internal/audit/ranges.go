package audit

// Range is the numbers from First to Last, both included.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Count returns how many numbers the range has. (The range of all 2⁶⁴ numbers overflows to 0.)
func (r Range) Count() uint64 { return r.Last - r.First + 1 }

// Ranges is a set of numbers: ascending ranges that neither overlap nor touch. An instance whose events all arrived is one
// range, however many events it has and in whatever order they arrived.
type Ranges []Range

// Count returns how many numbers are in the set.
func (r Ranges) Count() (n uint64) {
	for _, each := range r {
		n += each.Count()
	}
	return n
}

// Gaps returns the numbers from first to last that are not in the set.
func (r Ranges) Gaps(first, last uint64) Ranges {
	var gaps Ranges
	for _, each := range r {
		if each.Last < first {
			continue
		}
		if each.First > last {
			break
		}
		if each.First > first {
			gaps = append(gaps, Range{first, each.First - 1})
		}
		if each.Last >= last {
			return gaps
		}
		first = each.Last + 1
	}
	if first <= last {
		gaps = append(gaps, Range{first, last})
	}
	return gaps
}
