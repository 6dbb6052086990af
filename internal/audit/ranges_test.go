package audit_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"kinesis-telemetry-extension/internal/audit"
)

// FuzzRanges puts numbers into ranges and into a set: both must know the same, and ranges must be as few as they can be.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Add([]byte{5, 3, 4, 4, 0, 255, 254})
	f.Add([]byte{255, 0, 255, 128})
	f.Fuzz(func(t *testing.T, numbers []byte) {
		var ranges audit.Ranges
		set := map[uint64]bool{}
		for _, b := range numbers {
			n := uint64(b)
			if b >= 128 { // the upper end of what there is
				n = math.MaxUint64 - 255 + uint64(b)
			}
			if added := ranges.Add(n); added == set[n] {
				t.Fatalf("Add(%d) is %t after %v", n, added, set)
			}
			set[n] = true
		}
		if ranges.Count() != uint64(len(set)) {
			t.Errorf("%v has %d numbers, want %d", ranges, ranges.Count(), len(set))
		}
		for i, each := range ranges {
			if each.First > each.Last || i > 0 && each.First-1 <= ranges[i-1].Last {
				t.Errorf("ranges %v", ranges)
			}
			for n := each.First; ; n++ {
				if !set[n] {
					t.Errorf("%d is in %v, and was never added", n, ranges)
				}
				if n == each.Last {
					break
				}
			}
		}
		// Gaps are what is left, of any window.
		if len(numbers) < 8 {
			return
		}
		window := binary.LittleEndian.Uint16(numbers)
		first, last := uint64(window&0xff), uint64(window>>8)
		var want []uint64
		for n := first; n <= last; n++ {
			if !set[n] {
				want = append(want, n)
			}
		}
		var got []uint64
		for _, gap := range ranges.Gaps(first, last) {
			for n := gap.First; n <= gap.Last; n++ {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("gaps of %v from %d to %d: %v, want %v", ranges, first, last, got, want)
		}
	})
}
