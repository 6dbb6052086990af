package kernelrand

import (
	"slices"
	"testing"
)

// Fractions are in [0, 1), and differ.
func TestFraction(t *testing.T) {
	var drawn []float64
	for range 100 {
		drawn = append(drawn, Fraction())
	}
	if least, most := slices.Min(drawn), slices.Max(drawn); least < 0 || most >= 1 || most-least < 0.5 {
		t.Errorf("from %g to %g", least, most)
	}
}

// Ids have two digits for each byte, and differ.
func TestHex(t *testing.T) {
	a, b := Hex(16), Hex(16)
	if len(a) != 32 || len(b) != 32 || a == b {
		t.Errorf("%q, %q", a, b)
	}
}
