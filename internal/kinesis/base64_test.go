package kinesis

import (
	"encoding/base64"
	"math/rand/v2"
	"testing"
)

func TestEncoder(t *testing.T) {
	e := newEncoder()
	random := rand.NewChaCha8([32]byte{})
	for size := range 200 {
		data := make([]byte, size)
		random.Read(data)
		want := base64.StdEncoding.AppendEncode([]byte("before"), data)
		if got := e.append([]byte("before"), data); string(got) != string(want) {
			t.Fatalf("%x became %s, want %s", data, got, want)
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	data := make([]byte, 16<<10)
	buf := make([]byte, 0, base64.StdEncoding.EncodedLen(len(data)))
	b.Run("ours", func(b *testing.B) {
		e := newEncoder()
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			e.append(buf, data)
		}
	})
	b.Run("std", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			base64.StdEncoding.AppendEncode(buf, data)
		}
	})
}
