package audit_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"kinesis-telemetry-extension/internal/audit"
)

// Numbers has the same numbers as a map, in the smallest number of ranges.
func FuzzNumbers(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Add([]byte{5, 3, 4, 4, 0, 255, 254})
	f.Add([]byte{255, 0, 255, 128})
	every := make([]byte, 0, 256) // every second number, which splits chunks, and then the numbers between, which empties chunks
	for b := 254; b >= 0; b -= 2 {
		every = append(every, byte(b))
	}
	f.Add(every)
	for b := 1; b < 256; b += 2 {
		every = append(every, byte(b))
	}
	f.Add(every)
	f.Fuzz(func(t *testing.T, numbers []byte) {
		var added audit.Numbers
		set := map[uint64]bool{}
		for _, b := range numbers {
			n := uint64(b)
			if b >= 128 { // the highest numbers
				n = math.MaxUint64 - 255 + uint64(b)
			}
			if isNew := added.Add(n); isNew == set[n] {
				t.Fatalf("Add(%d) is %t after %v", n, isNew, set)
			}
			set[n] = true
		}
		ranges := added.Ranges()
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
		// Gaps returns the other numbers of any window.
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

// The time to add numbers grows with their number, in any order, and all numbers become one range.
func TestManyNumbers(t *testing.T) {
	const n = 1 << 18
	random := rand.New(rand.NewPCG(1, 2))
	orders := map[string]func(i int) uint64{
		"rising":  func(i int) uint64 { return uint64(i) },
		"falling": func(i int) uint64 { return uint64(n - 1 - i) },
	}
	shuffled := random.Perm(n)
	orders["any"] = func(i int) uint64 { return uint64(shuffled[i]) }
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			var added audit.Numbers
			began := time.Now()
			for _, parity := range []uint64{0, 1} {
				for i := range n {
					if !added.Add(2*order(i) + parity) {
						t.Fatalf("%d is not new", 2*order(i)+parity)
					}
				}
				want := n
				if parity == 1 {
					want = 1
				}
				if ranges := added.Ranges(); len(ranges) != want || ranges.Count() != n*(1+parity) {
					t.Fatalf("%d ranges of %d numbers", len(ranges), ranges.Count())
				}
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s", took)
			}
		})
	}
}
