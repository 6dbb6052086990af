package kinesis

import (
	"encoding/base64"
	"math/rand/v2"
	"testing"
)

// The result equals encoding/base64's, for every size and for every byte at every position in a block of vector
// instructions.
func TestAppendBase64(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for size := range 500 {
		data := make([]byte, size)
		random.Read(data)
		for range 256 {
			for i := range data {
				data[i]++
			}
			want := base64.StdEncoding.AppendEncode([]byte("before"), data)
			if got := appendBase64([]byte("before"), data); string(got) != string(want) {
				t.Fatalf("%x became %s, want %s", data, got, want)
			}
		}
	}
}

func BenchmarkAppendBase64(b *testing.B) {
	data := make([]byte, 16<<10)
	buf := make([]byte, 0, base64.StdEncoding.EncodedLen(len(data)))
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			appendBase64(buf, data)
		}
	})
	b.Run("std", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			base64.StdEncoding.AppendEncode(buf, data)
		}
	})
}
