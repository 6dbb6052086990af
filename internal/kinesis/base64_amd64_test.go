package kinesis

import (
	"testing"

	"golang.org/x/sys/cpu"
)

func TestHasAVX2(t *testing.T) {
	if got := hasAVX2(); got != cpu.X86.HasAVX2 {
		t.Errorf("hasAVX2 is %v, golang.org/x/sys/cpu has %v", got, cpu.X86.HasAVX2)
	}
}
