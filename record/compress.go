package record

import (
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is the compression of a record's data.
type Compression string

const (
	// Uncompressed data are the format's bytes.
	Uncompressed Compression = "none"
	// Gzip is one gzip member per record.
	Gzip Compression = "gzip"
	// Zstd is one zstd frame per record. Its header has the content's size, which some readers need.
	Zstd Compression = "zstd"
)

// zstdWindow is how far a match reaches back. A larger window costs its size in memory, more CPU, and compresses log lines no better.
const zstdWindow = 64 << 10

// Compressor compresses the data of records, one by one: Gzip at level 1, Zstd at the fastest level. It allocates its tables
// at the first record, 810 KiB for Gzip and 720 KiB for Zstd, and reuses them. It is for one goroutine.
type Compressor struct {
	with Compression
	gzip *gzip.Writer
	zstd *zstd.Encoder
	out  sink
}

// NewCompressor returns a compressor. It panics unless with is Gzip or Zstd.
func NewCompressor(with Compression) *Compressor {
	if with != Gzip && with != Zstd {
		panic(fmt.Sprintf("record: no compressor for %q", with))
	}
	return &Compressor{with: with}
}

// Append compresses the concatenated pieces and appends the result to dst.
func (c *Compressor) Append(dst []byte, pieces [][]byte) []byte {
	size := 0
	for _, piece := range pieces {
		size += len(piece)
	}
	c.out.data = dst
	if c.with == Gzip {
		c.gzip = c.out.beginGzip(c.gzip)
		for _, piece := range pieces {
			_, _ = c.gzip.Write(piece) // the sink never fails
		}
		_ = c.gzip.Close()
	} else {
		c.beginZstd(size)
		for _, piece := range pieces {
			_, _ = c.zstd.Write(piece)
		}
		_ = c.zstd.Close()
	}
	return c.out.take()
}

func (c *Compressor) beginZstd(size int) {
	if c.zstd == nil {
		var err error
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("record: zstd: " + err.Error()) // cannot happen: the options are constant
		}
	}
	c.zstd.ResetContentSize(&c.out, int64(size))
}

// sink collects an encoder's output.
type sink struct{ data []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.data = append(s.data, p...)
	return len(p), nil
}

// beginGzip returns a writer of a new member to the sink. It reuses w unless that is nil.
func (s *sink) beginGzip(w *gzip.Writer) *gzip.Writer {
	if w == nil {
		w, _ = gzip.NewWriterLevel(s, gzip.BestSpeed) // fails only on an unknown level
		return w
	}
	w.Reset(s)
	return w
}

// take returns the data and forgets them: the sink must not keep the caller's memory.
func (s *sink) take() []byte {
	data := s.data
	s.data = nil
	return data
}
